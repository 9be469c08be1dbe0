//! The comparison path: transformers and recurrent nets over the same tokens, data and commands.
//!
//! In: a folder in Hugging Face's layout, or a recipe of `kind` gpt, bert or lstm. Out: scores of the next
//! token, as the graph gives them. Written over candle's tensors, so that whatever a technique wants to see or
//! change is there as plain Rust: a [`Plan`] for the cache, a [`EvictionPolicy`] that decides what layers keep, a
//! [`Probe`] at named taps. Letters besides the engine's: `H` heads, `L` layers, `N` rows, `R` scored rows.
#![forbid(unsafe_code)]

mod attend;
mod batch;
mod beam;
mod cache;
mod cache_slots;
mod classifier;
mod configuration;
mod continuation;
mod evaluation;
mod eviction;
mod fine_tuning;
pub mod folder;
mod forward;
mod growth;
mod hook_adapter;
mod initial;
mod masked_training;
mod masking;
mod model;
mod network;
mod network_model;
mod operation;
mod packed;
mod plan;
mod preference_model;
mod probe;
mod recurrent;
mod residual_stream;
mod rotary;
mod session;
mod speed;
mod trial;
mod variables;
mod weights;

pub use batch::{Dropout, TokenBatch, cross_entropy};
pub use beam::beam;
pub use cache::{Cache, CacheReport};
pub use classifier::{Classifier, Pooling, Prediction};
pub use configuration::{Activation, Architecture, Configuration};
pub use continuation::{ContinuationReport, evaluate_continuations};
pub use evaluation::{evaluate_documents, evaluate_stream, evaluate_windows, mask_token};
pub use eviction::{
    CacheView, Eviction, EvictionPolicy, HeadGroup, HeadReduction, Phase, Statistics,
};
pub use fine_tuning::{FineTuner, FineTuning, evaluate_classifier};
pub use forward::{ForwardOutput, LogitsFor, Taps};
pub use growth::{GrownModel, Growth};
pub use hook_adapter::HookAdapter;
pub use masking::{FilledMask, MASK_FRACTION, MaskedBatch, Masking, fill_masks, mask_tokens};
pub use model::{Body, Transformer};
pub use network::Network;
pub use network_model::NetworkModel;
pub use plan::{Axis, Codec, LayerPlan, Plan, Storage};
pub use preference_model::PreferenceModel;
pub use probe::{Probe, Row, Tap};
pub use recurrent::{Recurrent, RecurrentState};
pub use residual_stream::residual_stream;
pub use rotary::{Rope, RopeScaling, RotaryTable};
pub use session::{SessionOptions, TransformerSession};
pub use speed::{BatchSpeed, batch_speed, training_pass};
pub use trial::CalibrationText;
pub use weights::Weights;
