"""Conversion of arguments to what the native module takes."""

from __future__ import annotations

import json
import operator
import os
from typing import Any, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from ._errors import InputError

#: A plugin: ``"NAME:KEY=VALUE,…"``, or its name with a mapping of its options.
Plugin = Union[str, Tuple[str, Mapping[str, Any]]]
#: A path of a file or a folder.
Path = Union[str, "os.PathLike[str]"]

_LARGEST = 2**32 - 1


def index(value: Any, name: str = "token") -> int:
    """A whole number that fits 32 bits: an ``int``, or an integer of NumPy."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, not {type(value).__name__}") from None
    if not 0 <= number <= _LARGEST:
        raise InputError(f"{name} {number} is out of range", advice=f"pass a number from 0 to {_LARGEST}")
    return number


def indices(values: Iterable[Any], name: str = "tokens") -> List[int]:
    """Whole numbers that fit 32 bits, from a list or an array."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{name}: expected numbers, not {type(values).__name__}")
    if hasattr(values, "tolist"):
        values = values.tolist()
        if not isinstance(values, list):
            values = [values]
    try:
        return [index(value, name) for value in values]
    except TypeError as error:
        raise TypeError(str(error)) from None


def paths(values: Union[Path, Sequence[Path]]) -> List[str]:
    """One path or several, as texts."""
    if isinstance(values, (str, bytes, os.PathLike)):
        values = [values]
    return [os.fsdecode(os.fspath(value)) for value in values]


def plugins(names: Union[None, Plugin, Sequence[Plugin]], folders: Sequence[Path] = ()) -> dict:
    """Plugins as the native module reads them."""
    if names is None:
        names = []
    if isinstance(names, str):
        names = [names]
    listed: List[Any] = []
    for name in names:
        if isinstance(name, str):
            listed.append(name)
        elif isinstance(name, (tuple, list)) and len(name) == 2:
            listed.append({"name": name[0], "options": dict(name[1])})
        else:
            raise TypeError("plugins: expected \"NAME:KEY=VALUE\", or pairs of a name and its options")
    return {"names": listed, "folders": paths(folders)}


def constants(value: Union[None, bool, str]) -> Optional[str]:
    """The constants of charges or recall: those that the model was fitted with for ``True``."""
    if value is None or value is False:
        return None
    return "" if value is True else str(value)


def document(options: Mapping[str, Any]) -> str:
    """Options as JSON."""
    try:
        return json.dumps(options, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"an option cannot be used: {error}") from None


def _plain(value: Any) -> Any:
    """A number or an array of NumPy as what JSON has."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"unexpected {type(value).__name__}")
