#!/usr/bin/env bash
# Two ranks, bound to a core each, against one rank on one core. Run on demand, on a machine that does nothing else:
#
#   tests/ranks_speed.sh [TEXT [TIMES]]      the documentation of the project, and 5 times; needs Open MPI and libclang
#
# Trains own edges at 256 x 30 and composed edges at 512 x 30, one rank and two in turn, and prints the tokens a second of
# each and the median of their ratios.
set -euo pipefail
text=${1:+$(realpath "$1")}
cd "$(dirname "$0")/.."
times=${2:-5}
source tests/support/mpi_program.sh
trap 'rm -rf "$folder"' EXIT
if [ -n "$text" ]; then
    cp "$text" "$folder/text.txt"
else
    cat README.md ARCHITECTURE.md CHANGELOG.md models/README.md engine/*/README.md plugins/README.md >"$folder/text.txt"
fi
cat >"$folder/run.toml" <<END
name = "speed"
[data]
train = ["text.txt"]
validation-fraction = 0
vocabulary = 2000
[profile]
preset = "reference"
width = 32
blend = "gated"
banks = 2
[train]
tokens = 76800
batch = 256
steps = 30
folds = 2
reduction = "exact"
log-every = 1
END
# rate OUT RANKS [OPTION...]: tokens a second of the last step that the log has, which leaves out the start.
rate() {
    local out=$folder/$1 ranks=$2
    shift 2
    rm -rf "$out"
    timeout 900 mpirun.openmpi -n "$ranks" --bind-to core "$brillm" --threads 1 train "$folder/run.toml" --quiet --ranks "$ranks" --out "$out" "$@" >/dev/null
    python3 - "$out/log.jsonl" <<'END'
import json, sys
steps = [json.loads(line) for line in open(sys.argv[1])]
steps = [one for one in steps if one["kind"] == "training"]
first, last = steps[0], steps[-1]
print((last["tokens"] - first["tokens"]) / (last["wall_seconds"] - first["wall_seconds"]))
END
}
measure() {
    local name=$1
    shift
    for _ in $(seq "$times"); do
        echo "$(rate one 1 "$@") $(rate two 2 "$@")"
    done | python3 -c '
import statistics, sys
pairs = [tuple(map(float, line.split())) for line in sys.stdin]
ratios = [two / one for one, two in pairs]
median = [statistics.median(column) for column in zip(*pairs)]
print(f"{sys.argv[1]}: one rank {median[0]:.0f}, two ranks {median[1]:.0f} tokens a second; two / one {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
' "$name"
}
measure "own edges, 256 x 30"
measure "composed edges, 512 x 30" --set 'profile={preset="sifu",width=128}' --set train.batch=512 --set train.tokens=460800
