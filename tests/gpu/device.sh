#!/usr/bin/env bash
# Measures a GPU with built binaries alone, in about 6 minutes: what shaders/README.md quotes.
#
#   tests/gpu/device.sh OUT [BENCH]
#
# OUT is a folder for the results. With BENCH, a folder that has c2.train.u16 and heldout.u16 (see models/README.md), c2 is
# trained on 1,500,000 tokens. Each part has a time limit, and a part that fails does not end the others; the exit code is the
# number of failed parts.
#
#   BRILLM     the program                     (target/release/brillm)
#   SUITE      the test binary of the suite    (the newest target/*/deps/gpu-*)
#   ADAPTER    --adapter of the commands       (the best GPU)
#   EDGE_MIB   sizes of the edges              ("8192 33000": 8 GB, and the dense graph of 4,000 nodes in f16)
#   PAGED_MIB, MEMORY_MIB  size of the edges that are paged, and memory for them  (33000, 16000)
#   BATCHES    prompts decoded together        (1,16,64,256)
#   SECONDS_EACH  time of each row             (1)
set -uo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
out="${1:?usage: tests/gpu/device.sh OUT [BENCH]}"
bench="${2:-}"
brillm="${BRILLM:-$root/target/release/brillm}"
suite="${SUITE:-$(ls -t "$root"/target/*/deps/gpu-* 2>/dev/null | grep -v '\.d$' | head -1)}"
adapter=(--backend gpu)
[ -z "${ADAPTER:-}" ] || adapter=(--adapter "$ADAPTER")
mkdir -p "$out"
failed=0

# part NAME SECONDS COMMAND…: standard output to NAME.txt, standard error to NAME.log.
part() {
    local name="$1" limit="$2" begin=$SECONDS code=0
    shift 2
    timeout "$limit" "$@" >"$out/$name.txt" 2>"$out/$name.log" || code=$?
    [ "$code" -eq 0 ] || failed=$((failed + 1))
    printf '%-16s exit %3d  %3d s\n' "$name" "$code" "$((SECONDS - begin))"
}

part devices 20 "$brillm" devices --json
for mib in ${EDGE_MIB:-8192 33000}; do
    part "decode-$mib" 100 "$brillm" bench "${adapter[@]}" --edge-mib "$mib" --gpu-batch "${BATCHES:-1,16,64,256}" \
        --seconds "${SECONDS_EACH:-1}" --skip-train
done
# The whole graph in f16 with memory for a part of it.
part paged 60 "$brillm" bench "${adapter[@]}" --storage f16 --edge-mib "${PAGED_MIB:-33000}" --device-memory "${MEMORY_MIB:-16000}" \
    --gpu-batch 1,16 --seconds "${SECONDS_EACH:-1}" --skip-train
# The kernels of one prompt and of the shipped model, each with its time.
part profile 40 "$brillm" bench "${adapter[@]}" --edge-mib 1024 --gpu-batch 1 --seconds 0.2 --skip-train --profile
part shipped 40 "$brillm" generate "Once upon a time" --tokens 2000 --ignore-eos "${adapter[@]}" --verbose
part shipped-profile 40 "$brillm" generate "Once upon a time" --tokens 200 --ignore-eos "${adapter[@]}" --profile
part train 60 "$brillm" bench "${adapter[@]}" --seconds "${SECONDS_EACH:-1}" --skip-decode
if [ -n "$bench" ]; then
    part c2 90 "$brillm" train "$root/models/recipes/bench-c2.toml" --data "$bench" --out "$out/c2" --set train.tokens=1500000 \
        "${adapter[@]}"
    part c2-layered 90 "$brillm" train "$root/models/recipes/bench-c2-layered.toml" --data "$bench" --out "$out/c2-layered" \
        --set train.tokens=1500000 "${adapter[@]}"
fi
if [ -n "$suite" ]; then
    BRILLM_GPU_ADAPTER="${ADAPTER:-}" part suite 180 "$suite"
else
    echo "suite: no binary (cargo test --release --no-run --test gpu)" | tee "$out/suite.log"
    failed=$((failed + 1))
fi
grep -h "GB/s\|tokens/s" "$out"/decode-*.txt "$out/train.txt" 2>/dev/null | head -4
exit "$failed"
