//! Explanations: why one token and not another, and a test of the answer.
//!
//! In: a graph and a prompt. Out: for each step an [`Explanation`], which splits the margin between the chosen token
//! and an alternative into what each earlier token, each bias and the static resistance add (see
//! [`Margin`](crate::signal::Margin)). [`faithfulness`] removes tokens from held-out texts and compares what happens
//! with what explanations predict, those of transformers too.

mod faithfulness;
mod method;
mod statistics;

use serde::Serialize;

pub use faithfulness::{Faithfulness, MethodRow, MutedRow, faithfulness};
pub use statistics::Interval;

use crate::path::likeliest;
use crate::run::trace::EntryKind;
use crate::signal::{Attribution, ContributionSource, Flow, MarginSource, Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// Why a step chose one token and not another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The chosen token's position in the text.
    pub position: usize,
    /// The token before it.
    pub source: u32,
    /// The chosen token.
    pub chosen: u32,
    /// The token it is compared with.
    pub alternative: u32,
    /// Probabilities of both over all V.
    pub probabilities: [f64; 2],
    /// The logit of the chosen token less that of the alternative: ln of the ratio of their probabilities.
    pub margin: f64,
    /// Whether a term is exactly what the margin loses without that token's signal at this step, given the gates.
    pub exact: bool,
    /// What the margin is made of; the values add up to it.
    pub terms: Vec<Term>,
}

/// A part of a margin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Term {
    /// What it comes from.
    pub kind: TermKind,
    /// The position of the token in the text, of kind `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// The token, of kind `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The token before it, from which the edge leads to it; none for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge_source: Option<u32>,
    /// What it adds to the margin, in nats.
    pub value: f64,
}

/// What a part of a margin comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", untagged)]
pub enum TermKind {
    /// A contribution to the signal.
    Signal(EntryKind),
    /// The target biases or the static resistances of the counts.
    Fixed(FixedKind),
}

/// What a part of a margin that does not depend on the signal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FixedKind {
    /// The target biases.
    TargetBias,
    /// The static resistances of the counts.
    StaticResistance,
}

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
                "the prompt is empty: there is no choice to explain",
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
                walk.before = Some(logits(mechanism, &walk.flow));
            }
            walk.hop(id)?;
        }
        walk.look();
        Ok(walk)
    }

    fn hop(&mut self, id: u32) -> Result<()> {
        self.mechanism.hop(&mut self.flow, id)?;
        self.attribution.hop(self.mechanism, &self.flow);
        self.ids.push(id);
        Ok(())
    }

    /// Compute the logits of the next token.
    fn look(&mut self) {
        self.logits = logits(self.mechanism, &self.flow);
        if !self.mechanism.profile().self_loops {
            self.logits[self.flow.node as usize] = f32::NEG_INFINITY;
        }
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
        let probability = |id: u32| f64::from(probabilities[id as usize]);
        let terms = margin.terms.iter();
        Ok(Explanation {
            position: self.ids.len(),
            source: self.flow.node,
            chosen,
            alternative,
            probabilities: [probability(chosen), probability(alternative)],
            margin: margin.value,
            exact: margin.linear,
            terms: terms
                .map(|&(source, value)| self.term(source, value))
                .collect(),
        })
    }

    fn term(&self, source: MarginSource, value: f64) -> Term {
        let mut term = Term {
            kind: match source {
                MarginSource::TargetBias => TermKind::Fixed(FixedKind::TargetBias),
                MarginSource::StaticResistance => TermKind::Fixed(FixedKind::StaticResistance),
                MarginSource::Signal(source) => TermKind::Signal(EntryKind::of(source)),
            },
            position: None,
            id: None,
            edge_source: None,
            value,
        };
        if let MarginSource::Signal(ContributionSource::Token { position, node }) = source {
            term.position = Some(position);
            term.id = Some(node);
            term.edge_source = position.checked_sub(1).map(|before| self.ids[before]);
        }
        term
    }
}

/// Compute the logits of a flow. `[V]`
pub(super) fn logits(mechanism: &Mechanism, flow: &Flow) -> Vec<f32> {
    let mut energies = vec![0.0; mechanism.nodes()];
    let mut logits = energies.clone();
    mechanism.energies(flow, &mut energies);
    mechanism.logits(flow, &energies, &mut logits);
    logits
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
/// [`ErrorKind::Input`] for an empty prompt, and tokens outside the vocabulary.
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
        explanations.push(walk.explain(best, other)?);
        if stop.contains(&best) {
            break;
        }
        walk.hop(best)?;
        walk.look();
    }
    Ok(explanations)
}
