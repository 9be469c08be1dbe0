"""Conversion of arguments to what the native module takes."""

from __future__ import annotations

import json
import math
import operator
import os
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy

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
    return [index(value, name) for value in items(values, name, "whole numbers")]


def items(values: Any, name: str, expected: str) -> List[Any]:
    """The items of a list, a tuple or another iterable that is not a text."""
    if isinstance(values, (str, bytes, bytearray)):
        raise TypeError(f"{name}: expected a list of {expected}, not {type(values).__name__}")
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"{name}: expected a list of {expected}, not {type(values).__name__}") from None


def several(values: Any, name: str) -> List[Any]:
    """Tokens, each an id or a text: one, or a list of them."""
    if isinstance(values, (int, str, numpy.integer)):
        return [values]
    return items(values, name, "tokens")


def pairs(values: Optional[Mapping[Any, Any]], name: str) -> List[Tuple[Any, Any]]:
    """The items of a mapping."""
    if values is None:
        return []
    if not isinstance(values, Mapping):
        raise TypeError(f"{name}: expected a mapping, not {type(values).__name__}")
    return list(values.items())


def stops(values: Union[None, str, Sequence[str]]) -> List[str]:
    """The texts that end a generation: none, one or several."""
    if values is None:
        return []
    return [values] if isinstance(values, str) else items(values, "stop", "texts")


def injections(values: Any) -> List[List[Any]]:
    """Energies to add, each a step, a token and an energy."""
    listed = items(values, "inject", "(step, token, energy)")
    return [items(one, "inject", "(step, token, energy)") for one in listed]


def changes(values: Any) -> List[Dict[str, Any]]:
    """Interventions of a trace: one mapping, or several."""
    listed = [values] if isinstance(values, Mapping) else items(values, "interventions", "mappings")
    for one in listed:
        if not isinstance(one, Mapping):
            raise TypeError(f"interventions: expected mappings with a kind, not {type(one).__name__}")
    return [dict(one) for one in listed]


def window(values: Any) -> Tuple[int, int]:
    """Length and count of windows."""
    listed = items(values, "windows", "two numbers, length and count")
    if len(listed) != 2:
        raise InputError(f"windows: expected two numbers, not {len(listed)}", advice="pass (length, count)")
    return index(listed[0], "windows"), index(listed[1], "windows")


def number(value: Any, name: str) -> float:
    """A number: a ``float``, an ``int``, or one of NumPy."""
    try:
        return float(operator.index(value)) if hasattr(value, "__index__") else float(value.__float__())
    except (AttributeError, TypeError):
        raise TypeError(f"{name}: expected a number, not {type(value).__name__}") from None
    except OverflowError:
        raise InputError(f"{name} is out of range") from None


def start(value: Any) -> Any:
    """The first signal of a graph."""
    if not isinstance(value, (str, Mapping)):
        raise TypeError(f"start: expected a str or a mapping, not {type(value).__name__}")
    return value


def state(value: Any) -> bytes:
    """A saved session."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"state: expected the bytes that save() returned, not {type(value).__name__}")
    return bytes(value)


def text(value: Any, name: str = "text") -> str:
    """A text that has a form in UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a str, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        what = f"character {error.start} of the text is a lone surrogate, which UTF-8 cannot represent"
        raise InputError(what, name, "replace it, for example with text.encode('utf-8', 'replace').decode()") from None
    return value


def path(value: Any, name: str = "path") -> str:
    """A path as a text."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{name}: expected a path (a str or a pathlib.Path), not {type(value).__name__}")
    decoded = os.fsdecode(value)
    try:
        os.fsencode(decoded)
    except UnicodeEncodeError:
        raise InputError("the path has characters that no file name can have", name) from None
    return decoded


def paths(values: Union[Path, Sequence[Path]], name: str = "paths") -> List[str]:
    """One path or several, as texts."""
    if isinstance(values, (str, bytes, os.PathLike)):
        values = [values]
    return [path(value, name) for value in items(values, name, "paths")]


def texts(values: Union[Text, Sequence[Text]], name: str = "texts") -> List[Tuple[Optional[str], Optional[str]]]:
    """Texts, and paths of texts, as the native module reads them."""
    if isinstance(values, (str, os.PathLike)):
        values = [values]
    listed: List[Tuple[Optional[str], Optional[str]]] = []
    for value in items(values, name, "texts"):
        if isinstance(value, str):
            listed.append((text(value, name), None))
        elif isinstance(value, os.PathLike):
            listed.append((None, path(value, name)))
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
    if isinstance(names, str) or _is_table(names):
        names = [names]  # type: ignore[list-item]
    listed: List[Any] = []
    for name in items(names, "plugins", "\"NAME:KEY=VALUE\", or of pairs of a name and its options"):
        if isinstance(name, str):
            listed.append(name)
        elif _is_table(name):
            listed.append({"name": name[0], "options": dict(name[1])})
        else:
            raise TypeError("plugins: expected \"NAME:KEY=VALUE\", or pairs of a name and its options")
    return {"names": listed, "folders": paths(folders, "plugin_path")}


def _is_table(value: Any) -> bool:
    """Whether this is the name of a plugin with a mapping of its options."""
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], Mapping)
    )


def constants(value: Union[None, bool, str]) -> Optional[str]:
    """The constants of charges or recall: those that the model was fitted with for ``True``."""
    if value is None or value is False:
        return None
    return "" if value is True else str(value)


def document(options: Mapping[str, Any]) -> str:
    """Options as JSON."""
    try:
        written = json.dumps(options, default=_plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ValueError):
            check(options)
        raise TypeError(f"an option cannot be used: {error}") from None
    if "\\ud" in written:
        check(options)
    return written


def check(value: Any, name: str = "", depth: int = 0) -> None:
    """Raise for a number that is not finite and a text that has no form in UTF-8, at its name.

    Options are not nested as deep as 32.
    """
    if depth > 32:
        return
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        shown = "NaN" if math.isnan(value) else "infinity" if value > 0 else "-infinity"
        raise InputError(f"invalid {name or 'value'} {shown}: expected a finite number", name or None)
    if isinstance(value, str):
        text(value, name)
    if isinstance(value, Mapping):
        for key, one in value.items():
            # The keys of "sampling" are arguments of their own.
            check(one, name if key == "sampling" else str(key), depth + 1)
    elif isinstance(value, (list, tuple)):
        for one in value:
            check(one, name, depth + 1)


def _plain(value: Any) -> Any:
    """A number or an array of NumPy as what JSON has."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"unexpected {type(value).__name__}")
