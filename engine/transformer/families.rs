//! All model families, each as it differs from another.

use crate::Result;
use crate::kernel::norm::NormKind;
use crate::transformer::Architecture;
use crate::transformer::configuration::{Configuration, Experts, LayerRotation, refuse};
use crate::transformer::family::{Family, Fused, Keys, Role};
use crate::transformer::rotary::Rope;
use crate::transformer::settings::Settings;

/// All families.
static FAMILIES: [&Family; 33] = [
    &LLAMA,
    &QWEN2,
    &QWEN3,
    &MIXTRAL,
    &QWEN2_MOE,
    &QWEN3_MOE,
    &PHI,
    &PHI3,
    &GEMMA,
    &GEMMA2,
    &GEMMA3,
    &OLMO,
    &OLMO2,
    &SMOLLM3,
    &STABLELM,
    &GRANITE,
    &STARCODER2,
    &COHERE,
    &GLM,
    &ERNIE4_5,
    &NEMOTRON,
    &GPT2,
    &GPT_BIGCODE,
    &GPT_NEOX,
    &GPTJ,
    &OPT,
    &FALCON,
    &BERT,
    &ROBERTA,
    &DISTILBERT,
    &ELECTRA,
    &MODERNBERT,
    &LSTM,
];

/// Iterate over all families.
pub(super) fn all() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().copied()
}

/// Llama and Mistral: rotary positions, RMS norms, gated feed-forward layers, no biases of their own.
pub(super) const LLAMA: Family = Family {
    architecture: Architecture::Llama,
    model_types: &["llama", "mistral"],
    gguf: "llama",
    class: "Llama",
    task: "ForCausalLM",
    keys: Keys {
        width: "hidden_size",
        layers: "num_hidden_layers",
        heads: Some("num_attention_heads"),
        feed_forward: Some(("intermediate_size", None)),
        context: (&["max_position_embeddings"], Some(2048)),
        norm_epsilon: ("rms_norm_eps", 1e-6),
        activation: ("hidden_act", "silu"),
        tied_default: false,
    },
    norm: NormKind::Rms,
    gain_offset: 0.0,
    norm_biased: true,
    post_norm: false,
    parallel: false,
    optional: &[],
    fused: Fused::Joined,
    neighbours: false,
    details: decoder,
    causal: true,
    biased: false,
    transposed: false,
    position_deviation: 0.0,
    prefix: "model.",
    layers: "layers",
    input: &[(Role::TokenEmbedding, "embed_tokens")],
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::Gate, "mlp.gate_proj"),
        (Role::Up, "mlp.up_proj"),
        (Role::Down, "mlp.down_proj"),
    ],
    output: &[(Role::FinalNorm, "norm"), (Role::Head, "lm_head")],
};

/// A causal family of this crate's path for all decoders.
const DECODER: Family = Family {
    architecture: Architecture::Decoder,
    ..LLAMA
};

const QWEN2: Family = Family {
    model_types: &["qwen2"],
    gguf: "qwen2",
    class: "Qwen2",
    ..LLAMA
};

/// Qwen2 with norms of the queries and keys of each head.
const QWEN3: Family = Family {
    model_types: &["qwen3"],
    gguf: "qwen3",
    class: "Qwen3",
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::QueryNorm, "self_attn.q_norm"),
        (Role::KeyNorm, "self_attn.k_norm"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::Gate, "mlp.gate_proj"),
        (Role::Up, "mlp.up_proj"),
        (Role::Down, "mlp.down_proj"),
    ],
    ..DECODER
};

/// Mistral with experts.
const MIXTRAL: Family = Family {
    model_types: &["mixtral"],
    gguf: "",
    class: "Mixtral",
    details: mixtral,
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::Router, "block_sparse_moe.gate"),
        (Role::ExpertGate, "block_sparse_moe.experts.{}.w1"),
        (Role::ExpertUp, "block_sparse_moe.experts.{}.w3"),
        (Role::ExpertDown, "block_sparse_moe.experts.{}.w2"),
    ],
    ..DECODER
};

