//! Explanations: why one token and not another, and a test of the answer.
//!
//! In: a graph and a prompt. Out: for each step an [`Explanation`], which splits the margin between the chosen token
//! and an alternative into what each earlier token, each bias and the static resistance add (see
//! [`Margin`](crate::signal::Margin)). [`faithfulness`] removes tokens from held-out texts and compares what happens
//! with what explanations predict, those of transformers too.

mod faithfulness;
mod method;
mod statistics;

pub use faithfulness::{Faithfulness, MethodRow, MutedRow, faithfulness};
pub use statistics::Interval;

use crate::path::likeliest;
pub use crate::run::trace::{Explanation, FixedKind, Term, TermKind};
use crate::signal::{Attribution, Flow, Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// A text on its way through a graph, with what each token adds.
#[derive(Clone, Debug)]
pub(super) struct Walk<'m> {
    pub(super) mechanism: &'m Mechanism,
    pub(super) flow: Flow,
    pub(super) attribution: Attribution,
    ids: Vec<u32>,
    /// Logits of the next token. `[V]`
    pub(super) logits: Vec<f32>,
    /// Those before the last hop; none for a single token. `[V]`
    pub(super) before: Option<Vec<f32>>,
}

impl<'m> Walk<'m> {
    pub(super) fn new(mechanism: &'m Mechanism, ids: &[u32]) -> Result<Self> {
        let Some((&first, others)) = ids.split_first() else {
            return Err(Error::new(
                ErrorKind::Input,
                "the prompt is empty: expected at least one token",
            )
            .advice("pass at least one token"));
        };
        let flow = mechanism.begin(first, &Start::Profile)?;
        let mut walk = Self {
            attribution: Attribution::begin(mechanism, &flow),
            logits: Vec::new(),
            before: None,
            ids: vec![first],
            mechanism,
            flow,
        };
        for (index, &id) in others.iter().enumerate() {
            if index + 1 == others.len() {
                walk.before = Some(logits(mechanism, &walk.flow)?);
            }
            walk.hop(id)?;
        }
        walk.look()?;
        Ok(walk)
    }

    fn hop(&mut self, id: u32) -> Result<()> {
        self.mechanism.hop(&mut self.flow, id)?;
        self.attribution.hop(self.mechanism, &self.flow);
        self.ids.push(id);
        Ok(())
    }

    /// Compute the logits of the next token.
    fn look(&mut self) -> Result<()> {
        self.logits = logits(self.mechanism, &self.flow)?;
        if !self.mechanism.profile().self_loops {
            self.logits[self.flow.node as usize] = f32::NEG_INFINITY;
        }
        Ok(())
    }

    /// Explain the choice of `chosen` over `alternative`.
    pub(super) fn explain(&self, chosen: u32, alternative: u32) -> Result<Explanation> {
        let margin = self.attribution.margin(
            self.mechanism,
            &self.flow,
            &self.logits,
            (chosen, alternative),
        )?;
        let mut probabilities = self.logits.clone();
        crate::kernel::softmax::softmax(&mut probabilities);
        Ok(Explanation::of(&margin, &probabilities, &self.ids))
    }
}

/// Compute the logits of a flow. `[V]`
pub(super) fn logits(mechanism: &Mechanism, flow: &Flow) -> Result<Vec<f32>> {
    let mut energies = vec![0.0; mechanism.nodes()];
    let mut logits = energies.clone();
    mechanism.energies(flow, &mut energies)?;
    mechanism.logits(flow, &energies, &mut logits);
    Ok(logits)
}

/// Return the likeliest token and the next.
pub(super) fn best_two(logits: &[f32]) -> Option<(u32, u32)> {
    let best = likeliest(logits)?;
    let mut others = logits.to_vec();
    others[best as usize] = f32::NEG_INFINITY;
    Some((best, likeliest(&others)?))
}

/// Explain the next `steps` choices of greedy decoding, each over `alternative`, or over the next likeliest token.
///
/// Ends early where no token is left to choose, and at one of `stop`.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty prompt, a token outside the vocabulary, and an alternative that cannot follow.
pub fn explain(
    mechanism: &Mechanism,
    prompt: &[u32],
    steps: usize,
    alternative: Option<u32>,
    stop: &[u32],
) -> Result<Vec<Explanation>> {
    crate::measure::check_ids(alternative.as_slice(), mechanism.nodes())?;
    let mut walk = Walk::new(mechanism, prompt)?;
    let mut explanations = Vec::with_capacity(steps);
    while explanations.len() < steps {
        let Some((best, second)) = best_two(&walk.logits) else {
            break;
        };
        // The likeliest token is compared with the next likeliest, also where it is the named alternative.
        let other = alternative.filter(|&other| other != best).unwrap_or(second);
        if !walk.logits[other as usize].is_finite() {
            return Err(Error::new(
                ErrorKind::Input,
                format!("token {other} cannot follow itself in this model: it has no margin"),
            )
            .advice("choose another alternative"));
        }
        explanations.push(walk.explain(best, other)?);
        if stop.contains(&best) {
            break;
        }
        walk.hop(best)?;
        walk.look()?;
    }
    Ok(explanations)
}
