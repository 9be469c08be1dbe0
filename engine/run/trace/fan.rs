//! The fan in context: what may follow a path, and the contributions to any edge of it.

use serde::Serialize;

use super::document::TraceRequest;
use super::explanation::Explanation;
use super::step::{Attention, Candidate, Contributions, Rest};
use super::{Intervention, Tracing};
use crate::Result;
use crate::hook::Hooks;
use crate::path::Sampling;
use crate::run::Engine;

/// Which fan to look at.
#[derive(Clone, Debug, Default)]
pub struct FanRequest {
    /// The path up to and with the node whose fan it is.
    pub tokens: Vec<u32>,
    /// Where new tokens begin, for interventions that name a step; all of `tokens` where it is `None`.
    pub prompt_tokens: Option<usize>,
    /// Candidates listed.
    pub candidates: usize,
    /// Nodes whose edges are split, and which are listed in any case.
    pub targets: Vec<u32>,
    /// The token that each target is compared with.
    pub against: Option<u32>,
    /// Whether the contributions say their vectors too.
    pub vectors: bool,
    /// What is changed on the way.
    pub interventions: Vec<Intervention>,
    /// Seed of the hooks' random numbers.
    pub seed: u64,
}

/// A fan in context.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FanLook {
    /// The node it leaves.
    pub source: u32,
    /// −Σ p ln p over all V, in nats.
    pub entropy: f64,
    /// ln p of the likeliest less that of the next, in nats.
    pub margin: Option<f64>,
    /// The likeliest and the targets, by rank.
    pub candidates: Vec<Candidate>,
    /// Those that are not listed.
    pub rest: Rest,
    /// One for each target; empty on a transformer.
    pub contributions: Vec<Contributions>,
    /// Why `against` and not a target, one for each; empty without it and on a transformer.
    pub explanations: Vec<Explanation>,
    /// What each layer attends to; null on a graph.
    pub attention: Option<Vec<Attention>>,
}

impl FanLook {
    /// Look at a fan.
    ///
    /// # Errors
    /// As [`Tracing::begin`].
    ///
    /// # Complexity
    /// That of walking the path, O(V log V), and for each target that of [`crate::signal::Attribution::split`].
    pub fn of(engine: &Engine, request: &FanRequest, hooks: &Hooks) -> Result<Self> {
        let first = request.prompt_tokens.unwrap_or(request.tokens.len());
        let step = request.tokens.len().saturating_sub(first);
        let tracing = TraceRequest::new(request.tokens.clone())
            .sampling(Sampling::greedy().seed(request.seed))
            .candidates(request.candidates)
            .intervene(request.interventions.iter().copied());
        Tracing::begin(engine, tracing, hooks)?.look(step, request)
    }
}
