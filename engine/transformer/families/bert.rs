//! BERT and other models of text in both directions.

use super::llama::LLAMA;
use super::plain;
use crate::Result;
use crate::kernel::norm::NormKind;
use crate::transformer::Architecture;
use crate::transformer::configuration::{Configuration, LayerRotation, refuse};
use crate::transformer::family::{Family, Keys, Role};
use crate::transformer::rotary::Rope;
use crate::transformer::settings::Settings;

/// BERT with its masked-language-model head: learned positions, post-norm, attention in both directions.
pub(super) const BERT: Family = Family {
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
pub(super) const ROBERTA: Family = Family {
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
pub(super) const DISTILBERT: Family = Family {
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
pub(super) const ELECTRA: Family = Family {
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
pub(super) const MODERNBERT: Family = Family {
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
