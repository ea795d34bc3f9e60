"""Optional packages, imported where they are used."""

import importlib
from types import ModuleType

__all__ = ["require"]


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    Parameters
    ----------
    module : str
        What to import.
    extra : str
        The extra of keras-nlp-bridge that brings it.
    purpose : str
        What needs it; the beginning of the message.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        With the pip command.

    Examples
    --------
    >>> require("no_such_module", "plot", "the picture")
    Traceback (most recent call last):
    ...
    ImportError: the picture needs no_such_module: pip install 'keras-nlp-bridge[plot]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {error.name or module}: "
            f"pip install 'keras-nlp-bridge[{extra}]'"
        ) from error
