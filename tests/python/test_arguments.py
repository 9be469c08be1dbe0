"""Arguments: one value where several are taken, other types, numbers that are not finite, and what errors tell."""

import pickle

import numpy
import pytest

import brillm

PROMPT = "Once upon a time there was a"
SURROGATE = "a \ud800 b"


def test_one_token_is_taken_where_several_are(model):
    was = model.find(" was")
    one, several = (model.trace("Once upon a time there", tokens=3, mute=mute) for mute in (" was", [was]))
    assert one.ids.tolist() == several.ids.tolist() and was not in one.ids[one.prompt_tokens :]
    assert model.find("girl") == model.find(" girl") and model.decode([model.find("girl")]) == " girl"
    plugin = ("kv-heavy", {"recent": 8})
    texts = [model.generate(PROMPT, tokens=4, plugins=plugins).collect() for plugins in (plugin, [plugin])]
    assert texts[0] == texts[1]


def test_nodes_of_networkx_are_named_by_numbers_of_numpy(model):
    pytest.importorskip("networkx")
    graph, node = model.graph(), model.find(" was")
    expected = set(graph.to_networkx(around=node, maximum=5))
    for around in (numpy.uint32(node), [numpy.int64(node)], numpy.array([node])):
        assert set(graph.to_networkx(around=around, maximum=5)) == expected
    with pytest.raises(TypeError, match="around"):
        graph.to_networkx(around=1.5)


def test_another_type_is_named(model, tmp_path):
    trace, session = model.trace(PROMPT, tokens=1), model.session(PROMPT)
    cases = [
        (lambda: brillm.load(3), "path"),
        (lambda: brillm.load([]), "path"),
        (lambda: brillm.train(3), "source"),
        (lambda: brillm.train("a.txt", changes=3), "changes"),
        (lambda: brillm.train("a.txt", out=3), "out"),
        (lambda: brillm.plot(3), "folders"),
        (lambda: brillm.evaluate(model, 3), "texts"),
        (lambda: brillm.evaluate(model, ids=[1, 2, 3], windows=8), "windows"),
        (lambda: brillm.kneser_ney([1, 2, 3], [1, 2], windows=8), "windows"),
        (lambda: brillm.open_trace(3), "path"),
        (lambda: trace.save(3), "path"),
        (lambda: model.save(3), "path"),
        (lambda: model.encode(3), "text"),
        (lambda: model.find(3), "text"),
        (lambda: model.decode(3), "tokens"),
        (lambda: model.learn(3), "texts"),
        (lambda: model.generate(None), "prompt"),
        (lambda: model.score(None), "text"),
        (lambda: model.generate("a", stop=3), "stop"),
        (lambda: model.generate("a", plugins=3), "plugins"),
        (lambda: model.generate("a", plugin_path=3), "plugin_path"),
        (lambda: model.generate("a", banned=" was"), "banned"),
        (lambda: model.generate("a", banned=3), "banned"),
        (lambda: model.generate("a", logit_bias=[(5, 1.0)]), "logit_bias"),
        (lambda: model.generate("a", force=[5]), "force"),
        (lambda: model.generate("a", inject=[5]), "inject"),
        (lambda: model.generate("a", state="x"), "state"),
        (lambda: model.trace("a", interventions=["foo"]), "interventions"),
        (lambda: model.trace("a", mute_signals="3"), "mute_signals"),
        (lambda: model.trace("a", mute_signals=3), "mute_signals"),
        (lambda: model.trace("a", mute=1.5), "mute"),
        (lambda: model.restore("x"), "state"),
        (lambda: model.restore(None), "state"),
        (lambda: session.force(None), "token"),
        (lambda: session.inject(3, "x"), "energy"),
        (lambda: session.scale(3, None), "factor"),
        (lambda: model.generate("a", start=3), "start"),
        (lambda: trace.export(3), "format"),
        (lambda: trace.svg(theme=3), "theme"),
    ]
    for number, (call, name) in enumerate(cases):
        with pytest.raises(TypeError) as raised:
            call()
        assert str(raised.value).startswith(f"{name}: expected "), (number, str(raised.value))


