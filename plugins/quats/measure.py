#!/usr/bin/env python3
"""Print a column of the table "Question awareness" of plugins/RESULTS.md.

    python3 plugins/quats/measure.py QUESTIONS MODEL FOLDER [--brillm PROGRAM] [--train N] [--answers N] [--words N]

QUESTIONS is the folder that questions.py reads; FOLDER takes the files. A head is trained on the questions without an answer (`--train`: on so many of them, drawn
at random) unless FOLDER has one, and the answers are predicted (`--words`: those of at most so many words; `--answers`: so many of them, drawn at random).
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions")
    parser.add_argument("model")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--brillm", default="brillm")
    parser.add_argument("--train", type=int)
    parser.add_argument("--answers", type=int)
    parser.add_argument("--words", type=int, default=10**9)
    parser.add_argument("--threads", default="1")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lines = subprocess.run([sys.executable, HERE / "questions.py", options.questions], check=True, capture_output=True, text=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    train = [record for record in records if "answer" not in record]
    if options.train:
        train = random.Random(1).sample(train, options.train)
    answers = [record for record in records if "answer" in record and len(record["answer"].split()) <= options.words]
    if options.answers:
        answers = random.Random(1).sample(answers, options.answers)
    files = {}
    for name, part in {"train": train, "answers": answers}.items():
        files[name] = options.folder / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(record) + "\n" for record in part))

    def probe(name, plugin, *more):
        plugin = f"quats:questions={files[name]},{plugin}"
        command = [options.brillm, "probe", files[name], "--model", options.model, "--threads", options.threads, "--quiet", "--json", "--plugin", plugin, *more]
        report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        (own,) = report["probes"].values()
        return own, report.get("answers", {}).get("all", {}).get("perplexity")

    def row(what, figure):
        print(f"| {what} | {figure} |", flush=True)

    head = options.folder / "head.json"
    row("questions that train, answers", f"{len(train)}, {len(answers)}")
    learned = {} if head.exists() else probe("train", f"learn=true,head={head}", "--tokens", "2")[0]["learned"]
    for what, key in {
        "AUROC on held-out questions: trained head": "auroc",
        "first words of the question alone, no model": "auroc_first_words",
        "entropy of the first scores, no training": "auroc_entropy",
        "shuffled labels": "auroc_shuffled_labels",
    }.items():
        if learned:
            row(what, f"{learned[key]:.3f}")
    for low, judge in (("0.2", "head"), ("0.8", "head"), ("0.8", "oracle")):
        own, perplexity = probe("answers", f"head={head},judge={judge},low={low},high=1.2")
        if (low, judge) == ("0.2", "head"):
            row("AUROC on the answers' questions, another collection", f"{own['auroc']:.3f}")
        mean = own["all"]["temperature"]
        row(f"perplexity, T = {low} to 1.2 by the {judge}, mean T {mean:.2f}", f"{perplexity:.2f}")
        row("fixed at that mean", f"{probe('answers', f'mode=fixed,temperature={mean}')[1]:.2f}")
    fixed = {temperature: probe("answers", f"mode=fixed,temperature={temperature}")[1] for temperature in (0.6, 0.8, 1.0, 1.2, 1.4)}
    best = min(fixed, key=fixed.get)
    row(f"best fixed temperature tried (.6 to 1.4): {best}", f"{fixed[best]:.2f}")


if __name__ == "__main__":
    main()
