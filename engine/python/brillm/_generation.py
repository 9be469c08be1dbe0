"""Text that a model generates, and how likely a text is."""

from __future__ import annotations

import math
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy

from . import _native


class Piece(str):
    """Text that a new token completes: a ``str`` with the token's ``id``.

    It is empty while a character is still incomplete. ``id`` is ``None`` for text that was held back when the
    generation ended, and has no token of its own.
    """

    id: Optional[int] = None


class Generation(Iterator[Piece]):
    """A running generation: an iterator of :class:`Piece`.

    The interpreter's lock is released while a token is computed. Ctrl-C raises ``KeyboardInterrupt`` between two tokens;
    ``next`` or another loop continues the generation. ``text`` and ``ids`` are what was generated so far.
    """

    def __init__(self, native: "_native.Generation") -> None:
        self._native = native
        self._pieces: List[str] = []
        self.ids: List[int] = []

    def __iter__(self) -> "Generation":
        return self

    def __next__(self) -> Piece:
        found = self._native.next()
        if found is None:
            raise StopIteration
        piece = Piece(found[0])
        piece.id = found[1]
        if piece.id is not None:
            self.ids.append(piece.id)
        self._pieces.append(found[0])
        return piece

    @property
    def text(self) -> str:
        """The text generated so far."""
        return "".join(self._pieces)

    @property
    def finish(self) -> Optional[str]:
        """Why the generation ended: ``length``, ``stop``, ``stop_text``, ``cancelled``, ``exhausted`` or ``context``."""
        return self._native.finish()

    def collect(self) -> str:
        """Generate the rest and return the whole text."""
        for _ in self:
            pass
        return self.text

    def cancel(self) -> None:
        """End before the next token; may be called from another thread."""
        self._native.cancel()

    def save(self) -> bytes:
        """The session of a graph, for ``Model.restore`` or ``brillm generate --load-session``."""
        return bytes(self._native.save())

    def __repr__(self) -> str:
        return f"<Generation of {len(self.ids)} tokens: {self.finish or 'running'}>"


class Score(NamedTuple):
    """How likely a text is to a model.

    Attributes:
        ids: The tokens. ``[n]`` uint32
        log_probabilities: ln p of each token after those before it; NaN for the first. ``[n]`` float64
        top: The likeliest tokens at each position, ``(id, ln p)``; empty where ``top`` was 0.
        total: Sum of the log-probabilities.
        perplexity: exp of the mean −ln p.
    """

    #: The tokens. ``[n]`` uint32
    ids: "numpy.ndarray"
    #: ln p of each token after those before it; NaN for the first, which has none before it. ``[n]`` float64
    log_probabilities: "numpy.ndarray"
    #: The likeliest tokens at each position with their ln p, where ``top`` was above 0.
    top: List[List[Tuple[int, float]]]

    @property
    def total(self) -> float:
        """Sum of the log-probabilities."""
        return float(numpy.nansum(self.log_probabilities))

    @property
    def perplexity(self) -> float:
        """exp of the mean −ln p; NaN for fewer than two tokens, of which none is predicted."""
        predictions = len(self.ids) - 1
        return float(numpy.exp(-self.total / predictions)) if predictions > 0 else math.nan

    def table(self) -> Dict[str, "numpy.ndarray"]:
        """Columns for ``pandas.DataFrame`` or ``pyarrow.table``."""
        return {"id": self.ids, "log_probability": self.log_probabilities}
