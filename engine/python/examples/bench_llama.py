"""Measure llama-cpp-python as `brillm bench --model FILE.gguf --batch 1 --prompt 512 --tokens 128` measures brillm.

    python engine/python/examples/bench_llama.py FILE.gguf [--threads 1] [--prompt 512] [--tokens 128] [--batch 1]

Prompts are of random ids; prefill is the best of three runs, decoding the mean of all steps after the prompt. With `--batch N`, N sequences are
decoded together through llama.cpp's batches, as its server does. The peak of memory is that of the whole process.
"""

import argparse
import ctypes
import random
import resource
import sys
import time

import llama_cpp

# Kept for as long as the library may call it.
SILENT = llama_cpp.llama_log_callback(lambda level, text, data: None)


class Batch:
    """Several sequences in one context of llama.cpp."""

    def __init__(self, arguments):
        llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        path = arguments.model.encode()
        self.model = llama_cpp.llama_model_load_from_file(path, llama_cpp.llama_model_default_params())
        settings = llama_cpp.llama_context_default_params()
        tokens = arguments.batch * arguments.prompt
        settings.n_ctx = arguments.batch * (arguments.prompt + arguments.tokens + 8)
        settings.n_batch = settings.n_ubatch = max(tokens, 32)
        settings.n_seq_max = arguments.batch
        settings.n_threads = settings.n_threads_batch = arguments.threads
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        self.batch = llama_cpp.llama_batch_init(settings.n_batch, 0, 1)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def reset(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def advance(self, sequences, first):
        """Append tokens to each sequence, whose next position is `first`, and compute the logits of the last ones."""
        batch, row = self.batch, 0
        for sequence, tokens in enumerate(sequences):
            for index, token in enumerate(tokens):
                batch.token[row] = token
                batch.pos[row] = first + index
                batch.n_seq_id[row] = 1
                batch.seq_id[row][0] = sequence
                batch.logits[row] = index + 1 == len(tokens)
                row += 1
        batch.n_tokens = row
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama_decode failed")
        llama_cpp.llama_synchronize(self.context)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=1, help="sequences")
    arguments = parser.parse_args()
    batch = Batch(arguments)
    draw = random.Random(1)

    def ids(count):
        return [[draw.randrange(batch.vocabulary) for _ in range(count)] for _ in range(arguments.batch)]

    prompts, best = ids(arguments.prompt), float("inf")
    for _ in range(3):
        batch.reset()
        start = time.perf_counter()
        batch.advance(prompts, 0)
        best = min(best, time.perf_counter() - start)
    start = time.perf_counter()
    for step in range(arguments.tokens):
        batch.advance(ids(1), arguments.prompt + step)
    decoding = time.perf_counter() - start
    # KiB on Linux, bytes on macOS.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(
        f"prefill {arguments.batch * arguments.prompt / best:.0f} tokens/s, "
        f"decoding {arguments.batch * arguments.tokens / decoding:.0f} tokens/s, peak memory {memory:.0f} MiB"
    )


if __name__ == "__main__":
    main()
