"""Sessions: one text that a model extends token by token."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

import numpy

from . import _native, _options

if TYPE_CHECKING:
    from ._model import Model


class Session:
    """One text that a model extends token by token. Calls from several threads wait for each other.

    Tokens are ids, or texts that are one token.
    """

    def __init__(self, model: "Model", prompt: List[int], native: "_native.Session") -> None:
        self._model = model
        self._native = native
        self._ids = list(prompt)

    @property
    def ids(self) -> List[int]:
        """The tokens since the session began or was restored, those of the prompt included."""
        return list(self._ids)

    @property
    def text(self) -> str:
        """The text of :attr:`ids`."""
        return self._model.decode(self._ids)

    @property
    def token(self) -> int:
        """The last token."""
        return self._native.state()[0]

    @property
    def is_full(self) -> bool:
        """Whether the context has no position for another token."""
        return self._native.state()[2]

    def __len__(self) -> int:
        return self._native.state()[1]

    def look(self) -> Tuple["numpy.ndarray", "numpy.ndarray"]:
        """Energies and logits of all tokens as the next one. ``[V]``, ``[V]`` float32

        On a transformer the energies are the network's logits.
        """
        energies, logits = self._native.look()
        return numpy.array(energies), numpy.array(logits)

    def probabilities(self) -> "numpy.ndarray":
        """The model's distribution of the next token. ``[V]`` float64"""
        logits = numpy.array(self._native.look()[1], numpy.float64)
        weights = numpy.exp(logits - logits.max())
        return weights / weights.sum()

    def log_probability(self, token: Union[int, str]) -> float:
        """ln p of a token as the next one."""
        return -self._native.resistance(self._model._token(token))

    def step(self) -> Optional[int]:
        """Choose the next token and append it; ``None`` if none is left to choose."""
        token = self._native.step()
        if token is not None:
            self._ids.append(token)
        return token

    def force(self, token: Union[int, str]) -> int:
        """Append a token whatever its energy, and return its id."""
        chosen = self._model._token(token)
        self._native.force(chosen)
        self._ids.append(chosen)
        return chosen

    def inject(self, token: Union[int, str], energy: float) -> None:
        """Add energy to a token, for the next choice only."""
        self._native.inject(self._model._token(token), _options.number(energy, "energy"))

    def mute(self, token: Union[int, str], *, source: Union[None, int, str] = None) -> None:
        """Close a node for all later steps, or only the edge to it from ``source``."""
        self.scale(token, 0.0, source=source)

    def scale(self, token: Union[int, str], factor: float, *, source: Union[None, int, str] = None) -> None:
        """Multiply the odds of a token in all later steps, or only those of the edge to it from ``source``."""
        begin = None if source is None else self._model._token(source)
        self._native.scale(begin, self._model._token(token), _options.number(factor, "factor"))

    def contributions(self, token: Union[int, str]) -> Optional[Dict[str, Any]]:
        """What each earlier token contributes to the edge to a token; ``None`` on a transformer.

        The session must have been begun with ``explain=True``.
        """
        found = self._native.contributions(self._model._token(token))
        return None if found is None else json.loads(found)

    def save(self) -> bytes:
        """The state of a graph's session, for :meth:`Model.restore`. Muted nodes are not part of it."""
        return bytes(self._native.save())

    def __repr__(self) -> str:
        return f"<Session of {len(self)} tokens>"
