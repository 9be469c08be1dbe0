//! What a person changes on the way, to see what follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hook::{Answer, Call, Edge, Fan};
use crate::{Error, ErrorKind, Result};

/// One change.
///
/// ```
/// use brillm::run::trace::Intervention;
/// let change: Intervention = serde_json::from_str(r#"{"kind":"mute_node","node":17}"#).unwrap();
/// assert_eq!(change, Intervention::MuteNode { node: 17 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Intervention {
    /// The odds of an edge are multiplied: its resistance grows by −ln factor.
    ScaleEdge {
        /// Where it leaves.
        source: u32,
        /// Where it leads.
        target: u32,
        /// 0 or more.
        factor: f32,
    },
    /// An edge is closed.
    MuteEdge {
        /// Where it leaves.
        source: u32,
        /// Where it leads.
        target: u32,
    },
    /// The odds of every edge into a node are multiplied.
    ScaleNode {
        /// The node.
        node: u32,
        /// 0 or more.
        factor: f32,
    },
    /// A node is closed.
    MuteNode {
        /// The node.
        node: u32,
    },
    /// What the token at a position of the path adds to the blended signal is multiplied (graphs only).
    ScaleSignal {
        /// The position, from 0.
        position: usize,
        /// Any finite number.
        factor: f32,
    },
    /// The token at a position is taken out of the context of all later ones (graphs only).
    MuteSignal {
        /// The position, from 0.
        position: usize,
    },
    /// A new token is this node, whatever its energy.
    Force {
        /// The new token, from 0.
        step: usize,
        /// The node.
        node: u32,
    },
    /// Energy is added at a node for the choice of a new token.
    Inject {
        /// The new token, from 0.
        step: usize,
        /// The node.
        node: u32,
        /// The energy.
        energy: f32,
    },
}

/// Numbers added to the logits of nodes and of the targets of edges; −∞ for a factor of 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steering {
    nodes: BTreeMap<u32, f32>,
    edges: BTreeMap<(u32, u32), f32>,
}

/// A run's interventions, sorted by what they change.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) steering: Steering,
    pub(super) gains: BTreeMap<u64, f32>,
    pub(super) forced: BTreeMap<usize, u32>,
    pub(super) injected: Vec<(usize, u32, f32)>,
}

impl Changes {
    /// Sort interventions on a model of so many nodes.
    pub(super) fn of(interventions: &[Intervention], nodes: usize) -> Result<Self> {
        let mut changes = Self::default();
        for (index, one) in interventions.iter().enumerate() {
            changes
                .add(one, nodes)
                .map_err(|error| error.at(format!("intervention {index}")))?;
        }
        Ok(changes)
    }

    fn add(&mut self, one: &Intervention, nodes: usize) -> Result<()> {
        let invalid = |what: String| Err(Error::new(ErrorKind::Input, what));
        let check = |node: u32| check_node(node, nodes);
        match *one {
            Intervention::MuteEdge { source, target } => {
                let factor = 0.0;
                return self.add(
                    &Intervention::ScaleEdge {
                        source,
                        target,
                        factor,
                    },
                    nodes,
                );
            }
            Intervention::ScaleEdge {
                source,
                target,
                factor,
            } => {
                self.steering.scale_edge(source, target, factor, nodes)?;
            }
            Intervention::MuteNode { node } => {
                return self.add(&Intervention::ScaleNode { node, factor: 0.0 }, nodes);
            }
            Intervention::ScaleNode { node, factor } => {
                self.steering.scale_node(node, factor, nodes)?;
            }
            Intervention::MuteSignal { position } => {
                return self.add(
                    &Intervention::ScaleSignal {
                        position,
                        factor: 0.0,
                    },
                    nodes,
                );
            }
            Intervention::ScaleSignal { position, factor } => {
                if !factor.is_finite() {
                    return invalid(format!("a signal cannot be multiplied by {factor}"));
                }
                *self.gains.entry(position as u64).or_insert(1.0) *= factor;
            }
            Intervention::Force { step, node } => {
                check(node)?;
                self.forced.insert(step, node);
            }
            Intervention::Inject { step, node, energy } => {
                check(node)?;
                if !energy.is_finite() {
                    return invalid(format!("energy {energy} cannot be injected"));
                }
                self.injected.push((step, node, energy));
            }
        }
        Ok(())
    }

    /// Energy injected for one new token.
    pub(super) fn injected(&self, step: usize) -> impl Iterator<Item = (u32, f32)> + '_ {
        let here = self.injected.iter().filter(move |one| one.0 == step);
        here.map(|one| (one.1, one.2))
    }
}

fn check_node(node: u32, nodes: usize) -> Result<()> {
    if (node as usize) < nodes {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Input,
        format!("node {node} is outside the vocabulary of {nodes}"),
    ))
}

/// Return what a factor of the odds adds to a logit.
fn odds(factor: f32) -> Result<f32> {
    if factor >= 0.0 && factor.is_finite() {
        return Ok(factor.ln());
    }
    Err(Error::new(
        ErrorKind::Input,
        format!("odds cannot be multiplied by {factor}"),
    )
    .advice("pass a factor of at least 0"))
}

impl Steering {
    /// Multiply the odds of every edge into a node, of so many nodes.
    pub(crate) fn scale_node(&mut self, node: u32, factor: f32, nodes: usize) -> Result<()> {
        check_node(node, nodes)?;
        *self.nodes.entry(node).or_default() += odds(factor)?;
        Ok(())
    }

    /// Multiply the odds of an edge between two of so many nodes.
    pub(crate) fn scale_edge(
        &mut self,
        source: u32,
        target: u32,
        factor: f32,
        nodes: usize,
    ) -> Result<()> {
        check_node(source, nodes)?;
        check_node(target, nodes)?;
        *self.edges.entry((source, target)).or_default() += odds(factor)?;
        Ok(())
    }

    /// Add the changes of another to these.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (&node, logit) in &other.nodes {
            *self.nodes.entry(node).or_default() += logit;
        }
        for (&edge, logit) in &other.edges {
            *self.edges.entry(edge).or_default() += logit;
        }
    }

    /// Return the nodes whose logits change at a source, with the change.
    pub(crate) fn at(&self, source: u32) -> impl Iterator<Item = (u32, f32)> + '_ {
        let nodes = self.nodes.iter().map(|(&node, &logit)| (node, logit));
        let edges = self.edges.range((source, 0)..=(source, u32::MAX));
        nodes.chain(edges.map(|(&(_, target), &logit)| (target, logit)))
    }

    /// Return the hook that changes the logits of a graph; `None` where none change.
    pub(super) fn hook(&self) -> Option<Arc<dyn Edge>> {
        let empty = self.nodes.is_empty() && self.edges.is_empty();
        (!empty).then(|| Arc::new(self.clone()) as Arc<dyn Edge>)
    }
}

impl Edge for Steering {
    fn resist(&self, _: &Call<'_>, fan: &Fan<'_>, resistance: &mut [f32]) -> Result<Answer> {
        let mut answer = Answer::Declined;
        for (target, logit) in self.at(fan.source) {
            resistance[target as usize] -= logit;
            answer = Answer::Given;
        }
        Ok(answer)
    }
}
