"""Continual learning: a graph learns a text, and forgets it."""

import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading

import pytest
from conftest import RECIPE

import brillm

STORY = "The quokka ate a leaf. The quokka slept under the old tree. A quokka likes leaves and the old tree. " * 12


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small layered graph with longer walks, trained on a text of its own."""
    folder = tmp_path_factory.mktemp("small")
    text = folder / "crow.txt"
    text.write_text("A thirsty crow found a jug. The jug was deep, and the crow was small.\n" * 60)
    run = brillm.train({**RECIPE, "data": {**RECIPE["data"], "train": [str(text)]}}, out=folder / "run")
    return run.load()


def saved(model, folder, name="model.bril"):
    """The bytes of a saved model."""
    model.save(folder / name)
    return (folder / name).read_bytes()


def test_a_learned_text_becomes_likelier_and_is_recorded(small, tmp_path):
    before = saved(small, tmp_path)
    events = []
    taught = small.learn(STORY, name="quokka", passes=2, callback=events.append)
    assert taught.score(STORY).perplexity < 0.7 * small.score(STORY).perplexity
    (record,) = taught.learned
    assert record["name"] == "quokka" and record["sources"] == [] and record["weight"] == 1
    assert record["tokens"] >= len(small.encode(STORY)) and record["new_edges"] > 0 and record["new_nodes"] == 0
    assert record["training"]["passes"] == 2 and record["training"]["rate"] == 2e-3
    assert {event["kind"] for event in events} == {"step"}
    assert [event["step"] for event in events] == list(range(1, events[0]["steps"] + 1))
    assert all(event["loss"] > 0.0 for event in events)
    # The model that was taught is as it was.
    assert small.learned == [] and saved(small, tmp_path) == before


def test_forgetting_gives_the_bytes_of_before(small, tmp_path):
    before = saved(small, tmp_path)
    one = small.learn(STORY, name="one", new_nodes=5)
    added = one.learned[0]["new_nodes"]
    assert added > 0 and one.vocabulary == small.vocabulary + added
    new = one.tokens(range(small.vocabulary, one.vocabulary))
    assert all(token["text"].strip() in STORY for token in new) and len(one.encode(STORY)) < len(small.encode(STORY))
    two = one.learn("A jug of water stood under the tree, and the crow saw it. " * 3, name="two", weight=3)
    assert [record["name"] for record in two.learned] == ["one", "two"]
    # By record, by number, by name; in the order of a stack.
    back = two.forget(two.learned[1])
    assert saved(back, tmp_path) == saved(one, tmp_path, "one.bril")
    assert saved(back.forget(1), tmp_path) == before
    assert two.forget("one").learned[0]["name"] == "two"
    assert saved(two.forget("one").forget("two"), tmp_path) == before


def test_files_ids_and_counts_alone(small, tmp_path):
    file = tmp_path / "story.txt"
    file.write_text(STORY)
    taught = small.learn([file, "A crow."], passes=0)
    assert taught.learned[0]["sources"] == [str(file)] and taught.learned[0]["name"] == "story"
    assert taught.learned[0]["training"] is None
    weights = taught.weights()
    assert all((values == weights[name]).all() for name, values in small.weights().items() if "arena" not in name)
    again = taught.learn(file, passes=0)
    assert [record["name"] for record in again.learned] == ["story", "story-2"]
    ids = small.encode("A crow was deep.")
    assert small.learn(ids=ids, passes=0).learned[0]["tokens"] == len(ids)
    replayed = small.learn(STORY, replay=["A thirsty crow found a jug. " * 20])
    assert replayed.learned[0]["name"] == "text" and replayed.learned[0]["training"]["replayed_tokens"] > 0


def test_a_saved_model_is_that_of_the_program(small, tmp_path, program):
    file = tmp_path / "story.txt"
    file.write_text(STORY)
    small.save(tmp_path / "small.bril")
    program("learn", tmp_path / "small.bril", file, "--out", tmp_path / "program.bril", "--quiet", "--json")
    taught = small.learn(file)
    assert saved(taught, tmp_path) == (tmp_path / "program.bril").read_bytes()
    opened = brillm.load(tmp_path / "model.bril", verify=True)
    assert opened.learned == taught.learned
    assert opened.generate("The quokka", tokens=8).collect() == taught.generate("The quokka", tokens=8).collect()
    assert taught.trace("The quokka", tokens=3).document["model"]["sha256"] is None


def test_a_callback_ends_learning(small):
    steps = []

    def fail(event):
        steps.append(event["step"])
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        small.learn(STORY, passes=50, callback=fail)
    assert steps == [1]
    with pytest.raises(brillm.CancelledError):
        small.learn(STORY, passes=50, callback=lambda event: event["step"] < 3)
    with pytest.raises(TypeError, match="callback"):
        small.learn(STORY, callback=3)


def test_other_threads_run_while_a_text_is_learned(small):
    seen = []

    def watch():
        for _ in range(20):
            seen.append(small.score("A thirsty crow").perplexity)

    thread = threading.Thread(target=watch)
    first = small.learn(STORY, passes=3, callback=lambda event: event["step"] == 1 and thread.start() or True)
    thread.join()
    assert len(set(seen)) == 1 and first.learned


CODE = """
import signal, sys, brillm
# A shell that starts a program in the background lets it ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
model = brillm.load(sys.argv[1])
try:
    model.learn(sys.argv[2], passes=100_000, callback=lambda event: print(event["step"], flush=True))
