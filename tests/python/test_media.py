"""Images and sounds: a graph that was trained on pairs names them and makes them."""

import json
import math
import random
import struct
import wave

import numpy
import pytest

import brillm

RECIPE = {
    "name": "pairs",
    "data": {
        "train": ["pairs.jsonl"],
        "vocabulary": 270,
        "validation-fraction": 0.0,
        "image": {"width": 4, "height": 4, "patch": 2, "codes": 4},
        "audio": {"rate": 8000, "hop": 128, "bands": 8, "codes": 8},
    },
    "profile": {"preset": "layered", "width": 32, "layers": 2},
    "train": {"tokens": 120000, "batch": 8, "steps": 32, "rate": 0.008, "folds": 0},
}
#: Words with the left and right half of their image, and the pitch of their sound.
WORDS = {"dark left": (0, 255, 300.0), "dark right": (255, 0, 2200.0)}


def write_image(path, left, right):
    row = bytes([left, left, right, right])
    path.write_bytes(b"P5 4 4 255\n" + row * 4)


def write_sound(path, frequency):
    samples = [int(20000 * math.sin(2 * math.pi * frequency * at / 8000)) for at in range(2400)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pairs of words with images and sounds, in both orders, and a model of them."""
    folder = tmp_path_factory.mktemp("pairs")
    lines = []
    for word, (left, right, frequency) in WORDS.items():
        name = word.replace(" ", "-")
        write_image(folder / f"{name}.pgm", left, right)
        write_sound(folder / f"{name}.wav", frequency)
        for key, file in [("image", f"{name}.pgm"), ("audio", f"{name}.wav")]:
            lines += [json.dumps({key: file, "text": word}), json.dumps({"text": word, key: file})]
    # In a random order: what follows an end token does not tell which order a pair has.
    lines *= 30
    random.Random(0).shuffle(lines)
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    brillm.train(RECIPE, data=folder, out=folder / "run")
    return folder


@pytest.fixture(scope="module")
def pairs(folder):
    return brillm.load(folder / "run/model.bril")


@pytest.mark.parametrize("word", list(WORDS))
def test_images_and_sounds_are_named(pairs, folder, program, word):
    name = word.replace(" ", "-")
    for ids, option, ending in [
        (pairs.encode_image(folder / f"{name}.pgm"), "--image", "pgm"),
        (pairs.encode_audio(str(folder / f"{name}.wav")), "--audio", "wav"),
    ]:
        text = pairs.generate(ids, temperature=0, tokens=12).collect()
        assert text.strip() == word
        model = folder / "run/model.bril"
        arguments = ["--model", model, "--temperature", 0, "--tokens", 12, "--json"]
        found = program("generate", option, folder / f"{name}.{ending}", *arguments)
        assert found["prompt_ids"] == ids


@pytest.mark.parametrize("word", list(WORDS))
def test_images_and_sounds_are_made(pairs, tmp_path, word):
    left, right, _ = WORDS[word]
    image = pairs.generate_image(word, temperature=0)
    assert image.pixels.dtype == numpy.uint8 and image.pixels.shape == (4, 4)
    assert numpy.array_equal(image.pixels, numpy.array([[left, left, right, right]] * 4))
    image.save(tmp_path / "made.pgm")
    assert pairs.encode_image(tmp_path / "made.pgm")[2:-1] == image.ids
    image.save(tmp_path / "made.png")
    assert (tmp_path / "made.png").read_bytes()[:4] == b"\x89PNG"
    sound = pairs.generate_audio(word, temperature=0, tokens=40)
    assert sound.finish == "stop"
    cut = pairs.generate_audio(word, temperature=0, tokens=2)
    assert cut.finish == "length" and cut.ids == sound.ids[:2]
    assert sound.rate == 8000 and sound.samples.dtype == numpy.float32 and len(sound.samples) > 128
    sound.save(tmp_path / "made.wav")
    with wave.open(str(tmp_path / "made.wav")) as file:
        assert file.getframerate() == 8000 and file.getnframes() == len(sound.samples)


def test_models_without_images_and_other_files_are_refused(model, pairs, tmp_path):
    with pytest.raises(brillm.UnsupportedError, match="without images"):
        model.generate_image("a")
    with pytest.raises(brillm.UnsupportedError):
        model.encode_image(tmp_path / "absent.png")
    with pytest.raises(brillm.FileError):
        pairs.encode_image(tmp_path / "absent.png")
    image = pairs.generate_image("dark left", temperature=0)
    with pytest.raises(brillm.Error):
        image.save(tmp_path / "made.txt")
