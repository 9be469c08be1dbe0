"""Every figure of this folder's README, on one list of stories.

    python3 plugins/bidirectional/measure.py STORIES.json FOLDER [--brillm PROGRAM] [--only PART,...]

STORIES.json is a JSON array of texts; the last tenth is held out. FOLDER takes models and results; what is there is not made
again. Some CPU-minutes.
"""

import argparse
import json
import pathlib
import random
import subprocess

parser = argparse.ArgumentParser()
parser.add_argument("stories", type=pathlib.Path)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--brillm", default="brillm")
parser.add_argument("--judge", default="models/stories260K", help="whose perplexity rates the samples")
parser.add_argument("--gaps", type=int, default=60)
parser.add_argument("--prompts", type=int, default=30)
parser.add_argument("--only", default="perplexity,gaps,reversal,reranking,growth")
options = parser.parse_args()
folder = options.folder
folder.mkdir(parents=True, exist_ok=True)
texts = [text if isinstance(text, str) else text["text"] for text in json.loads(options.stories.read_text())]
held = texts[len(texts) * 9 // 10 :]


def lines(name, rows):
    path = folder / name
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return str(path)


lines("train.jsonl", texts[: len(texts) * 9 // 10])
held_file = lines("held.jsonl", held)


def brillm(*arguments):
    done = subprocess.run([options.brillm, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{arguments}: {done.stderr}")
    return json.loads(done.stdout)


BODY = {
    "graph": "[profile]\nwidth = 64\n",
    "own": '[profile]\npreset = "sifu-own"\nwidth = 16\n[graph]\nown-minimum-count = 3\n',
    "gpt": "[network]\nwidth = 64\nlayers = 2\nheads = 4\ncontext = 128\n",
}


def train(name, kind, direction="forward", tokens=600_000, body=None, more="", data=("train", "held"), vocabulary=1000, rate=None):
    out = folder / name
    model = out / ("model" if kind == "gpt" else "model.bril")
    if (out / "outcome.json").exists():
        return str(model), json.loads((out / "outcome.json").read_text())
    recipe = folder / f"{name}.toml"
    top = f'name = "{name}"\n' + ('kind = "gpt"\n' if kind == "gpt" else "") + more
    validation = f'validation = ["{data[1]}.jsonl"]\n' if data[1] else "validation-fraction = 0\n"
    recipe.write_text(
        f'{top}[data]\ntrain = ["{data[0]}.jsonl"]\n{validation}format = "jsonl"\nfield = "text"\n'
        f'vocabulary = {vocabulary}\ndirection = "{direction}"\n{body or BODY[kind]}'
        f"[train]\ntokens = {tokens}\nbatch = 32\nsteps = 30\nrate = {rate or (0.004 if kind == 'gpt' else 0.008)}\n"
    )
    outcome = brillm("train", recipe, "--out", out, "--quiet", "--json")
    (out / "outcome.json").write_text(json.dumps(outcome))
    return str(model), outcome


def row(*cells):
    text = "| " + " | ".join(str(cell) for cell in cells) + " |"
    print(text, flush=True)
    with (folder / "rows.md").open("a") as file:
        file.write(text + "\n")


def perplexity(model, *more):
    return brillm("eval", "--model", model, held_file, "--windows", "31,300", "--json", *more)["perplexity"]


def measure_perplexity():
    for kind in ("graph", "gpt"):
        forward, _ = train(f"{kind}-forward", kind)
        backward, _ = train(f"{kind}-backward", kind, "backward")
        row(kind, "forward", f"{perplexity(forward):.2f}", "backward", f"{perplexity(backward):.2f}")
    both, _ = train("gpt-both", "gpt", "both")
    row("gpt with marks", "forward", f"{perplexity(both):.2f}", "backward", f"{perplexity(both, '--backward'):.2f}")
    forward, _ = train("own-forward", "own", tokens=300_000)
    own, _ = train("own-backward", "own", "backward", tokens=300_000)
    tied = BODY["own"] + 'transpose-of = "own-forward/model.bril"\n'
    tied, _ = train("own-tied", "own", "backward", tokens=300_000, body=tied)
    fresh = BODY["own"] + 'transpose-of = "own-random/model.bril"\n'
    train("own-random", "own", tokens=960, rate=1e-9)
    fresh, _ = train("own-tied-random", "own", "backward", tokens=300_000, body=fresh)
    row("own edges", "forward", f"{perplexity(forward):.2f}", "backward", f"{perplexity(own):.2f}")
    row("own edges, transposes kept", "of trained ones", f"{perplexity(tied):.2f}", "of random ones", f"{perplexity(fresh):.2f}")


def gaps():
    draw = random.Random(1)
    for _ in range(options.gaps):
        while True:
            words = draw.choice(held).replace("\n", " ").split()
            at = draw.randrange(12, max(13, len(words) - 12))
            if len(words) > 30 and words[at].isalpha():
                break
        yield " ".join(words[at - 12 : at]), words[at], " ".join(words[at + 1 : at + 9])


def first_word(text):
    words = text.split()
    return words[0].strip(".,!?\"'") if words else ""


def measure_gaps():
    for kind in ("graph", "gpt"):
        forward, backward = train(f"{kind}-forward", kind)[0], train(f"{kind}-backward", kind, "backward")[0]
        right = [0, 0, 0, 0]
        for before, word, after in gaps():
            said = brillm("generate", before, "--model", forward, "--temperature", "0", "--tokens", "5", "--json")
            right[0] += first_word(said["text"]) == word
            gap = f"{before} ___ {after}"
            fill = ("generate", "--fill", gap, "--model", forward, "--tokens", "4", "--json")
            right[1] += brillm(*fill)["fills"][0]["text"] == " " + word
            said = brillm(*fill, "--backward-model", backward)
            right[2] += said["fills"][0]["text"] == " " + word
            said = brillm("generate", " " + after, "--model", backward, "--temperature", "0", "--tokens", "4", "--json")
            right[3] += (said["text"].split() or [""])[-1] == word
        row(kind, *(f"{100 * count / options.gaps:.0f} %" for count in right))


def measure_reversal():
    draw = random.Random(2)
    name = lambda: "".join(draw.choice("bdfgklmnprstv") + draw.choice("aeiou") for _ in range(3))
    names = list(dict.fromkeys(name() for _ in range(200)))[:100]
    facts = list(zip(names[:50], names[50:]))
    (folder / "facts.jsonl").write_text(
        "".join(json.dumps({"text": f"{a} is the friend of {b}."}) + "\n" for _ in range(20) for a, b in facts)
    )
    for kind in ("graph", "gpt"):
        common = dict(tokens=400_000 if kind == "gpt" else 80_000, data=("facts", None), vocabulary=400)
        forward = train(f"facts-{kind}-forward", kind, **common)[0]
        backward = train(f"facts-{kind}-backward", kind, "backward", **common)[0]
        right = [0, 0, 0]
        greedy = ("--temperature", "0", "--tokens", "8", "--json")
        for a, b in facts:
            said = brillm("generate", f"{a} is the friend of", "--model", forward, *greedy)
            right[0] += first_word(said["text"]) == b
            said = brillm("generate", f"{b} is the friend of", "--model", forward, *greedy)
            right[1] += first_word(said["text"]) == a
            said = brillm("generate", f" is the friend of {b}.", "--model", backward, *greedy)
            right[2] += said["text"].strip().split(".")[-1].strip() == a
        row(kind, *(f"{100 * count / len(facts):.0f} %" for count in right))


def measure_reranking():
    for kind in ("graph", "gpt"):
        forward, backward = train(f"{kind}-forward", kind)[0], train(f"{kind}-backward", kind, "backward")[0]
        kept = {"the first of 8": [], "forward alone": [], "forward and backward": [], "backward alone": []}
        draw = random.Random(3)
        for seed in range(options.prompts):
            words = draw.choice(held).replace("\n", " ").split()
            prompt = " ".join(words[:12])
            said = brillm(
                "generate", prompt, "--model", forward, "--backward-model", backward, "--rerank", "8", "--tokens", "24",
                "--temperature", "1", "--top-p", "1", "--seed", 100 * seed, "--ignore-eos", "--json",
            )
            whole = {}
            for one in said["ranked"]:
                whole[one["sample"]] = one
            best = lambda key: max(whole.values(), key=key)["text"]
            chosen = {
                "the first of 8": whole[0]["text"],
                "forward alone": best(lambda one: one["forward"]),
                "forward and backward": best(lambda one: one["forward"] + one["backward"]),
                "backward alone": best(lambda one: one["backward"]),
            }
            for arm, text in chosen.items():
                kept[arm].append(prompt + text)
        cells = []
        for arm, rows in kept.items():
            path = lines(f"rerank-{kind}.jsonl", rows)
            judged = brillm("eval", "--model", options.judge, path, "--documents", "--json")
            cells.append(f"{arm} {judged['perplexity']:.2f}")
        row(kind, *cells)


def measure_growth():
    for kind, small, large, more in (
        ("graph", "[profile]\nwidth = 32\n", "[profile]\nwidth = 64\n", ("--width", "64")),
        (
            "gpt",
            "[network]\nwidth = 32\nlayers = 1\nheads = 4\ncontext = 128\n",
            "[network]\nwidth = 64\nlayers = 2\nheads = 8\ncontext = 128\n",
            ("--width", "64", "--layers", "2", "--heads", "8"),
        ),
    ):
        half = 150_000
        first, one = train(f"growth-{kind}-small", kind, tokens=half, body=small)
        grown = folder / f"growth-{kind}-grown{'.bril' if kind == 'graph' else ''}"
        if not grown.exists():
            print(brillm("grow", first, *more, "--out", grown, "--json"))
        _, two = train(f"growth-{kind}-on", kind, tokens=half, body=large, more=f'initial = "{grown.name}"\n')
        # Work is parameters times tokens.
        work = half * (one["parameters"] + two["parameters"])
        equal = int(work / two["parameters"])
        _, scratch = train(f"growth-{kind}-equal", kind, tokens=equal, body=large)
        row(
            kind, f"small {one['validation_perplexity']:.2f}", f"grown, then trained {two['validation_perplexity']:.2f}",
            f"from scratch {scratch['validation_perplexity']:.2f}", f"{work / 1e9:.0f}e9 parameters x tokens each",
            f"{one['cpu_seconds'] + two['cpu_seconds']:.0f} and {scratch['cpu_seconds']:.0f} CPU-seconds",
        )


for part in options.only.split(","):
    globals()[f"measure_{part}"]()
