#!/usr/bin/env bash
# Training over ranks that are killed at random moments, each time resumed on another number of ranks. Run on demand:
#
#   tests/ranks_kills.sh [KILLS [SEED]]      20 kills by default; needs Open MPI and libclang
#
# Kills a random rank (SIGKILL) between 0.2 and 3 seconds after each start, and fails where the loss curve or the model of
# a run that has finished differs from that of a run without interruption. Own edges with cut fans and composed ones alternate.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-20}
RANDOM=${2:-1}
source tests/support/mpi_program.sh
trap 'pkill -KILL -f "^$brillm .*$folder" 2>/dev/null || true; rm -rf "$folder"' EXIT
cat README.md ARCHITECTURE.md CHANGELOG.md >"$folder/text.txt"
cat >"$folder/run.toml" <<END
name = "kills"
[data]
train = ["text.txt"]
validation-fraction = 0.05
vocabulary = 500
[profile]
preset = "reference"
width = 8
blend = "gated"
banks = 2
[train]
tokens = 307200
batch = 64
steps = 16
dropout = 0.1
clip = 0.3
folds = 2
reduction = "exact"
validate-every = 50
checkpoint-every = 5
END
composed=(--set 'profile={preset="sifu",width=16}')

# train OUT RANKS [OPTION...]
train() {
    local out=$1 ranks=$2
    shift 2
    timeout 300 mpirun.openmpi -n "$ranks" --oversubscribe --bind-to none "$brillm" --threads 1 train "$folder/run.toml" \
        --quiet --ranks "$ranks" --out "$folder/$out" "$@"
}
# The losses of a run: the last record of each step, without its times.
curve() {
    python3 - "$folder/$1/log.jsonl" <<'END'
import json, sys
losses = {}
for line in open(sys.argv[1]):
    record = json.loads(line)
    if "step" in record:
        losses[record["kind"], record["step"]] = [record.get(name) for name in ("loss", "perplexity", "gradient_norm")]
for key in sorted(losses):
    print(key, losses[key])
END
}

for form in own composed; do
    options=()
    [ "$form" = own ] || options=("${composed[@]}")
    train "whole-$form" 1 ${options[@]+"${options[@]}"} >/dev/null
    curve "whole-$form" >"$folder/whole-$form.curve"
done
killed=0
finished=0
number=0
ranks=1
interrupted=""
while [ "$killed" -lt "$kills" ] || [ "$finished" -lt 2 ] || [ -n "$interrupted" ]; do
    form=$([ $((number % 2)) = 0 ] && echo own || echo composed)
    options=()
    [ "$form" = own ] || options=("${composed[@]}")
    out=run-$number
    mkdir -p "$folder/$out"
    # Drawn outside of $(…), which has a sequence of random numbers of its own.
    draws=($((RANDOM % 2)) "$RANDOM")
    ranks=$(python3 -c "print([n for n in (1, 2, 4) if n != $ranks][${draws[0]}])")
    train "$out" "$ranks" --resume ${options[@]+"${options[@]}"} >"$folder/out" 2>&1 &
    job=$!
    if [ "$killed" -lt "$kills" ]; then
        sleep "$(python3 -c "print(0.2 + 2.8 * ${draws[1]} / 32768)")"
        mapfile -t pids < <(pgrep -f "^$brillm .*$folder/$out" || true)
        if [ ${#pids[@]} -gt 0 ] && kill -KILL "${pids[$((RANDOM % ${#pids[@]}))]}" 2>/dev/null; then
            began=$SECONDS
            if wait "$job"; then echo "a job whose rank was killed reported success" >&2; exit 1; fi
            [ $((SECONDS - began)) -le 5 ] || { echo "the job ended $((SECONDS - began)) s after the kill" >&2; exit 1; }
            killed=$((killed + 1))
            interrupted=$out
            continue
        fi
    fi
    wait "$job" || { cat "$folder/out" >&2; exit 1; }
    curve "$out" | cmp - "$folder/whole-$form.curve"
    cmp "$folder/whole-$form/model.bril" "$folder/$out/model.bril"
    interrupted=""
    finished=$((finished + 1))
    number=$((number + 1))
done
echo "$killed kills on 1, 2 and 4 ranks; $finished runs ended with the curve and the bits of a run without interruption"
