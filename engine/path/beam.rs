//! Beam search: the paths of least resistance, with their totals.

use std::sync::Arc;

use rayon::prelude::*;

use crate::hook::{Call, Hooks};
use crate::kernel::select::top_k;
use crate::kernel::softmax;
use crate::path::HookRunner;
use crate::path::hook_runner::resist;
use crate::path::sampler::check_logits;
#[cfg(feature = "gpu")]
use crate::path::sampler::{check_tokens, not_a_number};
use crate::signal::{Flow, Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// The limits of a beam search.
#[derive(Clone, Debug, Default)]
pub struct BeamOptions {
    /// Paths kept after each token.
    pub width: usize,
    /// New tokens at most.
    pub tokens: usize,
    /// Tokens that end a path; the path includes them.
    pub stop: Vec<u32>,
    /// Tokens that no path contains.
    pub banned: Vec<u32>,
}

impl BeamOptions {
    /// A beam of `width` paths of at most `tokens` new tokens.
    pub fn new(width: usize, tokens: usize) -> Self {
        Self {
            width,
            tokens,
            ..Self::default()
        }
    }
}

/// One path that beam search found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeamPath {
    /// The new nodes, without the prompt.
    pub nodes: Vec<u32>,
    /// Σ −ln p over the new hops.
    pub resistance: f64,
    /// Whether it ended at a stop node.
    pub stopped: bool,
}

/// Find the paths of least resistance of a graph that a search of this width reaches.
///
/// Of `hooks`, `signal/1` and `edge/1` are called; paths are then extended one after the other.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty prompt or a width of zero; else as [`Mechanism::hop`].
///
/// # Complexity
/// O(tokens · width · V); with `width` at least V^tokens the search is exhaustive.
///
/// ```
/// use brillm::path::{BeamOptions, beam};
/// use brillm::{hook::Hooks, signal::Start};
/// let model = brillm::Model::open("models/english.bril".as_ref(), Default::default())?;
/// let prompt = model.tokenizer().encode("Once upon a")?;
/// let options = BeamOptions::new(2, 3);
/// let paths = beam(model.mechanism(), &prompt, &Start::Profile, &options, &Hooks::default())?;
/// assert!(paths[0].resistance <= paths[1].resistance);
/// # Ok::<(), brillm::Error>(())
/// ```
pub fn beam(
    mechanism: &Arc<Mechanism>,
    prompt: &[u32],
    start: &Start,
    options: &BeamOptions,
    hooks: &Hooks,
) -> Result<Vec<BeamPath>> {
    // `signal/1` may replace the vector that the signal starts from.
    let vector = match HookRunner::new(hooks, 0) {
        Some(hook_runner) if !prompt.is_empty() => hook_runner.start(mechanism, prompt, start)?,
        _ => None,
    };
    let first = flow_of(mechanism, prompt, vector.as_ref().unwrap_or(start))?;
    let fan = |(flow, path): &mut (Flow, BeamPath)| {
        nearest(&logits(mechanism, flow, hooks)?, path, options)
    };
    search(
        options,
        first,
        &mut |open| {
            // Hooks keep state: they are called in an order that replays.
            if hooks.edge.is_empty() {
                open.par_iter_mut().map(fan).collect()
            } else {
                open.iter_mut().map(fan).collect()
            }
        },
        &mut |flow, node| hop(mechanism, flow, node),
    )
}

/// Find paths as [`beam()`] does, with the fans of all paths computed together on a device.
///
/// # Errors
/// As [`beam()`], and those of the device.
#[cfg(feature = "gpu")]
pub fn beam_on(
    device: &Arc<crate::signal::DeviceMechanism>,
    prompt: &[u32],
    start: &Start,
    options: &BeamOptions,
) -> Result<Vec<BeamPath>> {
    use crate::kernel::random::Random;
    use crate::path::{Decoder, Sampling};
    let mechanism = device.mechanism();
    let sampling = Sampling::greedy().banned(options.banned.iter().copied());
    check_tokens(&sampling, mechanism.nodes())?;
    let sequences = options.width.max(1);
    // A sequence for each path. No path can contribute more than `width` continuations, so that many are listed.
    let mut decoder = Decoder::new(device.clone(), sequences, 1, sampling, &[], sequences)?;
    let random = Random::new(0);
    search(
        options,
        flow_of(mechanism, prompt, start)?,
        &mut |open| {
            decoder.clear();
            for (sequence, (flow, _)) in open.iter().enumerate() {
                decoder.set(sequence, flow, &random, &[])?;
            }
            let total = |normaliser: f64, logit: f32, path: &BeamPath| {
                path.resistance + (normaliser - f64::from(logit)).max(0.0)
            };
            let lists = decoder.nearest()?;
            // The sum over all logits is not finite when one of them is not.
            if let Some(list) = lists.iter().find(|list| !list.normaliser.is_finite()) {
                let what = format!("the logarithm of their sum is {}", list.normaliser);
                return Err(not_a_number(what));
            }
            let fans = lists.into_iter().zip(open);
            Ok(fans
                .map(|(list, (_, path))| {
                    let nodes = list.nodes.into_iter();
                    nodes
                        .map(|(logit, node)| (total(list.normaliser, logit, path), node))
                        .collect()
                })
                .collect())
        },
        &mut |flow, node| hop(mechanism, flow, node),
    )
}