const QWEN2_MOE: Family = Family {
    model_types: &["qwen2_moe"],
    gguf: "",
    class: "Qwen2Moe",
    details: qwen_moe,
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::QueryNorm, "self_attn.q_norm"),
        (Role::KeyNorm, "self_attn.k_norm"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::Gate, "mlp.gate_proj"),
        (Role::Up, "mlp.up_proj"),
        (Role::Down, "mlp.down_proj"),
        (Role::Router, "mlp.gate"),
        (Role::ExpertGate, "mlp.experts.{}.gate_proj"),
        (Role::ExpertUp, "mlp.experts.{}.up_proj"),
        (Role::ExpertDown, "mlp.experts.{}.down_proj"),
        (Role::SharedGate, "mlp.shared_expert.gate_proj"),
        (Role::SharedUp, "mlp.shared_expert.up_proj"),
        (Role::SharedDown, "mlp.shared_expert.down_proj"),
        (Role::SharedRouter, "mlp.shared_expert_gate"),
    ],
    optional: &[Role::QueryNorm, Role::KeyNorm],
    ..DECODER
};

const QWEN3_MOE: Family = Family {
    model_types: &["qwen3_moe"],
    class: "Qwen3Moe",
    optional: &[],
    ..QWEN2_MOE
};

/// Phi: parallel layers with one norm, layer norms and biases everywhere.
const PHI: Family = Family {
    model_types: &["phi"],
    gguf: "",
    class: "Phi",
    keys: Keys {
        norm_epsilon: ("layer_norm_eps", 1e-5),
        activation: ("hidden_act", "gelu_new"),
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    parallel: true,
    biased: true,
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::AttentionOutput, "self_attn.dense"),
        (Role::Up, "mlp.fc1"),
        (Role::Down, "mlp.fc2"),
    ],
    output: &[
        (Role::FinalNorm, "final_layernorm"),
        (Role::Head, "lm_head"),
    ],
    ..DECODER
};

/// Llama with joined projections.
const PHI3: Family = Family {
    model_types: &["phi3"],
    gguf: "",
    class: "Phi3",
    keys: Keys {
        norm_epsilon: ("rms_norm_eps", 1e-5),
        ..LLAMA.keys
    },
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::QueryKeyValue, "self_attn.qkv_proj"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::GateUp, "mlp.gate_up_proj"),
        (Role::Down, "mlp.down_proj"),
    ],
    ..DECODER
};

/// Gemma: gains are stored less 1, embeddings are scaled by √D.
const GEMMA: Family = Family {
    model_types: &["gemma"],
    gguf: "",
    class: "Gemma",
    keys: Keys {
        activation: ("hidden_act", "gelu_pytorch_tanh"),
        tied_default: true,
        ..LLAMA.keys
    },
    gain_offset: 1.0,
    details: gemma,
    ..DECODER
};

/// Gemma with norms before and after, caps, and windows on every other layer.
const GEMMA2: Family = Family {
    model_types: &["gemma2"],
    class: "Gemma2",
    keys: Keys {
        activation: ("hidden_activation", "gelu_pytorch_tanh"),
        ..GEMMA.keys
    },
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::QueryNorm, "self_attn.q_norm"),
        (Role::KeyNorm, "self_attn.k_norm"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::AttentionPostNorm, "post_attention_layernorm"),
        (Role::FeedForwardNorm, "pre_feedforward_layernorm"),
        (Role::Gate, "mlp.gate_proj"),
        (Role::Up, "mlp.up_proj"),
        (Role::Down, "mlp.down_proj"),
        (Role::FeedForwardPostNorm, "post_feedforward_layernorm"),
    ],
    optional: &[Role::QueryNorm, Role::KeyNorm],
    ..GEMMA
};

/// Gemma 2 with norms of queries and keys, and other rotations on layers with windows.
const GEMMA3: Family = Family {
    model_types: &["gemma3_text"],
    class: "Gemma3",
    optional: &[],
    ..GEMMA2
};

/// Norms without weights.
const OLMO: Family = Family {
    model_types: &["olmo"],
    gguf: "",
    class: "Olmo",
    keys: Keys {
        norm_epsilon: ("layer_norm_eps", 1e-5),
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    norm_biased: false,
    optional: &[Role::AttentionNorm, Role::FeedForwardNorm, Role::FinalNorm],
    details: olmo,
    ..DECODER
};

/// Norms after the sublayers, and of all queries and keys together.
const OLMO2: Family = Family {
    model_types: &["olmo2"],
    gguf: "",
    class: "Olmo2",
    keys: Keys {
        norm_epsilon: ("rms_norm_eps", 1e-5),
        ..LLAMA.keys
    },
    layer: &[
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::QueryNorm, "self_attn.q_norm"),
        (Role::KeyNorm, "self_attn.k_norm"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::AttentionPostNorm, "post_attention_layernorm"),
        (Role::Gate, "mlp.gate_proj"),
        (Role::Up, "mlp.up_proj"),
        (Role::Down, "mlp.down_proj"),
        (Role::FeedForwardPostNorm, "post_feedforward_layernorm"),
    ],
    ..DECODER
};

