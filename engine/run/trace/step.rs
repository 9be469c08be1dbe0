//! One step of a trace: its candidates, its uncertainty, and the contributions to the chosen edge.

use serde::{Deserialize, Serialize};

use super::explanation::Explanation;
use super::token::{ShownCode, ShownToken};
use crate::graph::NodeId;
use crate::kernel::select::top_k;
use crate::path::{RecallShare, Session};
use crate::signal::{ContributionSource, EdgeAttribution, Margin, Mechanism};
use crate::text::Vocabulary;

/// Occurrences of a candidate that are listed.
const RECALLED: usize = 8;

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Counted from 0.
    pub index: usize,
    /// The chosen token's position in the path.
    pub position: usize,
    /// The token before it.
    pub source: u32,
    /// The chosen token.
    pub chosen: u32,
    /// Whether an intervention chose it.
    pub forced: bool,
    /// −Σ p ln p over all V, in nats.
    pub entropy: f64,
    /// ln p of the likeliest less that of the next, in nats; null with a single candidate.
    pub margin: Option<f64>,
    /// −ln p of the chosen one, in nats; null where its probability is 0.
    pub resistance: Option<f64>,
    /// Those that are not listed.
    pub rest: Rest,
    /// The likeliest, by rank, and the chosen one.
    pub candidates: Vec<Candidate>,
    /// What made the chosen edge's pre-activation; null on a transformer.
    pub contributions: Option<Contributions>,
    /// What each layer attended to; null on a graph.
    pub attention: Option<Vec<Attention>>,
    /// Tokens that each layer keeps; null on a graph.
    pub cache: Option<Vec<usize>>,
}

/// The candidates that are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rest {
    /// How many.
    pub count: usize,
    /// Their probability together.
    pub probability: f64,
}

/// A candidate of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// See [`ShownToken::text`].
    pub text: Option<String>,
    /// See [`ShownToken::bytes_hex`].
    pub bytes_hex: String,
    /// See [`ShownToken::display`].
    pub display: String,
    /// The energy with which the signal reaches it; a transformer's logit.
    pub energy: f32,
    /// Its probability over all V, before temperature and truncation.
    pub probability: f32,
    /// Its rank by probability, from 1.
    pub rank: usize,
    /// What the edge to it is made of; null on a transformer.
    pub edge: Option<EdgeKind>,
    /// How often training walked the edge; null where never, and on a transformer.
    pub count: Option<u32>,
    /// The walks longer than the edge that lower its static resistance, shortest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub walks: Vec<CandidateWalk>,
    /// What recall adds to its probability; absent where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<CandidateRecall>,
    /// See [`ShownToken::code`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ShownCode>,
}

/// The part of a candidate's probability that earlier occurrences in the path add, before any hooks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateRecall {
    /// That of all occurrences together.
    pub share: f64,
    /// The occurrences that add most, the largest first; at most eight.
    pub positions: Vec<RecalledPosition>,
}

/// An earlier occurrence of a candidate, in a context like the present one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecalledPosition {
    /// Its position in the path.
    pub position: usize,
    /// What it adds to the probability: exact, `μ_t n_i / N` of [`Recall`](crate::path::Recall).
    pub share: f64,
}

/// A walk of the training text that ends at the source of a step and that a candidate followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateWalk {
    /// Its nodes, the source last.
    pub nodes: Vec<u32>,
    /// How often the candidate followed it in the training text.
    pub count: u32,
    /// What it adds to the log probability that the shorter walk gives, in nats, before the model's weight.
    pub lift: f32,
}

/// What an edge is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// Parameters of its own.
    Own,
    /// Walked in training, with the parameters that all others share.
    Seen,
    /// Never walked.
    Shared,
}

/// The exact split of a pre-activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contributions {
    /// The node that the edge leads to.
    pub target: u32,
    /// ‖z‖₂: what the entries' values add up to.
    pub norm: f64,
    /// The contributions.
    pub entries: Vec<Entry>,
    /// z itself, where it was requested. `[D]`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preactivation: Option<Vec<f32>>,
}

/// One contribution to a pre-activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What it comes from.
    pub kind: EntryKind,
    /// The position of the token in the path, of kind `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// The token, of kind `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// How far it pushes along z: its product with z/‖z‖.
    pub value: f64,
    /// Its own length.
    pub norm: f64,
    /// The contribution itself, where it was requested. `[D]`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vec<f64>>,
}

