"""Traces: the document of the program, exact contributions, pictures, changed paths."""

import json
import xml.dom.minidom

import numpy
import pytest
from conftest import PROMPT

import brillm


@pytest.fixture(scope="module")
def trace(model):
    return model.trace(PROMPT, tokens=10)


def test_a_trace_is_the_document_of_the_program(trace, program):
    expected = program("trace", PROMPT, "--tokens", 10, "--backend", "cpu", "--json")
    found = json.loads(json.dumps(trace.document))
    # The program is another file of the same build; everything else is equal.
    assert found == expected


def test_a_trace_of_a_transformer_is_that_of_the_program(transformer, program):
    expected = program("trace", PROMPT, "--tokens", 6, "--model", "models/stories260K", "--json")
    found = transformer.trace(PROMPT, tokens=6)
    assert found.ids.tolist() == [token["id"] for token in expected["tokens"]]
    assert found.log_probabilities == pytest.approx([-step["resistance"] for step in expected["steps"]], abs=1e-6)
    assert not found.contributions.any() and found.steps[0]["attention"]


def test_contributions_add_up_to_the_pre_activation(trace):
    table = trace.contribution_table()
    for step in trace.steps:
        rows = table["step"] == step["index"]
        assert table["value"][rows].sum() == pytest.approx(step["contributions"]["norm"], rel=1e-5)
    values = trace.contributions
    assert values.shape == (10, len(trace.ids)) and values.dtype == numpy.float64
    tokens = table["kind"] == "token"
    assert values.sum() == pytest.approx(table["value"][tokens].sum())
    # No token contributes to a step before it.
    for row, step in zip(values, trace.steps):
        assert not row[step["position"] :].any()


def test_a_trace_has_arrays_and_tables(trace):
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    assert trace.chosen.tolist() == trace.ids[trace.prompt_tokens :].tolist()
    assert len(trace.log_probabilities) == len(trace.entropy) == 10
    frame = pandas.DataFrame(trace.table())
    assert set(frame.columns) == {"step", "id", "text", "rank", "probability", "energy", "chosen"}
    assert frame[frame.chosen].id.tolist() == trace.chosen.tolist()
    for table in [trace.table(), trace.contribution_table()]:
        assert pyarrow.table(table).num_rows == len(pandas.DataFrame(table)) > 0


def test_pictures_are_svg_that_can_be_opened_again(trace, tmp_path):
    for theme in ["light", "dark"]:
        assert xml.dom.minidom.parseString(trace.svg(theme=theme)).documentElement.tagName == "svg"
    assert "<svg" in trace._repr_html_()
    for name in ["path.svg", "path.json"]:
        trace.save(tmp_path / name)
        again = brillm.open_trace(tmp_path / name)
        assert again.document == trace.document and again.text == trace.text
    for form in ["dot", "graphml", "gexf", "csv"]:
        assert trace.export(form)
    with pytest.raises(brillm.InputError, match="invalid trace format"):
        trace.export("png")


def test_a_muted_token_is_not_chosen(model, trace):
    first = int(trace.chosen[0])
    changed = model.trace(PROMPT, tokens=10, mute=[first])
    assert first not in changed.chosen and changed.document["interventions"][0]["kind"] == "mute_node"


def test_a_muted_signal_leaves_the_context(model, trace):
    changed = model.trace(PROMPT, tokens=1, mute_signals=[2, 3])
    assert (changed.contributions[0, 2:4] != trace.contributions[0, 2:4]).all()
    # Nothing that is left depends on which tokens they were.
    ids = [int(one) for one in model.encode(PROMPT)]
    ids[1:3] = [300, 301]
    muted = [model.trace(one, tokens=1, mute_signals=[1, 2]) for one in (PROMPT, ids)]
    assert (muted[0].contributions == muted[1].contributions).all()
    assert changed.log_probabilities[0] != trace.log_probabilities[0]
    forced = model.trace(PROMPT, tokens=2, interventions=[{"kind": "force", "step": 0, "node": 300}])
    assert forced.chosen[0] == 300 and forced.steps[0]["forced"]


def test_explanations_are_those_of_the_program(model, program):
    expected = program("explain", PROMPT, "--tokens", 3, "--json")["explanations"]
    found = model.explain(PROMPT, tokens=3)
    assert [one.document for one in found] == expected
    for one in found:
        assert one.values.sum() == pytest.approx(one.margin, abs=1e-4) and one.margin > 0
        assert one.margin == pytest.approx(numpy.log(one.probabilities[0] / one.probabilities[1]), abs=1e-4)
        assert len(one.kinds) == len(one.positions) == len(one.ids) == len(one.table()["value"])
        assert f"margin {one.margin:.3f}" in repr(one) and one._repr_html_().count("<tr>") == len(one.kinds)


def test_an_explanation_compares_with_a_named_alternative(model):
    other = int(model.explain(PROMPT)[0].chosen) + 1
    assert model.explain(PROMPT, alternative=other)[0].alternative == other
    with pytest.raises(brillm.InputError, match="vocabulary"):
        model.explain(PROMPT, alternative=10**9)
    with pytest.raises(brillm.InputError, match="no token has the text"):
        model.explain(PROMPT, alternative="no such word")
    with pytest.raises(brillm.InputError, match="the prompt is empty"):
        model.explain([])
