//! The mechanism: a graph, its weights and a profile.

use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::Xxh3;

use crate::graph::TokenGraph;
use crate::kernel::logits::{self, Static};
use crate::kernel::vector;
use crate::signal::{EdgeForm, Flow, Profile, RemoteFans, Start, Weights, composed, layered, own};
use crate::{Error, ErrorKind, Result};

/// Callback that verifies the stored bytes of a node's fan, and of the edge that all share, when a signal first reaches the
/// node; `None` for the shared edge alone.
#[derive(Clone)]
pub struct FanVerifier(pub Arc<dyn Fn(Option<u32>) -> Result<()> + Send + Sync>);

impl std::fmt::Debug for FanVerifier {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FanVerifier")
    }
}

/// A graph, its weights and a [`Profile`]: everything a signal needs, and no text.
///
/// Immutable and `Send + Sync`: one mechanism serves any number of flows. A [`Flow`] is the state of one path, which
/// [`begin`](Self::begin) creates and [`hop`](Self::hop) moves along an edge. In between,
/// [`energies`](Self::energies) computes the energy of every next node and [`logits`](Self::logits) turns energies
/// into logits; choosing among them is the task of [`crate::path`]. [`Profile`] has the equations.
///
/// ```
/// use brillm::graph::TokenGraph;
/// use brillm::kernel::table::Table;
/// use brillm::signal::{Mechanism, Profile, Start, Weights};
/// // Three tokens: 0 → 1 was counted four times, 0 → 2 and 1 → 2 once.
/// let graph = TokenGraph::from_edges(3, &[(0, 1, 4), (0, 2, 1), (1, 2, 1)])?;
/// let profile = Profile::sifu(8);
/// // Untrained: all zero but γ, the weight of the static resistances, so the counts decide.
/// let weights = Weights::gather(&profile, graph.nodes(), graph.own_edges(), |block| {
///     let mut values = vec![0.0; block.rows * block.columns];
///     if block.name == "scalars" {
///         values[1] = 1.0;
///     }
///     Ok(Some(Table::of(&values, block.rows, block.columns)))
/// })?;
/// let mechanism = Mechanism::new(profile, graph, weights)?;
/// let mut flow = mechanism.begin(0, &Start::Profile)?;
/// let (mut energies, mut logits) = ([0.0; 3], [0.0; 3]);
/// mechanism.energies(&flow, &mut energies)?;
/// mechanism.logits(&flow, &energies, &mut logits);
/// assert!(logits[1] > logits[2]);
/// mechanism.hop(&mut flow, 1)?;
/// assert_eq!((flow.node, flow.step), (1, 1));
/// # Ok::<(), brillm::Error>(())
/// ```
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
    /// Where the fans are that this process does not hold.
    pub(super) remote: Option<Arc<dyn RemoteFans>>,
    fingerprint: OnceLock<String>,
    /// Order of the static resistances that logits contain.
    order: usize,
}

/// Bytes of a block up to which a fingerprint covers all of them.
const WHOLE: usize = 64 << 20;
/// Number and length of the pieces of a larger block that a fingerprint covers, evenly spaced.
const PIECES: (usize, usize) = (1024, 4096);

