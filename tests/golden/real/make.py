"""Write the logits, or hidden states, of transformers for the models that `models/fetch FOLDER all` gets.

    pip install transformers==5.24.0 torch accelerate gguf sentencepiece protobuf
    python tests/golden/real/make.py FOLDER

Each file has a text, its ids and, of three positions, the numbers of some columns: the 16 largest and 48 that are spread over all. Weights of GGUF files are converted
to f32. The files are facts about the models, which have licenses of their own (see models/fetch).
"""

import json
import pathlib
import sys

import torch
import transformers

HERE = pathlib.Path(__file__).parent
TEXT = (
    "The lighthouse stood at the end of the long harbour wall. Every evening, at 6:30, the keeper climbed its 112 steps, and "
    "nobody in the town - not even the fishermen - knew why he counted them aloud.\n\nWhen asked, he said: \"So that I know I am still here.\""
)
GGUF = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3": "gemma-3-270m-q4_k_m.gguf"}


def write(name, ids, rows):
    length, columns = rows.shape
    spread = [i * (columns - 1) // 47 for i in range(48)]
    golden = {"text": TEXT, "ids": ids, "rows": {}}
    for row in (1, length // 2, length - 1):
        wanted = sorted({*spread, *torch.topk(rows[row], 16).indices.tolist()})
        golden["rows"][str(row)] = {str(column): round(float(rows[row][column]), 6) for column in wanted}
    (HERE / f"{name}.json").write_text(json.dumps(golden) + "\n")
    print(name, length, "tokens")


folder = pathlib.Path(sys.argv[1])
torch.set_grad_enabled(False)
for name, file in GGUF.items():
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32, attn_implementation="eager").eval()
    ids = tokenizer(TEXT).input_ids
    write(name, ids, model(torch.tensor([ids])).logits[0])
tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "all-MiniLM-L6-v2")
model = transformers.AutoModel.from_pretrained(folder / "all-MiniLM-L6-v2", dtype=torch.float32, attn_implementation="eager").eval()
ids = tokenizer(TEXT).input_ids
write("minilm", ids, model(torch.tensor([ids])).last_hidden_state[0])
