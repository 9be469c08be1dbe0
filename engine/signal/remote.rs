//! Fans that another process holds: what a signal needs of them, and how a mechanism gets it.
//!
//! A rank may hold the own edges of some nodes alone. The signal stays where it is, with its hooks, its sampler and all that
//! nodes share; only the output of its node travels to the process that holds the fan, and energies or one pre-activation
//! come back. They are computed by the same code, so results have the bits of a mechanism that holds all edges.

use std::fmt::Debug;
use std::sync::Arc;

use crate::graph::NodeId;
use crate::signal::{EdgeForm, Flow, Mechanism, own};
use crate::{Error, ErrorKind, Result};

/// What a signal needs of the fan of its node.
#[derive(Clone, Debug, PartialEq)]
pub struct FanQuery {
    /// Node whose fan it is.
    pub node: u32,
    /// Hops that the signal has made, from which the row of the position table follows.
    pub step: u64,
    /// Whether the energies of all own edges are needed.
    pub energies: bool,
    /// Target of the own edge whose pre-activation is needed.
    pub target: Option<u32>,
    /// Output of the node. `[D]`
    pub output: Vec<f32>,
}

impl FanQuery {
    /// Return the query of a flow at its node.
    pub(crate) fn of(flow: &Flow, energies: bool, target: Option<u32>) -> Self {
        Self {
            node: flow.node,
            step: flow.step,
            energies,
            target,
            output: flow.output.clone(),
        }
    }
}

/// Own edges of which other processes hold some.
pub trait RemoteFans: Send + Sync + Debug {
    /// Whether this process holds the own edges of `node`.
    fn holds(&self, node: u32) -> bool;

    /// Return what [`Mechanism::compute`] returns in the process that holds the fan.
    ///
    /// # Errors
    /// Those of [`Mechanism::compute`] there, and of the exchange.
    fn fetch(&self, query: FanQuery) -> Result<Vec<f32>>;
}

impl Mechanism {
    /// Get the own edges of some nodes from other processes. This one reads, and verifies, only those that it holds.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for composed and layered edges, which belong to no node.
    pub fn with_remote_fans(mut self, fans: Arc<dyn RemoteFans>) -> Result<Self> {
        if self.profile.form != EdgeForm::Own {
            let what = "only own edges can be divided among processes";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .advice("every process holds the whole of a composed or layered model"));
        }
        self.remote = Some(fans);
        Ok(self)
    }

    /// Check that this process holds all edges, which `what` reads.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub(crate) fn check_whole(&self, what: &str) -> Result<()> {
        match &self.remote {
            None => Ok(()),
            Some(_) => {
                let what = format!("{what} needs all own edges, and ranks hold them in parts");
                Err(Error::new(ErrorKind::Unsupported, what).advice("run it in one process"))
            }
        }
    }

    /// Return where the own edges of a node are, unless this process holds them.
    pub(crate) fn remote_fan(&self, node: u32) -> Option<&dyn RemoteFans> {
        let remote = self.remote.as_deref()?;
        (!remote.holds(node)).then_some(remote)
    }

    /// Fetch energies or a pre-activation from the process that holds the fan.
    pub(crate) fn fetch(&self, remote: &dyn RemoteFans, query: FanQuery) -> Result<Vec<f32>> {
        let expected = self.answer_length(&query);
        let values = remote.fetch(query)?;
        if values.len() == expected {
            return Ok(values);
        }
        let what = format!("{} numbers of a fan, not {expected}", values.len());
        Err(Error::new(ErrorKind::Format, what))
    }

    /// Number of values that a query of a node of this graph is answered with: one for each own edge of the node, and D for a
    /// pre-activation.
    pub fn answer_length(&self, query: &FanQuery) -> usize {
        let fan = self.graph.own_slots(NodeId(query.node)).len();
        let energies = if query.energies { fan } else { 0 };
        energies + query.target.map_or(0, |_| self.profile.width)
    }

    /// Compute what a signal in another process needs of a fan that this one holds: the energies of the own edges of a node,
    /// in the order of targets, then the pre-activation over one of them.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a node outside the graph; [`ErrorKind::Format`] for an output of another width;
    /// [`ErrorKind::Checksum`] for a damaged fan.
    pub fn compute(&self, query: &FanQuery) -> Result<Vec<f32>> {
        for node in std::iter::once(query.node).chain(query.target) {
            self.check_node(node)?;
        }
        if query.output.len() != self.profile.width {
            let what = format!(
                "an output of {} numbers, not {}",
                query.output.len(),
                self.profile.width
            );
            return Err(Error::new(ErrorKind::Format, what));
        }
        let base = own::base(self, query.step);
        let mut values = match query.energies {
            true => own::fan_energies(self, query.node, &query.output, &base),
            false => Vec::new(),
        };
        if let Some(target) = query.target {
            let row = own::edge(self, query.node, target);
            values.extend(own::preactivation(self, &query.output, &base, &row));
        }
        Ok(values)
    }
}
