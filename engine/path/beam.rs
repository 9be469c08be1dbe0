//! Beam search: the B paths of least resistance, with their totals.

use std::sync::Arc;

use rayon::prelude::*;

use crate::hook::{Call, Hooks};
use crate::kernel::softmax;
use crate::path::HookRunner;
use crate::path::hook_runner::resist;
use crate::signal::{Flow, Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// One path that beam search found.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamPath {
    /// The new nodes, without the prompt.
    pub nodes: Vec<u32>,
    /// Σ −ln p over the new hops: the path's resistance.
    pub resistance: f64,
    /// Whether it ended at a stop node.
    pub stopped: bool,
}

/// Finds the `width` paths of least resistance that search of that width reaches.
///
/// # Arguments
/// `tokens` hops at most; a path also ends at a node of `stops`, which it includes; `banned` nodes are
/// never walked. Of `hooks`, `signal/1` and `edge/1` are asked; beams are searched one after the other then.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty prompt or a width of zero; else as [`Mechanism::hop`].
///
/// # Complexity
/// O(tokens · width · V); with `width` at least V^tokens the search is exhaustive.
///
/// ```
/// use brillm::{hook::Hooks, path::beam, signal::Start};
/// let model = brillm::Model::open("models/english.bril".as_ref(), Default::default())?;
/// let prompt = model.tokenizer().encode("Once upon a")?;
/// let paths = beam(model.mechanism(), &prompt, &Start::Profile, 2, 3, &[], &[], &Hooks::default())?;
/// assert!(paths[0].resistance <= paths[1].resistance);
/// # Ok::<(), brillm::Error>(())
/// ```
#[allow(clippy::too_many_arguments, reason = "each is one of the search's own")]
pub fn beam(
    mechanism: &Arc<Mechanism>,
    prompt: &[u32],
    start: &Start,
    width: usize,
    tokens: usize,
    stops: &[u32],
    banned: &[u32],
    hooks: &Hooks,
) -> Result<Vec<BeamPath>> {
    let own = match HookRunner::new(hooks, 0) {
        Some(hook_runner) if !prompt.is_empty() => hook_runner.start(mechanism, prompt, start)?,
        _ => None,
    };
    search(
        mechanism,
        prompt,
        own.as_ref().unwrap_or(start),
        width,
        tokens,
        stops,
        &mut |open| {
            let one = |(flow, path): &(Flow, BeamPath)| {
                nearest(mechanism, flow, path.resistance, width, banned, hooks)
            };
            // Hooks keep state: they are asked in an order that replays.
            if hooks.edge.is_empty() {
                open.par_iter().map(one).collect()
            } else {
                open.iter().map(one).collect()
            }
        },
    )
}

/// As [`beam()`], with the fans of all paths scored together on a device.
///
/// # Errors
/// As [`beam()`], and those of the device.
#[cfg(feature = "gpu")]
pub fn beam_on(
    mechanism: &Arc<crate::signal::DeviceMechanism>,
    prompt: &[u32],
    start: &Start,
    width: usize,
    tokens: usize,
    stops: &[u32],
    banned: &[u32],
) -> Result<Vec<BeamPath>> {
    use crate::kernel::random::Random;
    use crate::path::{Decoder, Sampling};
    let sampling = Sampling::greedy().banned(banned.iter().copied());
    let sequences = width.max(1);
    let mut decoder = Decoder::new(mechanism.clone(), sequences, 1, sampling, &[], sequences)?;
    let random = Random::new(0);
    search(
        mechanism.mechanism(),
        prompt,
        start,
        width,
        tokens,
        stops,
        &mut |open| {
            decoder.clear();
            for (sequence, (flow, _)) in open.iter().enumerate() {
                decoder.set(sequence, flow, &random, &[])?;
            }
            let lists = decoder.nearest()?;
            let fan = |(list, (_, path)): (crate::path::Nearest, &(Flow, BeamPath))| {
                let away = |(logit, node): (f32, u32)| {
                    let resistance = (list.normaliser - f64::from(logit)).max(0.0);
                    (path.resistance + resistance, node)
                };
                list.nodes.into_iter().map(away).collect()
            };
            Ok(lists.into_iter().zip(open).map(fan).collect())
        },
    )
}