/// Split a prompt into the node that a signal starts at and the nodes that follow.
pub(super) fn split_prompt(prompt: &[u32]) -> Result<(u32, &[u32])> {
    let Some((&first, rest)) = prompt.split_first() else {
        return Err(Error::new(
            ErrorKind::Input,
            "the prompt is empty: a signal starts at a token",
        )
        .advice("pass at least one token"));
    };
    Ok((first, rest))
}

/// Begin a flow at a prompt and follow it.
fn flow_of(mechanism: &Mechanism, prompt: &[u32], start: &Start) -> Result<Flow> {
    let (first, rest) = split_prompt(prompt)?;
    let mut flow = mechanism.begin(first, start)?;
    for &node in rest {
        mechanism.hop(&mut flow, node)?;
    }
    Ok(flow)
}

fn hop(mechanism: &Mechanism, flow: &Flow, node: u32) -> Result<Flow> {
    let mut flow = flow.clone();
    mechanism.hop(&mut flow, node)?;
    Ok(flow)
}

/// Compute the logits of the next node, −∞ where no hop leads. `[V]`
fn logits(mechanism: &Mechanism, flow: &Flow, hooks: &Hooks) -> Result<Vec<f32>> {
    let nodes = mechanism.nodes();
    let (mut energies, mut logits) = (vec![0.0; nodes], vec![0.0; nodes]);
    mechanism.energies(flow, &mut energies)?;
    mechanism.logits(flow, &energies, &mut logits);
    let call = Call::new(0, 0, flow.step);
    resist(hooks, &call, mechanism, flow, &energies, &mut logits)?;
    if !mechanism.profile().self_loops {
        logits[flow.node as usize] = f32::NEG_INFINITY;
    }
    Ok(logits)
}

/// Return the continuations of `path` with the least total resistance, at most `width`, from the logits at its end.
pub(crate) fn nearest(
    logits: &[f32],
    path: &BeamPath,
    options: &BeamOptions,
) -> Result<Vec<(f64, u32)>> {
    check_logits(logits)?;
    // −ln p = ln Σ exp(logit) − logit, and the softmax returns the first term. Rounding may make the difference
    // negative.
    let normaliser = softmax::softmax(&mut logits.to_vec());
    let allowed = |node: u32| logits[node as usize].is_finite() && !options.banned.contains(&node);
    let nodes = top_k(logits, options.width, allowed).into_iter();
    let total = |node| {
        let resistance = (normaliser - f64::from(logits[node as usize])).max(0.0);
        (path.resistance + resistance, node)
    };
    Ok(nodes.map(total).collect())
}

/// Nearest continuations of each open path: total resistances with their tokens.
type Fans<'a, S> = dyn FnMut(&mut [(S, BeamPath)]) -> Result<Vec<Vec<(f64, u32)>>> + 'a;

/// Search from a state of any model: `fans` gives continuations of all open paths, `advance` the state after one.
pub(crate) fn search<S>(
    options: &BeamOptions,
    first: S,
    fans: &mut Fans<'_, S>,
    advance: &mut dyn FnMut(&S, u32) -> Result<S>,
) -> Result<Vec<BeamPath>> {
    if options.width == 0 {
        return Err(Error::new(
            ErrorKind::Input,
            "invalid beam width 0: expected at least 1",
        ));
    }
    let mut open = vec![(first, BeamPath::default())];
    let mut done: Vec<BeamPath> = Vec::new();
    for _ in 0..options.tokens {
        // All continuations of all paths compete for the width; ties go to the better parent, then the lower id.
        let mut all: Vec<(f64, usize, u32)> = fans(&mut open)?
            .into_iter()
            .enumerate()
            .flat_map(|(parent, fan)| {
                fan.into_iter()
                    .map(move |(resistance, node)| (resistance, parent, node))
            })
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        // Continuations that end count towards the width of their own step only.
        all.truncate(options.width);
        let mut next = Vec::with_capacity(all.len());
        for (resistance, parent, node) in all {
            let (state, parent) = &open[parent];
            let path = BeamPath {
                nodes: parent.nodes.iter().copied().chain([node]).collect(),
                resistance,
                stopped: options.stop.contains(&node),
            };
            if path.stopped {
                done.push(path);
            } else {
                next.push((advance(state, node)?, path));
            }
        }
        open = next;
        if open.is_empty() {
            break;
        }
    }
    // Totals are compared, not means per token: a path that ends early has fewer hops to pay for.
    done.extend(open.into_iter().map(|(_, path)| path));
    done.sort_by(|a, b| {
        a.resistance
            .total_cmp(&b.resistance)
            .then_with(|| a.nodes.cmp(&b.nodes))
    });
    done.truncate(options.width);
    Ok(done)
}
