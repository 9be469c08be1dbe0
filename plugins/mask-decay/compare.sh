#!/bin/sh
# Compares masking techniques at equal steps, with three seeds: the loss of hidden tokens at 15 %, and fine-tuning on
# CoLA, SST-2, MRPC and RTE.
#
#   sh plugins/mask-decay/compare.sh FOLDER [OPTION…]
#
# FOLDER holds en/enwiki and glue (see models/recipes/masking.toml); further options go to `brillm compare`, such as
# --json or --quiet. BRILLM names the program, SEEDS other seeds; runs go to runs/masking.
set -eu
data=$1
shift
here=$(dirname "$0")
brillm=${BRILLM:-brillm}
glue=$data/glue
runs=runs/masking
mkdir -p "$runs"
# RTE comes as XML: its first three challenges, of which the third's test texts are held out.
python3 - "$glue/rte.zip" "$runs" <<'END'
import json, sys, zipfile
import xml.etree.ElementTree as tree
archive, folder = zipfile.ZipFile(sys.argv[1]), sys.argv[2]
for name, files in {"train": ["rte1_dev", "rte1_test", "rte2_dev", "rte2_test", "rte3_dev"], "test": ["rte3_test"]}.items():
    with open(f"{folder}/rte.{name}.jsonl", "w") as out:
        for file in files:
            for pair in tree.fromstring(archive.read(f"rte/{file}.xml")).iter("pair"):
                truth = pair.get("entailment") or pair.get("value")
                record = {"premise": pair.findtext("t"), "hypothesis": pair.findtext("h"),
                          "label": "entailment" if truth in ("YES", "TRUE") else "not entailment"}
                out.write(json.dumps(record) + "\n")
END
recipe=$here/../../models/recipes/masking.toml
exec "$brillm" compare \
    "$recipe+mask-decay:schedule=fixed,ratio=0.15" \
    "$recipe+mask-decay:schedule=fixed,ratio=0.3" \
    "$recipe+mask-decay:schedule=linear" \
    "$recipe+mask-decay:schedule=cosine" \
    "$recipe+mask-decay:schedule=reversed" \
    "$recipe+mask-weighted:tags=10" \
    --data "$data" --out "$runs" --windows 64,400 --kneser-ney 0 --epochs 2 --seconds 0.1 --seeds "${SEEDS:-1,2,3}" \
    --task "cola=$glue/cola/in_domain_train.tsv:$glue/cola/in_domain_dev.tsv:2,4" \
    --task "sst2=$glue/sst2/sst2_train.tsv:$glue/sst2/sst2_dev.tsv:2,1" \
    --task "mrpc=$glue/mrpc/msr_paraphrase_train.txt:$glue/mrpc/msr_paraphrase_test.txt:Quality,#1 String,#2 String" \
    --task "rte=$runs/rte.train.jsonl:$runs/rte.test.jsonl:label,premise,hypothesis" \
    "$@"
