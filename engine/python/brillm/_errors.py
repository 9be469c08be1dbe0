"""Exceptions: what is wrong, where, and what to do."""

from __future__ import annotations

import re
from typing import Optional

# Options of the command that are arguments here.
_ARGUMENTS = {"--set": "changes", "--plugin": "plugins"}


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
    """The operating system reported an error: a missing file, a closed pipe."""

    kind = "io"


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


def of_parts(kind: str, what: str, where: Optional[str], advice: Optional[str]) -> Error:
    """Create the exception of an error of the engine, whose messages name options of the command."""

    def argument(match: re.Match) -> str:
        option = match.group(0)
        return _ARGUMENTS.get(option, option[2:].replace("-", "_"))

    def renamed(text: str) -> str:
        return re.sub(r"(?<![\w-])--[a-z][a-z-]*", argument, text)

    optional = [text if text is None else renamed(text) for text in (where, advice)]
    return _KINDS.get(kind, Error)(renamed(what), *optional)
