#!/usr/bin/env bash
# Whether EleutherAI's lm-evaluation-harness, which knows the server's /v1/completions alone, finds the figure that the
# engine finds by itself. On demand: it fetches the harness from PyPI (some 300 MB) into a folder of its own.
#
#   ./tests/lm_eval.sh [MODEL] [PROGRAM] [FOLDER]     models/stories-8x1024, target/release/brillm, target/lm-eval
#
# The task: which of four sentences goes on with a story; three have the same words in another order, or with CHOICES=other are sentences of
# other stories. MODEL is a folder with a tokenizer.json, or a GGUF file, which is converted to one. Fails when a single choice differs, or when
# both only guess.
#
# TEXTS names the stories (a JSON list of texts or of objects; those of tests/golden), ITEMS their number at most (200). With HF=1 the harness
# also runs the model by Hugging Face's transformers and PyTorch, in f32, which are fetched as well (some gigabytes); its accuracy may
# differ by one item.
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-models/stories-8x1024}
program=${2:-target/release/brillm}
folder=${3:-target/lm-eval}
mkdir -p "$folder"
if [ ! -x "$folder/venv/bin/lm_eval" ]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet "lm_eval[api]==0.4.13" transformers
fi
if [ -n "${HF:-}" ] && ! "$folder/venv/bin/python" -c "import torch, accelerate" 2>/dev/null; then
    "$folder/venv/bin/pip" install --quiet torch accelerate
fi
texts=${TEXTS:-tests/golden/transformer/tinystories_12.json}
case $model in *.gguf)
    rm -rf "$folder/model"
    "$program" convert "$model" "$folder/model" --element f32 >/dev/null
    model=$folder/model
    ;;
esac
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1
exec "$folder/venv/bin/python" - "$model" "$program" "$folder" "$texts" "${ITEMS:-200}" "${HF:-}" "${CHOICES:-shuffled}" <<'PYTHON'
import json, pathlib, random, re, shutil, subprocess, sys

model, program, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
most, by_transformers, others = int(sys.argv[5]), bool(sys.argv[6]), sys.argv[7] == "other"
stories = json.loads(pathlib.Path(sys.argv[4]).read_text())
if isinstance(stories, dict):
    stories = stories.get("stories") or stories.get("texts")
texts = [story if isinstance(story, str) else story.get("text") or story["story"] for story in stories]
sentences = [re.findall(r"[^.!?]+[.!?]+\"?", text) for text in texts]
items = []
for own, story in enumerate(sentences):
    for at in range(3, len(story) - 1, 2):
        words = story[at].split()
        if len(words) < 5:
            continue
        choices = [" ".join(words)]
        draw = random.Random(f"{own} {at}")
        for _ in range(3):
            if others:
                choices.append(draw.choice(sentences[(own + draw.randrange(1, len(sentences))) % len(sentences)]).strip())
                continue
            order = words[:]
            draw.shuffle(order)
            choices.append(" ".join(order))
        choices = [" " + choice for choice in choices]
        gold = len(items) % 4
        choices[0], choices[gold] = choices[gold], choices[0]
        items.append({"context": "".join(story[:at]).strip(), "choices": choices, "gold": gold})
items = items[:most]
(folder / "cloze.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))

# The engine's own figure: each choice is an answer with a label of its own.
records = [{"prompt": item["context"], "answer": choice, "label": f"{number}-{place}"}
           for number, item in enumerate(items) for place, choice in enumerate(item["choices"])]
(folder / "choices.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
native = json.loads(subprocess.run(
    [program, "probe", str(folder / "choices.jsonl"), "--model", model, "--json", "--quiet"],
    check=True, capture_output=True, text=True).stdout)["answers"]
own = [[-native[f"{number}-{place}"]["nats_per_token"] * native[f"{number}-{place}"]["tokens"] for place in range(4)]
       for number in range(len(items))]

(folder / "cloze.yaml").write_text(f"""
task: cloze
dataset_path: json
dataset_kwargs:
  data_files: {{"test": "{(folder / 'cloze.jsonl').resolve()}"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: choices
doc_to_target: gold
target_delimiter: ""
metric_list:
  - metric: acc
""")
def harness(out, kind, arguments, *options):
    """Run the task and return the log-likelihoods of the choices. [items][4]"""
    shutil.rmtree(folder / out, ignore_errors=True)
    subprocess.run(
        [str(folder / "venv/bin/lm_eval"), "--model", kind, "--model_args", arguments, "--tasks", "cloze", "--include_path", str(folder),
         "--output_path", str(folder / out), "--log_samples", "--batch_size", "8", *options], check=True)
    samples = [json.loads(line) for path in (folder / out).rglob("samples_*.jsonl") for line in path.read_text().splitlines()]
    samples.sort(key=lambda sample: sample["doc_id"])
    return [[float(one[0] if isinstance(one, list) else one) for one in
             (response[0] if isinstance(response[0], list) else response for response in sample["resps"])]
            for sample in samples]

server = subprocess.Popen([program, "serve", "--port", "0", "--model", model], stdout=subprocess.PIPE, text=True)
try:
    address = server.stdout.readline().strip().removeprefix("listening on ").rstrip("/")
    name = json.loads(subprocess.run(["curl", "-s", f"{address}/v1/models"], check=True, capture_output=True,
                                     text=True).stdout)["data"][0]["id"]
    theirs = harness("out", "local-completions",
                     f"model={name},base_url={address}/v1/completions,tokenizer={model},tokenizer_backend=huggingface,"
                     "num_concurrent=1,max_retries=1,max_length=1024")
finally:
    server.terminate()
    server.wait()
best = lambda row: max(range(4), key=row.__getitem__)
share = lambda rows: sum(best(row) == item["gold"] for row, item in zip(rows, items)) / len(items)
apart = max(abs(a - b) for left, right in zip(own, theirs) for a, b in zip(left, right))
print(f"{len(items)} items; right: by the engine {share(own):.4f}, through the harness {share(theirs):.4f} "
      f"(chance .25); largest difference of a log-likelihood {apart:.2e}", flush=True)
if share(own) < 0.5:
    sys.exit("the model guesses: choose another")
if len(theirs) != len(items) or apart > 1e-3 or list(map(best, own)) != list(map(best, theirs)):
    sys.exit("the harness does not find what the engine finds")
if by_transformers:
    other = harness("hf", "hf", f"pretrained={model},dtype=float32", "--device", "cpu")
    apart = max(abs(a - b) for left, right in zip(own, other) for a, b in zip(left, right))
    differ = sum(best(a) != best(b) for a, b in zip(own, other))
    print(f"by transformers: {share(other):.4f}, {differ} other choices; largest difference of a log-likelihood {apart:.2e}")
    if abs(share(other) - share(own)) * len(items) > len(items) / 200:
        sys.exit("transformers finds another accuracy")
PYTHON
