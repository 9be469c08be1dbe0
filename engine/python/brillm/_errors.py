"""Exceptions: what is wrong, where, and what to do."""

from __future__ import annotations

import errno
import re
from typing import Any, Optional

# Options of the command that are arguments here.
_ARGUMENTS = {"--set": "changes", "--plugin": "plugins"}

# Advice in the words of the command or of Rust, and in those of this package.
_PHRASES = {
    "begin it with SessionOptions { attribution: true, .. }": "begin the session with explain=True",
    "learn one with `brillm learn`": "teach it one with Model.learn",
    "pass --recall=WINDOW,THETA,MU, or fit it": "pass recall=\"WINDOW,THETA,MU\", or fit it",
    "pass --charges=DECAY,NODE,EDGE,SCALE, or fit them": "pass charges=\"DECAY,NODE,EDGE,SCALE\", or fit them",
    "`brillm trace --export` wrote": "Trace.save wrote",
    "for example --prompt-ids 3,4,5": "for example [3, 4, 5]",
    "pass --resume": "pass resume=True",
}


class Error(Exception):
    """An error of the engine.

    Attributes:
        what: What is wrong.
        where: Where: a file, a block, a line, a step; ``None`` if no location is known.
        advice: What to do; ``None`` where nothing helps.
        kind: The class of the error in lower case, for example ``"input"``.
    """

    kind = "other"

    def __init__(self, what: str, where: Optional[str] = None, advice: Optional[str] = None) -> None:
        self.what = what
        self.where = where
        self.advice = advice
        text = what if where is None else f"{where}: {what}"
        super().__init__(text if advice is None else f"{text} ({advice})")

    def __reduce__(self):
        return (type(self), (self.what, self.where, self.advice))

    def __str__(self) -> str:
        return str(self.args[0])


class FileError(Error, OSError):
    """The operating system reported an error: a full disk, a closed pipe; :class:`MissingFileError` for a missing file.

    ``errno`` and ``filename`` are those of ``OSError``, ``None`` where they are not known.
    """

    kind = "io"

    def __reduce__(self):
        return (type(self), (self.what, self.where, self.advice), {"errno": self.errno, "filename": self.filename})


class MissingFileError(FileError, FileNotFoundError):
    """There is no such file or folder: also a ``FileNotFoundError``."""


class FormatError(Error, ValueError):
    """Bytes that violate their format."""

    kind = "format"


class ChecksumError(Error, ValueError):
    """A checksum does not match: the file is damaged."""

    kind = "checksum"


class VersionError(Error, ValueError):
    """A format or interface version that this build does not support."""

    kind = "version"


class InputError(Error, ValueError):
    """An argument is out of range or contradicts another."""

    kind = "input"


class VocabularyError(Error, ValueError):
    """A token or character is not in the vocabulary."""

    kind = "vocabulary"


class ConfigurationError(Error, ValueError):
    """An invalid run file, recipe or option."""

    kind = "configuration"


class NumericError(Error, ArithmeticError):
    """Arithmetic produced or met a value that is not finite."""

    kind = "numeric"


class UnsupportedError(Error, NotImplementedError):
    """Valid, but not supported by this build or this model."""

    kind = "unsupported"


class PluginError(Error, RuntimeError):
    """A plugin failed or returned an invalid answer."""

    kind = "plugin"


class CancelledError(Error):
    """The operation was cancelled."""

    kind = "cancelled"


class ResourceError(Error, MemoryError):
    """Memory, disk or another resource is exhausted or too small."""

    kind = "resource"


class InternalError(Error, RuntimeError):
    """A fault of the engine, to be reported."""

    kind = "internal"


_KINDS = {
    cls.kind: cls
    for cls in (
        FileError,
        FormatError,
        ChecksumError,
        VersionError,
        InputError,
        VocabularyError,
        ConfigurationError,
        NumericError,
        UnsupportedError,
        PluginError,
        CancelledError,
        ResourceError,
        InternalError,
    )
}


def of_system(error: OSError, path: str) -> FileError:
    """Create the exception of a file that Python could not open, read or write."""
    missing = isinstance(error, FileNotFoundError)
    made: FileError = (MissingFileError if missing else FileError)(
        "no such file or folder" if missing else (error.strerror or str(error)), path, "check the path" if missing else None
    )
    made.errno, made.filename = error.errno, path
    return made


def of_parts(
    kind: str, what: str, where: Optional[str], advice: Optional[str], number: Optional[int] = None
) -> Error:
    """Create the exception of an error of the engine, whose messages name options of the command.

    ``number`` is the operating system's number of the error, if it reported one.
    """

    def argument(match: re.Match) -> str:
        option = match.group(0)
        return _ARGUMENTS.get(option, option[2:].replace("-", "_"))

    def renamed(text: str) -> str:
        for phrase, replacement in _PHRASES.items():
            text = text.replace(phrase, replacement)
        return re.sub(r"(?<![\w-])--[a-z][a-z-]*", argument, text)

    optional = [text if text is None else renamed(text) for text in (where, advice)]
    if kind != FileError.kind:
        return _KINDS.get(kind, Error)(renamed(what), *optional)
    made: Any = (MissingFileError if number == errno.ENOENT else FileError)(renamed(what), *optional)
    made.errno, made.filename = number, where
    return made
