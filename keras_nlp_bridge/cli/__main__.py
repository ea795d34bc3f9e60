"""``python -m keras_nlp_bridge.cli``."""

import sys

from keras_nlp_bridge.cli import main

if __name__ == "__main__":
    sys.exit(main())
