//! Beam search on a transformer: each path has a cache of its own.

use crate::hook::Phase;
use crate::path::{BeamOptions, BeamPath, nearest, search};
use crate::transformer::advance::{LogitsFor, Taps};
use crate::transformer::{Cache, Plan, Transformer};
use crate::{Error, ErrorKind, Result};

/// A path's cache, and the tokens that it does not contain yet.
struct Pending {
    cache: Cache,
    tokens: Vec<u32>,
    phase: Phase,
}

/// Find the paths of least resistance that a search of this width reaches, as `brillm::path::beam` does on a graph.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty prompt or a width of zero; [`ErrorKind::Unsupported`] for a model without
/// a cache; else as [`crate::transformer::Network::advance`].
///
/// # Complexity
/// O(tokens · width) forward passes and copies of a cache.
pub fn beam(model: &Transformer, prompt: &[u32], options: &BeamOptions) -> Result<Vec<BeamPath>> {
    if prompt.is_empty() {
        return Err(
            Error::new(ErrorKind::Input, "the prompt is empty").advice("pass at least one token")
        );
    }
    let network = model.network().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "beam search does not support recurrent networks",
        )
        .advice("remove --beam")
    })?;
    let plan = Plan::full(network.configuration().layers);
    let first = Pending {
        cache: Cache::new(network.configuration(), plan, 1)?,
        tokens: prompt.to_vec(),
        phase: Phase::Prefill,
    };
    search(
        options,
        first,
        &mut |open| {
            open.iter_mut()
                .map(|(state, path)| {
                    let output = network.advance(
                        &mut state.cache,
                        &[&state.tokens],
                        state.phase,
                        LogitsFor::Last,
                        &mut Taps::default(),
                    )?;
                    nearest(&output.logits, path, options)
                })
                .collect()
        },
        &mut |state, token| {
            Ok(Pending {
                // Continuations of one path diverge: each extends a copy of its cache.
                cache: state.cache.clone(),
                tokens: vec![token],
                phase: Phase::Decode,
            })
        },
    )
}
