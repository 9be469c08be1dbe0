"""What the tests of the Python package share."""

import json
import os
import pathlib
import subprocess

import pytest

import brillm

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMPT = "Once upon a time there was a"


@pytest.fixture(scope="session")
def model():
    """The built-in English model."""
    return brillm.load()


@pytest.fixture(scope="session")
def transformer():
    """A transformer."""
    return brillm.load(ROOT / "models/stories260K")


@pytest.fixture(scope="session")
def program():
    """Run the program of the same build and return what it prints as JSON."""

    def run(*arguments):
        output = subprocess.run(
            [os.environ["BRILLM"], *map(str, arguments)], capture_output=True, text=True, check=False, cwd=ROOT
        )
        assert output.returncode == 0, output.stderr
        return json.loads(output.stdout)

    return run


@pytest.fixture
def text(tmp_path):
    """A small text to train on."""
    path = tmp_path / "crow.txt"
    path.write_text("A thirsty crow found a jug. The jug was deep, and the crow was small.\n" * 60)
    return path


RECIPE = {
    "name": "crow",
    "data": {"vocabulary": 300, "validation-fraction": 0.1},
    "profile": {"preset": "layered", "width": 8, "layers": 1, "inner": 8},
    "train": {"tokens": 1600, "batch": 2, "steps": 16, "folds": 0, "log-every": 5, "validate-every": 25},
}
