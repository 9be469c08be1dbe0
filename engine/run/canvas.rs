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
use crate::hook::{Call, Canvas, Direction, Fill, Hooks};
use crate::kernel::random::Random;
use crate::kernel::softmax;
use crate::path::{GraphSession, History, HookRunner, Sampling, Session, check_tokens};
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
    /// −ln p of the likeliest token at that position.
    pub resistance: f64,
}

/// A text that has grown.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grown {
    /// The whole text.
    pub ids: Vec<u32>,
    /// Tokens before the prompt.
    pub before: usize,
    /// The new tokens, in the order of their choice.
    pub placed: Vec<Placed>,
}

/// Grow `prompt` by `tokens` tokens where `order/1` decides, to the right where it declines.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty prompt; those of the hooks; [`ErrorKind::Plugin`] when one names a position that
/// cannot be filled.
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
    check_tokens(sampling, mechanism.nodes())?;
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
    let mut text = GrowingText::new(prompt, tokens);
    let mut random = Random::stream(sampling.seed, 0x6c65_6674, 0);
    let mut backward = before(mechanism, prompt[0])?;
    for step in 0..tokens {
        let (_, logits) = session.look()?;
        let right_resistance = least(logits);
        let left_resistance = backward.as_deref().map_or(f64::NAN, least);
        let resistances = [left_resistance, right_resistance];
        let fill = text.ask(hooks, sampling.seed, step as u64, resistances)?;
        match text.side(fill) {
            Some(Direction::Forward) => {
                let Some(node) = session.step()? else { break };
                if Some(node) == end {
                    break;
                }
                text.push(node, Direction::Forward, right_resistance);
            }
            Some(Direction::Backward) => {
                let Some(logits) = &mut backward else {
                    return Err(refused(
                        fill,
                        step,
                        "no edge of the graph leads to the first token",
                    ));
                };
                let Some(node) = sampling.choose(logits, &History::default(), &mut random)? else {
                    return Err(refused(
                        fill,
                        step,
                        "every token that could precede the text is banned",
                    ));
                };
                text.push(node, Direction::Backward, left_resistance);
                // The signal starts anew at the new first node.
                session = begin(text.ids.make_contiguous())?;
                backward = before(mechanism, node)?;
            }
            None => {
                let what = "on the graph a text grows at its left or right end only";
                return Err(refused(fill, step, what));
            }
        }
    }
    Ok(text.finish())
}

/// The error for a position of `order/1` that cannot be filled.
fn refused(fill: Option<Fill>, step: usize, what: &str) -> Error {
    let position = fill.map_or_else(String::new, |fill| format!("position {}: ", fill.position));
    Error::new(ErrorKind::Plugin, format!("{position}{what}"))
        .at(format!("step {step}"))
        .at("order/1")
}

/// A text that grows at both ends, with the canvas that `order/1` sees.
pub(super) struct GrowingText {
    /// Empty positions on each side of the prompt at the beginning.
    tokens: usize,
    canvas: Vec<u32>,
    left: usize,
    right: usize,
    pub(super) ids: VecDeque<u32>,
    pub(super) placed: Vec<Placed>,
}

impl GrowingText {
    /// Place a prompt between `tokens` empty positions on each side.
    pub(super) fn new(prompt: &[u32], tokens: usize) -> Self {
        let mut canvas = vec![Canvas::EMPTY; tokens];
        canvas.extend(prompt);
        canvas.resize(2 * tokens + prompt.len(), Canvas::EMPTY);
        Self {
            tokens,
            canvas,
            left: tokens,
            right: tokens + prompt.len(),
            ids: prompt.iter().copied().collect(),
            placed: Vec::new(),
        }
    }

    /// Ask `order/1` for the next position; `None` without an opinion. `resistances` are those of left and right.
    pub(super) fn ask(
        &self,
        hooks: &Hooks,
        seed: u64,
        step: u64,
        resistances: [f64; 2],
    ) -> Result<Option<Fill>> {
        let Some(order) = &hooks.order else {
            return Ok(None);
        };
        let canvas = Canvas {
            tokens: &self.canvas,
            left: self.left as u64,
            right: self.right as u64,
            left_resistance: resistances[0],
            right_resistance: resistances[1],
        };
        order.next(&Call::new(seed, 0, step), &canvas)
    }

    /// The end of the text that an answer names: the right one without an answer, `None` for any other position.
    pub(super) fn side(&self, fill: Option<Fill>) -> Option<Direction> {
        let Some(fill) = fill else {
            return Some(Direction::Forward);
        };
        let at_end = match fill.direction {
            Direction::Forward => fill.position == self.right as u64,
            Direction::Backward => self.left > 0 && fill.position == self.left as u64 - 1,
        };
        at_end.then_some(fill.direction)
    }

    /// Add a token at an end.
    pub(super) fn push(&mut self, token: u32, direction: Direction, resistance: f64) {
        let backward = direction == Direction::Backward;
        let position = if backward {
            self.left -= 1;
            self.ids.push_front(token);
            self.left
        } else {
            self.right += 1;
            self.ids.push_back(token);
            self.right - 1
        };
        self.canvas[position] = token;
        self.placed.push(Placed {
            position: position as i64 - self.tokens as i64,
            token,
            backward,
            resistance,
        });
    }

    /// Return the whole text.
    pub(super) fn finish(self) -> Grown {
        Grown {
            ids: self.ids.into(),
            before: self.tokens - self.left,
            placed: self.placed,
        }
    }
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
        mechanism.energies(&flow, &mut energies)?;
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
