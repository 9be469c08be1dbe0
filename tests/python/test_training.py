"""Training: texts, run files and mappings; progress; cancelled runs."""

import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import RECIPE

import brillm


def recipe(text, **train):
    return {
        **RECIPE,
        "data": {**RECIPE["data"], "train": [str(text)]},
        "train": {**RECIPE["train"], **train},
    }


def test_a_mapping_is_trained_with_progress(text, tmp_path):
    events = []
    run = brillm.train(recipe(text), out=tmp_path / "run", callback=events.append)
    assert (run.steps, run.cancelled) == (50, False) and run.validation_perplexity > 1.0
    kinds = {event["kind"] for event in events}
    assert {"note", "step", "training", "validation"} <= kinds
    steps = [event["step"] for event in events if event["kind"] == "step"]
    assert steps == list(range(1, 51))
    model = run.load()
    assert model.name == "crow" and model.generate("A thirsty", tokens=5).collect()
    table = run.table()
    assert len(table["loss"]) == 10 and table["loss"][-1] < table["loss"][0]
    assert table["loss"].tolist() == [event["loss"] for event in events if event["kind"] == "training"]
    assert run.table("validation")["perplexity"].min() == pytest.approx(run.validation_perplexity)
    for picture in [run.plot(), brillm.plot(run.folder)]:
        assert picture.startswith("<svg") and "<svg" in picture._repr_html_()


def test_the_same_run_as_the_program(text, tmp_path, program):
    settings = {
        "data.vocabulary": 300, "profile.width": 8, "profile.layers": 1, "profile.inner": 8,
        "train.tokens": 1600, "train.batch": 2, "train.steps": 16, "train.folds": 0,
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    program("train", text, "--out", tmp_path / "program", "--backend", "cpu", "--quiet", "--json", *sets)
    run = brillm.train(text, out=tmp_path / "python", changes=settings)
    own, other = run.load(), brillm.load(tmp_path / "program/model.bril")
    for name, values in own.weights().items():
        assert (values == other.weights()[name]).all(), name
    again = brillm.train(tmp_path / "python/run.toml", out=tmp_path / "again")
    assert all((values == own.weights()[name]).all() for name, values in again.load().weights().items())


def test_a_callback_ends_a_run_that_is_resumed(text, tmp_path):
    def stop(event):
        return not (event["kind"] == "step" and event["step"] == 20)

    run = brillm.train(recipe(text), out=tmp_path / "run", callback=stop)
    assert run.cancelled and run.steps == 20
    resumed = brillm.train(recipe(text), out=tmp_path / "run", resume=True)
    assert not resumed.cancelled and resumed.steps == 50
    whole = brillm.train(recipe(text), out=tmp_path / "whole")
    assert all((values == whole.load().weights()[name]).all() for name, values in resumed.load().weights().items())


CODE = """
import json, signal, sys, brillm
# A shell that starts a program in the background lets it ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    brillm.train(json.loads(sys.argv[1]), out=sys.argv[2], callback=lambda event: print(event["kind"], flush=True))
except KeyboardInterrupt:
    sys.exit(0)
sys.exit("the run ended without an interrupt")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_leaves_a_checkpoint(text, tmp_path):
    run = recipe(text, tokens=64_000_000)
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, json.dumps(run), str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    while process.stdout.readline() not in ("training\n", ""):
        pass
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    steps = []

    def stop(event):
        steps.extend([event["step"]] if event["kind"] == "step" else [])
        return not steps

    resumed = brillm.train(run, out=tmp_path / "run", resume=True, callback=stop)
    assert resumed.cancelled and len(steps) == 1 and steps[0] > 1


def test_an_exception_of_a_callback_is_raised(text, tmp_path):
    def fail(event):
        if event["kind"] == "step":
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        brillm.train(recipe(text), out=tmp_path / "run", callback=fail)


def test_errors_of_a_run_name_arguments(text, tmp_path):
    brillm.train(recipe(text, tokens=64), out=tmp_path / "run")
    with pytest.raises(brillm.Error) as raised:
        brillm.train(recipe(text, tokens=64), out=tmp_path / "run")
    assert "resume" in raised.value.advice and "--" not in str(raised.value)
    cases = [
        ({"nothing": 1}, brillm.ConfigurationError),
        ({"name": None}, brillm.ConfigurationError),
        (tmp_path / "absent.txt", brillm.FileError),
        ([], brillm.Error),
        ({"name": "x", "data": {"train": []}}, brillm.Error),
    ]
    for source, error in cases:
        with pytest.raises(error):
            brillm.train(source, out=tmp_path / "other")
    with pytest.raises(brillm.ConfigurationError, match="unknown"):
        brillm.train(text, out=tmp_path / "other", changes={"train.pace": 3})
