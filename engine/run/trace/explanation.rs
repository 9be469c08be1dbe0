//! Why a step chose one token and not another: a margin with the tokens of the text.

use serde::Serialize;

use super::step::EntryKind;
use crate::signal::{ContributionSource, Margin, MarginSource};

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

impl Explanation {
    /// Describe a margin after the tokens `ids`. `probabilities [V]`
    pub(in crate::run) fn of(margin: &Margin, probabilities: &[f32], ids: &[u32]) -> Self {
        let probability = |id: u32| f64::from(probabilities[id as usize]);
        let terms = margin.terms.iter();
        Self {
            position: ids.len(),
            source: ids.last().copied().unwrap_or_default(),
            chosen: margin.chosen,
            alternative: margin.alternative,
            probabilities: [probability(margin.chosen), probability(margin.alternative)],
            margin: margin.value,
            exact: margin.linear,
            terms: terms
                .map(|&(source, value)| Term::of(source, value, ids))
                .collect(),
        }
    }
}

impl Term {
    fn of(source: MarginSource, value: f64, ids: &[u32]) -> Self {
        let mut term = Self {
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
            term.edge_source = position.checked_sub(1).map(|before| ids[before]);
        }
        term
    }
}
