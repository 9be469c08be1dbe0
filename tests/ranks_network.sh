#!/usr/bin/env bash
# Training over several hosts: each is a network namespace of this machine with a name and an address of its own, and
# Open MPI connects them over TCP. Run on demand, as root:
#
#   tests/ranks_network.sh [HOSTS]      2 by default; needs Open MPI, libclang and iproute2
#
# Prints the bytes a token that cross the network and those that the run reports, for whole and for cut fans, and fails
# where they differ by more than 10 %, or where the model has other bits than that of one process.
set -euo pipefail
cd "$(dirname "$0")/.."
hosts=${1:-2}
[ "$(id -u)" = 0 ] || { echo "network namespaces need root" >&2; exit 1; }
source tests/support/mpi_program.sh
network=10.77.0
prefix=brillm-$$-
# Whatever happens, nothing of it stays.
clean() {
    for host in $(seq "$hosts"); do ip netns del "$prefix$network.$host" 2>/dev/null || true; done
    ip link del "brillm$$" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean EXIT

ip link add "brillm$$" type bridge
ip link set "brillm$$" up
for host in $(seq "$hosts"); do
    space=$prefix$network.$host
    ip netns add "$space"
    ip link add "b$$-$host" type veth peer name eth0 netns "$space"
    ip link set "b$$-$host" master "brillm$$" up
    ip -n "$space" addr add "$network.$host/24" dev eth0
    ip -n "$space" link set eth0 up
    ip -n "$space" link set lo up
    echo "$network.$host slots=1" >>"$folder/hosts"
done
# What starts a program on a host, in the place of ssh.
cat >"$folder/agent" <<END
#!/bin/sh
host=\$1; shift
exec ip netns exec "$prefix\$host" unshare --uts sh -c "hostname \$host; \$*"
END
chmod +x "$folder/agent"

# Bytes that the hosts have sent.
sent() {
    local all=0 host
    for host in $(seq "$hosts"); do
        all=$((all + $(ip netns exec "$prefix$network.$host" cat /sys/class/net/eth0/statistics/tx_bytes)))
    done
    echo "$all"
}

cat README.md ARCHITECTURE.md CHANGELOG.md models/README.md engine/*/README.md plugins/README.md >"$folder/text.txt"
cat >"$folder/run.toml" <<END
name = "hosts"
[data]
train = ["text.txt"]
validation-fraction = 0
vocabulary = 1000
[profile]
preset = "reference"
width = 16
blend = "gated"
banks = 2
[train]
batch = 256
steps = 30
folds = 2
reduction = "exact"
END
cd "$folder"
# train OUT STEPS CUT [COMMAND...]: the last line of the report, with the training run by COMMAND.
train() {
    local out=$1 steps=$2 cut=$3
    shift 3
    "$@" "$brillm" --threads 1 train run.toml --quiet --json --out "$out" --set "train.tokens=$((steps * 7680))" --set "train.cut=$cut"
}
over_hosts() {
    timeout 300 ip netns exec "$prefix$network.1" unshare --uts sh -c "hostname $network.1; exec \"\$@\"" sh mpirun.openmpi -n "$hosts" --hostfile "$folder/hosts" \
        --mca plm_rsh_agent "$folder/agent" --mca oob_tcp_if_include "$network.0/24" --mca btl tcp,self --mca btl_tcp_if_include "$network.0/24" \
        --bind-to none "$@"
}
number() { python3 -c 'import json, sys; print(json.loads(sys.stdin.read())[sys.argv[1]])' "$1"; }

failed=0
for cut in 0 8; do
    train "alone-$cut" 12 "$cut" timeout 300 >/dev/null
    before=$(sent)
    train "short-$cut" 4 "$cut" over_hosts >/dev/null
    middle=$(sent)
    reported=$(train "long-$cut" 12 "$cut" over_hosts | number exchanged_bytes_a_token)
    after=$(sent)
    cmp "alone-$cut/model.bril" "long-$cut/model.bril" || failed=1
    # What a run sends once, to begin and to save, is in both.
    python3 - "$hosts" "$cut" "$reported" $((middle - before)) $((after - middle)) <<'END' || failed=1
import sys
hosts, cut, reported, short, long = map(float, sys.argv[1:])
crossed = (long - short) / (8 * 7680)
print(f"{hosts:.0f} hosts, train.cut = {cut:.0f}: {crossed:.1f} bytes a token cross the network, {reported:.1f} reported, ratio {crossed / reported:.3f}")
sys.exit(not 0.9 <= crossed / reported <= 1.1)
END
done
[ "$failed" = 0 ] && echo "the models have the bits of one process"
exit "$failed"
