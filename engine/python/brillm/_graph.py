"""The graph of a model as arrays, and for networkx and scipy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Sequence, Union

import numpy

from . import _native, _options

if TYPE_CHECKING:
    from ._model import Model


class Graph:
    """The graph of tokens in compressed rows: the edges that leave node u are ``indptr[u]`` to ``indptr[u + 1]``.

    The arrays are read-only views of the model's memory.

    Attributes:
        indptr: Offsets of the rows. ``[V + 1]`` uint32
        indices: Targets of the edges, ascending in each row. ``[E]`` uint32
        counts: How often training walked each edge. ``[E]`` uint32
        resistance: Static resistance of each edge, −ln of its bigram probability. ``[E]`` float32
        edge_rows: Row of each edge in the edge weights; 0 for edges without weights of their own. ``[E]`` uint32
    """

    indptr: "numpy.ndarray"
    indices: "numpy.ndarray"
    counts: "numpy.ndarray"
    resistance: "numpy.ndarray"
    edge_rows: "numpy.ndarray"

    def __init__(self, native: "_native.Graph", model: "Model") -> None:
        self._native = native
        self._model = model
        for name, buffer in native.arrays().items():
            setattr(self, name, numpy.asarray(buffer))

    @property
    def nodes(self) -> int:
        """Number of nodes, V."""
        return self._native.sizes()[0]

    @property
    def edges(self) -> int:
        """Number of listed edges, E."""
        return self._native.sizes()[1]

    def fan(self, node: Union[int, str]) -> Dict[str, "numpy.ndarray"]:
        """The edges that leave a node, as columns: ``target``, ``count``, ``resistance``."""
        source = self._model._token(node)
        if source >= self.nodes:
            raise _options.InputError(f"node {source} is not in a graph of {self.nodes} nodes")
        row = slice(int(self.indptr[source]), int(self.indptr[source + 1]))
        return {"target": self.indices[row], "count": self.counts[row], "resistance": self.resistance[row]}

    def to_scipy(self, values: str = "counts") -> Any:
        """The graph as a ``scipy.sparse.csr_array`` whose entries are ``"counts"`` or ``"resistance"``.

        The entries and the indices share the model's memory; do not write to them.
        """
        try:
            from scipy.sparse import csr_array
        except ImportError as error:
            raise ImportError("to_scipy needs scipy: pip install \"brillm[graph]\"") from error

        if values not in ("counts", "resistance"):
            raise _options.InputError(f"invalid values {values!r}: expected counts or resistance")
        # scipy's indices are signed; those of a graph are below 2³¹ where it has fewer edges.
        signed = numpy.int32 if self.edges < 2**31 else numpy.int64
        indices, indptr = (
            array.view(numpy.int32) if signed is numpy.int32 else array.astype(signed)
            for array in (self.indices, self.indptr)
        )
        return csr_array((getattr(self, values), indices, indptr), shape=(self.nodes, self.nodes), copy=False)

    def to_networkx(
        self,
        *,
        around: Union[int, str, Sequence[Union[int, str]]] = (),
        radius: int = 1,
        maximum: int = 1000,
        direction: str = "out",
        strength: str = "resistance",
    ) -> Any:
        """Part of the graph as a ``networkx.DiGraph``.

        Nodes have ``text``, edges have ``count`` and ``resistance``.

        Args:
            around: Nodes within ``radius`` hops of these, at most ``maximum`` nodes; without any, the ``maximum``
                strongest edges.
            direction: ``"out"`` for successors, ``"in"`` for predecessors, ``"both"``.
            strength: ``"resistance"`` or ``"count"``, which orders the strongest edges.
        """
        try:
            import networkx
        except ImportError as error:
            raise ImportError("to_networkx needs networkx: pip install \"brillm[graph]\"") from error

        centres = [self._model._token(node) for node in _options.several(around, "around")]
        nodes, edges = self._native.select(
            centres, _options.index(radius, "radius"), _options.index(maximum, "maximum"), direction, strength
        )
        graph = networkx.DiGraph(name=self._model.name)
        for shown in self._model.tokens(nodes):
            graph.add_node(shown["id"], text=shown["display"])
        chosen = numpy.asarray(edges, numpy.int64)
        sources = numpy.searchsorted(self.indptr, chosen, side="right") - 1
        for edge, source in zip(chosen.tolist(), sources.tolist()):
            graph.add_edge(
                source,
                int(self.indices[edge]),
                count=int(self.counts[edge]),
                resistance=float(self.resistance[edge]),
            )
        return graph

    def __repr__(self) -> str:
        return f"<Graph of {self.nodes} nodes and {self.edges} edges>"
