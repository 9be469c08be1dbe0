"""brillm: a language-model engine whose core data structure is a graph.

>>> import brillm
>>> model = brillm.load()  # the built-in English model
>>> print(model.generate("Once upon a time", tokens=40).collect())
"""

from ._errors import (
    CancelledError,
    ChecksumError,
    ConfigurationError,
    Error,
    FileError,
    FormatError,
    InputError,
    InternalError,
    NumericError,
    PluginError,
    ResourceError,
    UnsupportedError,
    VersionError,
    VocabularyError,
)
from ._graph import Graph
from ._model import Generation, Model, Piece, Score, load
from ._native import __version__
from ._session import Session
from ._trace import Trace, open_trace
from ._training import Evaluation, Picture, Run, evaluate, kneser_ney, plot, train

__all__ = [
    "CancelledError",
    "ChecksumError",
    "ConfigurationError",
    "Error",
    "Evaluation",
    "FileError",
    "FormatError",
    "Generation",
    "Graph",
    "InputError",
    "InternalError",
    "Model",
    "NumericError",
    "Picture",
    "Piece",
    "PluginError",
    "ResourceError",
    "Run",
    "Score",
    "Session",
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
