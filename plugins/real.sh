#!/bin/sh
# The tables of plugins/RESULTS.md on a real model: techniques on the cache of SmolLM2-135M-Instruct (models/fetch) at equal bytes, beside recency, random and
# reversed order.
#
#   sh plugins/real.sh MODEL.gguf TEXT LAMBADA.jsonl [continuation|lambada|retrieval …]
#
# TEXT is measured and holds the numbers of the retrieval task; LAMBADA.jsonl has one object {"text"} a line. BRILLM names the program, COUNT the texts of each
# length (8), WORDS the lengths of the retrieval task, THREADS the threads.
set -eu
model=$1
text=$2
lambada=$3
shift 3
[ $# -gt 0 ] || set -- continuation lambada retrieval
here=$(dirname "$0")
brillm=${BRILLM:-brillm}
count=${COUNT:-8}
threads=${THREADS:-2}
runs=runs/real
mkdir -p "$runs"
value() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" | head -n 1; }

# techniques KEPT GROWN: the plugins at KEPT tokens; GROWN is what a cache of KEPT has become at the end.
techniques() {
    echo "kv-share:target=8,order=similar"
    echo "kv-share:target=8"
    echo "kv-share:target=8,order=random"
    for order in attention recency random reversed; do echo "kv-pyramid:retain=0.6,minimum=8,order=$order"; done
    for order in attention random reversed; do echo "kv-heavy:heavy=$(($1 / 2)),recent=$(($1 / 2)),order=$order"; done
    echo "recent:sinks=4,window=$(($1 - 4))"
    for order in attention recency random reversed; do echo "kv-snap:budget=$1,order=$order"; done
    echo "recent:sinks=4,window=$(($2 - 4))"
    for bits in 8 4 2; do echo "kv-quant:bits=$bits"; done
}

# continued PROMPT NEW KEPT: perplexity, agreement and bytes of continuations; decoding speed.
continued() {
    set -- "$1" "$2" "$3" "$model"
    for technique in $(techniques "$3" $(($3 + $2 - 1))); do set -- "$@" "$model+$technique"; done
    prompt=$1 new=$2
    shift 3
    "$brillm" compare "$@" --continuation "$prompt,$new,$count" --text "$text" --calibration "$runs/calibration.txt" --batch 1 --threads "$threads"
}

# answered FILE: perplexity and greedy accuracy of answers, by label.
answered() {
    file=$1
    for technique in "" $(techniques "$2" "$2"); do
        set -- --quiet --json --threads "$threads"
        [ -z "$technique" ] || set -- "$@" --plugin "$technique" --calibration "$runs/calibration.txt"
        "$brillm" probe "$file" --model "$model" "$@" | python3 -c '
import json, sys
answers = json.load(sys.stdin)["answers"]
labels = sorted((label for label in answers if label != "all"), key=lambda label: int(label.split()[0])) or ["all"]
cells = ["{correct}/{texts} ({perplexity:.2f})".format(**answers[label]) for label in labels]
if not sys.argv[1]:
    print("| technique |", " | ".join(labels), "|\n|---" * 1 + "|", "|".join("---" for _ in labels), "|", sep=" ")
print("| `" + (sys.argv[1] or "whole cache") + "` |", " | ".join(cells), "|")' "$technique"
    done
}

tail -c 60000 "$text" >"$runs/calibration.txt"
for part in "$@"; do
    case $part in
    continuation)
        continued 512 64 256
        continued 2048 64 1024
        ;;
    lambada)
        python3 "$here/answers.py" lambada "$lambada" 200 >"$runs/lambada.jsonl"
        answered "$runs/lambada.jsonl" 32
        ;;
    retrieval)
        python3 "$here/answers.py" retrieval "$text" "$count" ${WORDS:+"$WORDS"} >"$runs/retrieval.jsonl"
        answered "$runs/retrieval.jsonl" 256
        ;;
    *)
        echo "unknown part $part: continuation, lambada or retrieval" >&2
        exit 2
        ;;
    esac
done
