"""Measure llama-cpp-python as `brillm bench --model FILE.gguf --batch 1 --prompt 512 --tokens 128` measures brillm.

    python engine/python/examples/bench_llama.py FILE.gguf [--threads 1] [--prompt 512] [--tokens 128]

The prompt is of random ids; prefill is the best of three runs, decoding the mean of all steps after the prompt.
"""

import argparse
import random
import time

import llama_cpp


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128)
    arguments = parser.parse_args()
    model = llama_cpp.Llama(
        arguments.model,
        n_ctx=arguments.prompt + arguments.tokens + 8,
        n_batch=arguments.prompt,
        n_ubatch=arguments.prompt,
        n_threads=arguments.threads,
        n_threads_batch=arguments.threads,
        verbose=False,
    )
    draw = random.Random(1)
    ids = [draw.randrange(model.n_vocab()) for _ in range(arguments.prompt)]
    best = float("inf")
    for _ in range(3):
        model.reset()
        start = time.perf_counter()
        model.eval(ids)
        best = min(best, time.perf_counter() - start)
    start = time.perf_counter()
    for step in range(arguments.tokens):
        model.eval([ids[step % len(ids)]])
    decoding = time.perf_counter() - start
    print(f"prefill {arguments.prompt / best:.0f} tokens/s, decoding {arguments.tokens / decoding:.0f} tokens/s")


if __name__ == "__main__":
    main()