impl Mechanism {
    /// Join a graph and its weights.
    ///
    /// # Errors
    /// As [`Profile::check`]; [`ErrorKind::Numeric`] for a small parameter that is not finite.
    pub fn new(profile: Profile, graph: TokenGraph, weights: Weights) -> Result<Self> {
        profile.check()?;
        // Small blocks enter every hop, so one NaN spreads to all tokens. Large tables are not read here:
        // `hop` reports what they hold.
        for name in [
            "scalars",
            "blend.positions",
            "blend.decay",
            "node.bias",
            "node.trust",
            "edge.mix",
            "node.gain",
            "layer.gain",
            "layer.edge_bias",
            "read.gain",
            "read.bias",
        ] {
            if let Some(index) = weights
                .values(name)
                .iter()
                .position(|value| !value.is_finite())
            {
                return Err(Error::new(ErrorKind::Numeric, "a value is not finite")
                    .at(format!("block {name}, index {index}"))
                    .advice("the model is damaged or its training diverged"));
            }
        }
        // ‖β‖² does not depend on the path: computed once, used at every step.
        let mut target_norm2 = Vec::new();
        if profile.form != EdgeForm::Own {
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
        // The position table is a pure function of the row: 1025 rows are kept, later ones are computed.
        let table = (0..rows.min(1025))
            .map(|position| {
                let mut row = vec![0.0; profile.width];
                profile.position_row(position, &mut row);
                row
            })
            .collect();
        Ok(Self {
            order: graph.order(),
            profile,
            graph,
            weights,
            target_norm2,
            table,
            verifier: None,
            remote: None,
            fingerprint: OnceLock::new(),
        })
    }

    /// Call `verifier` for each fan before a signal first leaves its node.
    #[must_use]
    pub fn with_verifier(mut self, verifier: FanVerifier) -> Self {
        self.verifier = Some(verifier);
        self
    }

    /// Order of the static resistances that logits contain: 2 for those of edges, up to 5 with longer walks.
    pub fn order(&self) -> usize {
        self.order
    }

    /// Use static resistances of a lower order than those of the graph, for example 2 for those of edges alone.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an order below 2 or above that of the graph.
    pub fn with_order(mut self, order: usize) -> Result<Self> {
        let highest = self.graph.order();
        if !(2..=highest).contains(&order) {
            let range = match highest {
                2 => "this model has order 2 only".to_string(),
                _ => format!("expected 2 to {highest}, the order of this model"),
            };
            let what = format!("invalid order {order}: {range}");
            return Err(Error::new(ErrorKind::Input, what));
        }
        self.order = order;
        Ok(self)
    }

    /// Create a mechanism with the same graph and profile and other weights.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_weights(&self, weights: Weights) -> Result<Self> {
        Ok(Self {
            order: self.order,
            ..Self::new(self.profile.clone(), self.graph.clone(), weights)?
        })
    }

    /// Compute a checksum that identifies the model, of 16 hexadecimal digits: XXH3-64 over profile, graph and weights.
    ///
    /// Of blocks above 64 MiB, pieces are read, so that a large mapped file is not read whole. Computed once.
    pub fn fingerprint(&self) -> String {
        let compute = || {
            let mut hash = Xxh3::new();
            let mut add = |name: &str, bytes: &[u8]| {
                hash.update(name.as_bytes());
                hash.update(&(bytes.len() as u64).to_le_bytes());
                if bytes.len() <= WHOLE {
                    return hash.update(bytes);
                }
                let last = bytes.len() - PIECES.1;
                for piece in 0..PIECES.0 {
                    let begin = last / (PIECES.0 - 1) * piece;
                    hash.update(&bytes[begin..begin + PIECES.1]);
                }
            };
            // A profile is plain numbers and switches, which always have a JSON form.
            add(
                "profile",
                &serde_json::to_vec(&self.profile).unwrap_or_default(),
            );
            add("graph.rows", bytemuck::cast_slice(self.graph.rows()));
            add("graph.targets", bytemuck::cast_slice(self.graph.targets()));
            add("graph.counts", bytemuck::cast_slice(self.graph.counts()));
            if let Some(paths) = self.graph.paths() {
                paths.each_block(&mut add);
            }
            self.weights.each_block(add);
            format!("{:016x}", hash.digest())
        };
        self.fingerprint.get_or_init(compute).clone()
    }

    /// Switches of the mechanism.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Graph whose edges signals follow.
    pub fn graph(&self) -> &TokenGraph {
        &self.graph
    }

    /// Parameters.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Number of nodes, `V`.
    pub fn nodes(&self) -> usize {
        self.graph.nodes()
    }

