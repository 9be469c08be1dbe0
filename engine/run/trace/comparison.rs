//! Comparison of two traces: where they diverge, and how each ranked the other's choice.

use serde::Serialize;

use super::{Candidate, Step, Trace};

/// Two traces, step by step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The first step whose choices differ; null where they agree as far as both go.
    pub first_divergence: Option<usize>,
    /// Steps that both have.
    pub rows: Vec<ComparedStep>,
    /// Further steps of the first.
    pub only_a: usize,
    /// Further steps of the second.
    pub only_b: usize,
}

/// One step of both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedStep {
    /// Its index.
    pub step: usize,
    /// Whether both chose the same.
    pub same: bool,
    /// The first's choice.
    pub a: Option<Choice>,
    /// The second's choice.
    pub b: Option<Choice>,
    /// The first's choice in the second's list.
    pub a_in_b: Option<CandidateRank>,
    /// The second's choice in the first's list.
    pub b_in_a: Option<CandidateRank>,
    /// Energy of the second's choice less that of the first's.
    pub delta_energy: Option<f32>,
    /// Probability of the second's choice less that of the first's.
    pub delta_probability: Option<f32>,
}

/// A chosen token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// The token.
    pub id: u32,
    /// Its text, readable.
    pub display: String,
    /// Its energy.
    pub energy: f32,
    /// Its probability.
    pub probability: f32,
    /// −ln p of it; null where its probability is 0.
    pub resistance: Option<f64>,
    /// Its rank by probability, from 1.
    pub rank: usize,
}

/// The rank of one trace's choice in the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CandidateRank {
    /// Its rank by probability, from 1.
    pub rank: usize,
    /// Its probability.
    pub probability: f32,
}

impl Comparison {
    /// Compare two traces, aligned by step. Tokens are the same when their ids are, or, of models with other
    /// vocabularies, their bytes.
    pub fn of(a: &Trace, b: &Trace) -> Self {
        let by_id = a.model.sha256 == b.model.sha256 && a.model.name == b.model.name
            || a.model.vocabulary == b.model.vocabulary && same_tokens(a, b);
        let both = a.steps.iter().zip(&b.steps);
        let rows: Vec<ComparedStep> = both.map(|(a, b)| compare(a, b, by_id)).collect();
        Self {
            first_divergence: rows.iter().position(|row| !row.same),
            only_a: a.steps.len() - rows.len(),
            only_b: b.steps.len() - rows.len(),
            rows,
        }
    }
}

/// Whether ids that both show mean the same.
fn same_tokens(a: &Trace, b: &Trace) -> bool {
    let of_b: std::collections::BTreeMap<u32, &str> = b
        .steps
        .iter()
        .flat_map(|step| &step.candidates)
        .map(|one| (one.id, one.display.as_str()))
        .collect();
    a.steps.iter().flat_map(|step| &step.candidates).all(|one| {
        of_b.get(&one.id)
            .is_none_or(|&display| display == one.display)
    })
}

fn compare(a: &Step, b: &Step, by_id: bool) -> ComparedStep {
    let chosen = |step: &Step| {
        step.candidates
            .iter()
            .find(|one| one.id == step.chosen)
            .cloned()
    };
    let alike = |one: &Candidate, other: &Candidate| {
        if by_id {
            one.id == other.id
        } else {
            (&one.bytes_hex, &one.display) == (&other.bytes_hex, &other.display)
        }
    };
    let rank = |one: &Option<Candidate>, step: &Step| {
        let one = one.as_ref()?;
        let found = step.candidates.iter().find(|other| alike(one, other))?;
        Some(CandidateRank {
            rank: found.rank,
            probability: found.probability,
        })
    };
    let (of_a, of_b) = (chosen(a), chosen(b));
    let choice = |one: &Option<Candidate>, step: &Step| {
        one.as_ref().map(|one| Choice {
            id: one.id,
            display: one.display.clone(),
            energy: one.energy,
            probability: one.probability,
            resistance: step.resistance,
            rank: one.rank,
        })
    };
    let both = of_a.as_ref().zip(of_b.as_ref());
    ComparedStep {
        step: a.index,
        same: both.is_some_and(|(a, b)| alike(a, b)),
        a_in_b: rank(&of_a, b),
        b_in_a: rank(&of_b, a),
        delta_energy: both.map(|(a, b)| b.energy - a.energy),
        delta_probability: both.map(|(a, b)| b.probability - a.probability),
        a: choice(&of_a, a),
        b: choice(&of_b, b),
    }
}
