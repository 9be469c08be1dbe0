"""The model of lm-evaluation-harness: the harness itself, on tasks of local files, finds the figures of the program."""

import json
import math
import os
import subprocess
import sys

import pytest
from conftest import ROOT

import brillm

STORIES = [
    "Once upon a time there was a little girl. She had a red ball.",
    "One day, Tom went to the park. He saw a big dog and ran away.",
    "The sun was hot. Anna and Ben sat under a tree and ate apples.",
    "Lily liked to sing. Her mom smiled and said, \"You sing well!\"",
]
CHOICES = [
    ("Once upon a time there was a little", [" girl", " girls girl the", " was a upon"], 0),
    ("Tom went to the", [" the the of", " park", " ran said away"], 1),
    ("She was very happy. She", [" a of dog", " tree sun the", " smiled and said"], 2),
]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "stories.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in STORIES))
    rows = [{"context": context, "choices": choices, "gold": gold} for context, choices, gold in CHOICES]
    (folder / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "stories.yaml").write_text(
        f"""
task: brillm_stories
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder}/stories.jsonl"}}}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: byte_perplexity}}, {{metric: bits_per_byte}}]
"""
    )
    (folder / "choices.yaml").write_text(
        f"""
task: brillm_choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder}/choices.jsonl"}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{gold}}}}"
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""
    )
    return folder


def harness(tasks, out, *model_args):
    cache = tasks / "cache"
    output = subprocess.run(
        [
            sys.executable, "-m", "brillm.lm_eval", "run", "--model", "brillm", "--include_path", str(tasks),
            "--tasks", "brillm_stories", "brillm_choices", "--output_path", str(out), "--log_samples",
            *(["--model_args", ",".join(model_args)] if model_args else []),
        ],
        capture_output=True, text=True, check=False, cwd=tasks, timeout=300,
        env={**os.environ, "HF_HOME": str(cache), "HF_DATASETS_CACHE": str(cache)},
    )
    assert output.returncode == 0, output.stdout[-3000:] + output.stderr[-3000:]
    results = json.loads(next(out.rglob("results_*.json")).read_text())["results"]
    samples = [json.loads(line) for line in next(out.rglob("samples_brillm_choices_*.jsonl")).read_text().splitlines()]
    return results, sorted(samples, key=lambda sample: sample["doc_id"])


@pytest.mark.parametrize("path", [None, "models/stories260K"])
def test_the_harness_finds_the_figures_of_the_program(path, tasks, tmp_path, program):
    pytest.importorskip("lm_eval")
    arguments = [] if path is None else [f"pretrained={ROOT / path}"]
    results, samples = harness(tasks, tmp_path / "out", *arguments)

    texts = tmp_path / "texts"
    texts.mkdir()
    for index, story in enumerate(STORIES):
        (texts / f"{index}.txt").write_text(story)
    source = [] if path is None else ["--model", path]
    expected = program("eval", texts, "--documents", "--backend", "cpu", "--json", *source)
    size = sum(len(story.encode()) for story in STORIES)
    bits = expected["nats_per_token"] * expected["tokens"] / math.log(2) / size
    found = results["brillm_stories"]
    assert found["bits_per_byte,none"] == pytest.approx(bits, rel=1e-6)
    assert math.log2(found["byte_perplexity,none"]) == pytest.approx(bits, rel=1e-6)

    model, right = brillm.load(None if path is None else ROOT / path), 0
    for sample, (context, choices, gold) in zip(samples, CHOICES):
        values = []
        for choice, answer in zip(choices, sample["filtered_resps"]):
            begin = len(model.encode(context))
            own = float(model.score(context + choice).log_probabilities[begin:].sum())
            assert float(answer[0]) == pytest.approx(own, abs=1e-6)
            values.append(own)
        right += values.index(max(values)) == gold
    assert results["brillm_choices"]["acc,none"] == pytest.approx(right / len(CHOICES))
    assert right >= 2


def test_the_harness_can_generate():
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance
    from lm_eval.api.registry import get_model

    import brillm.lm_eval

    cls = get_model("brillm")
    assert cls is brillm.lm_eval.BrillmLM
    model = cls.create_from_arg_string("max_length=64")
    request = Instance("generate_until", {}, ("Once upon a time", {"until": ["."], "max_gen_toks": 30}), 0)
    (text,) = model.generate_until([request])
    expected = brillm.load().generate("Once upon a time", tokens=30, temperature=0.0, top_p=1.0, stop=".")
    assert text == expected.collect() != ""
    empty = Instance("loglikelihood", {}, ("", "Once"), 0)
    assert model.loglikelihood([empty], disable_tqdm=True)[0][0] <= 0.0
