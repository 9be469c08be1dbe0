"""Write a tiny random Llama as a GGUF file, and the logits of transformers on the same weights.

    pip install gguf==0.19.0 transformers==5.24.0 torch
    python tests/golden/gguf/make_model.py

Tensors have several formats: transformers gets what the Python package gguf reads from the blocks.
"""

import json

import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from gguf.quants import dequantize, quantize
from transformers import LlamaConfig, LlamaForCausalLM

TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [chr(c) for c in range(33, 127)] + ["Ġ", "Ċ"]
MERGES = ["t h", "th e", "Ġ the", "i n", "a n", "Ġ a", "o n", "e r", "Ġ i", "in g"]
TOKENS += [merge.replace(" ", "") for merge in MERGES]

torch.manual_seed(16)
config = LlamaConfig(
    vocab_size=len(TOKENS), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, rope_theta=20000.0,
    tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
)
model = LlamaForCausalLM(config).eval()

writer = GGUFWriter("tiny.gguf", "llama")
writer.add_name("tiny")
writer.add_block_count(2)
writer.add_context_length(128)
writer.add_embedding_length(64)
writer.add_feed_forward_length(96)
writer.add_head_count(4)
writer.add_head_count_kv(2)
writer.add_rope_freq_base(20000.0)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("smollm")
writer.add_token_list(TOKENS)
writer.add_token_types([3, 3, 3] + [1] * (len(TOKENS) - 3))
writer.add_token_merges(MERGES)
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_add_bos_token(False)
writer.add_chat_template(
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
FORMATS = {
    "token_embd": "Q8_0", "output": "F16", "attn_q": "Q4_1", "attn_k": "Q8_0", "attn_v": "Q5_0", "attn_output": "Q4_0",
    "ffn_gate": "Q5_1", "ffn_up": "BF16", "ffn_down": "F32",
}
state = model.state_dict()
for name, tensor in state.items():
    module = name.removesuffix(".weight")
    values = tensor.numpy() * (1.0 if tensor.ndim == 1 else 8.0)
    heads = {"attn_q": 4, "attn_k": 2}
    if module.startswith("model.layers."):
        layer, module = module.removeprefix("model.layers.").split(".", 1)
        short = NAMES[module]
        to = f"blk.{layer}.{short}.weight"
    else:
        short = NAMES[module]
        to = f"{short}.weight"
    if short in heads:
        # As convert_hf_to_gguf.py: the components of a pair become neighbours.
        n = heads[short]
        values = values.reshape(n, 2, values.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(values.shape)
    if tensor.ndim == 1:
        writer.add_tensor(to, values + np.linspace(-0.2, 0.2, 64, dtype=np.float32))
        state[name] = torch.tensor(values + np.linspace(-0.2, 0.2, 64, dtype=np.float32))
        continue
    kind = Type[FORMATS[short]]
    blocks = quantize(np.ascontiguousarray(values), kind)
    read = dequantize(blocks, kind).astype(np.float32).reshape(values.shape)
    writer.add_tensor(to, blocks, raw_dtype=kind)
    if short in heads:
        n = heads[short]
        read = read.reshape(n, values.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(values.shape)
    state[name] = torch.tensor(read)
model.load_state_dict(state)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

ids = [5, 40, 99, 100, 17, 64, 103, 1, 2, 33, 90, 12, 12, 77, 101, 98]
with torch.no_grad():
    logits = model(torch.tensor([ids])).logits[0]
    greedy = model.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
row = lambda index: [round(float(v), 6) for v in logits[index]]
json.dump({"ids": ids, "first": row(0), "last": row(-1), "greedy": greedy[0].tolist()}, open("tiny.json", "w"))