/// Llama without rotations on some layers.
const SMOLLM3: Family = Family {
    model_types: &["smollm3"],
    gguf: "",
    class: "SmolLM3",
    keys: Keys {
        tied_default: true,
        ..LLAMA.keys
    },
    details: smollm3,
    ..DECODER
};

/// Llama with layer norms and partial rotations.
const STABLELM: Family = Family {
    model_types: &["stablelm"],
    gguf: "",
    class: "StableLm",
    keys: Keys {
        norm_epsilon: ("layer_norm_eps", 1e-5),
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    optional: &[Role::FeedForwardNorm],
    details: stablelm,
    ..DECODER
};

/// Llama with factors of embeddings, residuals, attention and logits.
const GRANITE: Family = Family {
    model_types: &["granite"],
    gguf: "",
    class: "Granite",
    details: granite,
    ..DECODER
};

const STARCODER2: Family = Family {
    model_types: &["starcoder2"],
    gguf: "",
    class: "Starcoder2",
    keys: Keys {
        norm_epsilon: ("norm_epsilon", 1e-5),
        activation: ("hidden_act", "gelu_pytorch_tanh"),
        tied_default: true,
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    biased: true,
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::Up, "mlp.c_fc"),
        (Role::Down, "mlp.c_proj"),
    ],
    ..DECODER
};

/// Command-R: parallel layers with one norm, rotations of neighbours, scaled logits.
const COHERE: Family = Family {
    model_types: &["cohere"],
    gguf: "",
    class: "Cohere",
    keys: Keys {
        norm_epsilon: ("layer_norm_eps", 1e-5),
        tied_default: true,
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    norm_biased: false,
    parallel: true,
    neighbours: true,
    details: cohere,
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::Gate, "mlp.gate_proj"),
        (Role::Up, "mlp.up_proj"),
        (Role::Down, "mlp.down_proj"),
    ],
    ..DECODER
};

/// GLM-4: partial rotations of neighbours, gate and up projection joined.
const GLM: Family = Family {
    model_types: &["glm"],
    gguf: "",
    class: "Glm",
    neighbours: true,
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::GateUp, "mlp.gate_up_proj"),
        (Role::Down, "mlp.down_proj"),
    ],
    ..DECODER
};

/// Llama with rotations of neighbours.
const ERNIE4_5: Family = Family {
    model_types: &["ernie4_5"],
    gguf: "",
    class: "Ernie4_5",
    keys: Keys {
        norm_epsilon: ("rms_norm_eps", 1e-5),
        tied_default: true,
        ..LLAMA.keys
    },
    neighbours: true,
    ..DECODER
};

/// Layer norms whose gains are stored less 1, feed-forward layers of relu².
const NEMOTRON: Family = Family {
    model_types: &["nemotron"],
    gguf: "",
    class: "Nemotron",
    keys: Keys {
        norm_epsilon: ("norm_eps", 1e-5),
        activation: ("hidden_act", "relu2"),
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    gain_offset: 1.0,
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::AttentionOutput, "self_attn.o_proj"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::Up, "mlp.up_proj"),
        (Role::Down, "mlp.down_proj"),
    ],
    ..DECODER
};

/// GPT-2: learned positions, layer norms, one matrix for queries, keys and values.
const GPT2: Family = Family {
    architecture: Architecture::Gpt2,
    model_types: &["gpt2"],
    gguf: "gpt2",
    class: "GPT2",
    task: "LMHeadModel",
    keys: Keys {
        width: "n_embd",
        layers: "n_layer",
        heads: Some("n_head"),
        feed_forward: Some(("n_inner", Some(4))),
        context: (&["n_positions", "n_ctx"], None),
        norm_epsilon: ("layer_norm_epsilon", 1e-5),
        activation: ("activation_function", "gelu_new"),
        tied_default: true,
    },
    norm: NormKind::Layer,
    details: gpt2,
    biased: true,
    transposed: true,
    position_deviation: 0.01,
    prefix: "transformer.",
    layers: "h",
    input: &[
        (Role::TokenEmbedding, "wte"),
        (Role::PositionEmbedding, "wpe"),
    ],
    layer: &[
        (Role::AttentionNorm, "ln_1"),
        (Role::QueryKeyValue, "attn.c_attn"),
        (Role::AttentionOutput, "attn.c_proj"),
        (Role::FeedForwardNorm, "ln_2"),
        (Role::Up, "mlp.c_fc"),
        (Role::Down, "mlp.c_proj"),
    ],
    output: &[(Role::FinalNorm, "ln_f"), (Role::Head, "lm_head")],
    ..LLAMA
};

