#!/usr/bin/env python3
"""Writes questions with labels, as the plugin quats learns from, of public collections.

    questions.py FOLDER > questions.jsonl

FOLDER holds any of vicuna_bench_question.jsonl and mt_bench_question.jsonl (lm-sys/FastChat, Apache-2.0),
self_instruct_seed_tasks.jsonl (yizhongw/self-instruct, Apache-2.0), and trec/TREC.train and trec/TREC.test (free for
research; do not pass them on). A question is closed when it asks for something that is right or wrong, by the
collections' own categories; what their categories do not decide is left out.
"""
import json
import pathlib
import sys

CLOSED = {"math", "reasoning", "extraction", "fermi"}
OPEN = {"writing", "roleplay", "generic", "counterfactual"}


def bench(path):
    for line in path.open(encoding="utf-8"):
        record = json.loads(line)
        label = "closed" if record["category"] in CLOSED else "open" if record["category"] in OPEN else None
        if label:
            yield {"id": f"{path.name.split('_')[0]}-{record['question_id']}", "prompt": record["turns"][0],
                   "label": label, "category": record["category"]}


def self_instruct(path):
    for line in path.open(encoding="utf-8"):
        record = json.loads(line)
        given = record["instances"][0]["input"]
        kind = "classification" if record["is_classification"] else "task"
        yield {"id": record["id"], "prompt": f"{record['instruction']} {given}".strip(),
               "label": "closed" if record["is_classification"] else "open", "category": kind,
               "answer": record["instances"][0]["output"]}


def trec(path, part):
    for number, line in enumerate(path.open(encoding="latin-1")):
        kind, prompt = line.strip().split(" ", 1)
        coarse = kind.split(":")[0]
        # Descriptions and reasons have many right answers; numbers, places, people and abbreviations have one.
        label = "open" if kind in ("DESC:desc", "DESC:manner", "DESC:reason", "HUM:desc") else \
            "closed" if coarse in ("NUM", "LOC", "ABBR") or kind == "HUM:ind" else None
        if label:
            yield {"id": f"trec-{part}-{number}", "prompt": prompt, "label": label, "category": kind}


def main():
    folder = pathlib.Path(sys.argv[1])
    sources = [
        ("vicuna_bench_question.jsonl", bench), ("mt_bench_question.jsonl", bench),
        ("self_instruct_seed_tasks.jsonl", self_instruct),
        ("trec/TREC.train", lambda path: trec(path, "train")), ("trec/TREC.test", lambda path: trec(path, "test")),
    ]
    found = False
    for name, read in sources:
        if (folder / name).exists():
            found = True
            for question in read(folder / name):
                print(json.dumps(question, ensure_ascii=False))
    if not found:
        sys.exit(f"{folder} holds none of the collections")


if __name__ == "__main__":
    main()