def test_a_value_that_no_call_can_use_is_an_input_error(model):
    length = len(model.encode("Once")) + 2
    cases = [
        (lambda: model.generate(SURROGATE), "prompt"),
        (lambda: model.score(SURROGATE), "text"),
        (lambda: model.encode(SURROGATE), "text"),
        (lambda: model.find(SURROGATE), "text"),
        (lambda: model.learn(SURROGATE), "texts"),
        (lambda: brillm.load(SURROGATE), "path"),
        (lambda: model.generate("a", stop=[SURROGATE]), "stop"),
        (lambda: model.learn("a crow", name=SURROGATE), "name"),
        (lambda: brillm.train("a.txt", changes={"train.rate": float("nan")}), "train.rate"),
        (lambda: model.generate("a", temperature=float("nan")), "temperature"),
        (lambda: model.generate("a", temperature=float("inf")), "temperature"),
        (lambda: model.generate("a", temperature=numpy.float32("nan")), "temperature"),
        (lambda: model.generate("a", logit_bias={5: float("nan")}), "logit_bias"),
        (lambda: model.learn("a crow", rate=float("nan")), "rate"),
        (lambda: model.trace("Once", tokens=2, mute_signals=[length]), "mute_signals"),
        (lambda: brillm.evaluate(model, ids=[1, 2, 3], windows=(1, 2, 3)), None),
        (lambda: brillm.kneser_ney([1, 2, 3], [1, 2], order=1), None),
    ]
    for number, (call, where) in enumerate(cases):
        with pytest.raises(brillm.InputError) as raised:
            call()
        assert raised.value.where == where, (number, str(raised.value))
    with pytest.raises(brillm.InputError, match="invalid temperature NaN: expected a finite number"):
        model.generate("a", temperature=float("nan"))
    assert model.trace("Once", tokens=2, mute_signals=[length - 1]).ids.size == length
    assert model.generate("Once", tokens=2, stop=None, force=None).collect()
    # A character above U+FFFF is a pair of surrogates in JSON only.
    assert model.generate("Once", tokens=2, stop="\U0001f600").collect()


def test_the_chosen_token_is_not_its_own_alternative(model):
    chosen = model.explain(PROMPT)[0].chosen
    with pytest.raises(brillm.InputError) as raised:
        model.explain(PROMPT, alternative=chosen)
    assert raised.value.where == "alternative"
    second = model.explain(PROMPT, tokens=2)[1].chosen
    with pytest.raises(brillm.InputError, match="step 1"):
        model.explain(PROMPT, tokens=2, alternative=second)
    assert model.explain(PROMPT, alternative=second)[0].alternative == second


def test_a_missing_file_is_that_of_python(model, tmp_path):
    trace, absent = model.trace(PROMPT, tokens=1), tmp_path / "absent"
    cases = [
        (lambda: brillm.load(absent), absent),
        (lambda: brillm.open_trace(absent), absent),
        (lambda: trace.save(absent / "t.svg"), absent / "t.svg"),
        (lambda: brillm.evaluate(model, absent), absent),
        (lambda: brillm.train(absent, out=tmp_path / "run"), absent),
        (lambda: model.learn(absent), absent),
    ]
    for call, path in cases:
        with pytest.raises(FileNotFoundError) as raised:
            call()
        error = raised.value
        assert isinstance(error, brillm.MissingFileError) and isinstance(error, brillm.FileError)
        assert (error.kind, error.errno, error.filename) == ("io", 2, str(path))
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error) and str(again) == str(error)
        assert (again.errno, again.filename) == (error.errno, error.filename)


def test_a_binary_file_is_not_a_trace(tmp_path):
    path = tmp_path / "t.svg"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(brillm.FormatError) as raised:
        brillm.open_trace(path)
    assert raised.value.where == str(path) and isinstance(raised.value, ValueError)
    path.write_text("<svg/>")
    with pytest.raises(brillm.Error) as raised:
        brillm.open_trace(path)
    assert "brillm trace" not in str(raised.value) and "save" in raised.value.advice


def test_advice_is_in_the_words_of_python(model, text, tmp_path):
    with pytest.raises(brillm.UnsupportedError) as raised:
        model.session(PROMPT).contributions(300)
    assert raised.value.advice == "begin the session with explain=True"
    with pytest.raises(brillm.InputError) as raised:
        model.forget("notes")
    assert raised.value.advice == "teach it one with Model.learn"
    with pytest.raises(brillm.ConfigurationError) as raised:
        brillm.train({})
    assert raised.value.where == "source" and "name" in raised.value.what
    taught = brillm.train({"name": "crow", "data": {"train": [str(text)], "vocabulary": 300}, "profile": {"width": 8},
                           "train": {"tokens": 64, "batch": 2, "steps": 16, "folds": 0}}, out=tmp_path / "run")
    for option in ("recall", "charges"):
        with pytest.raises(brillm.InputError) as raised:
            taught.load().generate("A crow", **{option: True})
        assert f"pass {option}=\"" in raised.value.advice
    with pytest.raises(brillm.InputError, match="kind"):
        taught.table("foo")


def test_figures_that_are_not_measured_are_absent(model, text):
    assert brillm.evaluate(model, text).bits_per_byte > 0
    assert brillm.evaluate(model, text, windows=(31, 1)).bits_per_byte is None
    assert numpy.isnan(model.score(model.encode("a")[:1]).perplexity)