except KeyboardInterrupt:
    sys.exit(0 if model.learned == [] else 1)
sys.exit("the text was learned without an interrupt")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_learning(small, tmp_path):
    small.save(tmp_path / "small.bril")
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path / "small.bril"), STORY], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0


def test_errors_name_what_is_wrong(small, transformer, tmp_path):
    taught = small.learn(STORY, name="quokka", passes=0)
    cases = [
        (lambda: transformer.learn("A crow."), brillm.UnsupportedError, "graph"),
        (lambda: transformer.forget(1), brillm.UnsupportedError, "graph"),
        (lambda: transformer.save(tmp_path / "copy.bril"), brillm.UnsupportedError, "graph"),
        (lambda: taught.learn("A crow.", name="quokka"), brillm.InputError, "quokka"),
        (lambda: small.learn(STORY, name="7"), brillm.InputError, "name"),
        (lambda: taught.forget("numbat"), brillm.InputError, "numbat"),
        (lambda: taught.forget(2), brillm.InputError, "2"),
        (lambda: taught.forget({}), brillm.InputError, "no name"),
        (lambda: taught.forget({"name": 1}), brillm.InputError, "no name"),
        (lambda: small.forget(1), brillm.InputError, "no text"),
        (lambda: small.learn([]), brillm.InputError, "short"),
        (lambda: small.learn(STORY, rate=0.0), brillm.InputError, "rate"),
        (lambda: small.learn(STORY, rate=1.5), brillm.InputError, "rate"),
        (lambda: small.learn(STORY, weight=0), brillm.InputError, "weight"),
        (lambda: small.learn(STORY, passes=-1), brillm.InputError, "passes"),
        (lambda: small.learn(STORY, passes=1.5), brillm.InputError, "passes"),
        (lambda: small.learn(ids=[1, 10**6]), brillm.InputError, "1000000"),
        (lambda: small.learn(pathlib.Path("absent.txt")), brillm.FileError, "absent.txt"),
        (lambda: small.save(tmp_path / "absent/model.bril"), brillm.FileError, "absent"),
        (lambda: small.learn(3), TypeError, ""),
        (lambda: small.learn([b"bytes"]), TypeError, "texts"),
        (lambda: small.learn(STORY, replay=[4]), TypeError, "replay"),
    ]
    for number, (call, error, words) in enumerate(cases):
        with pytest.raises(error) as raised:
            call()
        assert words in str(raised.value), (number, str(raised.value))
    with pytest.raises(brillm.InputError) as raised:
        taught.learn("A crow.", name="quokka")
    assert "name" in raised.value.advice and "--" not in str(raised.value)
    assert transformer.learned == []


def test_a_model_without_a_file_is_not_pickled_as_another(small, tmp_path):
    taught = small.learn(STORY, passes=0)
    with pytest.raises(brillm.UnsupportedError, match="save it"):
        pickle.dumps(taught)
    taught.save(tmp_path / "taught.bril")
    assert pickle.loads(pickle.dumps(brillm.load(tmp_path / "taught.bril"))).learned == taught.learned
