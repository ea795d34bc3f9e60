"""What sphinx-gallery needs to know of our examples."""

from pathlib import Path
from typing import Any

import keras
from sphinx_gallery.scrapers import figure_rst

__all__ = ["arguments", "reset_keras", "written"]


# Whole runs of these take minutes.
_ARGUMENTS = {"lenet.py": ["--epochs", "12"], "estimators.py": ["--fast"]}


def arguments(conf: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """Return the command-line arguments of an example."""
    return _ARGUMENTS.get(Path(script["src_file"]).name, [])


def written(block: Any, variables: dict[str, Any], conf: dict[str, Any]) -> str:
    """Show the pictures that a block wrote beside the example, and take them away."""
    folder = Path(variables["src_file"]).parent
    shown = []
    for picture in sorted(folder.glob("*.png")):
        place = Path(next(variables["image_path_iterator"]))
        picture.replace(place)
        shown.append(str(place))
    return figure_rst(shown, conf["src_dir"]) if shown else ""


def reset_keras(conf: dict[str, Any], name: str) -> None:
    """Undo what an example set for all of Keras."""
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session()
