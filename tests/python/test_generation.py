"""Generation: the ids and texts of the program, stop strings, sessions, cancellation."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import PROMPT, ROOT

import brillm


@pytest.mark.parametrize("path", [None, "models/stories260K"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 1.3, "top_k": 40, "top_p": 1.0, "min_p": 0.01, "seed": 7},
        {"repetition_penalty": 1.4, "penalty_window": 16, "presence_penalty": 0.5, "frequency_penalty": 0.25},
        {"banned": [3, 4, 5, 261], "temperature": 0.0, "ignore_eos": True},
    ],
)
def test_generation_equals_that_of_the_program(program, path, options):
    arguments = []
    for key, value in options.items():
        flag = "--" + key.replace("_", "-")
        if value is True:
            arguments.append(flag)
        else:
            arguments += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    source = [] if path is None else ["--model", path]
    expected = program("generate", PROMPT, "--tokens", 24, "--backend", "cpu", "--json", *source, *arguments)
    generation = brillm.load(None if path is None else ROOT / path).generate(PROMPT, tokens=24, **options)
    pieces = list(generation)
    assert generation.ids == expected["ids"]
    assert "".join(pieces) == generation.text == expected["text"]
    assert generation.finish == expected["finish_reason"]
    assert [piece.id for piece in pieces if piece.id is not None] == expected["ids"]


def test_a_prompt_of_ids_is_continued(model):
    numpy = pytest.importorskip("numpy")
    ids = model.encode(PROMPT)
    texts = {
        model.generate(prompt, tokens=8).collect()
        for prompt in [PROMPT, ids, tuple(ids), numpy.array(ids), numpy.array(ids, numpy.uint16)]
    }
    assert len(texts) == 1


def test_stop_texts_end_the_generation(model):
    generation = model.generate(PROMPT, temperature=0.0, tokens=60, stop=[".", "!"])
    text = generation.collect()
    assert generation.finish == "stop_text" and "." not in text and "!" not in text
    assert model.generate(PROMPT, temperature=0.0, tokens=60, stop=".").collect() == text


def test_tokens_are_forced_and_injected(model):
    token = model.encode(" dragon")[-1]
    assert model.generate(PROMPT, tokens=3, force={1: token}).collect()
    forced = model.generate(PROMPT, tokens=3, temperature=0.0, force={1: token})
    forced.collect()
    assert forced.ids[1] == token
    injected = model.generate(PROMPT, tokens=2, temperature=0.0, inject=[(0, token, 1e6)])
    injected.collect()
    assert injected.ids[0] == token
    biased = model.generate(PROMPT, tokens=1, temperature=0.0, logit_bias={token: 100.0})
    biased.collect()
    assert biased.ids == [token]


def test_a_generation_is_saved_and_resumed(model):
    whole = model.generate(PROMPT, tokens=12)
    first = whole.__class__(model.generate(PROMPT, tokens=5)._native)
    head = first.collect()
    rest = model.generate("", tokens=7, state=first.save())
    assert head + rest.collect() == whole.collect()


def test_a_generation_is_cancelled_from_another_thread(model):
    generation = model.generate(PROMPT, tokens=10**9, ignore_eos=True)
    thread = threading.Timer(0.2, generation.cancel)
    thread.start()
    assert generation.collect()
    thread.join()
    assert generation.finish == "cancelled"


LOOP = """
import signal, sys, brillm
# A shell that starts a program in the background lets it ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
model = brillm.load()
try:
    print("ready", flush=True)
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(0)
sys.exit("the call ended without an interrupt")
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    "call",
    [
        "model.generate('Once', tokens=10**9, ignore_eos=True).collect()",
        "model.trace('Once', tokens=10**9, ignore_eos=True)",
        "model.score(list(range(300, 2300)) * 10000)",
        "brillm.evaluate(model, ids=list(range(300, 2300)) * 3000)",
        "model.generate(list(range(300, 2300)) * 3000)",
    ],
)
def test_ctrl_c_ends_a_call(call):
    process = subprocess.Popen([sys.executable, "-c", LOOP.format(call=call)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (output, process.returncode) == ("interrupted\n", 0)


def test_threads_share_a_model(model):
    expected = model.generate(PROMPT, tokens=24, seed=5).collect()
    found = []

    def work():
        found.append(model.generate(PROMPT, tokens=24, seed=5).collect())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_threads_share_a_generation(model):
    generation = model.generate(PROMPT, tokens=200, ignore_eos=True)
    threads = [threading.Thread(target=lambda: [None for _ in generation]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(generation.ids) == 200 and generation.finish == "length"


def test_the_interpreter_runs_while_a_token_is_computed(transformer):
    ticks = []
    done = threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(None)
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    transformer.score(list(range(3, 403)))
    done.set()
    thread.join()
    assert len(ticks) > 3


def test_plugins_change_what_is_generated(transformer):
    prompt = transformer.generate(PROMPT, tokens=60, temperature=0.0).text + PROMPT * 12
    plain = transformer.generate(prompt, tokens=40, temperature=0.0).collect()
    texts = {
        transformer.generate(prompt, tokens=40, temperature=0.0, plugins=plugins).collect()
        for plugins in ["kv-heavy:heavy=8,recent=8", ["kv-heavy:heavy=8,recent=8"], [("kv-heavy", {"heavy": 8, "recent": 8})]]
    }
    assert len(texts) == 1 and plain not in texts
    with pytest.raises(brillm.ConfigurationError, match="no plugin is named"):
        transformer.generate(PROMPT, plugins="no-such-plugin")
    with pytest.raises(brillm.Error, match="speed"):
        transformer.generate(PROMPT, plugins="kv-heavy:speed=16")
    with pytest.raises(brillm.UnsupportedError, match="cache"):
        transformer.trace(PROMPT, tokens=1, plugins="kv-heavy:heavy=8,recent=8") and brillm.evaluate(
            transformer, ids=transformer.encode(PROMPT), plugins="kv-heavy:heavy=8,recent=8"
        )


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_generation_continues_after_ctrl_c_without_a_gap(model):
    whole = model.generate(PROMPT, tokens=400, ignore_eos=True)
    whole.collect()
    generation = model.generate(PROMPT, tokens=400, ignore_eos=True)
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            timer = threading.Timer(0.01, lambda: os.kill(os.getpid(), signal.SIGINT))
            timer.start()
            for _ in generation:
                pass
            timer.join()
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert generation.finish is None
    generation.collect()
    assert (generation.ids, generation.text) == (whole.ids, whole.text)
