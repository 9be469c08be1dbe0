"""Measure one job in brillm, llama-cpp-python and transformers: load a model, continue a prompt greedily.

    python engine/python/examples/compare.py FOLDER_OR_GGUF [--gguf FILE.gguf] [--tokens 128] [--threads 2] [--rounds 3]

brillm reads a folder in Hugging Face's layout or a GGUF file, transformers the folder or what it reads of the GGUF file, llama-cpp-python
the GGUF file. Each round runs every engine that is installed in a process of its own, in turn; the table shows medians. The first token is
counted from the start of the import, and memory is the peak of the process.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys

PROMPT = "Once upon a time, there was a little girl who lived in a small house near the forest."

# The job as a user writes it. `PATH`, `PROMPT`, `TOKENS` and `THREADS` are given; `piece()` is called for each token.
JOBS = {
    "brillm": """
import brillm
model = brillm.load(PATH)
for _ in model.generate(PROMPT, tokens=TOKENS, temperature=0, ignore_eos=True):
    piece()
""",
    "llama_cpp": """
import llama_cpp
model = llama_cpp.Llama(PATH, n_ctx=TOKENS + 64, n_threads=THREADS, n_threads_batch=THREADS, verbose=False)
ids = model.tokenize(PROMPT.encode(), special=True)
for count, _ in enumerate(model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0), 1):
    piece()
    if count == TOKENS: break
""",
    "transformers": """
import pathlib, torch, transformers
torch.set_num_threads(THREADS)
gguf = {"gguf_file": pathlib.Path(PATH).name} if PATH.endswith(".gguf") else {}
folder = str(pathlib.Path(PATH).parent) if gguf else PATH
tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **gguf)
model = transformers.AutoModelForCausalLM.from_pretrained(folder, **gguf)
class Streamer(transformers.generation.streamers.BaseStreamer):
    def put(self, value): value.numel() == 1 and piece()
    def end(self): pass
ids = tokenizer(PROMPT, return_tensors="pt")
model.generate(**ids, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, streamer=Streamer())
""",
}

# Runs one job and prints when its tokens came.
RUNNER = """
import json, resource, sys, time
job, PATH, PROMPT, TOKENS, THREADS = json.loads(sys.stdin.read())
times = []
start = time.perf_counter()
exec(job, {"PATH": PATH, "PROMPT": PROMPT, "TOKENS": TOKENS, "THREADS": THREADS, "piece": lambda: times.append(time.perf_counter())})
# KiB on Linux, bytes on macOS.
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
print(json.dumps({"first": times[0] - start, "rate": (len(times) - 1) / (times[-1] - times[0]), "memory": memory, "tokens": len(times)}))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder in Hugging Face's layout, or GGUF file")
    parser.add_argument("--gguf", help="the same model as a GGUF file, for llama-cpp-python")
    parser.add_argument("--tokens", type=int, default=128, help="number of new tokens, 2 or more")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.tokens < 2:
        parser.error("--tokens must be 2 or more")
    gguf = arguments.gguf or (arguments.model if arguments.model.endswith(".gguf") else None)
    paths = {"brillm": arguments.model, "llama_cpp": gguf, "transformers": arguments.model}
    engines = [name for name in JOBS if importlib.util.find_spec(name) and paths[name]]
    left_out = [name for name in JOBS if name not in engines]
    if left_out:
        print(f"left out, not installed or without a file: {', '.join(left_out)}", file=sys.stderr)
    environment = {**os.environ, "RAYON_NUM_THREADS": str(arguments.threads), "HF_HUB_OFFLINE": "1"}
    found = {name: [] for name in engines}
    for _ in range(arguments.rounds):
        for name in engines:
            path = str(pathlib.Path(paths[name]).resolve())
            task = json.dumps([JOBS[name], path, PROMPT, arguments.tokens, arguments.threads])
            done = subprocess.run(
                [sys.executable, "-c", RUNNER], input=task, capture_output=True, text=True, check=False, env=environment
            )
            if done.returncode:
                sys.exit(f"{name} failed:\n{done.stderr}")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{arguments.model}: {arguments.tokens} tokens, {arguments.threads} threads, medians of {arguments.rounds} rounds")
    print("| engine | lines of code | first token, s | tokens/s | peak memory, MiB |\n|---|---|---|---|---|")
    for name, runs in found.items():
        first, rate, memory = (statistics.median(run[key] for run in runs) for key in ("first", "rate", "memory"))
        print(f"| {name} | {len(JOBS[name].strip().splitlines())} | {first:.2f} | {rate:.0f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
