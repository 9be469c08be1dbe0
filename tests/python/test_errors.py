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
        (lambda: model.generate("a", temperature=float("nan")), brillm.Error, Exception),
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