/// SantaCoder and StarCoder: GPT-2 with one key head.
const GPT_BIGCODE: Family = Family {
    architecture: Architecture::Decoder,
    model_types: &["gpt_bigcode"],
    gguf: "",
    class: "GPTBigCode",
    task: "ForCausalLM",
    keys: Keys {
        activation: ("activation_function", "gelu_pytorch_tanh"),
        ..GPT2.keys
    },
    transposed: false,
    ..GPT2
};

/// Pythia and GPT-NeoX: parallel layers with two norms, partial rotations.
const GPT_NEOX: Family = Family {
    model_types: &["gpt_neox"],
    gguf: "",
    class: "GPTNeoX",
    keys: Keys {
        norm_epsilon: ("layer_norm_eps", 1e-5),
        activation: ("hidden_act", "gelu"),
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    fused: Fused::ByKeyHead,
    details: gpt_neox,
    biased: true,
    prefix: "gpt_neox.",
    input: &[(Role::TokenEmbedding, "embed_in")],
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::QueryKeyValue, "attention.query_key_value"),
        (Role::AttentionOutput, "attention.dense"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::Up, "mlp.dense_h_to_4h"),
        (Role::Down, "mlp.dense_4h_to_h"),
    ],
    output: &[
        (Role::FinalNorm, "final_layer_norm"),
        (Role::Head, "embed_out"),
    ],
    ..DECODER
};

/// GPT-J: parallel layers with one norm, partial rotations of neighbours.
const GPTJ: Family = Family {
    architecture: Architecture::Decoder,
    model_types: &["gptj"],
    gguf: "",
    class: "GPTJ",
    task: "ForCausalLM",
    keys: Keys {
        tied_default: false,
        ..GPT2.keys
    },
    parallel: true,
    neighbours: true,
    details: gptj,
    transposed: false,
    input: &[(Role::TokenEmbedding, "wte")],
    layer: &[
        (Role::AttentionNorm, "ln_1"),
        (Role::Query, "attn.q_proj"),
        (Role::Key, "attn.k_proj"),
        (Role::Value, "attn.v_proj"),
        (Role::AttentionOutput, "attn.out_proj"),
        (Role::Up, "mlp.fc_in"),
        (Role::Down, "mlp.fc_out"),
    ],
    ..GPT2
};

