//! Families with experts.

use super::llama::{DECODER, decoder};
use crate::Result;
use crate::transformer::configuration::{Configuration, Experts, refuse};
use crate::transformer::family::{Family, Role};
use crate::transformer::settings::Settings;

/// Mistral with experts.
pub(super) const MIXTRAL: Family = Family {
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

pub(super) const QWEN2_MOE: Family = Family {
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

pub(super) const QWEN3_MOE: Family = Family {
    model_types: &["qwen3_moe"],
    class: "Qwen3Moe",
    optional: &[],
    ..QWEN2_MOE
};

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
