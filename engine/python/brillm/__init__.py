"""brillm: a language-model engine whose core data structure is a graph.

>>> import brillm
>>> model = brillm.load()  # the built-in English model
>>> print(model.generate("Once upon a time", tokens=40).collect())
"""

from typing import TYPE_CHECKING, Any, List

from ._errors import (
    CancelledError,
    ChecksumError,
    ConfigurationError,
    Error,
    FileError,
    FormatError,
    InputError,
    InternalError,
    MissingFileError,
    NumericError,
    PluginError,
    ResourceError,
    UnsupportedError,
    VersionError,
    VocabularyError,
)
from ._native import __version__

if TYPE_CHECKING:
    from ._explanation import Explanation
    from ._generation import Generation, Piece, Score
    from ._graph import Graph
    from ._media import Image, Sound
    from ._model import Model, load
    from ._session import Session
    from ._trace import Trace, open_trace
    from ._training import Evaluation, Picture, Run, evaluate, kneser_ney, plot, train

# What needs NumPy is imported when it is first used: the program starts without it.
_MODULES = {
    "Evaluation": "_training",
    "Explanation": "_explanation",
    "Generation": "_generation",
    "Graph": "_graph",
    "Image": "_media",
    "Model": "_model",
    "Picture": "_training",
    "Piece": "_generation",
    "Run": "_training",
    "Score": "_generation",
    "Session": "_session",
    "Sound": "_media",
    "Trace": "_trace",
    "evaluate": "_training",
    "kneser_ney": "_training",
    "load": "_model",
    "open_trace": "_trace",
    "plot": "_training",
    "train": "_training",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "CancelledError",
    "ChecksumError",
    "ConfigurationError",
    "Error",
    "Evaluation",
    "Explanation",
    "FileError",
    "FormatError",
    "Generation",
    "Graph",
    "Image",
    "InputError",
    "InternalError",
    "MissingFileError",
    "Model",
    "NumericError",
    "Picture",
    "Piece",
    "PluginError",
    "ResourceError",
    "Run",
    "Score",
    "Session",
    "Sound",
    "Trace",
    "UnsupportedError",
    "VersionError",
    "VocabularyError",
    "__version__",
    "evaluate",
    "kneser_ney",
    "load",
    "open_trace",
    "plot",
    "train",
]
