"""The graph and the weights: views of the model's memory, scipy, networkx."""

import gc
import json

import numpy
import pytest
from conftest import ROOT

import brillm


def test_the_graph_is_compressed_rows(model):
    graph = model.graph()
    assert graph.indptr.shape == (graph.nodes + 1,) and graph.nodes == model.vocabulary
    arrays = [graph.indices, graph.counts, graph.resistance, graph.edge_rows]
    assert all(array.shape == (graph.edges,) for array in arrays)
    assert graph.indptr[0] == 0 and graph.indptr[-1] == graph.edges and (numpy.diff(graph.indptr.astype(int)) >= 0).all()
    assert graph.indices.max() < graph.nodes and graph.counts.min() > 0 and (graph.resistance >= 0).all()


def test_views_share_memory_and_are_read_only(model):
    first, second = model.graph(), model.graph()
    for name in ["indptr", "indices", "counts", "resistance", "edge_rows"]:
        one, two = getattr(first, name), getattr(second, name)
        assert one.ctypes.data == two.ctypes.data and not one.flags.owndata, name
        with pytest.raises(ValueError):
            one[0] = 0
        with pytest.raises(ValueError):
            one.flags.writeable = True
    for name, view in model.weights().items():
        assert view.ctypes.data == model.weights()[name].ctypes.data, name
        with pytest.raises(ValueError):
            view[...] = 0


def test_views_outlive_their_model():
    model = brillm.load()
    indices, weights = model.graph().indices, model.weights()
    total, sums = int(indices.sum()), {name: float(numpy.abs(view.astype(float)).sum()) for name, view in weights.items()}
    del model
    gc.collect()
    assert int(indices.sum()) == total
    assert {name: float(numpy.abs(view.astype(float)).sum()) for name, view in weights.items()} == sums


def test_weights_are_all_parameters(model):
    weights = model.weights()
    sizes = [view.size for name, view in weights.items() if not name.endswith(".row_scales")]
    assert sum(sizes) == model.parameters
    for name, view in weights.items():
        values = view.astype(float)
        if f"{name}.row_scales" in weights:
            assert view.dtype == numpy.int8
            values = values * weights[f"{name}.row_scales"][:, None]
        assert numpy.isfinite(values).all(), name


def test_scipy_gets_the_same_edges(model):
    sparse = pytest.importorskip("scipy.sparse")
    graph = model.graph()
    matrix = graph.to_scipy()
    assert sparse.issparse(matrix) and matrix.shape == (graph.nodes, graph.nodes) and matrix.nnz == graph.edges
    assert numpy.shares_memory(matrix.data, graph.counts) and numpy.shares_memory(matrix.indices, graph.indices)
    busiest = int(numpy.diff(graph.indptr.astype(int)).argmax())
    row, fan = matrix[[busiest]].toarray()[0], graph.fan(busiest)
    assert (row[fan["target"]] == fan["count"]).all() and row.sum() == fan["count"].sum()
    assert graph.to_scipy("resistance").dtype == numpy.float32
    with pytest.raises(brillm.InputError):
        graph.to_scipy("weights")


def test_networkx_gets_a_part_of_the_graph(model):
    networkx = pytest.importorskip("networkx")
    graph = model.graph()
    strongest = graph.to_networkx(maximum=200)
    assert isinstance(strongest, networkx.DiGraph) and strongest.number_of_edges() == 200
    node = int(numpy.diff(graph.indptr.astype(int)).argmax())
    near = graph.to_networkx(around=node, maximum=30)
    assert node in near and near.number_of_nodes() == 30
    for source, target, values in near.edges(data=True):
        fan = graph.fan(source)
        at = fan["target"].tolist().index(target)
        assert (values["count"], values["resistance"]) == (fan["count"][at], fan["resistance"][at])
    assert all(attributes["text"] for _, attributes in near.nodes(data=True))
    with pytest.raises(brillm.InputError, match="invalid direction"):
        graph.to_networkx(around=node, direction="up")


def test_a_transformer_has_no_graph(transformer):
    with pytest.raises(brillm.UnsupportedError, match="needs a graph"):
        transformer.graph()
    with pytest.raises(brillm.UnsupportedError, match="needs a graph"):
        transformer.explain("Once")


def test_weights_of_a_transformer_are_views_of_its_file(transformer):
    path = ROOT / "models/stories260K/model.safetensors"
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    views, formats = transformer.weights(), transformer.weight_formats()
    assert sorted(views) == sorted(header) == sorted(formats)
    again = transformer.weights()
    for name, view in views.items():
        assert view.ctypes.data == again[name].ctypes.data, name
        assert not view.flags.writeable and list(view.shape) == header[name]["shape"], name
        first, last = header[name]["data_offsets"]
        assert view.tobytes() == data[start + first : start + last], name
        assert {"f32": "float32", "f16": "float16", "bf16": "uint16"}[formats[name]] == view.dtype.name, name
