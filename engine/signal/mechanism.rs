//! The mechanism: a graph, its weights and a profile, through which signals flow. Shared and immutable.

use crate::graph::{NodeId, TokenGraph};
use crate::kernel::logits::{self, Static};
use crate::signal::{EdgeForm, Flow, Profile, Start, Weights, composed, own};
use crate::{Error, ErrorKind, Result};

/// Verifies what belongs to a node's fan the first time a signal reaches it.
#[derive(Clone)]
pub struct FanVerifier(pub std::sync::Arc<dyn Fn(u32) -> Result<()> + Send + Sync>);

impl std::fmt::Debug for FanVerifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FanVerifier")
    }
}

/// Everything a flow needs, without any text: `Send + Sync`, one for any number of flows.
#[derive(Clone, Debug)]
pub struct Mechanism {
    pub(crate) profile: Profile,
    pub(crate) graph: TokenGraph,
    pub(crate) weights: Weights,
    /// ‖β_v‖² of composed targets. `[V]`
    pub(crate) target_norm2: Vec<f32>,
    /// The position table's first rows, where the profile has one.
    pub(crate) table: Vec<Vec<f32>>,
    verifier: Option<FanVerifier>,
}

impl Mechanism {
    /// Joins a graph and its weights.
    ///
    /// # Errors
    /// Whatever [`Profile::check`] finds; [`ErrorKind::Numeric`] for a small parameter that is not finite.
    pub fn new(profile: Profile, graph: TokenGraph, weights: Weights) -> Result<Self> {
        profile.check()?;
        for name in [
            "scalars",
            "blend.positions",
            "blend.decay",
            "node.bias",
            "node.trust",
            "edge.mix",
            "node.gain",
        ] {
            if let Some(place) = weights
                .values(name)
                .iter()
                .position(|value| !value.is_finite())
            {
                return Err(Error::new(ErrorKind::Numeric, "a value is not finite")
                    .at(format!("block {name}, index {place}"))
                    .advice("the model is damaged or its training diverged"));
            }
        }
        let mut target_norm2 = Vec::new();
        if profile.form == EdgeForm::Composed {
            let target = weights.table("node.target");
            let mut row = vec![0.0; profile.width];
            for node in 0..graph.nodes() {
                target.read_row(node, &mut row);
                target_norm2.push(row.iter().map(|value| value * value).sum());
            }
        }
        let rows = if profile.position_table {
            profile.positions + 1
        } else {
            0
        };
        let table = (0..rows.min(1025))
            .map(|position| {
                let mut row = vec![0.0; profile.width];
                profile.position_row(position, &mut row);
                row
            })
            .collect();
        Ok(Self {
            profile,
            graph,
            weights,
            target_norm2,
            table,
            verifier: None,
        })
    }

    /// Has `verifier` verify each fan before a signal first leaves its node.
    #[must_use]
    pub fn with_verifier(mut self, verifier: FanVerifier) -> Self {
        self.verifier = Some(verifier);
        self
    }

