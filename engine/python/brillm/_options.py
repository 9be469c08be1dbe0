"""Conversion of arguments to what the native module takes."""

from __future__ import annotations

import json
import operator
import os
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from ._errors import InputError

#: A plugin: ``"NAME:KEY=VALUE,…"``, or its name with a mapping of its options.
Plugin = Union[str, Tuple[str, Mapping[str, Any]]]
#: A path of a file or a folder.
Path = Union[str, "os.PathLike[str]"]
#: A text itself as a ``str``, or a ``pathlib.Path`` of a file, a folder or a glob.
Text = Union[str, "os.PathLike[str]"]
#: Receives progress as mappings with a ``kind``; ``False`` ends the run.
Callback = Callable[[Dict[str, Any]], Any]

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


def texts(values: Union[Text, Sequence[Text]], name: str = "texts") -> List[Tuple[Optional[str], Optional[str]]]:
    """Texts, and paths of texts, as the native module reads them."""
    if isinstance(values, (str, os.PathLike)):
        values = [values]
    listed: List[Tuple[Optional[str], Optional[str]]] = []
    for value in values:
        if isinstance(value, str):
            listed.append((value, None))
        elif isinstance(value, os.PathLike):
            listed.append((None, os.fsdecode(value)))
        else:
            raise TypeError(f"{name}: expected a str or a path, not {type(value).__name__}")
    return listed


def record_name(record: Mapping[str, Any]) -> str:
    """The name of a record of a learned text."""
    name = record.get("name")
    if not isinstance(name, str):
        raise InputError("the record has no name", advice="pass a record of Model.learned, its name or its number")
    return name


def teller(callback: Optional[Callback]) -> Optional[Callable[[str], bool]]:
    """A callback as the native module calls it."""
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(f"callback: expected a function, not {type(callback).__name__}")
    called = callback
    return lambda event: called(json.loads(event)) is not False


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