/// OPT: learned positions that begin at 2, relu.
const OPT: Family = Family {
    model_types: &["opt"],
    gguf: "",
    class: "OPT",
    keys: Keys {
        feed_forward: Some(("ffn_dim", None)),
        norm_epsilon: ("layer_norm_eps", 1e-5),
        activation: ("activation_function", "relu"),
        tied_default: true,
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    biased: true,
    details: opt,
    position_deviation: 0.02,
    prefix: "model.decoder.",
    input: &[
        (Role::TokenEmbedding, "embed_tokens"),
        (Role::PositionEmbedding, "embed_positions"),
    ],
    layer: &[
        (Role::AttentionNorm, "self_attn_layer_norm"),
        (Role::Query, "self_attn.q_proj"),
        (Role::Key, "self_attn.k_proj"),
        (Role::Value, "self_attn.v_proj"),
        (Role::AttentionOutput, "self_attn.out_proj"),
        (Role::FeedForwardNorm, "final_layer_norm"),
        (Role::Up, "fc1"),
        (Role::Down, "fc2"),
    ],
    output: &[
        (Role::FinalNorm, "final_layer_norm"),
        (Role::Head, "lm_head"),
    ],
    ..DECODER
};

/// Falcon: parallel layers with one norm or two, few key heads.
const FALCON: Family = Family {
    model_types: &["falcon"],
    gguf: "",
    class: "Falcon",
    keys: Keys {
        feed_forward: Some(("ffn_hidden_size", Some(4))),
        norm_epsilon: ("layer_norm_epsilon", 1e-5),
        activation: ("activation", "gelu"),
        tied_default: true,
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    fused: Fused::ByKeyHead,
    optional: &[Role::FeedForwardNorm],
    details: falcon,
    prefix: "transformer.",
    layers: "h",
    input: &[(Role::TokenEmbedding, "word_embeddings")],
    layer: &[
        (Role::AttentionNorm, "input_layernorm"),
        (Role::AttentionNorm, "ln_attn"),
        (Role::QueryKeyValue, "self_attention.query_key_value"),
        (Role::AttentionOutput, "self_attention.dense"),
        (Role::FeedForwardNorm, "ln_mlp"),
        (Role::FeedForwardNorm, "post_attention_layernorm"),
        (Role::Up, "mlp.dense_h_to_4h"),
        (Role::Down, "mlp.dense_4h_to_h"),
    ],
    output: &[(Role::FinalNorm, "ln_f"), (Role::Head, "lm_head")],
    ..DECODER
};

/// BERT with its masked-language-model head: learned positions, post-norm, attention in both directions.
const BERT: Family = Family {
    architecture: Architecture::Bert,
    model_types: &["bert"],
    gguf: "bert",
    class: "Bert",
    task: "ForMaskedLM",
    keys: Keys {
        context: (LLAMA.keys.context.0, None),
        norm_epsilon: ("layer_norm_eps", 1e-12),
        activation: ("hidden_act", "gelu"),
        tied_default: true,
        ..LLAMA.keys
    },
    norm: NormKind::Layer,
    post_norm: true,
    causal: false,
    details: bert,
    biased: true,
    position_deviation: 0.02,
    prefix: "bert.",
    layers: "encoder.layer",
    input: &[
        (Role::TokenEmbedding, "embeddings.word_embeddings"),
        (Role::PositionEmbedding, "embeddings.position_embeddings"),
        (Role::TypeEmbedding, "embeddings.token_type_embeddings"),
        (Role::EmbeddingNorm, "embeddings.LayerNorm"),
    ],
    layer: &[
        (Role::Query, "attention.self.query"),
        (Role::Key, "attention.self.key"),
        (Role::Value, "attention.self.value"),
        (Role::AttentionOutput, "attention.output.dense"),
        (Role::AttentionNorm, "attention.output.LayerNorm"),
        (Role::Up, "intermediate.dense"),
        (Role::Down, "output.dense"),
        (Role::FeedForwardNorm, "output.LayerNorm"),
    ],
    output: &[
        (Role::HeadTransform, "cls.predictions.transform.dense"),
        (Role::HeadNorm, "cls.predictions.transform.LayerNorm"),
        (Role::HeadBias, "cls.predictions"),
        (Role::Head, "cls.predictions.decoder"),
    ],
    ..LLAMA
};

/// BERT whose positions begin after the padding token's id.
const ROBERTA: Family = Family {
    architecture: Architecture::Encoder,
    model_types: &["roberta", "camembert", "xlm-roberta"],
    gguf: "",
    class: "Roberta",
    details: roberta,
    prefix: "roberta.",
    output: &[
        (Role::HeadTransform, "lm_head.dense"),
        (Role::HeadNorm, "lm_head.layer_norm"),
        (Role::HeadBias, "lm_head"),
        (Role::Head, "lm_head.decoder"),
    ],
    ..BERT
};

/// BERT without token types.
const DISTILBERT: Family = Family {
    architecture: Architecture::Encoder,
    model_types: &["distilbert"],
    gguf: "",
    class: "DistilBert",
    keys: Keys {
        width: "dim",
        layers: "n_layers",
        heads: Some("n_heads"),
        feed_forward: Some(("hidden_dim", None)),
        activation: ("activation", "gelu"),
        ..BERT.keys
    },
    details: plain,
    prefix: "distilbert.",
    layers: "transformer.layer",
    input: &[
        (Role::TokenEmbedding, "embeddings.word_embeddings"),
        (Role::PositionEmbedding, "embeddings.position_embeddings"),
        (Role::EmbeddingNorm, "embeddings.LayerNorm"),
    ],
    layer: &[
        (Role::Query, "attention.q_lin"),
        (Role::Key, "attention.k_lin"),
        (Role::Value, "attention.v_lin"),
        (Role::AttentionOutput, "attention.out_lin"),
        (Role::AttentionNorm, "sa_layer_norm"),
        (Role::Up, "ffn.lin1"),
        (Role::Down, "ffn.lin2"),
        (Role::FeedForwardNorm, "output_layer_norm"),
    ],
    output: &[
        (Role::HeadTransform, "vocab_transform"),
        (Role::HeadNorm, "vocab_layer_norm"),
        (Role::HeadBias, "vocab_projector"),
        (Role::Head, "vocab_projector"),
    ],
    ..BERT
};

/// The generator of ELECTRA: BERT with narrower embeddings.
const ELECTRA: Family = Family {
    architecture: Architecture::Encoder,
    model_types: &["electra"],
    gguf: "",
    class: "Electra",
    details: electra,
    prefix: "electra.",
    input: &[
        (Role::TokenEmbedding, "embeddings.word_embeddings"),
        (Role::PositionEmbedding, "embeddings.position_embeddings"),
        (Role::TypeEmbedding, "embeddings.token_type_embeddings"),
        (Role::EmbeddingNorm, "embeddings.LayerNorm"),
        (Role::EmbeddingProjection, "embeddings_project"),
    ],
    output: &[
        (Role::HeadTransform, "generator_predictions.dense"),
        (Role::HeadNorm, "generator_predictions.LayerNorm"),
        (Role::HeadBias, "generator_lm_head"),
        (Role::Head, "generator_lm_head"),
    ],
    ..BERT
};

/// ModernBERT: rotary positions, norms before the sublayers, gated feed-forward layers, windows on most layers.
const MODERNBERT: Family = Family {
    architecture: Architecture::Encoder,
    model_types: &["modernbert"],
    gguf: "",
    class: "ModernBert",
    keys: Keys {
        norm_epsilon: ("norm_eps", 1e-5),
        activation: ("hidden_activation", "gelu"),
        ..BERT.keys
    },
    norm_biased: false,
    post_norm: false,
    optional: &[Role::AttentionNorm],
    details: modernbert,
    biased: false,
    prefix: "model.",
    layers: "layers",
    input: &[
        (Role::TokenEmbedding, "embeddings.tok_embeddings"),
        (Role::EmbeddingNorm, "embeddings.norm"),
    ],
    layer: &[
        (Role::AttentionNorm, "attn_norm"),
        (Role::QueryKeyValue, "attn.Wqkv"),
        (Role::AttentionOutput, "attn.Wo"),
        (Role::FeedForwardNorm, "mlp_norm"),
        (Role::GateUp, "mlp.Wi"),
        (Role::Down, "mlp.Wo"),
    ],
    output: &[
        (Role::FinalNorm, "final_norm"),
        (Role::HeadTransform, "head.dense"),
        (Role::HeadNorm, "head.norm"),
        (Role::HeadBias, "decoder"),
        (Role::Head, "decoder"),
    ],
    ..BERT
};

/// LSTM layers: sizes only, since [`Recurrent`](super::Recurrent) is another network with weights of its own.
const LSTM: Family = Family {
    architecture: Architecture::Lstm,
    model_types: &["lstm"],
    gguf: "",
    class: "Lstm",
    keys: Keys {
        heads: None,
        feed_forward: None,
        context: (LLAMA.keys.context.0, Some(0)),
        tied_default: true,
        ..LLAMA.keys
    },
    details: plain,
    prefix: "",
    input: &[],
    layer: &[],
    output: &[],
    ..LLAMA
};

fn plain(_: &mut Configuration, _: &Settings<'_>) -> Result<()> {
    Ok(())
}

/// Read heads, windows and rotations.
fn decoder(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    // The width of a head need not be width / heads.
    match settings.count("head_dim")? {
        Some(width) if width > 0 => shape.head_width = width,
        _ => shape.check_heads()?,
    }
    if let Some(heads) = settings.count("num_key_value_heads")? {
        // Grouped-query attention: fewer key heads than query heads.
        shape.kv_heads = heads.max(1);
    }
    shape.read_windows(settings)?;
    shape.rope = Some(shape.rope(settings, "full_attention")?);
    Ok(())
}

fn experts(
    shape: &mut Configuration,
    settings: &Settings<'_>,
    count: &[&str],
    used: &str,
) -> Result<Experts> {
    let name = count.iter().find(|name| settings.present(name).is_some());
    let count = settings.required(name.unwrap_or(&count[0]))?;
    let used = settings.required(used)?;
    if used > count {
        return Err(refuse(format!("{used} of {count} experts cannot be used")));
    }
    Ok(Experts {
        count,
        used,
        width: shape.feed_forward,
        ..Experts::default()
    })
}

fn mixtral(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    decoder(shape, settings)?;
    let experts = experts(
        shape,
        settings,
        &["num_local_experts", "num_experts"],
        "num_experts_per_tok",
    )?;
    shape.experts = Some(Experts {
        normalised: true,
        ..experts
    });
    Ok(())
}

fn qwen_moe(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    decoder(shape, settings)?;
    let mut experts = experts(
        shape,
        settings,
        &["num_experts", "num_local_experts"],
        "num_experts_per_tok",
    )?;
    experts.width = settings.required("moe_intermediate_size")?;
    experts.normalised = settings.flag("norm_topk_prob", false)?;
    experts.shared = settings
        .count("shared_expert_intermediate_size")?
        .unwrap_or(0);
    shape.experts = Some(experts);
    let step = settings.count("decoder_sparse_step")?.unwrap_or(1).max(1);
    let dense = settings.ids("mlp_only_layers")?;
    let is_dense = |layer: usize| dense.contains(&(layer as u32)) || (layer + 1) % step != 0;
    shape.dense_layers = (0..shape.layers).filter(|layer| is_dense(*layer)).collect();
    Ok(())
}

fn gemma(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    decoder(shape, settings)?;
    // Old files name the exact GELU, and mean its approximation.
    shape.activation = crate::transformer::Activation::GeluTanh;
    shape.embedding_scale = (shape.width as f32).sqrt();
    if shape.family == &GEMMA {
        return Ok(());
    }
    let scalar = settings.number("query_pre_attn_scalar")?.unwrap_or(256.0);
    shape.attention_scale = Some((1.0 / scalar.sqrt()) as f32);
    let cap = |key: &str| Ok::<f32, crate::Error>(settings.number(key)?.unwrap_or(0.0) as f32);
    shape.attention_cap = cap("attn_logit_softcapping")?;
    shape.logit_cap = cap("final_logit_softcapping")?;
    let gemma3 = shape.family == &GEMMA3;
    if settings.present("layer_types").is_none() {
        let window = settings.count("sliding_window")?.unwrap_or(4096);
        let pattern = if gemma3 {
            settings.count("sliding_window_pattern")?.unwrap_or(6)
        } else {
            2
        };
        let full = |layer: usize| (layer + 1) % pattern.max(1) == 0;
        shape.windows = (0..shape.layers)
            .map(|layer| if full(layer) { 0 } else { window })
            .collect();
    }
    if gemma3 {
        shape.local_rope = Some(match settings.number("rope_local_base_freq")? {
            Some(theta) => Rope::new(theta, shape.head_width, shape.context),
            None => shape.rope(settings, "sliding_attention")?,
        });
        let local = |window: &usize| {
            if *window > 0 {
                LayerRotation::Local
            } else {
                LayerRotation::Global
            }
        };
        shape.rotations = shape.windows.iter().map(local).collect();
    }
    Ok(())
}

fn olmo(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    if settings.present("clip_qkv").is_some() {
        return Err(refuse("clip_qkv: clipped projections are not supported"));
    }
    decoder(shape, settings)
}

fn smollm3(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    decoder(shape, settings)?;
    let listed = settings.read("no_rope_layers", "a list of 0 and 1", |list| {
        list.as_array()?
            .iter()
            .map(serde_json::Value::as_u64)
            .collect::<Option<Vec<_>>>()
    })?;
    let interval = settings
        .count("no_rope_layer_interval")?
        .unwrap_or(4)
        .max(1);
    let rotated = |layer: usize| match &listed {
        Some(list) if !list.is_empty() => list.get(layer).is_none_or(|flag| *flag != 0),
        _ => (layer + 1) % interval != 0,
    };
    let of = |layer| {
        if rotated(layer) {
            LayerRotation::Global
        } else {
            LayerRotation::None
        }
    };
    shape.rotations = (0..shape.layers).map(of).collect();
    Ok(())
}

fn stablelm(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    decoder(shape, settings)?;
    shape.parallel = settings.flag("use_parallel_residual", false)?;
    if settings.flag("qk_layernorm", false)? {
        return Err(refuse(
            "qk_layernorm: norms of each head of its own are not supported",
        ));
    }
    Ok(())
}

fn granite(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    decoder(shape, settings)?;
    let factor = |key: &str| Ok::<f32, crate::Error>(settings.number(key)?.unwrap_or(1.0) as f32);
    shape.embedding_scale = factor("embedding_multiplier")?;
    shape.residual_scale = factor("residual_multiplier")?;
    shape.attention_scale = Some(factor("attention_multiplier")?);
    shape.logit_scale = 1.0 / factor("logits_scaling")?;
    Ok(())
}

fn cohere(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    decoder(shape, settings)?;
    if settings.flag("use_qk_norm", false)? {
        return Err(refuse(
            "use_qk_norm: norms of each head of its own are not supported",
        ));
    }
    shape.logit_scale = settings.number("logit_scale")?.unwrap_or(0.0625) as f32;
    Ok(())
}

fn gpt2(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    shape.check_heads()?;
    shape.scaled = settings.flag("scale_attn_weights", true)?;
    shape.scaled_by_layer = settings.flag("scale_attn_by_inverse_layer_idx", false)?;
    if shape.family == &GPT_BIGCODE && settings.flag("multi_query", true)? {
        shape.kv_heads = 1;
    }
    Ok(())
}

fn gpt_neox(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    shape.check_heads()?;
    shape.parallel = settings.flag("use_parallel_residual", true)?;
    shape.rope = Some(shape.rope(settings, "full_attention")?);
    Ok(())
}

fn gptj(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    shape.check_heads()?;
    let width = settings.count("rotary_dim")?.unwrap_or(shape.head_width);
    if width == 0 || width % 2 != 0 || width > shape.head_width {
        return Err(refuse(format!(
            "rotary_dim: {width} of {} components are not pairs",
            shape.head_width
        )));
    }
    shape.rope = Some(Rope::new(10_000.0, width, shape.context).with_neighbours(true));
    Ok(())
}

fn opt(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    shape.check_heads()?;
    let projected = settings
        .count("word_embed_proj_dim")?
        .is_some_and(|width| width != shape.width);
    if projected || !settings.flag("do_layer_norm_before", true)? {
        return Err(refuse(
            "projected embeddings and norms after the sublayers (OPT-350M) are not supported",
        ));
    }
    shape.position_offset = 2;
    Ok(())
}

fn falcon(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    shape.check_heads()?;
    if settings.flag("alibi", false)? {
        return Err(refuse(
            "alibi: positions by biases of attention are not supported",
        ));
    }
    let new = settings.flag("new_decoder_architecture", false)?;
    shape.kv_heads = match (new, settings.flag("multi_query", true)?) {
        (true, _) => settings
            .count("num_kv_heads")?
            .unwrap_or(shape.heads)
            .max(1),
        (false, true) => 1,
        (false, false) => shape.heads,
    };
    shape.parallel = new || settings.flag("parallel_attn", true)?;
    shape.rope = Some(shape.rope(settings, "full_attention")?);
    Ok(())
}

fn bert(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    shape.check_heads()?;
    if let Some(kind) = settings.present("position_embedding_type")
        && kind != "absolute"
    {
        return Err(refuse(format!(
            "position_embedding_type: {kind} is not supported"
        )));
    }
    if settings.flag("is_decoder", false)? {
        return Err(refuse("is_decoder: BERT is supported as an encoder only"));
    }
    shape.types = settings.count("type_vocab_size")?.unwrap_or(2);
    Ok(())
}

fn roberta(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    bert(shape, settings)?;
    // Positions are counted from the padding token's id, and 1 more.
    shape.position_offset = settings.count("pad_token_id")?.unwrap_or(1) + 1;
    shape.context = shape.context.saturating_sub(shape.position_offset).max(1);
    Ok(())
}

fn electra(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    bert(shape, settings)?;
    shape.embedding_width = settings
        .count("embedding_size")?
        .unwrap_or(shape.width)
        .max(1);
    Ok(())
}

fn modernbert(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
    shape.check_heads()?;
    // Half of the window is on either side.
    let window = settings.count("local_attention")?.unwrap_or(128) / 2 + 1;
    let every = settings
        .count("global_attn_every_n_layers")?
        .unwrap_or(3)
        .max(1);
    shape.windows = (0..shape.layers)
        .map(|layer| if layer % every == 0 { 0 } else { window })
        .collect();
    let theta = |key: &str, of: &str| match settings.number(key)? {
        Some(theta) => Ok(Rope::new(theta, shape.head_width, shape.context)),
        None => shape.rope(settings, of),
    };
    let global = theta("global_rope_theta", "full_attention")?;
    let local = theta("local_rope_theta", "sliding_attention")?;
    (shape.rope, shape.local_rope) = (Some(global), Some(local));
    let local = |window: &usize| {
        if *window > 0 {
            LayerRotation::Local
        } else {
            LayerRotation::Global
        }
    };
    shape.rotations = shape.windows.iter().map(local).collect();
    Ok(())
}
