"""Random arguments for every signature: exceptions only, in a process that does not end."""

import inspect
import os
import pathlib
import random
import subprocess
import sys

import numpy
import pytest

import brillm

#: Arguments of all types, in and out of range.
VALUES = [
    None, True, False, 0, 1, -1, 2, 3, 7, 300, 2**31, 2**32, 2**64, -(2**63), 10**30, 0.0, 0.5, -0.5, 1.0, 1e30, 1e-30,
    float("nan"), float("inf"), -float("inf"), "", "a", "Once upon a time", "春", "\x00", "\ud800", "a" * 3000, b"", b"{}",
    b"\xff", [], [1], [3, 4, 5], [-1], [10**9], [0.5], ["a"], [None], [[1, 2]], (1, 2), (0, 0), (3, 1.5), {}, {1: 2},
    {0: 300}, {"a": 1}, {"random": 3}, {"vector": [0.0]}, {"kind": "mute_node", "node": 3}, [{"kind": "x"}], object(),
    int, len, numpy.array([3, 4]), numpy.array([0.5]), numpy.zeros((2, 2)), numpy.int64(5), numpy.float32(0.5),
    pathlib.Path("absent"), "svg", "json", "ones", "32,20,0.1", "resistance", "both", "kv-heavy:recent=1", 1j, range(5),
]
#: Arguments that would take all memory or time by right.
LIMITS = {"tokens": 4, "maximum": 50, "order": 3, "radius": 1, "candidates": 5, "top": 3}


def arguments(function, random, valid):
    """Random arguments of a signature: most of them valid, some not."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if parameter.default is not inspect.Parameter.empty and random.random() < 0.75:
            if name in LIMITS:
                found[name] = LIMITS[name]
            continue
        value = valid[name] if name in valid and random.random() < 0.5 else random.choice(VALUES)
        large = isinstance(value, (int, float)) and name in LIMITS and value > LIMITS[name]
        found[name] = LIMITS[name] if large else value
    return found


def targets(model, transformer, folder):
    """What can be called, with arguments that are valid for it."""
    session, generation = model.session("Once upon"), model.generate("Once upon", tokens=3)
    other, trace = transformer.session("Once upon"), model.trace("Once", tokens=2)
    graph = model.graph()
    valid = {
        "prompt": "Once", "text": "Once upon a time", "ids": [3, 4, 5], "token": 300, "tokens": 3, "path": folder / "x.svg",
        "state": session.save(), "energy": 1.0, "factor": 0.5, "model": model, "train": [1, 2, 3] * 9, "test": [1, 2, 3] * 4,
        "windows": (2, 2), "out": folder / "run", "node": 300, "format": "svg", "theme": "dark", "source": str(folder / "t.txt"),
    }
    skipped = {"load_state"}
    objects = [model, transformer, session, other, generation, trace, graph]
    for thing in objects:
        for name, function in inspect.getmembers(thing, callable):
            if (not name.startswith("_") or name == "__next__") and name not in skipped:
                yield f"{type(thing).__name__}.{name}", function, valid
    for name in ["load", "open_trace", "evaluate", "kneser_ney", "plot", "train"]:
        yield name, getattr(brillm, name), valid
    native = [model._native, session._native, generation._native, trace._native, graph._native]
    for thing in native:
        for name in dir(thing):
            if not name.startswith("_"):
                yield f"native {type(thing).__name__}.{name}", getattr(thing, name), valid
    for name in ["evaluate", "kneser_ney", "train", "plot", "Model"]:
        yield f"native {name}", getattr(brillm._native, name), valid


def fuzz(seed, rounds, folder):
    """Call everything with random arguments."""
    folder = pathlib.Path(folder)
    (folder / "t.txt").write_text("A crow. " * 20)
    os.chdir(folder)
    model, transformer = brillm.load(), brillm.load(os.environ["FUZZ_FOLDER"])
    calls, failed = 0, 0
    for round in range(rounds):
        for number, (name, function, valid) in enumerate(targets(model, transformer, folder)):
            one = random.Random(f"{seed} {round} {number}")
            chosen = arguments(function, one, valid)
            # A run of training that begins takes its time: only its arguments are tried.
            if name.endswith("train") and "changes" not in chosen:
                chosen["changes"] = ["train.tokens=0"]
            print(name, {key: repr(value)[:60] for key, value in chosen.items()}, flush=True)
            calls += 1
            try:
                function(**chosen)
            except (brillm.InternalError, SystemError) as error:
                raise AssertionError(f"{name}: {error}") from error
            except Exception as error:  # noqa: BLE001
                failed += 1
                # An error of the package, or a TypeError that names the argument.
                raw = (AttributeError, LookupError, UnicodeError, OSError)
                if isinstance(error, raw) and not isinstance(error, brillm.Error) and not name.startswith("native "):
                    raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    print(f"done {calls} calls, {failed} exceptions")


@pytest.mark.parametrize("seed", range(4))
def test_arguments_of_all_types_raise_exceptions_only(seed, tmp_path):
    folder = pathlib.Path(__file__).parents[2] / "models/stories260K"
    run = subprocess.run(
        [sys.executable, __file__, str(seed), "6", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=200, env={**os.environ, "FUZZ_FOLDER": str(folder)},
    )
    lines = run.stdout.strip().splitlines()
    assert run.returncode == 0, (run.returncode, lines[-2:], run.stderr[-2000:])
    calls, failed = (int(word) for word in lines[-1].split() if word.isdigit())
    # Both valid and invalid calls are tried.
    assert calls > 200 and 0.1 < failed / calls < 0.95, lines[-1]


if __name__ == "__main__":
    fuzz(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
