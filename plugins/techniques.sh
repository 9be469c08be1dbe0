#!/bin/sh
# The tables of plugins/RESULTS.md: every technique on the cache beside the whole cache, recency, random and reversed order
# at equal bytes, on stories260K and on stories-8x1024.
#
#   sh plugins/techniques.sh FOLDER [OPTION…]
#
# FOLDER holds en/tinystories/tinystories_1000.json and the sources of models/recipes/stories-8x1024.toml; further options
# go to `brillm compare`, such as --batch 1,8,32 or --json. BRILLM names the program. Some ten minutes on one core.
set -eu
data=$1
shift
here=$(dirname "$0")
models=$here/../models
brillm=${BRILLM:-brillm}
runs=runs/techniques
mkdir -p "$runs"
# stories260K has seen other stories; it is measured on the first of these and calibrated on the last.
python3 - "$data/en/tinystories/tinystories_1000.json" "$runs" <<'END'
import json, sys
stories = [story if isinstance(story, str) else story.get("text") or story["story"] for story in json.load(open(sys.argv[1]))]
for name, part in {"measured": stories[:200], "calibration": stories[-100:]}.items():
    open(f"{sys.argv[2]}/{name}.txt", "w").write("\n".join(part))
END
# What stories-8x1024 never saw: the blocks that its recipe holds out.
if [ ! -e "$runs/tokens/validation.u32" ]; then
    "$brillm" train "$models/recipes/stories-8x1024.toml" --data "$data" --set train.tokens=1024 --out "$runs/tokens" --quiet
    ln -s validation.tokens "$runs/tokens/validation.u32"
fi

# compared MODEL PROMPT,NEW,COUNT RETAIN HALF QUARTER GROWN OPTION…: HALF and QUARTER are tokens kept by techniques that keep as many
# for ever, GROWN is what a cache of HALF has become when NEW tokens were added to it.
compared() {
    model=$1 continuation=$2 retain=$3 half=$4 quarter=$5 grown=$6
    shift 6
    set -- "$model" \
        "$model+kv-share:target=2" "$model+kv-share:target=2,order=similar" "$model+kv-share:target=2,order=random" \
        "$model+kv-pyramid:$retain" "$model+kv-pyramid:$retain,order=recency" \
        "$model+kv-pyramid:$retain,order=random" "$model+kv-pyramid:$retain,order=reversed" \
        "$model+kv-heavy:heavy=$((half / 2)),recent=$((half / 2))" \
        "$model+recent:sinks=4,window=$((half - 4))" \
        "$model+kv-heavy:heavy=$((half / 2)),recent=$((half / 2)),order=random" \
        "$model+kv-heavy:heavy=$((half / 2)),recent=$((half / 2)),order=reversed" \
        "$model+kv-heavy:heavy=$((quarter / 2)),recent=$((quarter / 2))" \
        "$model+recent:sinks=4,window=$((quarter - 4))" \
        "$model+kv-snap:budget=$half" "$model+kv-snap:budget=$half,order=recency" \
        "$model+kv-snap:budget=$half,order=random" "$model+kv-snap:budget=$half,order=reversed" \
        "$model+recent:sinks=4,window=$((grown - 4))" \
        "$model+kv-quant:bits=8" "$model+kv-quant:bits=4" "$model+kv-quant:bits=2" \
        --continuation "$continuation" --threads 1 "$@"
    "$brillm" compare "$@"
}
compared "$models/stories260K" 256,64,40 retain=0.8,minimum=8 128 64 191 \
    --text "$runs/measured.txt" --calibration "$runs/calibration.txt" "$@"
compared "$models/stories-8x1024" 768,128,40 retain=0.6,minimum=8 384 192 511 \
    --ids "$runs/tokens/validation.u32" --calibration "$data/en/gutenberg/wizard_of_oz.txt" "$@"
