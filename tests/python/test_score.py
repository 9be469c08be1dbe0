"""Scores and evaluations: the figures of the program to 1e-6."""

import math

import numpy
import pytest
from conftest import PROMPT

import brillm

STORY = "Once upon a time there was a little girl. She had a red ball. One day, the ball fell into the river.\n"


@pytest.mark.parametrize("name", ["model", "transformer"])
def test_the_score_of_a_text_is_its_evaluation(request, program, tmp_path, name):
    model = request.getfixturevalue(name)
    path = tmp_path / "story.txt"
    path.write_text(STORY)
    source = [] if name == "model" else ["--model", "models/stories260K"]
    expected = program("eval", path, "--backend", "cpu", "--json", *source)
    measured = brillm.evaluate(model, path)
    for key in ["perplexity", "nats_per_token", "bits_per_byte"]:
        assert getattr(measured, key) == pytest.approx(expected[key], rel=1e-9), key
    assert (measured.tokens, measured.candidates) == (expected["tokens"], expected["candidates"])
    score = model.score(STORY)
    assert math.isnan(score.log_probabilities[0]) and len(score.ids) == len(score.log_probabilities)
    assert score.ids.dtype == numpy.uint32 and score.log_probabilities.dtype == numpy.float64
    ids = model.encode(STORY)
    again = brillm.evaluate(model, ids=ids)
    assert score.total == pytest.approx(-again.nats_per_token * again.tokens, rel=1e-6)
    assert score.perplexity == pytest.approx(again.perplexity, rel=1e-6)


def test_windows_equal_those_of_the_program(model, program, tmp_path):
    ids = tmp_path / "held-out.u16"
    values = numpy.array((model.encode(STORY) * 4)[:120], "<u2")
    ids.write_bytes(values.tobytes())
    expected = program("eval", "--ids", ids, "--windows", "16,4", "--first-window", 1, "--backend", "cpu", "--json")
    measured = brillm.evaluate(model, ids=values, windows=(16, 4), first_window=1)
    assert measured.nats_per_token == pytest.approx(expected["nats_per_token"], rel=1e-9)
    assert measured.tokens == expected["tokens"]


def test_documents_and_recall_equal_those_of_the_program(model, program, tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.txt").write_text(STORY[index * 10 :])
    expected = program("eval", tmp_path, "--documents", "--backend", "cpu", "--json")
    assert brillm.evaluate(model, tmp_path, documents=True).perplexity == pytest.approx(expected["perplexity"], rel=1e-9)
    recall = "64,20,0.1"
    expected = program("eval", tmp_path, f"--recall={recall}", "--backend", "cpu", "--json")
    assert brillm.evaluate(model, tmp_path, recall=recall).perplexity == pytest.approx(expected["perplexity"], rel=1e-9)


def test_the_likeliest_tokens_are_listed(model):
    score = model.score(PROMPT, top=3)
    session = model.session(PROMPT[:4])
    assert [len(top) for top in score.top] == [0] + [3] * (len(score.ids) - 1)
    for top, value in zip(score.top[1:], score.log_probabilities[1:]):
        assert top == sorted(top, key=lambda one: -one[1]) and value <= top[0][1] + 1e-9
    assert session.probabilities().sum() == pytest.approx(1.0)


def test_kneser_ney_equals_that_of_the_program(model, program, tmp_path):
    files = {}
    ids = {"train": model.encode(STORY * 8), "test": model.encode(STORY[20:] + STORY[:40])}
    for name, values in ids.items():
        files[name] = tmp_path / f"{name}.u16"
        files[name].write_bytes(numpy.array(values, "<u2").tobytes())
    expected = program(
        "baseline", "--train", files["train"], "--test", files["test"], "--windows", "8,3", "--order", 4,
        "--vocabulary", model.vocabulary, "--json",
    )
    found = brillm.kneser_ney(ids["train"], ids["test"], windows=(8, 3), order=4, vocabulary=model.vocabulary)
    assert {str(order): value for order, value in found.items()} == pytest.approx(expected["orders"], rel=1e-9)


def test_a_score_becomes_a_table(model):
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    table = model.score(STORY).table()
    assert len(pandas.DataFrame(table)) == len(model.encode(STORY)) == pyarrow.table(table).num_rows
