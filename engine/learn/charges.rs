//! Fit of the charges (the cache language model of Kuhn and De Mori 1990, in the continuous form of Grave et al. 2017)
//! of a finished model on a held-out stream: four numbers, by pattern search.
//!
//! The model does not change. Each round runs the text through it once, with the charges of all candidates in
//! parallel, so that a round costs little more than one evaluation.

use std::sync::Arc;

use rayon::prelude::*;

use crate::kernel::logits;
use crate::learn::pattern_search;
use crate::model::ChargeSettings;
use crate::path::Charges;
use crate::signal::{Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// A point of the search: logit of the decay, node strength, edge strength, ln of the scale.
type Point = [f64; 4];

/// Start of the search: charges that last about 500 steps, of small strength.
const FIRST: Point = [6.2, 0.2, 0.2, -2.0];
/// The first steps along each axis.
const STEPS: Point = [1.0, 0.1, 0.2, 1.0];

fn settings(point: &Point) -> ChargeSettings {
    ChargeSettings {
        // Logit and logarithm keep the decay in (0, 1) and the scale positive without bounds on the search.
        decay: 1.0 / (1.0 + (-point[0]).exp()),
        node_strength: point[1] as f32,
        edge_strength: point[2] as f32,
        scale: point[3].exp() as f32,
    }
}

/// Charges fitted to a stream, with the loss on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FittedCharges {
    /// Fitted constants.
    pub settings: ChargeSettings,
    /// Nats per token without charges.
    pub before: f64,
    /// Nats per token with them.
    pub after: f64,
}

/// Fit the constants of [`Charges`] to `tokens`, one stream whose first token starts the signal.
///
/// # Errors
/// [`ErrorKind::Input`] for fewer than two tokens; else as [`Mechanism::hop`].
///
/// # Complexity
/// O(rounds · tokens · (hop + 9 V)).
pub fn fit(mechanism: &Arc<Mechanism>, tokens: &[u32]) -> Result<FittedCharges> {
    if tokens.len() < 2 {
        return Err(Error::new(
            ErrorKind::Input,
            "too little held-out text to fit charges: at least 2 tokens are needed",
        )
        .advice("add validation text to the run file"));
    }
    // Strengths of 0 are the model without charges.
    let none: Point = [FIRST[0], 0.0, 0.0, FIRST[3]];
    let before = nats(mechanism, tokens, &[none])?[0];
    let (best, after) =
        pattern_search::minimum(FIRST, STEPS, |points| nats(mechanism, tokens, points))?;
    Ok(FittedCharges {
        settings: settings(&best),
        before: before / (tokens.len() - 1) as f64,
        after: after / (tokens.len() - 1) as f64,
    })
}

/// Compute Σ −ln p over the stream for each candidate.
fn nats(mechanism: &Arc<Mechanism>, tokens: &[u32], points: &[Point]) -> Result<Vec<f64>> {
    let mut flow = mechanism.begin(tokens[0], &Start::Profile)?;
    let nodes = mechanism.nodes();
    let (mut energies, mut logits) = (vec![0.0; nodes], vec![0.0; nodes]);
    let mut candidates: Vec<(Charges, Vec<f32>, f64)> = points
        .iter()
        .map(|point| (settings(point).charges(), vec![0.0; nodes], 0.0))
        .collect();
    // One pass of the model serves all candidates; only their charges differ.
    for &next in &tokens[1..] {
        mechanism.energies(&flow, &mut energies)?;
        mechanism.logits(&flow, &energies, &mut logits);
        let source = flow.node;
        candidates.par_iter_mut().for_each(|(charges, own, nats)| {
            own.copy_from_slice(&logits);
            charges.apply(source, own);
            *nats += logits::cross_entropy(own, next as usize, None);
            charges.visit(source, next);
        });
        mechanism.hop(&mut flow, next)?;
    }
    Ok(candidates.into_iter().map(|(_, _, nats)| nats).collect())
}
