//! Llama and its close relatives.

use crate::Result;
use crate::kernel::norm::NormKind;
use crate::transformer::Architecture;
use crate::transformer::configuration::{Configuration, LayerRotation, refuse};
use crate::transformer::family::{Family, Fused, Keys, Role};
use crate::transformer::settings::Settings;

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
pub(super) const DECODER: Family = Family {
    architecture: Architecture::Decoder,
    ..LLAMA
};

pub(super) const QWEN2: Family = Family {
    model_types: &["qwen2"],
    gguf: "qwen2",
    class: "Qwen2",
    ..LLAMA
};

/// Qwen2 with norms of the queries and keys of each head.
pub(super) const QWEN3: Family = Family {
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

/// Llama with joined projections.
pub(super) const PHI3: Family = Family {
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

/// Norms without weights.
pub(super) const OLMO: Family = Family {
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
pub(super) const OLMO2: Family = Family {
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
pub(super) const SMOLLM3: Family = Family {
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
pub(super) const STABLELM: Family = Family {
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
pub(super) const GRANITE: Family = Family {
    model_types: &["granite"],
    gguf: "",
    class: "Granite",
    details: granite,
    ..DECODER
};

/// GLM-4: partial rotations of neighbours, gate and up projection joined.
pub(super) const GLM: Family = Family {
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
pub(super) const ERNIE4_5: Family = Family {
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
pub(super) const NEMOTRON: Family = Family {
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

/// Read heads, windows and rotations.
pub(super) fn decoder(shape: &mut Configuration, settings: &Settings<'_>) -> Result<()> {
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
