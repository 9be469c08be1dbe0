//! Transformers and recurrent networks over the same tokens, data and commands as the graph: models to compare it with.
//!
//! In: a folder in Hugging Face's layout, or a recipe of `kind` gpt, bert or lstm. Out: logits of the next token.
//! Computed with candle's tensors and the kernels of this crate.
//!
//! **From a folder to a network.** `folder` reads `config.json` and tokenizer, `weight_files` the
//! weights (`quantization` names what is not read). `family` describes each model
//! family as data: keys of the settings, names of the weights, norms and biases. `configuration` reads sizes with it
//! (`settings` and `rope_config` parse the values), `network` loads the weights by role, `weights` holds linear layers
//! and norms. `model` is the opened whole; its `chat_template` writes conversations as prompts.
//!
//! **Files.** `gguf` parses GGUF files, and `gguf_model` reads them as if they were folders. `conversion` writes models as
//! files (`gguf_writer`, `gguf_metadata`) and as folders (`folder_writer`).
//!
//! **A step of generation.** `session` calls [`Network::advance`] (`advance`), which runs the forward pass (`forward`)
//! over the new rows: queries and keys are rotated (`rotary`), stored in the KV cache (`cache`, `cache_slots`,
//! `cache_page`; quantised by `packed` where the `plan` asks for it) and attended to (`cache_attention`). After each layer an
//! [`EvictionPolicy`] (`eviction`, `hook_adapter`) decides which tokens the cache keeps, and a [`Probe`](crate::hook::Probe)
//! observes the activations (`observer`). Sessions of a batched model share passes
//! (`batch_decoder`), and may continue what finished ones computed (`prefix_store`).
//!
//! **A step of training.** `network_model` (or `preference_model`) takes a batch, masks tokens for a BERT (`masking`,
//! `masked_training`) and calls [`Network::forward`] (`batch`), which runs the same forward pass over whole sequences,
//! with dropout and differentiable operations (`operation`, `attention`). `variables` receives the gradients and
//! updates the weights, which `initial` created or `growth` enlarged. `fine_tuning` trains a `classifier`. `saliency`
//! uses the gradients to explain a choice.
//!
//! Letters besides the engine's: `H` query heads, `Hkv` key heads, `d` components of a head, `L` layers, `N` rows, `R`
//! rows with logits, `B` sequences of `T` positions.
#![forbid(unsafe_code)]

mod advance;
mod attention;
mod attention_sums;
mod batch;
mod batch_decoder;
mod beam;
mod cache;
mod cache_attention;
mod cache_page;
mod cache_slots;
#[cfg(test)]
mod cache_slots_tests;
mod chat_template;
mod classifier;
mod configuration;
mod conversion;
mod embedder;
mod evaluation;
mod eviction;
mod families;
mod family;
mod fine_tuning;
pub mod folder;
mod folder_writer;
mod forward;
mod gguf;
mod gguf_metadata;
pub(crate) mod gguf_model;
mod gguf_writer;
mod growth;
mod head;
mod hook_adapter;
mod initial;
mod masked_training;
mod masking;
mod matrix;
mod model;
mod network;
mod network_model;
mod observer;
mod operation;
mod packed;
mod plan;
mod pooling;
mod preference_model;
mod prefix_store;
mod quantization;
mod recurrent;
mod residual_stream;
mod rope_config;
mod rotary;
mod saliency;
mod session;
mod session_options;
mod settings;
mod speed;
mod text_end;
mod trial;
mod variables;
mod weight_files;
mod weights;

pub use advance::{ForwardOutput, LogitsFor, Row, Taps};
pub use batch::{Dropout, TokenBatch, cross_entropy};
pub use beam::beam;
pub use cache::Cache;
pub use chat_template::ChatTemplate;
pub use classifier::{Classifier, Prediction};
pub use configuration::{Activation, Architecture, Configuration, Experts, LayerRotation};
pub use conversion::{Conversion, ConversionProgress, Converted};
pub use embedder::Embedder;
pub use evaluation::{evaluate_documents, evaluate_stream, evaluate_windows, mask_token};
pub use eviction::EvictionPolicy;
pub use fine_tuning::{FineTuner, FineTuning, evaluate_classifier};
pub use growth::{GrownModel, Growth};
pub use hook_adapter::HookAdapter;
pub use masking::{FilledMask, MASK_FRACTION, MaskedBatch, Masking, fill_masks, mask_tokens};
pub use model::{Body, Transformer};
pub use network::Network;
pub use network_model::NetworkModel;
pub use plan::{Codec, LayerPlan, Plan, Storage};
pub use pooling::Pooling;
pub use preference_model::PreferenceModel;
pub use recurrent::{Recurrent, RecurrentState};
pub use residual_stream::residual_stream;
pub use rotary::{Rope, RopeScaling, RotaryTable};
pub use saliency::{Saliency, saliency};
pub use session::TransformerSession;
pub use session_options::SessionOptions;
pub use speed::{BatchSpeed, batch_speed, training_pass};
pub use trial::CalibrationText;
pub use weights::Weights;
