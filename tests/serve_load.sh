#!/usr/bin/env bash
# Puts a server under mixed load (valid, slow, oversized, malformed and interrupted requests) and reports the responses.
#
#   ./tests/serve_load.sh [SECONDS] [CONNECTIONS] [PROGRAM] [PLUGIN]      300 s, 200 connections, target/release/brillm
#
# Fails on a wrong response, an unexpected status, or memory that grows by more than 10 % after the first 30 s: the medians
# of the 30 s after that and of the last 30 s are compared (thirds of a run below 90 s). Needs only python3.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 - "${1:-300}" "${2:-200}" "${3:-target/release/brillm}" "${4:-}" <<'PYTHON'
import collections, json, os, random, signal, socket, statistics, subprocess, sys, tempfile, threading, time

seconds, connections, program, plugin = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
library = tempfile.mkdtemp()
server = subprocess.Popen(
    [program, "serve", "--port", "0", "--request-timeout", "5", "--queue", "32", "--max-seconds", "60", "--library", library,
     "--model", "models/english.bril", "--model", "models/stories260K"] + (["--plugin", plugin] if plugin else []),
    stdout=subprocess.PIPE, text=True)
address = server.stdout.readline().strip().removeprefix("listening on http://").rstrip("/")
host, port = address.rsplit(":", 1)
counts, wrong, lock = collections.Counter(), [], threading.Lock()
stop = time.monotonic() + seconds


def resident():
    with open(f"/proc/{server.pid}/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def connect():
    one = socket.create_connection((host, int(port)), timeout=90)
    one.settimeout(90)
    return one


def read(one):
    """Return status and body; status 0 if the connection ends without a response."""
    data = b""
    while True:
        try:
            more = one.recv(65536)
        except ConnectionResetError:
            break
        if not more:
            break
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 "):
        return 0, data
    if b"transfer-encoding: chunked" in head.lower():
        parts = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            size = int(size or b"0", 16)
            if size == 0:
                break
            parts, body = parts + body[:size], body[size + 2:]
        body = parts
    return int(head[9:12]), body


def request(method, path, body=b"", headers=""):
    return (f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
            f"Content-Type: application/json\r\n{headers}\r\n").encode() + body


def ask(*arguments):
    with connect() as one:
        one.sendall(request(*arguments))
        return read(one)


def completion(**fields):
    return json.dumps({"max_tokens": 24, **fields}).encode()


GOOD = [completion(prompt="Once upon a time", temperature=0),
        completion(prompt="One day", temperature=0.8, seed=3, logprobs=3),
        completion(prompt="The little dog was", echo=True, logprobs=1, max_tokens=0),
        completion(prompt="Once", model="stories260K", temperature=0, logprobs=2)]


# A full queue, or a time-out in it.
BUSY = (429, 503)


def choices(body):
    return json.loads(body)["choices"]


EXPECTED = []
for body in GOOD:
    status, answer = ask("POST", "/v1/completions", body)
    assert status == 200, answer
    EXPECTED.append(choices(answer))


def good(draw):
    which = draw.randrange(len(GOOD))
    status, body = ask("POST", "/v1/completions", GOOD[which])
    if status == 200 and choices(body) != EXPECTED[which]:
        return "good", status, "not the response of an idle server: " + body[:200].decode()
    return "good", status, None if status in (200, *BUSY) else body[:200].decode()


def stream(draw):
    which = draw.randrange(len(GOOD))
    fields = json.loads(GOOD[which])
    fields["stream"] = True
    status, body = ask("POST", "/v1/completions", json.dumps(fields).encode())
    if status != 200:
        return "stream", status, None if status in BUSY else body[:200].decode()
    events = [part[6:] for part in body.decode().split("\n\n") if part.startswith("data: ")]
    text = "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])
    right = events[-1] == "[DONE]" and text == EXPECTED[which][0]["text"]
    return "stream", status, None if right else "not the text of an idle server: " + text


def trace(draw):
    body = json.dumps({"prompt": "Once upon a time", "tokens": 8}).encode()
    status, body = ask("POST", "/api/v1/trace", body)
    right = status in BUSY or status == 200 and body.count(b"event: step") == 8 and b"event: end" in body
    return "trace", status, None if right else body[:200].decode()


def look(draw):
    path = draw.choice(["/", "/health", "/metrics", "/api/v1/map?level=2", "/api/v1/nodes?q=the", "/api/v1/nodes/5/out"])
    status, body = ask("GET", path)
    return "look", status, None if status in (200, *BUSY) else body[:200].decode()


def slow(draw):
    data = request("POST", "/v1/completions", GOOD[0])
    with connect() as one:
        try:
            for at in range(0, len(data), 40):
                one.sendall(data[at:at + 40])
                time.sleep(0.2)
        except (BrokenPipeError, ConnectionResetError):
            pass
        status, body = read(one)
    return "slow", status, None if status in (200, *BUSY) else body[:200].decode()


def stalled(draw):
    with connect() as one:
        one.sendall(request("POST", "/v1/completions", GOOD[0])[:-5])
        status, body = read(one)
    return "stalled", status, None if status == 408 else body[:200].decode()


def oversized(draw):
    data = request("POST", "/v1/completions", b'{"prompt":"' + b"a " * (3 << 20) + b'"}')
    with connect() as one:
        try:
            one.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        status, body = read(one)
    return "oversized", status, None if status == 413 else f"{status} {body[:200]}"


def malformed(draw):
    data, statuses = draw.choice([
        (b"GARBAGE\r\n\r\n", (400,)),
        (bytes(draw.randrange(256) for _ in range(100)) + b"\r\n\r\n", (400,)),
        (request("POST", "/v1/completions", b'{"prompt":'), (400,)),
        (request("POST", "/v1/completions", b'{"prompt":[[]]}'), (400,)),
        (request("GET", "/api/v1/nodes/zzz"), (404,)),
        (request("GET", "/").replace(address.encode(), b"evil.example"), (421,)),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 200000 + b"\r\n\r\n", (431,)),
    ])
    with connect() as one:
        try:
            one.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        status, body = read(one)
    return "malformed", status, None if status in statuses else f"{data[:60]} {status} {body[:100]}"


