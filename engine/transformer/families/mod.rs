//! All model families, each as it differs from another.

mod bert;
mod gemma;
mod gpt;
mod llama;
mod mixture;

use self::llama::LLAMA;
use crate::Result;
use crate::transformer::Architecture;
use crate::transformer::configuration::Configuration;
use crate::transformer::family::{Family, Keys};
use crate::transformer::settings::Settings;

/// All families.
static FAMILIES: [&Family; 33] = [
    &llama::LLAMA,
    &llama::QWEN2,
    &llama::QWEN3,
    &mixture::MIXTRAL,
    &mixture::QWEN2_MOE,
    &mixture::QWEN3_MOE,
    &gpt::PHI,
    &llama::PHI3,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &llama::OLMO,
    &llama::OLMO2,
    &llama::SMOLLM3,
    &llama::STABLELM,
    &llama::GRANITE,
    &gpt::STARCODER2,
    &gpt::COHERE,
    &llama::GLM,
    &llama::ERNIE4_5,
    &llama::NEMOTRON,
    &gpt::GPT2,
    &gpt::GPT_BIGCODE,
    &gpt::GPT_NEOX,
    &gpt::GPTJ,
    &gpt::OPT,
    &gpt::FALCON,
    &bert::BERT,
    &bert::ROBERTA,
    &bert::DISTILBERT,
    &bert::ELECTRA,
    &bert::MODERNBERT,
    &LSTM,
];

/// Iterate over all families.
pub(super) fn all() -> impl Iterator<Item = &'static Family> {
    FAMILIES.iter().copied()
}

/// LSTM layers: sizes only, since [`Recurrent`](crate::transformer::Recurrent) is another network with weights of its own.
pub(super) const LSTM: Family = Family {
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

pub(super) fn plain(_: &mut Configuration, _: &Settings<'_>) -> Result<()> {
    Ok(())
}
