"""Traces: every step of a path with what it chose among, and why."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

import numpy

from . import _native, _options
from ._errors import FormatError, of_system


class Trace:
    """A traced generation: the document ``brillm-trace/1`` with its numbers as arrays.

    In a notebook it shows the picture of the path.
    """

    def __init__(self, native: "_native.Trace") -> None:
        self._native = native
        self._document: Optional[Dict[str, Any]] = None

    @property
    def document(self) -> Dict[str, Any]:
        """The document ``brillm-trace/1``."""
        if self._document is None:
            self._document = json.loads(self._native.json())
        return self._document

    @property
    def steps(self) -> List[Dict[str, Any]]:
        """The steps of the document, one for each new token."""
        return self.document["steps"]

    @property
    def text(self) -> str:
        """The new text."""
        return self.document["text"]

    @property
    def finish(self) -> Optional[str]:
        """Why the trace ended."""
        return self.document["finish"]

    @property
    def prompt_tokens(self) -> int:
        """Number of :attr:`ids` that belong to the prompt."""
        return self.document["prompt_tokens"]

    @property
    def ids(self) -> "numpy.ndarray":
        """The path: the prompt, then the chosen tokens. ``[n]`` uint32"""
        return numpy.array([token["id"] for token in self.document["tokens"]], numpy.uint32)

    @property
    def tokens(self) -> List[str]:
        """The path as readable texts."""
        return [token["display"] for token in self.document["tokens"]]

    @property
    def chosen(self) -> "numpy.ndarray":
        """The chosen token of each step. ``[steps]`` uint32"""
        return numpy.array([step["chosen"] for step in self.steps], numpy.uint32)

    @property
    def log_probabilities(self) -> "numpy.ndarray":
        """ln p of the chosen token of each step; −∞ where it was forced against p = 0. ``[steps]`` float64"""
        return numpy.array(
            [-numpy.inf if step["resistance"] is None else -step["resistance"] for step in self.steps], numpy.float64
        )

    @property
    def entropy(self) -> "numpy.ndarray":
        """−Σ p ln p of each step, in nats. ``[steps]`` float64"""
        return numpy.array([step["entropy"] for step in self.steps], numpy.float64)

    @property
    def contributions(self) -> "numpy.ndarray":
        """How far each token of the path pushed along the pre-activation of each chosen edge. ``[steps, n]`` float64

        0 for tokens that are not before the step. With the other terms (:meth:`contribution_table`), a row adds up to the
        norm of the pre-activation. All 0 on a transformer, which has attention instead. The values are exact for the step,
        given the gates: a signal that is muted earlier changes the signals after it too.
        """
        values = numpy.zeros((len(self.steps), len(self.document["tokens"])))
        for row, step in zip(values, self.steps):
            for entry in (step["contributions"] or {}).get("entries", []):
                if entry["kind"] == "token":
                    row[entry["position"]] += entry["value"]
        return values

    def contribution_table(self) -> Dict[str, "numpy.ndarray"]:
        """All contributions as columns for ``pandas.DataFrame`` or ``pyarrow.table``.

        ``kind`` is ``token``, or a term that is not a token's: ``bias``, ``position``, ``source``, ``target``,
        ``layers``. ``position`` and ``id`` are −1 for these.
        """
        rows = [
            (step["index"], entry["kind"], entry.get("position"), entry.get("id"), entry["value"], entry["norm"])
            for step in self.steps
            for entry in (step["contributions"] or {}).get("entries", [])
        ]
        return {
            "step": numpy.array([row[0] for row in rows], numpy.int64),
            "kind": numpy.array([row[1] for row in rows], numpy.dtype(object)),
            "position": numpy.array([-1 if row[2] is None else row[2] for row in rows], numpy.int64),
            "id": numpy.array([-1 if row[3] is None else row[3] for row in rows], numpy.int64),
            "value": numpy.array([row[4] for row in rows], numpy.float64),
            "norm": numpy.array([row[5] for row in rows], numpy.float64),
        }

    def table(self) -> Dict[str, "numpy.ndarray"]:
        """The candidates of all steps as columns for ``pandas.DataFrame`` or ``pyarrow.table``."""
        rows = [(step, one) for step in self.steps for one in step["candidates"]]

        def column(key: str, kind: Any) -> "numpy.ndarray":
            return numpy.array([one[key] for _, one in rows], kind)

        return {
            "step": numpy.array([step["index"] for step, _ in rows], numpy.int64),
            "id": column("id", numpy.int64),
            "text": column("display", numpy.dtype(object)),
            "rank": column("rank", numpy.int64),
            "probability": column("probability", numpy.float32),
            "energy": column("energy", numpy.float32),
            "chosen": numpy.array([one["id"] == step["chosen"] for step, one in rows], bool),
        }

    def export(self, format: str, *, theme: str = "light") -> str:
        """The trace as ``json``, ``svg``, ``dot``, ``graphml``, ``gexf`` or ``csv``."""
        return self._native.export(_options.text(format, "format"), _options.text(theme, "theme"))

    def svg(self, *, theme: str = "light") -> str:
        """The picture of the path; :func:`brillm.open_trace` reads the trace back from it."""
        return self.export("svg", theme=theme)

    def save(self, path: _options.Path, *, theme: str = "light") -> None:
        """Write the trace to a file, in the format of its ending."""
        name = _options.path(path)
        text = self.export(name.rpartition(".")[2], theme=theme)
        try:
            with open(name, "w", encoding="utf-8", newline="") as file:
                file.write(text)
        except OSError as error:
            raise of_system(error, name) from None

    def _repr_html_(self) -> str:
        return f'<div style="overflow-x:auto">{self.svg()}</div>'

    def __repr__(self) -> str:
        return f"<Trace of {len(self.steps)} steps: {self.text!r}>"


def open_trace(path: _options.Path) -> Trace:
    """Open a trace that was written as JSON or SVG."""
    name = _options.path(path)
    try:
        with open(name, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise of_system(error, name) from None
    except UnicodeDecodeError:
        advice = "pass a file that Trace.save wrote as .json or .svg"
        raise FormatError("the file is not a trace: it is not text", name, advice) from None
    return Trace(_native.Trace.read(text))