/// What a contribution comes from; see [`ContributionSource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// An earlier token.
    Token,
    /// The edge's bias.
    Bias,
    /// The row of the position table.
    Position,
    /// The source's offset, or its own signal over layered edges.
    Source,
    /// The target's factor.
    Target,
    /// The signal before the last layer of layered edges, which is not split by token.
    Layers,
}

impl EntryKind {
    /// Return the kind of a contribution.
    pub fn of(source: ContributionSource) -> Self {
        match source {
            ContributionSource::Token { .. } => Self::Token,
            ContributionSource::Bias => Self::Bias,
            ContributionSource::Position => Self::Position,
            ContributionSource::Source => Self::Source,
            ContributionSource::Target => Self::Target,
            ContributionSource::Layers => Self::Layers,
        }
    }
}

/// What one layer's last row attends to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// The layer, from 0.
    pub layer: usize,
    /// Mean over heads for each position of the path; null where it is no longer kept.
    pub weights: Vec<Option<f32>>,
}

impl Contributions {
    /// What a split says, with its vectors if they are wanted.
    pub fn of(split: &EdgeAttribution, vectors: bool) -> Self {
        let entries = split.contributions.iter().zip(split.values());
        Self {
            target: split.target,
            norm: split.norm(),
            entries: entries
                .map(|(contribution, value)| {
                    let kind = EntryKind::of(contribution.source);
                    let (position, id) = match contribution.source {
                        ContributionSource::Token { position, node } => {
                            (Some(position), Some(node))
                        }
                        _ => (None, None),
                    };
                    let square: f64 = contribution.vector.iter().map(|value| value * value).sum();
                    Entry {
                        kind,
                        position,
                        id,
                        value,
                        norm: square.sqrt(),
                        vector: vectors.then(|| contribution.vector.clone()),
                    }
                })
                .collect(),
            preactivation: vectors.then(|| split.preactivation.clone()),
        }
    }
}

/// The edges that candidates are reached by.
pub(super) struct Edges<'a> {
    pub(super) mechanism: &'a Mechanism,
    pub(super) source: u32,
    /// Nodes before the source, the last one nearest.
    pub(super) earlier: &'a [u32],
    /// What past tokens add to probabilities.
    recalled: Vec<RecallShare>,
    /// Tokens of the path.
    length: usize,
}

impl<'a> Edges<'a> {
    /// The edges that leave the session's node; `None` on a transformer.
    pub(super) fn of(session: &'a dyn Session) -> Option<Self> {
        session.mechanism().map(|mechanism| Self {
            mechanism,
            source: session.token(),
            earlier: session.earlier(),
            recalled: session.recall(),
            length: session.length(),
        })
    }

    fn describe(&self, target: u32) -> (EdgeKind, Option<u32>) {
        let graph = self.mechanism.graph();
        match graph.edge(NodeId(self.source), NodeId(target)) {
            None => (EdgeKind::Shared, None),
            Some(edge) => {
                let kind = if graph.edge_rows()[edge.index()] > 0 {
                    EdgeKind::Own
                } else {
                    EdgeKind::Seen
                };
                (kind, Some(graph.counts()[edge.index()]))
            }
        }
    }

    /// The walks that lift a target.
    fn walks(&self, target: u32) -> Vec<CandidateWalk> {
        let Some(paths) = self.mechanism.graph().paths() else {
            return Vec::new();
        };
        let walks = paths.walks(self.source, self.earlier, self.mechanism.order());
        let lifting = walks.filter_map(|walk| {
            let (lift, count) = walk.target(target)?;
            let before = &self.earlier[self.earlier.len() + 1 - walk.length..];
            let nodes = before.iter().copied().chain([self.source]).collect();
            Some(CandidateWalk { nodes, count, lift })
        });
        lifting.collect()
    }

    /// What earlier occurrences of a target add to its probability.
    fn recall(&self, target: u32) -> Option<CandidateRecall> {
        let occurrences = self.recalled.iter().filter(|one| one.node == target);
        let mut positions: Vec<RecalledPosition> = occurrences
            .map(|one| RecalledPosition {
                position: self.length - one.back,
                share: one.share,
            })
            .collect();
        let share = positions.iter().map(|one| one.share).sum();
        positions.sort_by(|a, b| b.share.total_cmp(&a.share));
        positions.truncate(RECALLED);
        (!positions.is_empty()).then_some(CandidateRecall { share, positions })
    }

