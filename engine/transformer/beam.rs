//! Beam search on a transformer: the paths of least resistance, each with a cache of its own.

use crate::kernel::softmax;
use crate::path::BeamPath;
use crate::transformer::advance::{ForwardOutput, LogitsFor, Taps};
use crate::transformer::eviction::Phase;
use crate::transformer::{Cache, Plan, Transformer};
use crate::{Error, ErrorKind, Result};

/// Finds the `width` paths of least resistance that search of that width reaches, as `brillm::path::beam` does
/// on a graph.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty prompt or a width of zero; [`ErrorKind::Unsupported`] for a model without
/// a cache; else as [`crate::transformer::Network::advance`].
///
/// # Complexity
/// O(tokens · width) passes and copies of a cache.
pub fn beam(
    model: &Transformer,
    prompt: &[u32],
    width: usize,
    tokens: usize,
    stops: &[u32],
    banned: &[u32],
) -> Result<Vec<BeamPath>> {
    if width == 0 || prompt.is_empty() {
        return Err(Error::new(
            ErrorKind::Input,
            "a beam needs a prompt, and must be at least 1 wide",
        ));
    }
    let network = model.network().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "beam search on a recurrent net is not built",
        )
        .advice("leave --beam out")
    })?;
    let plan = Plan::full(network.configuration().layers);
    let mut cache = Cache::new(network.configuration(), plan, 1)?;
    let advance = |cache: &mut Cache, tokens: &[u32], phase| -> Result<ForwardOutput> {
        network.advance(
            cache,
            &[tokens],
            phase,
            LogitsFor::Last,
            &mut Taps::default(),
        )
    };
    let first = advance(&mut cache, prompt, Phase::Prefill)?;
    let empty = BeamPath {
        nodes: Vec::new(),
        resistance: 0.0,
        stopped: false,
    };
    let mut open = vec![(cache, first.logits, empty)];
    let mut done = Vec::new();
    for left in (0..tokens).rev() {
        let mut all: Vec<(f64, usize, u32)> = Vec::new();
        for (parent, (_, logits, path)) in open.iter().enumerate() {
            let mut spent = logits.clone();
            let normaliser = softmax::softmax(&mut spent);
            all.extend(
                logits
                    .iter()
                    .enumerate()
                    .filter(|&(token, score)| {
                        score.is_finite() && !banned.contains(&(token as u32))
                    })
                    .map(|(token, &score)| {
                        let step = (normaliser - f64::from(score)).max(0.0);
                        (path.resistance + step, parent, token as u32)
                    }),
            );
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        all.truncate(width);
        let mut next = Vec::with_capacity(all.len());
        for (resistance, parent, token) in all {
            let mut nodes = open[parent].2.nodes.clone();
            nodes.push(token);
            let stopped = stops.contains(&token);
            let path = BeamPath {
                nodes,
                resistance,
                stopped,
            };
            if stopped || left == 0 {
                done.push(path);
                continue;
            }
            let mut cache = open[parent].0.clone();
            let logits = advance(&mut cache, &[token], Phase::Decode)?.logits;
            next.push((cache, logits, path));
        }
        open = next;
        if open.is_empty() {
            break;
        }
    }
    done.extend(open.into_iter().map(|(_, _, path)| path));
    done.sort_by(|a, b| {
        a.resistance
            .total_cmp(&b.resistance)
            .then_with(|| a.nodes.cmp(&b.nodes))
    });
    done.truncate(width);
    Ok(done)
}
