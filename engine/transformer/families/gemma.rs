//! Gemma: gains less 1, scaled embeddings; norms on both sides, caps and windows from the second version on.

use super::llama::{DECODER, LLAMA, decoder};
use crate::Result;
use crate::transformer::configuration::{Configuration, LayerRotation};
use crate::transformer::family::{Family, Keys, Role};
use crate::transformer::rotary::Rope;
use crate::transformer::settings::Settings;

/// Gemma: gains are stored less 1, embeddings are scaled by √D.
pub(super) const GEMMA: Family = Family {
    model_types: &["gemma"],
    gguf: "gemma",
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
pub(super) const GEMMA2: Family = Family {
    model_types: &["gemma2"],
    gguf: "gemma2",
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
pub(super) const GEMMA3: Family = Family {
    model_types: &["gemma3_text"],
    gguf: "gemma3",
    class: "Gemma3",
    optional: &[],
    ..GEMMA2
};

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
