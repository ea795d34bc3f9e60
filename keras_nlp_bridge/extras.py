"""Optional packages, imported where they are used."""

import importlib
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType

__all__ = ["blas_on_one_thread", "require"]


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


def blas_on_one_thread() -> AbstractContextManager[object]:
    """Keep the BLAS of NumPy and SciPy on one thread, if `threadpoolctl` is there.

    Between two evaluations of a network SciPy's methods do a little vector algebra.
    OpenBLAS spreads it over threads that then wait busily, on the cores that the
    framework computes the next evaluation on: on two cores L-BFGS-B on LeNet took
    four times as long as with one thread. threadpoolctl comes with scikit-learn.
    """
    try:
        import threadpoolctl
    except ImportError:
        return nullcontext()
    pools = threadpoolctl.ThreadpoolController()
    return pools.select(internal_api="openblas").limit(limits=1)