def gone(draw):
    body = completion(prompt="Once", max_tokens=1000, ignore_eos=True, stream=True)
    with connect() as one:
        one.sendall(request("POST", "/v1/completions", body))
        time.sleep(draw.random() * 0.2)
    return "gone", -1, None


KINDS = [(good, 8), (stream, 4), (trace, 3), (look, 6), (slow, 3), (stalled, 1), (oversized, 1), (malformed, 5), (gone, 2)]


def client(number):
    draw = random.Random(number)
    while time.monotonic() < stop:
        kind = draw.choices([one for one, _ in KINDS], [weight for _, weight in KINDS])[0]
        try:
            name, status, error = kind(draw)
        except Exception as exception:
            name, status, error = kind.__name__, -2, repr(exception)
        with lock:
            counts[name, status] += 1
            if error is not None:
                wrong.append(f"{name}: {error}")
        if status in BUSY:
            time.sleep(0.2 + draw.random())


threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(connections)]
for thread in threads:
    thread.start()
memory, start = [], time.monotonic()
while time.monotonic() < stop:
    memory.append((time.monotonic() - start, resident()))
    time.sleep(min(5, seconds / 20))
for thread in threads:
    thread.join(120)
time.sleep(1)
memory.append((time.monotonic() - start, resident()))
part = min(30, seconds / 3)
settled = [value for at, value in memory if at >= part]
first = statistics.median(value for at, value in memory if part <= at <= 2 * part)
last = statistics.median(value for at, value in memory if at >= seconds - part)
growth = last / first - 1
status, runs = ask("GET", "/api/v1/runs")
server.send_signal(signal.SIGINT)
code = server.wait(30)
for (name, status), count in sorted(counts.items()):
    print(f"{name:10} {status if status > 0 else 'closed' if status == -1 else status:>7} {count:8}")
print(f"requests {sum(counts.values())}, wrong {len(wrong)}, memory {first:.0f} -> {last:.0f} MiB "
      f"(largest {max(settled):.0f}, {100 * growth:+.0f} %), runs: {runs.decode()}, exit {code}")
for line in wrong[:20]:
    print("wrong:", line)
print("memory:", " ".join(f"{at:.0f}s:{value:.0f}" for at, value in memory))
sys.exit(bool(wrong) or growth > 0.1 or code != 130)
PYTHON
