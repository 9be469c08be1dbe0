#!/usr/bin/env bash
# A model of 8 GB decodes in 2 GB of memory, because a step touches one fan. Run on demand:
#
#   tests/large.sh [FOLDER] [GIGABYTES]     8 GB of free disk in FOLDER (/tmp), root for the control group
#
# Writes a file of random own edges, drops it from the page cache, opens and decodes it in a control group
# whose memory, page cache included, is limited to a quarter of the file, and prints what it took.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-/tmp}
gigabytes=${2:-8}
limit=$((gigabytes * 1000000000 / 4))
profile=${BRILLM_PROFILE:-release}
cargo build --profile "$profile" --quiet --bin brillm --example large
target=${CARGO_TARGET_DIR:-target}/${profile/#dev/debug}
model=$(mktemp "$folder/large-XXXXXX.bril")
group=""
# Whatever happens, nothing of it stays.
clean() {
    rm -f "$model" "$model.partial" "$model.json"
    [ -z "$group" ] || rmdir "$group" 2>/dev/null || true
}
trap clean EXIT

date +"%T writing $gigabytes GB"
"$target/examples/large" "$model" "$gigabytes"
sync
# Opening and decoding begin with a cold cache for this file.
dd if="$model" iflag=nocache count=0 status=none

name=brillm-large-$$
if [ -w /sys/fs/cgroup/cgroup.subtree_control ] && grep -qw memory /sys/fs/cgroup/cgroup.controllers; then
    group=/sys/fs/cgroup/$name
    mkdir "$group"
    echo "$limit" > "$group/memory.max"
    echo 0 > "$group/memory.swap.max" 2>/dev/null || true
    peak=memory.peak
    kind="control group v2"
elif [ -w /sys/fs/cgroup/memory ]; then
    group=/sys/fs/cgroup/memory/$name
    mkdir "$group"
    echo "$limit" > "$group/memory.limit_in_bytes"
    peak=memory.max_usage_in_bytes
    kind="control group v1"
else
    # Without a control group nothing here limits the page cache: that would prove nothing.
    echo "no control group can be made here: run as root where /sys/fs/cgroup can be written" >&2
    exit 1
fi

# Runs a command inside the group; its children stay in it.
inside() { (echo "$BASHPID" > "$group/cgroup.procs" && exec "$@"); }
seconds() { awk "BEGIN { printf \"%.3f\", ($2 - $1) / 1e9 }"; }

begun=$(date +%s%N)
inside "$target/brillm" generate --prompt-ids 1 --model "$model" --tokens 0 --json > /dev/null
opened=$(date +%s%N)
inside "$target/brillm" generate --prompt-ids 1 --model "$model" --tokens 2000 --temperature 1 --top-p 1 \
    --ignore-eos --json > "$model.json"
ended=$(date +%s%N)
distinct=$(tr ',' '\n' < "$model.json" | grep -cE '^ *[0-9]+$' || true)
rm -f "$model.json"
echo "$kind, limit $limit bytes, file $(stat -c %s "$model") bytes"
echo "start, opening and end of the program, cold cache: $(seconds "$begun" "$opened") s"
echo "2,000 tokens of decoding: $(seconds "$opened" "$ended") s ($distinct ids printed)"
echo "most memory in the group, page cache included: $(cat "$group/$peak") bytes"
[ -e "$group/memory.failcnt" ] && echo "times the limit was met and pages were given back: $(cat "$group/memory.failcnt")"
[ -e "$group/memory.events" ] && tr '\n' ' ' < "$group/memory.events" && echo
exit 0
