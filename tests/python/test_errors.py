"""Errors: three parts, classes of Python, pickling."""

import inspect
import pathlib
import pickle
import subprocess
import sys

import pytest

import brillm


def test_an_error_has_three_parts(tmp_path):
    path = tmp_path / "absent.bril"
    with pytest.raises(brillm.FileError) as raised:
        brillm.load(path)
    error = raised.value
    assert (error.kind, error.what, error.where, error.advice) == (
        "io", "no such file or folder", str(path), "check the path",
    )
    assert str(error) == f"{path}: no such file or folder (check the path)"
    assert isinstance(error, brillm.Error) and isinstance(error, OSError)


def test_errors_are_of_the_classes_of_python(model, tmp_path):
    broken = tmp_path / "broken.bril"
    broken.write_bytes(b"not a model")
    cases = [
        (lambda: brillm.load(broken), brillm.FormatError, ValueError),
        (lambda: model.generate(""), brillm.InputError, ValueError),
        (lambda: model.generate([10**6]), brillm.InputError, ValueError),
        (lambda: model.generate("a", temperature=-1.0), brillm.InputError, ValueError),
        (lambda: model.generate("a", temperature=float("nan")), brillm.InputError, ValueError),
        (lambda: model.generate([-1]), brillm.InputError, ValueError),
        (lambda: model.generate("a", tokens=2.5), brillm.InputError, ValueError),
        (lambda: model.generate([1.5]), TypeError, TypeError),
        (lambda: model.generate(None), TypeError, TypeError),
        (lambda: model.generate("a", stop=""), brillm.InputError, ValueError),
        (lambda: model.score(""), brillm.InputError, ValueError),
        (lambda: model.trace("a", mute=["no such token at all"]), brillm.InputError, ValueError),
        (lambda: model.session("a").inject(3, float("inf")), brillm.InputError, ValueError),
        (lambda: brillm.evaluate(model), brillm.InputError, ValueError),
        (lambda: brillm.kneser_ney([1, 2, 3], [1, 2], order=9), brillm.InputError, ValueError),
    ]
    for number, (call, cls, base) in enumerate(cases):
        with pytest.raises(cls) as raised:
            call()
        assert isinstance(raised.value, base), number


def test_an_option_of_another_type_is_named(model):
    cases = [
        ({"tokens": 2.5}, "tokens", "invalid type: floating point `2.5`, expected a whole number of at least 0"),
        ({"temperature": "warm"}, "temperature", "invalid type: string \"warm\", expected a number"),
        ({"inject": [(0, 3, None)]}, "inject[0][2]", "invalid type: null, expected a number"),
        ({"top_k": -1}, "top_k", "invalid value: integer `-1`, expected a whole number of at least 0"),
    ]
    for options, where, what in cases:
        with pytest.raises(brillm.InputError) as raised:
            model.generate("a", **options)
        assert (raised.value.where, raised.value.what) == (where, what)


def test_the_program_starts_without_numpy():
    code = "import brillm.__main__, sys; assert 'numpy' not in sys.modules; brillm.load(); assert 'numpy' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_forked_process_reports_that_the_threads_are_gone(model):
    multiprocessing = pytest.importorskip("multiprocessing")
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("fork is of POSIX")
    code = """
import os, brillm
model = brillm.load()
child = os.fork()
if child == 0:
    try:
        model.score("Once upon a time")
    except brillm.UnsupportedError as error:
        os._exit(7 if "spawn" in error.advice else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_model_is_opened_again_in_another_process(model, transformer):
    for one in [model, transformer]:
        again = pickle.loads(pickle.dumps(one))
        assert again.name == one.name and again.encode("Once") == one.encode("Once")


def test_errors_survive_pickling():
    error = brillm.InputError("what", "where", "advice")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is brillm.InputError and again.args == error.args
    assert (again.what, again.where, again.advice) == ("what", "where", "advice")


def test_every_class_has_documentation():
    for name in brillm.__all__:
        value = getattr(brillm, name)
        assert name == "__version__" or inspect.getdoc(value), name
        if inspect.isclass(value):
            for member, function in vars(value).items():
                if not member.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                    assert inspect.getdoc(function), f"{name}.{member}"


def test_the_stubs_are_those_of_the_native_module():
    from brillm import _native

    names = {name for name in dir(_native) if not name.startswith("__")}
    declared = pathlib.Path(brillm.__path__[0], "_native.pyi").read_text(encoding="utf-8")
    for name in names:
        assert f"class {name}" in declared or f"def {name}" in declared, name
        value = getattr(_native, name)
        for member in vars(value) if inspect.isclass(value) else ():
            if not member.startswith("_"):
                assert f"def {member}(" in declared, f"{name}.{member}"


def test_types_are_checked():
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--cache-dir", "/dev/null", brillm.__path__[0]],
        capture_output=True, text=True, check=False,
    )
    assert checked.returncode == 0, checked.stdout
