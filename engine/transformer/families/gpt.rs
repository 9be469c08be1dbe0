//! GPT-2 and families with layer norms, many of them with parallel sublayers.

use super::llama::{DECODER, LLAMA, decoder};
use crate::Result;
use crate::kernel::norm::NormKind;
use crate::transformer::Architecture;
use crate::transformer::configuration::{Configuration, refuse};
use crate::transformer::family::{Family, Fused, Keys, Role};
use crate::transformer::rotary::Rope;
use crate::transformer::settings::Settings;

/// GPT-2: learned positions, layer norms, one matrix for queries, keys and values.
pub(super) const GPT2: Family = Family {
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
pub(super) const GPT_BIGCODE: Family = Family {
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
pub(super) const GPT_NEOX: Family = Family {
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
pub(super) const GPTJ: Family = Family {
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

/// Phi: parallel layers with one norm, layer norms and biases everywhere.
pub(super) const PHI: Family = Family {
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

pub(super) const STARCODER2: Family = Family {
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
pub(super) const COHERE: Family = Family {
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

/// OPT: learned positions that begin at 2, relu.
pub(super) const OPT: Family = Family {
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
pub(super) const FALCON: Family = Family {
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
