"""Explanations: why one token and not another."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Dict, List, Mapping

import numpy

if TYPE_CHECKING:
    from ._model import Model


class Explanation:
    """Why a step of greedy decoding chose one token and not another: the parts of the margin between their logits.

    In a notebook it shows the parts as bars.

    Attributes:
        document: The explanation as ``brillm explain --json`` prints it.
        position: The chosen token's position in the text.
        chosen: The chosen token.
        alternative: The token it is compared with.
        probabilities: Probabilities of both over the whole vocabulary. ``[2]`` float64
        margin: The logit of the chosen token less that of the alternative: ln of the ratio of their probabilities.
        exact: Whether a value is exactly what the margin loses without that token's signal at this step, given the gates.
        kinds: What each part comes from: ``"token"``, ``"bias"``, ``"position"``, ``"source"``, …
        positions: Position of the token of each part; −1 for parts that are of no token. ``[parts]`` int64
        ids: The token of each part; −1 for parts that are of no token. ``[parts]`` int64
        values: What each part adds to the margin, in nats; the sum is the margin. ``[parts]`` float64
    """

    def __init__(self, document: Mapping[str, Any], model: "Model") -> None:
        self._model = model
        terms = document["terms"]
        #: The explanation as ``brillm explain --json`` prints it.
        self.document: Mapping[str, Any] = document
        #: The chosen token's position in the text.
        self.position: int = document["position"]
        #: The chosen token.
        self.chosen: int = document["chosen"]
        #: The token it is compared with.
        self.alternative: int = document["alternative"]
        #: Probabilities of both over the whole vocabulary. ``[2]`` float64
        self.probabilities: "numpy.ndarray" = numpy.array(document["probabilities"], numpy.float64)
        #: The logit of the chosen token less that of the alternative: ln of the ratio of their probabilities.
        self.margin: float = document["margin"]
        #: Whether a value is exactly what the margin loses without that token's signal at this step, given the gates.
        self.exact: bool = document["exact"]
        #: What each part comes from: ``"token"``, ``"bias"``, ``"position"``, ``"source"``, ``"target"``,
        #: ``"layers"``, ``"target_bias"`` or ``"static_resistance"``.
        self.kinds: List[str] = [term["kind"] for term in terms]
        #: Position of the token of each part; −1 for parts that are of no token. ``[parts]`` int64
        self.positions: "numpy.ndarray" = numpy.array([term.get("position", -1) for term in terms], numpy.int64)
        #: The token of each part; −1 for parts that are of no token. ``[parts]`` int64
        self.ids: "numpy.ndarray" = numpy.array([term.get("id", -1) for term in terms], numpy.int64)
        #: What each part adds to the margin, in nats; the sum is the margin. ``[parts]`` float64
        self.values: "numpy.ndarray" = numpy.array([term["value"] for term in terms], numpy.float64)

    def table(self) -> Dict[str, Any]:
        """Columns for ``pandas.DataFrame`` or ``pyarrow.table``: one row for each part."""
        return {"kind": self.kinds, "position": self.positions, "id": self.ids, "value": self.values}

    def _shown(self, ids: List[int]) -> List[str]:
        return [token["display"] for token in self._model.tokens(ids)]

    def __repr__(self) -> str:
        chosen, alternative = self._shown([self.chosen, self.alternative])
        return f"<Explanation of {chosen} over {alternative}: margin {self.margin:.3f}, {len(self.values)} parts>"

    def _repr_html_(self) -> str:
        names = iter(self._shown([int(one) for one in self.ids if one >= 0]))
        labels = [next(names) if id >= 0 else kind.replace("_", " ") for id, kind in zip(self.ids, self.kinds)]
        largest = max(1e-12, float(numpy.abs(self.values).max(initial=0.0)))
        rows = []
        for index in numpy.argsort(-numpy.abs(self.values), kind="stable"):
            value = float(self.values[index])
            width, colour = 12.0 * abs(value) / largest, "#2a7ab9" if value >= 0 else "#c0504d"
            bar = f"<div style='width:{width:.2f}em;height:0.8em;background:{colour}'></div>"
            position = int(self.positions[index]) if self.positions[index] >= 0 else ""
            rows.append(
                f"<tr><td>{position}</td><th style='text-align:left'>{html.escape(labels[index])}</th>"
                f"<td>{value:+.3f}</td><td>{bar}</td></tr>"
            )
        chosen, alternative = self._shown([self.chosen, self.alternative])
        caption = f"{chosen} over {alternative}: margin {self.margin:.3f}"
        return f"<table><caption>{html.escape(caption)}</caption>{''.join(rows)}</table>"
