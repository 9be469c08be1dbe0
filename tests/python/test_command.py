"""The program that the package brings."""

import json
import subprocess
import sys

from conftest import ROOT

import brillm


def run(*arguments, code=0):
    output = subprocess.run(
        [sys.executable, "-m", "brillm", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert output.returncode == code, (arguments, output)
    return output


def test_the_program_has_the_built_in_model(program):
    arguments = ["generate", "Once upon a time", "--tokens", "12", "--temperature", "0", "--backend", "cpu"]
    found = json.loads(run(*arguments, "--json").stdout)
    assert found["ids"] == program(*arguments, "--json")["ids"]
    assert run(*arguments).stdout.rstrip("\n").endswith(found["text"])


def test_the_program_reports_errors():
    assert brillm.__version__ in run("--version").stdout
    assert "Usage: brillm" in run("generate", "--nothing", code=2).stderr
    error = run("generate", "a", "--model", "absent.bril", code=1).stderr
    assert error == "brillm: absent.bril: no such file or folder (check the path)\n"


def test_the_program_restarts_itself_with_threads():
    text = run("generate", "Once", "--tokens", "4", "--threads", "2", "--temperature", "0", "--backend", "cpu").stdout
    assert text == run("generate", "Once", "--tokens", "4", "--temperature", "0", "--backend", "cpu").stdout
