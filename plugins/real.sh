#!/bin/sh
# The tables of plugins/RESULTS.md on a real model: techniques on the cache of SmolLM2-135M-Instruct (models/fetch) at equal bytes, beside recency, random and
# reversed order.
#
#   sh plugins/real.sh MODEL.gguf TEXT LAMBADA.jsonl [calibration|continuation|speed|measuring|lambada|retrieval …]
#
# TEXT is measured and holds the numbers of the retrieval task; LAMBADA.jsonl has one object {"text"} a line. BRILLM names the program, THREADS the threads (2),
# CONTINUATIONS the prompts, new tokens and texts of each table (512,64,12 2048,64,4), LAMBADA the texts (200), WORDS and COUNT the lengths of the retrieval task
# and the texts of each, TECHNIQUES the rows of both tasks, SEEN=1 asks before the eviction. The first part makes maps for kv-share that the others use.
set -eu
model=$1
text=$2
lambada=$3
shift 3
[ $# -gt 0 ] || set -- calibration continuation speed measuring lambada retrieval
here=$(dirname "$0")
brillm=${BRILLM:-brillm}
runs=runs/real
mkdir -p "$runs"
common="--threads ${THREADS:-2} --calibration $runs/calibration.txt"

rows() { python3 "$here/rows.py" "$@"; }

share() { echo "kv-share:target=8,order=$1,map=$runs/$1.json"; }

# techniques KEPT GROWN: the plugins at KEPT tokens; GROWN is what a cache of KEPT has become at the end.
techniques() {
    window=$(($1 < 128 ? $1 / 4 : 32))
    for order in similar dissimilar random; do share $order; done
    for order in attention recency random reversed; do echo "kv-pyramid:retain=0.6,minimum=8,order=$order"; done
    for order in attention random reversed; do echo "kv-heavy:heavy=$(($1 / 2)),recent=$(($1 / 2)),order=$order"; done
    echo "recent:sinks=4,window=$(($1 - 4))"
    for order in attention recency random reversed; do echo "kv-snap:budget=$1,window=$window,order=$order"; done
    [ "$1" = "$2" ] || echo "recent:sinks=4,window=$(($2 - 4))"
    for bits in 8 4 2; do echo "kv-quant:bits=$bits"; done
}

# fifths KEPT: the paper's budget of H2O, a fifth, where KEPT is half.
fifths() { echo "kv-heavy:heavy=$(($1 / 5)),recent=$(($1 / 5)) recent:sinks=4,window=$(($1 / 5 * 2 - 4))"; }

# claimed KEPT: the techniques without their controls.
claimed() {
    share similar
    echo "kv-pyramid:retain=0.6,minimum=8"
    echo "kv-heavy:heavy=$(($1 / 2)),recent=$(($1 / 2))"
    echo "recent:sinks=4,window=$(($1 - 4))"
    echo "kv-snap:budget=$1"
    for bits in 8 4 2; do echo "kv-quant:bits=$bits"; done
}

# calibrated ORDER: the time of a search for a map, which the other parts use.
calibrated() {
    rm -f "$runs/$1.json"
    rows calibration "$1" "$brillm" generate "Once" --tokens 1 --model "$model" --json --plugin "$(share "$1")" $common
}

# compared PROMPT,NEW,COUNT TECHNIQUES [OPTION…]: techniques beside the whole cache on the same continuations.
compared() {
    texts=$1 techniques=$2
    shift 2
    set -- --continuation "$texts" --text "$text" --json $common "$@" "$model"
    for technique in $techniques; do set -- "$@" "$model+$technique"; done
    rows continuation "$brillm" compare "$@"
}

# measured: the time of a step that measures attention and evicts nothing, and of other techniques, beside a whole cache's, three times in turn.
measured() {
    set -- --continuation 512,48,1 --text "$text" --batch 1 --json $common
    for technique in "" kv-heavy:heavy=4096,recent=4096 kv-heavy:heavy=128,recent=128 kv-heavy:heavy=128,recent=128,slack=16 \
        recent:sinks=4,window=252 kv-snap:budget=256 kv-quant:bits=4; do
        set -- "$@" "$model${technique:++$technique}"
    done
    for round in 1 2 3; do rows continuation "$brillm" compare "$@"; done
}

# remembered PROMPT,NEW,COUNT TECHNIQUES: the largest memory of a process with each technique.
remembered() {
    for technique in "" $2; do
        rows memory "$technique" "$brillm" eval "$runs/calibration.txt" --model "$model" --continuation "$1" --json \
            ${technique:+--plugin "$technique"} $common
    done
}

# answered FILE TECHNIQUES: perplexity and greedy accuracy of answers, by label.
answered() {
    for technique in "" $2; do
        rows answers "$technique" "$brillm" probe "$1" --model "$model" --quiet --json ${technique:+--plugin "$technique"} $common
    done
}

tail -c 60000 "$text" >"$runs/calibration.txt"
for part in "$@"; do
    case $part in
    calibration) for order in similar dissimilar random; do calibrated $order; done ;;
    continuation)
        for texts in ${CONTINUATIONS:-512,64,12 2048,64,4}; do
            kept=$((${texts%%,*} / 2)) new=${texts#*,}
            compared "$texts" "$(techniques $kept $((kept + ${new%%,*} - 1))) $(fifths $kept)"
        done
        ;;
    speed)
        compared 2048,64,1 "$(claimed 1024)" --batch 1
        remembered 2048,64,1 "$(claimed 1024)"
        ;;
    measuring) measured ;;
    lambada)
        python3 "$here/answers.py" ${SEEN:+--seen} lambada "$lambada" "${LAMBADA:-200}" >"$runs/lambada.jsonl"
        answered "$runs/lambada.jsonl" "${TECHNIQUES:-$(techniques 32 32)}"
        ;;
    retrieval)
        python3 "$here/answers.py" ${SEEN:+--seen} retrieval "$text" "${COUNT:-8}" ${WORDS:+"$WORDS"} >"$runs/retrieval.jsonl"
        answered "$runs/retrieval.jsonl" "${TECHNIQUES:-$(techniques 256 256)}"
        ;;
    *)
        echo "unknown part $part: calibration, continuation, speed, measuring, lambada or retrieval" >&2
        exit 2
        ;;
    esac
done
