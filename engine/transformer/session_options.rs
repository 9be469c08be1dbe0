//! Options of a transformer's session.

use std::sync::Arc;

use crate::hook::{self, Probe};
use crate::path::SamplerChain;
use crate::transformer::Plan;
use crate::transformer::eviction::EvictionPolicy;

/// What plugins decide or observe in a session.
#[derive(Default)]
pub struct SessionOptions {
    /// What each layer keeps and how; everything, unquantised, without one.
    pub plan: Option<Plan>,
    /// Decides which tokens stay in the cache.
    pub eviction: Option<EvictionPolicy>,
    /// Observes activations.
    pub probe: Option<Box<dyn Probe>>,
    /// Whether to record the attention of the last row of each layer.
    pub attention: bool,
    /// Whether the passes of this session are its own, and not shared with others.
    pub alone: bool,
    /// Rewrites logits and chooses tokens (`sample/1`).
    pub sampler_chain: Option<SamplerChain>,
    /// Decides where the text grows (`order/1`).
    pub order: Option<Arc<dyn hook::Order>>,
}