    /// The same graph and profile with other weights.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_weights(&self, weights: Weights) -> Result<Self> {
        Self::new(self.profile.clone(), self.graph.clone(), weights)
    }

    /// The profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The graph.
    pub fn graph(&self) -> &TokenGraph {
        &self.graph
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Number of nodes, `V`.
    pub fn nodes(&self) -> usize {
        self.graph.nodes()
    }

    /// A row of the position table, or zeros. `[D]`
    pub(crate) fn position_row(&self, position: usize) -> Vec<f32> {
        if !self.profile.position_table {
            return vec![0.0; self.profile.width];
        }
        self.table.get(position).cloned().unwrap_or_else(|| {
            let mut row = vec![0.0; self.profile.width];
            self.profile.position_row(position, &mut row);
            row
        })
    }

    pub(crate) fn check_node(&self, node: u32) -> Result<()> {
        if node as usize >= self.nodes() {
            return Err(Error::new(
                ErrorKind::Input,
                format!("token {node} is outside the vocabulary of {}", self.nodes()),
            ));
        }
        self.verifier
            .as_ref()
            .map_or(Ok(()), |verifier| verifier.0(node))
    }

    /// A signal at its first node.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a node outside the graph or a start vector of another width.
    pub fn begin(&self, node: u32, start: &Start) -> Result<Flow> {
        self.begin_scaled(node, start, 1.0)
    }

    /// As [`Self::begin`], with what the node adds to the signal of the path multiplied by `gain`.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_scaled(&self, node: u32, start: &Start, gain: f32) -> Result<Flow> {
        self.check_node(node)?;
        if let Start::Vector(vector) = start
            && (vector.len() != self.profile.width || vector.iter().any(|value| !value.is_finite()))
        {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "a start signal must be {} finite numbers",
                    self.profile.width
                ),
            ));
        }
        let mut flow = Flow {
            node,
            step: 0,
            signal: vec![0.0; self.profile.width],
            banks: vec![0.0; self.profile.banks * self.profile.width],
            normaliser: 0.0,
            output: vec![0.0; self.profile.width],
            blended: Vec::new(),
        };
        match self.profile.form {
            EdgeForm::Own => own::begin(self, &mut flow, start, gain),
            EdgeForm::Composed => composed::begin(self, &mut flow, start, gain),
        }
        Ok(flow)
    }

    /// The vector that a signal starts from, before the node's own start is added. `[D]`
    pub fn start_vector(&self, start: &Start) -> Vec<f32> {
        let width = self.profile.width;
        start
            .vector(width)
            .unwrap_or_else(|| match self.profile.form {
                EdgeForm::Composed => vec![0.0; width],
                EdgeForm::Own => (0..width)
                    .map(|column| self.profile.start_level(column) as f32)
                    .collect(),
            })
    }

    /// Walks the edge from where the flow is to `target`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a target outside the graph; [`ErrorKind::Unsupported`] past the position
    /// limit of a profile that has one; [`ErrorKind::Numeric`] when the signal is no longer finite.
    pub fn hop(&self, flow: &mut Flow, target: u32) -> Result<()> {
        self.hop_scaled(flow, target, 1.0)
    }

    /// As [`Self::hop`], with what the target adds to the signal of the path multiplied by `gain`: 0 takes the
    /// token out of the context of all later ones.
    ///
    /// # Errors
    /// As [`Self::hop`].
    pub fn hop_scaled(&self, flow: &mut Flow, target: u32, gain: f32) -> Result<()> {
        self.check_node(target)?;
        self.check_step(flow)?;
        match self.profile.form {
            EdgeForm::Own => own::hop(self, flow, target, gain),
            EdgeForm::Composed => composed::hop(self, flow, target, gain),
        }
        flow.node = target;
        flow.step += 1;
        if flow.output.iter().any(|value| !value.is_finite()) {
            return Err(
                Error::new(ErrorKind::Numeric, "the signal is no longer finite")
                    .at(format!("step {}, node {target}", flow.step))
                    .advice("the weights hold values that are not finite, or far too large"),
            );
        }
        Ok(())
    }

    /// Whether the flow may take another hop.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] past the position limit of a profile that has one.
    pub fn check_step(&self, flow: &Flow) -> Result<()> {
        if self.profile.position_limit && flow.step >= self.profile.positions as u64 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "a path of the {} profile ends after {} hops",
                    self.profile.name, self.profile.positions
                ),
            )
            .advice("start a new session, or give the model a profile without `position-limit`"));
        }
        Ok(())
    }

    /// Energy with which the signal reaches every node, over every edge. `energies [V]`
    ///
    /// ‖z‖ or ‖z‖² as the profile says (the paper's equation 4).
    pub fn energies(&self, flow: &Flow, energies: &mut [f32]) {
        match self.profile.form {
            EdgeForm::Own => own::energies(self, flow, energies),
            EdgeForm::Composed => composed::energies(self, flow, energies),
        }
    }

    /// Turn energies into logits, whose softmax over all V is the distribution of the next node.
    ///
    /// Energies above rest times α, target biases and static resistances: see [`crate::kernel::logits`].
    /// `energies [V]` → `logits [V]`
    pub fn logits(&self, flow: &Flow, energies: &[f32], logits: &mut [f32]) {
        let scalars = self.weights.values("scalars");
        let alpha = scalars.first().map_or(1.0, |value| value.exp());
        match self.profile.form {
            EdgeForm::Own => logits::own(alpha, energies, logits),
            EdgeForm::Composed => {
                logits::composed(alpha, &flow.output, &self.target_norm2, energies, logits);
                composed::subtract_rest(self, flow.node, alpha, logits);
            }
        }
        let resistance = self.graph.resistance();
        let source = resistance.source()[flow.node as usize];
        let fan = self.graph.fan(NodeId(flow.node));
        let lifts = fan.targets.iter().zip(fan.resistances);
        let lifts = lifts
            .map(|(&target, &seen)| (target, source + resistance.target()[target as usize] - seen));
        let mut fixed = Static {
            bias: &[],
            prior_weight: 0.0,
            resistance: &[],
        };
        if self.profile.target_bias {
            fixed.bias = self.weights.values("node.bias");
        }
        if self.profile.static_resistance {
            let gamma = scalars.get(1).copied().unwrap_or(1.0);
            fixed.prior_weight = gamma + self.weights.values("node.trust")[flow.node as usize];
            fixed.resistance = resistance.target();
        }
        fixed.add(lifts, logits);
    }
}