/// Open paths to the next nodes of each, with the totals they would come to.
type Fans<'a> = dyn FnMut(&[(Flow, BeamPath)]) -> Result<Vec<Vec<(f64, u32)>>> + 'a;

fn search(
    mechanism: &Mechanism,
    prompt: &[u32],
    start: &Start,
    width: usize,
    tokens: usize,
    stops: &[u32],
    fans_of: &mut Fans<'_>,
) -> Result<Vec<BeamPath>> {
    if width == 0 {
        return Err(Error::new(
            ErrorKind::Input,
            "a beam must be at least 1 wide",
        ));
    }
    let Some((&first, rest)) = prompt.split_first() else {
        return Err(Error::new(
            ErrorKind::Input,
            "the prompt is empty: a signal needs a node to start at",
        )
        .advice("give at least one token"));
    };
    let mut flow = mechanism.begin(first, start)?;
    for &node in rest {
        mechanism.hop(&mut flow, node)?;
    }
    let mut open: Vec<(Flow, BeamPath)> = vec![(
        flow,
        BeamPath {
            nodes: Vec::new(),
            resistance: 0.0,
            stopped: false,
        },
    )];
    let mut done: Vec<BeamPath> = Vec::new();
    for _ in 0..tokens {
        let fans = fans_of(&open)?;
        let mut all: Vec<(f64, usize, u32)> = fans
            .into_iter()
            .enumerate()
            .flat_map(|(parent, fan)| {
                fan.into_iter()
                    .map(move |(resistance, node)| (resistance, parent, node))
            })
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        all.truncate(width);
        let mut next = Vec::with_capacity(all.len());
        for (resistance, parent, node) in all {
            let mut nodes = open[parent].1.nodes.clone();
            nodes.push(node);
            let stopped = stops.contains(&node);
            let path = BeamPath {
                nodes,
                resistance,
                stopped,
            };
            if stopped {
                done.push(path);
                continue;
            }
            let mut flow = open[parent].0.clone();
            mechanism.hop(&mut flow, node)?;
            next.push((flow, path));
        }
        open = next;
        if open.is_empty() {
            break;
        }
    }
    done.extend(open.into_iter().map(|(_, path)| path));
    done.sort_by(|a, b| {
        a.resistance
            .total_cmp(&b.resistance)
            .then_with(|| a.nodes.cmp(&b.nodes))
    });
    done.truncate(width);
    Ok(done)
}

/// The `width` next nodes of least total resistance.
fn nearest(
    mechanism: &Mechanism,
    flow: &Flow,
    so_far: f64,
    width: usize,
    banned: &[u32],
    hooks: &Hooks,
) -> Result<Vec<(f64, u32)>> {
    let nodes = mechanism.nodes();
    let (mut energies, mut logits) = (vec![0.0; nodes], vec![0.0; nodes]);
    mechanism.energies(flow, &mut energies);
    mechanism.logits(flow, &energies, &mut logits);
    resist(
        hooks,
        &Call::new(0, 0, flow.step),
        mechanism,
        flow,
        &energies,
        &mut logits,
    )?;
    if !mechanism.profile().self_loops {
        logits[flow.node as usize] = f32::NEG_INFINITY;
    }
    let raw = logits.clone();
    let normaliser = softmax::softmax(&mut logits);
    let mut fan: Vec<(f64, u32)> = raw
        .iter()
        .enumerate()
        .filter(|&(node, logit)| logit.is_finite() && !banned.contains(&(node as u32)))
        .map(|(node, &logit)| {
            (
                so_far + (normaliser - f64::from(logit)).max(0.0),
                node as u32,
            )
        })
        .collect();
    let closer = |a: &(f64, u32), b: &(f64, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if fan.len() > width {
        fan.select_nth_unstable_by(width - 1, closer);
        fan.truncate(width);
    }
    fan.sort_unstable_by(closer);
    Ok(fan)
}
