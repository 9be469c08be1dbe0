"""Measure a server of completions under several clients: `brillm serve`, llama.cpp's `llama-server`, or another with /v1/completions.

    brillm serve --model FILE.gguf --port 8137 --prefix-cache 0
    python engine/python/examples/bench_serve.py http://127.0.0.1:8137 [--clients 8] [--requests 4] [--prompt 64] [--tokens 64]

Each client sends its requests one after the other, prompts of random ids that no two requests share, at temperature 0. The throughput counts new
tokens from the first request to the last response. Needs only the standard library.
"""

import argparse
import http.client
import json
import random
import statistics
import threading
import time
import urllib.parse


def client(url, bodies, latencies, counts, failures):
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=600)
    for body in bodies:
        start = time.perf_counter()
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        document = json.loads(response.read())
        if response.status != 200:
            failures.append(f"status {response.status}: {document}")
            return
        latencies.append(time.perf_counter() - start)
        counts.append(document["usage"]["completion_tokens"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", type=urllib.parse.urlsplit)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=4, help="requests of each client")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--vocabulary", type=int, default=49152, help="ids are drawn below this number")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)

    def body():
        prompt = [draw.randrange(arguments.vocabulary) for _ in range(arguments.prompt)]
        return {"prompt": prompt, "max_tokens": arguments.tokens, "temperature": 0, "ignore_eos": True}

    latencies, counts, failures, threads = [], [], [], []
    for _ in range(arguments.clients):
        bodies = [body() for _ in range(arguments.requests)]
        threads.append(threading.Thread(target=client, args=(arguments.url, bodies, latencies, counts, failures)))
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if failures or len(counts) < arguments.clients * arguments.requests:
        raise SystemExit("\n".join(failures) or "a connection failed")
    print(
        f"{arguments.clients} clients, {len(counts)} requests, {sum(counts)} new tokens: "
        f"{sum(counts) / seconds:.0f} tokens/s, median request {statistics.median(latencies):.2f} s"
    )


if __name__ == "__main__":
    main()