    /// Return a row of the position table, or zeros. `[D]`
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
        // Verified on first use: opening a large model does not read all of it. Another process verifies what it holds.
        let held = self.remote_fan(node).is_none().then_some(node);
        self.verifier
            .as_ref()
            .map_or(Ok(()), |verifier| verifier.0(held))
    }

    /// Start a signal at its first node.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a node outside the graph or a start vector of another width.
    pub fn begin(&self, node: u32, start: &Start) -> Result<Flow> {
        self.begin_scaled(node, start, 1.0)
    }

    /// Start a signal, with the signal of the first node multiplied by `gain`.
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
            earlier: Vec::new(),
            step: 0,
            signal: vec![0.0; self.profile.width],
            banks: vec![0.0; self.profile.memory()],
            normaliser: 0.0,
            output: vec![0.0; self.profile.width],
            blended: Vec::new(),
        };
        match self.profile.form {
            EdgeForm::Own => own::begin(self, &mut flow, start, gain),
            EdgeForm::Composed => composed::begin(self, &mut flow, start, gain),
            EdgeForm::Layered => layered::begin(self, &mut flow, start, gain),
        }
        Ok(flow)
    }

    /// Return the vector that a signal starts from, before the node's own start is added. `[D]`
    pub fn start_vector(&self, start: &Start) -> Vec<f32> {
        let width = self.profile.width;
        start
            .vector(width)
            .unwrap_or_else(|| match self.profile.form {
                EdgeForm::Composed | EdgeForm::Layered => vec![0.0; width],
                EdgeForm::Own => (0..width)
                    .map(|column| self.profile.start_level(column) as f32)
                    .collect(),
            })
    }

    /// Move the flow along the edge from its node to `target`.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a target outside the graph; [`ErrorKind::Unsupported`] past the position
    /// limit of a profile that has one; [`ErrorKind::Numeric`] when the signal is no longer finite; those of a fan that
    /// another process holds.
    pub fn hop(&self, flow: &mut Flow, target: u32) -> Result<()> {
        self.hop_scaled(flow, target, 1.0)
    }

    /// Move the flow along an edge, with the signal of the target multiplied by `gain`: 0 removes the token from the
    /// context of all later ones.
    ///
    /// # Errors
    /// As [`Self::hop`].
    pub fn hop_scaled(&self, flow: &mut Flow, target: u32, gain: f32) -> Result<()> {
        self.hop_known(flow, target, gain, None)
    }

    /// As [`Self::hop_scaled`], over an own edge whose pre-activation may be known from [`Self::energies_before`].
    pub(crate) fn hop_known(
        &self,
        flow: &mut Flow,
        target: u32,
        gain: f32,
        known: Option<Vec<f32>>,
    ) -> Result<()> {
        self.check_node(target)?;
        self.check_step(flow)?;
        let source = flow.node;
        match self.profile.form {
            EdgeForm::Own => own::hop(self, flow, target, gain, known)?,
            EdgeForm::Composed => composed::hop(self, flow, target, gain),
            EdgeForm::Layered => layered::hop(self, flow, target, gain),
        }
        flow.node = target;
        flow.step += 1;
        // The longest walk of the graph has order − 1 nodes, and the last of them is the node itself.
        let kept = self.graph.order() - 2;
        if kept > 0 {
            flow.earlier.push(source);
            let excess = flow.earlier.len().saturating_sub(kept);
            flow.earlier.drain(..excess);
        }
        // One look at the output finds what an overflow in weights, signal or banks leads to.
        if flow.output.iter().any(|value| !value.is_finite()) {
            return Err(
                Error::new(ErrorKind::Numeric, "the signal is no longer finite")
                    .at(format!("step {}, node {target}", flow.step))
                    .advice("the weights hold values that are not finite, or far too large"),
            );
        }
        Ok(())
    }

    /// Check that the flow may take another hop.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] past the position limit of a profile that has one.
    pub fn check_step(&self, flow: &Flow) -> Result<()> {
        if self.profile.position_limit && flow.step >= self.profile.positions as u64 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "position limit reached: a path of the {} profile has at most {} hops",
                    self.profile.name, self.profile.positions
                ),
            )
            .advice("start a new session, or give the model a profile without `position-limit`"));
        }
        Ok(())
    }

    /// Compute the key of the flow's node in its context: a unit vector, similar where similar nodes follow. `[D]`
    ///
    /// Over layered edges the signal as the read-out sees it, over composed edges h, over own edges the signal.
    pub fn key(&self, flow: &Flow) -> Vec<f32> {
        let mut key = match self.profile.form {
            EdgeForm::Own => flow.signal.clone(),
            EdgeForm::Composed => flow.output.clone(),
            EdgeForm::Layered => layered::normal(self, &flow.signal),
        };
        let norm = vector::dot(&key, &key).sqrt();
        // A signal of zero has no direction: its key stays zero, as far from all others as they are on average.
        if norm.is_normal() {
            vector::scale(1.0 / norm, &mut key);
        }
        key
    }

    /// Compute the energy with which the signal reaches every node. `energies [V]`
    ///
    /// ‖c‖ or ‖c‖² over own edges (the paper's equation 4), ‖h + β_t‖² over composed and layered ones.
    ///
    /// # Errors
    /// Those of a fan that another process holds; none in one process.
    pub fn energies(&self, flow: &Flow, energies: &mut [f32]) -> Result<()> {
        self.energies_before(flow, None, energies).map(drop)
    }

    /// As [`Self::energies`], before a hop to `next` if that is known. Where another process holds the fan, returns the
    /// pre-activation of that hop, so that one exchange is enough for both.
    pub(crate) fn energies_before(
        &self,
        flow: &Flow,
        next: Option<u32>,
        energies: &mut [f32],
    ) -> Result<Option<Vec<f32>>> {
        match self.profile.form {
            EdgeForm::Own => own::energies(self, flow, next, energies),
            EdgeForm::Composed | EdgeForm::Layered => {
                composed::energies(self, flow, energies);
                Ok(None)
            }
        }
    }

    /// Turn energies into logits, whose softmax over all V is the distribution of the next node.
    ///
    /// Energies above rest times α, target biases and static resistances: see [`crate::kernel::logits`].
    /// `energies [V]` → `logits [V]`
    pub fn logits(&self, flow: &Flow, energies: &[f32], logits: &mut [f32]) {
        let alpha = self.alpha();
        match self.profile.form {
            EdgeForm::Own => logits::own(alpha, energies, logits),
            EdgeForm::Composed | EdgeForm::Layered => {
                logits::composed(alpha, &flow.output, &self.target_norm2, energies, logits);
                composed::subtract_rest(self, flow.node, alpha, logits);
            }
        }
        let fixed = self.fixed(flow.node);
        // Of −ln p = source + target − lifts, the softmax cancels the source: what is left is w_u (R_t − Σ lift_t).
        let lifts = self.graph.lifts(flow.node, &flow.earlier, self.order);
        fixed.add(lifts, logits);
    }

    /// Return α, the factor of energies in logits.
    pub(crate) fn alpha(&self) -> f32 {
        // α > 0 is stored as its logarithm, so that training cannot change its sign.
        let scalars = self.weights.values("scalars");
        scalars.first().map_or(1.0, |value| value.exp())
    }

    /// Return what logits contain besides energies when the signal is at `node`.
    pub(crate) fn fixed(&self, node: u32) -> Static<'_, f32> {
        let scalars = self.weights.values("scalars");
        let mut fixed = Static {
            bias: &[],
            prior_weight: 0.0,
            resistance: &[],
        };
        if self.profile.target_bias {
            fixed.bias = self.weights.values("node.bias");
        }
        if self.profile.static_resistance {
            // w_u = γ + a weight of the source: sources with many counts rely more on them.
            let gamma = scalars.get(1).copied().unwrap_or(1.0);
            fixed.prior_weight = gamma + self.weights.values("node.trust")[node as usize];
            fixed.resistance = self.graph.resistance_within(self.order).target();
        }
        fixed
    }
}
