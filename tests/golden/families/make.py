"""Write the logits of transformers on random tiny models of many families.

    pip install transformers==5.24.0 torch safetensors
    python tests/golden/families/make.py [NAME ...]

Each file has the config.json, the shapes of the weights by name, token ids and the logits of some positions. The weights
are not stored: `weight` computes them from their names, and the test does the same.
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
IDS = [5, 40, 17, 3, 22, 31, 8, 8, 46, 29, 1, 2, 33, 12, 27, 41, 19, 6, 38, 10]
SIZES = dict(
    vocab_size=48, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)


def weight(name, shape):
    """Numbers from the name alone: splitmix64 of an FNV-1a hash and the index."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + (np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    u = (x >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5
    # Gains near 1, small biases, matrices that keep the size of their input.
    if name.endswith("bias") or name.endswith("beta"):
        u = 0.2 * u
    elif len(shape) == 1:
        u = 1.0 + 0.5 * u
    else:
        u = u * 3.0 / np.sqrt(shape[-1])
    return u.reshape(shape).astype(np.float32)


def sizes(**more):
    return {**SIZES, **more}


CAUSAL = {
    "llama": sizes(model_type="llama"),
    "mistral": sizes(model_type="mistral", sliding_window=8),
    "qwen2": sizes(model_type="qwen2"),
    "qwen3": sizes(model_type="qwen3", head_dim=16),
    "phi3": sizes(model_type="phi3"),
    "phi": sizes(model_type="phi", partial_rotary_factor=0.5, num_key_value_heads=4),
    "gemma": sizes(model_type="gemma", head_dim=16),
    "gemma2": sizes(model_type="gemma2", head_dim=16, sliding_window=8, attn_logit_softcapping=5.0,
                    final_logit_softcapping=4.0, query_pre_attn_scalar=20),
    "gemma3": sizes(model_type="gemma3_text", head_dim=16, sliding_window=8, query_pre_attn_scalar=20, num_hidden_layers=3,
                    layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "olmo": sizes(model_type="olmo"),
    "olmo2": sizes(model_type="olmo2"),
    "smollm3": sizes(model_type="smollm3", no_rope_layer_interval=2),
    "stablelm": sizes(model_type="stablelm", use_qkv_bias=True, partial_rotary_factor=0.5),
    "granite": sizes(model_type="granite", embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.3,
                     logits_scaling=2.0),
    "starcoder2": sizes(model_type="starcoder2", sliding_window=8),
    "gpt-neox": sizes(model_type="gpt_neox", rotary_pct=0.5),
    "gpt-neox-sequential": sizes(model_type="gpt_neox", use_parallel_residual=False),
    "llama-gelu": sizes(model_type="llama", hidden_act="gelu"),
    "llama-dynamic": sizes(model_type="llama", max_position_embeddings=12,
                           rope_scaling={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}),
    "qwen2-windows": sizes(model_type="qwen2", use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "opt": sizes(model_type="opt", ffn_dim=40, word_embed_proj_dim=32),
    "falcon": sizes(model_type="falcon", new_decoder_architecture=False, multi_query=True, parallel_attn=True, bias=False,
                    alibi=False),
    "falcon-new": sizes(model_type="falcon", new_decoder_architecture=True, num_kv_heads=2, parallel_attn=True, bias=False,
                        alibi=False),
    "gptj": dict(model_type="gptj", vocab_size=48, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4,
                 bos_token_id=1, eos_token_id=2),
    "mixtral": sizes(model_type="mixtral", num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "qwen2-moe": sizes(model_type="qwen2_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24,
                       shared_expert_intermediate_size=40, decoder_sparse_step=1),
    "qwen3-moe": sizes(model_type="qwen3_moe", head_dim=16, num_experts=4, num_experts_per_tok=2,
                       moe_intermediate_size=24, decoder_sparse_step=1, norm_topk_prob=True),
    "cohere": sizes(model_type="cohere", logit_scale=0.5),
    "glm": sizes(model_type="glm", head_dim=8, partial_rotary_factor=0.5),
    "ernie4-5": sizes(model_type="ernie4_5", head_dim=8),
    "nemotron": sizes(model_type="nemotron", head_dim=8),
    "gpt-bigcode": dict(model_type="gpt_bigcode", vocab_size=48, n_embd=32, n_layer=2, n_head=4, n_positions=64,
                        bos_token_id=1, eos_token_id=2),
}
ENCODERS = {
    "roberta": sizes(model_type="roberta", type_vocab_size=1, pad_token_id=1),
    "xlm-roberta": sizes(model_type="xlm-roberta", type_vocab_size=1, pad_token_id=1),
    "camembert": sizes(model_type="camembert", type_vocab_size=1, pad_token_id=1),
    "distilbert": dict(model_type="distilbert", vocab_size=48, dim=32, hidden_dim=40, n_layers=2, n_heads=4,
                       max_position_embeddings=64),
    "electra": sizes(model_type="electra", embedding_size=24),
    "modernbert": sizes(model_type="modernbert", num_hidden_layers=3, local_attention=8, global_attn_every_n_layers=2,
                        pad_token_id=0, cls_token_id=3, sep_token_id=4),
}


def make(name, settings, kind):
    settings = dict(settings)
    config = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    config._attn_implementation = "eager"
    model = kind.from_config(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        # The names are those of the files that users have.
        model.save_pretrained(folder)
        path = pathlib.Path(folder) / "model.safetensors"
        shapes = {key: list(tensor.shape) for key, tensor in load_file(path).items()}
        tensors = {key: torch.tensor(weight(key, shape)) for key, shape in shapes.items()}
        save_file(tensors, path, metadata={"format": "pt"})
        saved = json.loads((pathlib.Path(folder) / "config.json").read_text())
        model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    # RoBERTa gives padding no position: the text has none.
    tokens = [7 if name in ("roberta", "xlm-roberta", "camembert") and token == 1 else token for token in IDS]
    ids = torch.tensor([tokens])
    with torch.no_grad():
        logits = model(ids, attention_mask=torch.ones_like(ids)).logits[0]
    rows = {str(row): [round(float(v), 6) for v in logits[row]] for row in (0, 9, len(IDS) - 1)}
    saved.pop("transformers_version", None)
    golden = {"config": saved, "shapes": shapes, "ids": tokens, "logits": rows}
    (HERE / f"{name}.json").write_text(json.dumps(golden) + "\n")
    print(name, "largest logit", float(logits.abs().max()), len(shapes), "tensors")


wanted = sys.argv[1:]
for table, kind in [(CAUSAL, transformers.AutoModelForCausalLM), (ENCODERS, transformers.AutoModelForMaskedLM)]:
    for name, settings in table.items():
        if not wanted or name in wanted:
            try:
                make(name, settings, kind)
            except Exception as error:  # Report all families at once.
                print(name, "FAILED", type(error).__name__, str(error)[:300])
