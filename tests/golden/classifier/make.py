"""Write a random tiny BertForSequenceClassification and the probabilities that transformers gives.

    pip install transformers==5.24.0 torch tokenizers
    python tests/golden/classifier/make.py
"""

import json
import pathlib

import tokenizers
import torch
import transformers

HERE = pathlib.Path(__file__).parent
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] the a film is was not good bad very and but slow fast kind of ##ly ##er . , ? it he she they".split()
TEXTS = [["The film is good.", None], ["It was slow, but kind of fast?", None], ["a very bad film", "not good"]]

torch.manual_seed(1)
pieces = tokenizers.BertWordPieceTokenizer({word: i for i, word in enumerate(WORDS)}, lowercase=True)
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=pieces._tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]"
)
config = transformers.BertConfig(
    vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_position_embeddings=32,
    initializer_range=0.4, id2label={0: "bad", 1: "good", 2: "neither"}, label2id={"bad": 0, "good": 1, "neither": 2},
)
model = transformers.BertForSequenceClassification(config).eval()
model.save_pretrained(HERE)
tokenizer.save_pretrained(HERE)
rows = []
with torch.no_grad():
    for text, pair in TEXTS:
        inputs = tokenizer(text, pair, return_tensors="pt", return_token_type_ids=True)
        logits = model(**inputs).logits[0]
        rows.append({"text": text, "pair": pair, "probabilities": [round(float(p), 7) for p in logits.softmax(-1)]})
(HERE / "golden.json").write_text(json.dumps(rows, indent=1) + "\n")
