//! Text that grows both ways: `order/1` on the graph.
//!
//! To the right a node follows as always. To the left there are no weights: the node before the first is drawn
//! by Bayes' rule, p(u | v) ∝ p(v | u) · p(u), over the nodes that text has walked to v, with the graph's own
//! p(v | u) for a signal that starts at u, and p(u) from its counts. After that the signal starts anew, at the
//! new first node, so what follows to the right has seen all of it.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;

use crate::graph::NodeId;
use crate::hook::{Call, Canvas, Direction, Hooks};
use crate::kernel::random::Random;
use crate::kernel::softmax;
use crate::path::{GraphSession, HookRunner, Sampling, Session};
use crate::signal::{Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// Nodes before the first that are tried: those walked to it most often.
const SOURCES: usize = 64;

/// A token that was placed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Placed {
    /// Tokens from the prompt's first one: −1 is the one before it.
    pub position: i64,
    /// The token.
    pub token: u32,
    /// Whether it was predicted from what follows it.
    pub backward: bool,
    /// −ln p of the best token that could have been placed there.
    pub resistance: f64,
}

/// A text that has grown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grown {
    /// The whole text.
    pub ids: Vec<u32>,
    /// Tokens before the prompt.
    pub before: usize,
    /// What was placed, in order.
    pub placed: Vec<Placed>,
}

/// Grow `prompt` by `tokens` tokens where the hooks' `order/1` says, to the right where it has no opinion.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty prompt; whatever a hook meets, and [`ErrorKind::Plugin`] when it names a
/// place where nothing can grow.
///
/// # Complexity
/// A step to the right costs a hop; one to the left costs `min(64, fan in)` fans, and walking the text again.
pub fn grow(
    mechanism: &Arc<Mechanism>,
    prompt: &[u32],
    start: &Start,
    sampling: &Sampling,
    tokens: usize,
    end: Option<u32>,
    hooks: &Hooks,
) -> Result<Grown> {
    let begin = |ids: &[u32]| {
        GraphSession::begin_with_hooks(
            mechanism.clone(),
            ids,
            start,
            sampling.clone(),
            HookRunner::new(hooks, 0),
        )
    };
    let mut session = begin(prompt)?;
    let mut ids: VecDeque<u32> = prompt.iter().copied().collect();
    let mut canvas = vec![Canvas::EMPTY; tokens];
    canvas.extend(prompt);
    canvas.resize(2 * tokens + prompt.len(), Canvas::EMPTY);
    let (mut left, mut right) = (tokens, tokens + prompt.len());
    let mut placed = Vec::new();
    let mut random = Random::stream(sampling.seed, 0x6c65_6674, 0);
    let mut backward = before(mechanism, ids[0])?;
    for step in 0..tokens {
        let (_, logits) = session.look()?;
        let right_resistance = least(logits);
        let left_resistance = backward.as_deref().map_or(f64::NAN, least);
        let place = match &hooks.order {
            None => None,
            Some(order) => order.next(
                &Call::new(sampling.seed, 0, step as u64),
                &Canvas {
                    tokens: &canvas,
                    left: left as u64,
                    right: right as u64,
                    left_resistance,
                    right_resistance,
                },
            )?,
        };
        let (position, direction) = place.map_or((right as u64, Direction::Forward), |place| {
            (place.position, place.direction)
        });
        let fault = |what: &str| {
            Error::new(ErrorKind::Plugin, format!("position {position}: {what}"))
                .at(format!("step {step}"))
                .at("order/1")
        };
        match direction {
            Direction::Forward if position == right as u64 => {
                let Some(node) = session.step()? else { break };
                if Some(node) == end {
                    break;
                }
                canvas[right] = node;
                right += 1;
                ids.push_back(node);
                placed.push(Placed {
                    position: right as i64 - 1 - tokens as i64,
                    token: node,
                    backward: false,
                    resistance: right_resistance,
                });
            }
            Direction::Backward if left > 0 && position == left as u64 - 1 => {
                let Some(logits) = &mut backward else {
                    return Err(fault("text has walked no edge to the first token"));
                };
                let Some(node) = sampling.choose(logits, &[], &mut random) else {
                    return Err(fault("every token that could come before is banned"));
                };
                left -= 1;
                canvas[left] = node;
                ids.push_front(node);
                placed.push(Placed {
                    position: left as i64 - tokens as i64,
                    token: node,
                    backward: true,
                    resistance: left_resistance,
                });
                session = begin(ids.make_contiguous())?;
                backward = before(mechanism, node)?;
            }
            _ => {
                return Err(fault(
                    "on the graph a text grows at its left or right end only",
                ));
            }
        }
    }
    Ok(Grown {
        ids: ids.into(),
        before: tokens - left,
        placed,
    })
}

/// ln p(v | u) + ln p(u) for the nodes walked to `node`, −∞ for all others; `None` where there are none. `[V]`
fn before(mechanism: &Mechanism, node: u32) -> Result<Option<Vec<f32>>> {
    let graph = mechanism.graph();
    let mut sources: Vec<(u32, u32)> = graph
        .sources_of(NodeId(node))
        .filter(|source| source.0 != node || mechanism.profile().self_loops)
        .filter_map(|source| {
            let fan = graph.fan(source);
            let place = fan.position(node)?;
            Some((fan.counts[place], source.0))
        })
        .collect();
    sources.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    sources.truncate(SOURCES);
    if sources.is_empty() {
        return Ok(None);
    }
    let nodes = mechanism.nodes();
    let mut all = vec![f32::NEG_INFINITY; nodes];
    let (mut energies, mut logits) = (vec![0.0; nodes], vec![0.0; nodes]);
    for (_, source) in sources {
        let flow = mechanism.begin(source, &Start::Profile)?;
        mechanism.energies(&flow, &mut energies);
        mechanism.logits(&flow, &energies, &mut logits);
        let own = f64::from(logits[node as usize]);
        let forward = own - softmax::softmax(&mut logits);
        let walked: u64 = graph
            .fan(NodeId(source))
            .counts
            .iter()
            .map(|&count| u64::from(count))
            .sum();
        all[source as usize] = (forward + (walked.max(1) as f64).ln()) as f32;
    }
    Ok(Some(all))
}

/// −ln p of the likeliest.
pub(super) fn least(logits: &[f32]) -> f64 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut spent = logits.to_vec();
    softmax::softmax(&mut spent) - f64::from(top)
}
