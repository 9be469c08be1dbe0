#!/usr/bin/env python3
"""Print rows of the tables of plugins/real.sh from the JSON that a command prints.

    rows.py continuation COMMAND…         one table of `brillm compare --continuation P,N,C --json`
    rows.py answers TECHNIQUE COMMAND…    one row of `brillm probe --json`: correct answers and perplexity by label, and the peak memory
    rows.py memory TECHNIQUE COMMAND…     one row of `brillm eval --continuation P,N,C --json`: bytes of the cache, and the peak memory
    rows.py calibration TECHNIQUE COMMAND…   one row of a run that searches a map for kv-share: seconds, maps that were tried

The head of a table is printed with the technique "" (the whole cache), which comes first.
"""
import json
import re
import resource
import subprocess
import sys
import time


def run(command):
    """The JSON that a command prints, the seconds it took, and the largest memory of its process in MB."""
    began = time.monotonic()
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    seconds = time.monotonic() - began
    return json.loads(output), seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6


def row(*cells):
    print("|", " | ".join(cells), "|", flush=True)


def head(*cells):
    row(*cells)
    row(*["---"] * len(cells))


def name(technique):
    """A technique without what only says where its map is."""
    return "`" + re.sub(r",map=[^,]*", "", technique) + "`" if technique else "whole cache"


def continuation(command):
    report, _, _ = run(command)
    # Speeds are of the median step, which a busy machine moves least.
    prompt = int(report["continuation"].split(",")[0])
    batches = [f"tokens/s × {speed['batch']}" for speed in report["rows"][0]["batches"]]
    head("technique", "perplexity", "divergence", "agreement", "KV MB", "kept of the prompt", "prompt rows", *batches)
    for entry in report["rows"]:
        figures = entry["continuation"]
        share = lambda key: f"{sum(figures[key]) / len(figures[key]) / prompt:.2f}"
        row(
            name(entry["entry"].partition("+")[2]), f"{figures['perplexity']:.2f}", f"{figures['divergence']:.4f}",
            f"{100 * figures['agreement']:.1f} %", f"{figures['kv_live_bytes'] / 1e6:.1f}", share("retained_after_prompt"),
            share("computed"), *(f"{1000 * speed['batch'] / speed['ms_per_step']:.1f}" for speed in entry["batches"]),
        )


def answers(technique, command):
    report, _, peak = run(command)
    answers = report["answers"]
    labels = sorted((label for label in answers if label != "all"), key=lambda label: int(label.split()[0])) or ["all"]
    if not technique:
        head("technique", *labels, "peak MB")
    cells = ["{correct}/{texts} ({perplexity:.2f})".format(**answers[label]) for label in labels]
    row(name(technique), *cells, f"{peak:.0f}")


def memory(technique, command):
    report, _, peak = run(command)
    if not technique:
        head("technique", "KV MB", "peak MB")
    row(name(technique), f"{report['kv_live_bytes'] / 1e6:.1f}", f"{peak:.0f}")


def calibration(technique, command):
    report, seconds, _ = run(command)
    (found,) = report["probes"].values()
    if technique == "similar":
        head("order", "seconds", "maps tried", "layers that share", "map")
    row(f"`{found['order']}`", f"{seconds:.0f}", str(found["tried"]), f"{found['achieved']} of {found['target']}", "-".join(map(str, found["source"])))


if __name__ == "__main__":
    kinds = {"continuation": continuation, "answers": answers, "memory": memory, "calibration": calibration}
    if len(sys.argv) < 3 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    if sys.argv[1] == "continuation":
        continuation(sys.argv[2:])
    else:
        kinds[sys.argv[1]](sys.argv[2], sys.argv[3:])
