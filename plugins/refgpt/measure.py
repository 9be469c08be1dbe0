"""Makes dialogues of the fixtures' references with every generator, and prints how many pass and how grounded they are.

    python3 plugins/refgpt/measure.py FOLDER --brillm PROGRAM [--model MODEL --references FILE.jsonl]

FOLDER takes the records. With `--model` its dialogues of the given references are measured, with the default plan. Needs Python alone.
"""

import argparse
import json
import pathlib
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parents[2]
LANGUAGES = {
    "English": ("tests/golden/transformer/tinystories_12.json", "models/english.bril", 40),
    "Chinese": ("tests/golden/rongzhai_12.json", "models/chinese.bril", 80),
}
WAYS = {
    "sentences of the reference": "generator=extract",
    "the model, free": "generator=turns",
    "the model, 2 nats for a hop of the reference": "generator=turns,gain=2",
    "the model, 4 nats": "generator=turns,gain=4",
    "the model, restricted to the reference": "generator=turns,restrict=true",
}


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--brillm", default="brillm")
    parser.add_argument("--dialogues", type=int, default=5, help="of each reference")
    parser.add_argument("--model", help="another model, such as one that chats")
    parser.add_argument("--references", help="JSON Lines with the field text")
    parser.add_argument("--threads", default="1")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print("| references | who writes | kept | attempts each | seconds each | overlap | sentences | longest | grounded edges |")
    print("|---|---|---|---|---|---|---|---|---|")
    languages = {"given": (arguments.references, arguments.model, None)} if arguments.model else LANGUAGES
    for language, (text, model, words) in languages.items():
        given = (HERE / text).read_text()
        planned = arguments.dialogues * len(given.splitlines() if text.endswith(".jsonl") else json.loads(given))
        for way, options in WAYS.items():
            out = (arguments.folder / f"{language}-{options}.jsonl").resolve()
            plan = f",rounds=0 1 2,assistant-words={words},deviation=10,step=10,human-words=20" if words else ""
            plugin = f"refgpt:{options}{plan},dialogues={arguments.dialogues}"
            command = [arguments.brillm, "corpus", text, "--model", model, "--plugin", plugin, "--out", out, "--quiet", "--json", "--threads", arguments.threads]
            began = time.monotonic()
            subprocess.run(command, check=True, cwd=HERE, capture_output=True)
            seconds = time.monotonic() - began
            records = [json.loads(line) for line in out.read_text().splitlines()]
            answers = [turn for record in records for turn in record["turns"] if turn["speaker"] == "assistant"]
            print(
                f"| {language} | {way} | {len(records)} of {planned} "
                f"| {mean(len(record['refused']) + 1 for record in records):.2f} "
                f"| {seconds / planned:.1f} "
                f"| {mean(turn['grounding']['overlap'] for turn in answers):.3f} "
                f"| {mean(turn['grounding']['sentences'] for turn in answers):.3f} "
                f"| {mean(turn['grounding']['longest'] for turn in answers):.1f} "
                f"| {mean(record['grounded_edges'] for record in records):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