    /// Whether a token may follow at all.
    fn allows(&self, target: u32) -> bool {
        target != self.source || self.mechanism.profile().self_loops
    }
}

/// A distribution over all V, looked at.
pub(super) struct Distribution {
    probabilities: Vec<f32>,
    energies: Vec<f32>,
    /// Those that may be chosen, the likeliest first.
    order: Vec<u32>,
    /// ln p of any score less the score.
    normaliser: f64,
    logits: Vec<f32>,
}

impl Distribution {
    /// Rank all candidates. `energies [V]`, `logits [V]`
    pub(super) fn of(energies: &[f32], logits: &[f32], edges: Option<&Edges<'_>>) -> Self {
        let mut probabilities = logits.to_vec();
        let normaliser = crate::kernel::softmax::softmax(&mut probabilities);
        let order = top_k(logits, logits.len(), |id| {
            edges.is_none_or(|edges| edges.allows(id))
        });
        Self {
            probabilities,
            energies: energies.to_vec(),
            order,
            normaliser,
            logits: logits.to_vec(),
        }
    }

    /// Describe a margin after the tokens `ids`.
    pub(super) fn explain(&self, margin: &Margin, ids: &[u32]) -> Explanation {
        Explanation::of(margin, &self.probabilities, ids)
    }

    /// −Σ p ln p.
    pub(super) fn entropy(&self) -> f64 {
        let logits = self.logits.iter().zip(&self.probabilities);
        logits
            .filter(|&(_, &p)| p > 0.0)
            .map(|(&logit, &p)| f64::from(p) * (self.normaliser - f64::from(logit)))
            .sum()
    }

    pub(super) fn margin(&self) -> Option<f64> {
        let logit = |place: usize| f64::from(self.logits[self.order[place] as usize]);
        (self.order.len() > 1)
            .then(|| logit(0) - logit(1))
            .filter(|margin| margin.is_finite())
    }

    /// −ln p of a token, as an evaluation counts it.
    pub(super) fn resistance(&self, id: u32) -> Option<f64> {
        let logit = f64::from(*self.logits.get(id as usize)?);
        Some(self.normaliser - logit).filter(|resistance| resistance.is_finite())
    }

    /// The `count` likeliest and the `also` named ones, by rank, and what is left.
    pub(super) fn list(
        &self,
        count: usize,
        also: &[u32],
        vocabulary: &Vocabulary,
        edges: Option<&Edges<'_>>,
    ) -> (Vec<Candidate>, Rest) {
        let mut candidates = Vec::new();
        let mut listed = 0.0;
        let ranked = self.order.iter().copied().enumerate();
        // A token that may not be chosen may still be forced.
        let barred = also.iter().filter(|id| !self.order.contains(id));
        let last = self.order.len();
        for (place, id) in ranked.chain(barred.map(|&id| (last, id))) {
            if place >= count && !also.contains(&id) {
                continue;
            }
            let token = ShownToken::of(vocabulary, id);
            let edge = edges.map(|edges| edges.describe(id));
            listed += f64::from(self.probabilities[id as usize]);
            candidates.push(Candidate {
                id,
                text: token.text,
                bytes_hex: token.bytes_hex,
                display: token.display,
                energy: self.energies[id as usize],
                probability: self.probabilities[id as usize],
                rank: place + 1,
                edge: edge.map(|edge| edge.0),
                count: edge.and_then(|edge| edge.1),
                walks: edges.map_or_else(Vec::new, |edges| edges.walks(id)),
                recall: edges.and_then(|edges| edges.recall(id)),
                code: token.code,
            });
        }
        let rest = Rest {
            count: last.saturating_sub(candidates.len()),
            probability: (1.0 - listed).max(0.0),
        };
        (candidates, rest)
    }
}

impl Distribution {
    /// A step, whose contributions and attention are still to be said.
    pub(super) fn step(
        &self,
        (index, position, source, chosen): (usize, usize, u32, u32),
        forced: bool,
        (candidates, rest): (Vec<Candidate>, Rest),
    ) -> Step {
        Step {
            index,
            position,
            source,
            chosen,
            forced,
            entropy: self.entropy(),
            margin: self.margin(),
            resistance: self.resistance(chosen),
            rest,
            candidates,
            contributions: None,
            attention: None,
            cache: None,
        }
    }
}
