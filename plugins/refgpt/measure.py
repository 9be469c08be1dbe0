"""Makes dialogues of the fixtures' references with every generator, and prints how many pass and how grounded they are.

    python3 plugins/refgpt/measure.py FOLDER --brillm PROGRAM

FOLDER takes the records. Needs Python alone.
"""

import argparse
import json
import pathlib
import subprocess

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
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print("| references | who writes | kept | attempts each | overlap | sentences | longest | grounded edges |")
    print("|---|---|---|---|---|---|---|---|")
    for language, (text, model, words) in LANGUAGES.items():
        planned = arguments.dialogues * len(json.loads((HERE / text).read_text()))
        for way, options in WAYS.items():
            out = (arguments.folder / f"{language}-{options}.jsonl").resolve()
            plan = f"rounds=0 1 2,assistant-words={words},deviation=10,step=10,human-words=20"
            plugin = f"refgpt:{options},{plan},dialogues={arguments.dialogues}"
            command = [arguments.brillm, "corpus", text, "--model", model, "--plugin", plugin, "--out", out, "--quiet", "--json"]
            subprocess.run(command, check=True, cwd=HERE, capture_output=True)
            records = [json.loads(line) for line in out.read_text().splitlines()]
            answers = [turn for record in records for turn in record["turns"] if turn["speaker"] == "assistant"]
            print(
                f"| {language} | {way} | {len(records)} of {planned} "
                f"| {mean(len(record['refused']) + 1 for record in records):.2f} "
                f"| {mean(turn['grounding']['overlap'] for turn in answers):.3f} "
                f"| {mean(turn['grounding']['sentences'] for turn in answers):.3f} "
                f"| {mean(turn['grounding']['longest'] for turn in answers):.1f} "
                f"| {mean(record['grounded_edges'] for record in records):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
