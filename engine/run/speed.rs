//! How fast an opened model of either path makes text, and how many bytes that takes.

use std::time::Instant;

use crate::Result;
use crate::model::Model;
use crate::path::{GraphSession, Sampling, Session};
use crate::run::Engine;
use crate::signal::{Start, blocks};

/// The speed of one flow.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct FlowSpeed {
    /// New tokens a second, after a prompt, one flow alone.
    pub tokens_per_second: f64,
    /// Bytes of weights that a token reads (on the average over nodes, where it depends on the node).
    pub bytes_per_token: usize,
    /// Bytes of state at the end: a transformer's cache, a graph's signal and blend.
    pub state_bytes: usize,
}

impl Engine {
    /// Learned numbers.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Graph(model) => model.mechanism().weights().parameters(),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.body().parameters(),
        }
    }

    /// Bytes of weights that a token reads, on the average over nodes where it depends on the node.
    pub fn bytes_per_token(&self) -> usize {
        match self {
            Self::Graph(model) => graph_bytes(model),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.body().bytes_per_token(),
        }
    }

    /// Makes text greedily from `prompt` for about `seconds`, beginning anew where a context is full.
    ///
    /// # Errors
    /// As the sessions of both paths.
    pub fn flow_speed(&self, prompt: &[u32], seconds: f64) -> Result<FlowSpeed> {
        let (rate, state_bytes) = match self {
            Self::Graph(model) => {
                let start = Start::Profile;
                let begin = || {
                    GraphSession::begin(
                        model.mechanism().clone(),
                        prompt,
                        &start,
                        Sampling::greedy(),
                    )
                };
                let profile = model.mechanism().profile();
                let state = (profile.banks + 2) * profile.width * 4;
                (rate(begin, usize::MAX, seconds)?.0, state)
            }
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => {
                let begin = || {
                    crate::transformer::TransformerSession::begin(model, prompt, Sampling::greedy())
                };
                let context = match model.configuration().context {
                    0 => usize::MAX,
                    context => context.saturating_sub(prompt.len()).max(1),
                };
                let (rate, session) = rate(begin, context, seconds)?;
                (rate, session.report().live_bytes)
            }
        };
        Ok(FlowSpeed {
            tokens_per_second: rate,
            bytes_per_token: self.bytes_per_token(),
            state_bytes,
        })
    }
}

/// New tokens a second over flows of at most `length` new tokens; prompts are not counted.
fn rate<W: Session>(
    begin: impl Fn() -> Result<W>,
    length: usize,
    seconds: f64,
) -> Result<(f64, W)> {
    let (mut tokens, mut spent) = (0usize, 0.0);
    loop {
        let mut walk = begin()?;
        let begun = Instant::now();
        let mut done = 0;
        while done < length
            && (tokens + done < 4 || spent + begun.elapsed().as_secs_f64() < seconds)
        {
            if walk.step()?.is_none() {
                break;
            }
            done += 1;
        }
        tokens += done;
        spent += begun.elapsed().as_secs_f64();
        if done == 0 || (tokens >= 4 && spent >= seconds) {
            return Ok((tokens as f64 / spent.max(1e-9), walk));
        }
    }
}

/// What one hop of a graph reads: tables over all candidates whole, the fan's edges, one row of the rest.
fn graph_bytes(model: &Model) -> usize {
    let (mechanism, profile) = (model.mechanism(), &model.metadata().profile);
    let (graph, weights) = (mechanism.graph(), mechanism.weights());
    let (nodes, own) = (graph.nodes(), graph.own_edges());
    blocks(profile, nodes, own)
        .iter()
        .filter(|block| block.rows * block.columns > 0)
        .map(|block| {
            let row = match block.narrows {
                true => {
                    let table = weights.table(block.name);
                    let scales = table.scales().map_or(0, |_| 4);
                    block.columns * table.element().size() + scales
                }
                false => block.columns * 4,
            };
            let fan = own / nodes.max(1);
            let rows = match block.name {
                "node.target" | "node.bias" => block.rows,
                "edge.arena" => 1 + fan,
                "edge.residual" => fan,
                name if name.starts_with("node.") || name == "blend.gate" => 1,
                _ => block.rows,
            };
            rows * row
        })
        .sum()
}
