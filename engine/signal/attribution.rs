//! Attribution: the exact contribution of each earlier token to the pre-activation of an edge.
//!
//! Given the gates of a path, the output of a node is linear in every signal before it (see
//! [`crate::kernel::blend`]), and so is the pre-activation of an edge. [`Attribution`] keeps the weight of every past
//! signal in the banks, and [`Attribution::split`] runs the linear part of the forward pass on each of them alone, in
//! f64. The terms that do not depend on the past are contributions of their own: the edge's bias, the row of the
//! position table, the offset of the source, the factor of the target.

use crate::kernel::composed::{Factors, Shared};
use crate::kernel::real::Real;
use crate::kernel::table::Table;
use crate::signal::composed::NodeRows;
use crate::signal::layered::Edge;
use crate::signal::{BlendKind, EdgeForm, Flow, Mechanism, blend, composed, own};
use crate::{Result, kernel};

/// Source of a contribution to a pre-activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContributionSource {
    /// The signal of `node`, the token at `position` of the path (from 0).
    Token {
        /// The position in the path.
        position: usize,
        /// The token there.
        node: u32,
    },
    /// The bias of the edge: its own, the shared edge's, or that of its residual.
    Bias,
    /// The row of the position table.
    Position,
    /// The offset of the source node (composed edges), or its own signal s⁰ (layered edges).
    Source,
    /// The factor of the target node (composed and layered edges).
    Target,
    /// The signal before the last of several layers: it holds earlier tokens too, but is not split (layered edges).
    Layers,
}

/// One term of a pre-activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// Where it comes from.
    pub source: ContributionSource,
    /// Its value. `[D]`
    pub vector: Vec<f64>,
}

/// The pre-activation of an edge and its contributions.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeAttribution {
    /// Target of the edge.
    pub target: u32,
    /// The pre-activation as the engine computes it: `x W + b + PE` of own edges, `h + β + ρ + r` of composed
    /// ones. The contributions add up to it, but for rounding. `[D]`
    pub preactivation: Vec<f32>,
    /// Contributions, tokens first.
    pub contributions: Vec<Contribution>,
}

impl EdgeAttribution {
    /// ‖z‖₂ of the pre-activation.
    pub fn norm(&self) -> f64 {
        let square = |&z: &f32| f64::from(z).powi(2);
        self.preactivation.iter().map(square).sum::<f64>().sqrt()
    }

    /// Project each contribution onto the pre-activation, `contribution · z/‖z‖`. The values add up to ‖z‖; all are
    /// zero where z is.
    pub fn values(&self) -> Vec<f64> {
        let norm = self.norm();
        // contribution · z/‖z‖: contributions that add up to z give numbers that add up to z · z/‖z‖ = ‖z‖.
        let along = |contribution: &Contribution| {
            if norm == 0.0 {
                return 0.0;
            }
            let both = contribution.vector.iter().zip(&self.preactivation);
            both.map(|(p, &z)| p * f64::from(z)).sum::<f64>() / norm
        };
        self.contributions.iter().map(along).collect()
    }
}

/// A past signal with its weight in each bank.
#[derive(Clone, Debug)]
pub(super) struct PastSignal {
    pub(super) position: usize,
    node: u32,
    /// `[D]`
    pub(super) signal: Vec<f32>,
    /// `(1 − λ_j) Π λ_i` over the later i. `[K·D]`
    pub(super) weights: Vec<f64>,
}

/// The weight of every past signal of a path in its blend; updated after each hop of the flow.
///
/// # Complexity
/// O(T·K·D) memory for T tokens, and as much time per hop.
#[derive(Clone, Debug)]
pub struct Attribution {
    pub(super) past: Vec<PastSignal>,
    normaliser: f64,
    pub(super) positions: usize,
    /// Of layered edges: the normalised signal of the last node before the last layer, and the gate 2 σ(o) of what that
    /// layer adds. `[D]`, `[D]`
    pub(super) last_layer: (Vec<f32>, Vec<f32>),
}

impl Attribution {
    /// Start with a flow that has just begun.
    pub fn begin(mechanism: &Mechanism, flow: &Flow) -> Self {
        let mut attribution = Self {
            past: Vec::new(),
            normaliser: 0.0,
            positions: 0,
            last_layer: Default::default(),
        };
        // The paper's start flows into the first hop and is not remembered.
        if !starts_unblended(mechanism) {
            attribution.hop(mechanism, flow);
        } else {
            attribution.positions = 1;
        }
        attribution
    }

    /// Add the signal of the hop that the flow has just taken.
    pub fn hop(&mut self, mechanism: &Mechanism, flow: &Flow) {
        let (signal, lambda) = match mechanism.profile.form {
            EdgeForm::Own | EdgeForm::Composed => {
                (flow.signal.clone(), self.lambda(mechanism, flow))
            }
            EdgeForm::Layered => self.last_edge(mechanism, flow),
        };
        // m ← λ m + (1 − λ) c: earlier weights shrink by λ, the new signal enters with 1 − λ.
        for past_signal in &mut self.past {
            for (weight, &l) in past_signal.weights.iter_mut().zip(&lambda) {
                *weight *= l;
            }
        }
        self.past.push(PastSignal {
            position: self.positions,
            node: flow.node,
            signal,
            weights: lambda.into_iter().map(|l| 1.0 - l).collect(),
        });
        self.positions += 1;
    }

    /// Compute λ of the hop that the flow has just taken. `[K·D]`
    fn lambda(&mut self, mechanism: &Mechanism, flow: &Flow) -> Vec<f64> {
        // A flow does not keep λ: compute that of the hop again, from the same gates.
        let gates = blend::gates(mechanism, &mut self.normaliser, self.past.len());
        let node_gate = blend::node_gate(mechanism, flow.node);
        let mut lambda = vec![0.0; flow.banks.len()];
        kernel::blend::gates(gates, |_| &node_gate, &flow.signal, &mut lambda);
        lambda
    }

    /// Compute c and λ of the last layer at the hop that the flow has just taken. `[w]`, `[K·w]`
    fn last_edge(&mut self, mechanism: &Mechanism, flow: &Flow) -> (Vec<f32>, Vec<f64>) {
        let (profile, d) = (&mechanism.profile, mechanism.profile.width);
        let (source, gate) = &mut self.last_layer;
        // No edge leads to the first node.
        source.resize(d, 0.0);
        let last = profile.layers - 1;
        let node = &flow.blended[last * d..];
        let nodes = [node, source].concat();
        // c and λ do not depend on the banks.
        let mut banks = vec![0.0; profile.widths().memory()];
        let edge = Edge::read(mechanism, last, &nodes, &mut banks);
        *gate = edge.gate(profile.widths());
        source.copy_from_slice(node);
        (edge.signal, widen(&edge.lambda))
    }

    /// Split the pre-activation of the edge from the flow's node to `target`.
    ///
    /// # Errors
    /// As [`Mechanism::hop`] for a target outside the graph; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)
    /// where other processes hold some of the own edges.
    ///
    /// # Complexity
    /// O(T·D²) for own edges, O(T·K·D²) for composed ones, O(T·K·w·D) for layered ones.
    pub fn split(
        &self,
        mechanism: &Mechanism,
        flow: &Flow,
        target: u32,
    ) -> Result<EdgeAttribution> {
        mechanism.check_whole("attribution")?;
        mechanism.check_node(target)?;
        Ok(match mechanism.profile.form {
            EdgeForm::Own => self.own(mechanism, flow, target),
            EdgeForm::Composed => self.composed(mechanism, flow, target),
            EdgeForm::Layered => self.layered(mechanism, flow, target),
        })
    }

    /// Split h of layered edges: what the last layer added, by the token whose edge left it in the memory, and the
    /// signal before it. Both pass the same read-out, of which the root mean square is one number.
    fn layered(&self, mechanism: &Mechanism, flow: &Flow, target: u32) -> EdgeAttribution {
        let (profile, weights) = (&mechanism.profile, &mechanism.weights);
        let d = profile.width;
        let last = profile.layers - 1;
        let mix = transposed(weights.table("layer.mix"), last * d..(last + 1) * d);
        let read = transposed(weights.table("read.mix"), 0..d);
        let mut terms = vec![0.0; self.past.len() * d];
        f64::product(&self.blended(), &mix, d, &mut terms);
        for term in terms.chunks_exact_mut(d) {
            for (term, &gate) in term.iter_mut().zip(&self.last_layer.1) {
                *term *= f64::from(gate);
            }
        }
        // The signal before the last layer is what it did not add.
        let mut before = widen(&flow.signal);
        for term in terms.chunks_exact(d) {
            kernel::vector::reference_add_scaled(-1.0, term, &mut before);
        }
        terms.extend(before);
        let (mut inverse, mut normal) = ([0.0], vec![0.0; d]);
        let gain = widen(weights.values("read.gain"));
        let signal = widen(&flow.signal);
        kernel::layered::normalise(&signal, &gain, 1.0, &mut inverse, &mut normal);
        for term in terms.chunks_exact_mut(d) {
            for (term, gain) in term.iter_mut().zip(&gain) {
                *term *= gain * inverse[0];
            }
        }
        let mut outputs = vec![0.0; terms.len()];
        f64::product(&terms, &read, d, &mut outputs);
        let rest = match profile.layers {
            1 => ContributionSource::Source,
            _ => ContributionSource::Layers,
        };
        let sources = self.past.iter().map(PastSignal::source).chain([rest]);
        let mut contributions: Vec<Contribution> = sources
            .zip(outputs.chunks_exact(d))
            .map(|(source, vector)| Contribution {
                source,
                vector: vector.to_vec(),
            })
            .collect();
        let beta = weights.row("node.target", target as usize);
        let fixed = [
            (ContributionSource::Bias, weights.values("read.bias")),
            (ContributionSource::Target, &beta),
        ];
        contributions.extend(fixed.map(|(source, values)| Contribution {
            source,
            vector: widen(values),
        }));
        let mut preactivation = flow.output.clone();
        kernel::vector::add_scaled(1.0, &beta, &mut preactivation);
        EdgeAttribution {
            target,
            preactivation,
            contributions,
        }
    }

    fn own(&self, mechanism: &Mechanism, flow: &Flow, target: u32) -> EdgeAttribution {
        let width = mechanism.profile.width;
        let row = own::edge(mechanism, flow.node, target);
        let base = own::base(mechanism, flow.step);
        let (matrix, bias) = row.split_at(width * width);
        let matrix = widen(matrix);
        let mix = widen(mechanism.weights.values("blend.mix"));
        // The output is linear in each past signal: run the blend's output on its weights alone.
        let mut outputs: Vec<(ContributionSource, Vec<f64>)> = Vec::new();
        for (index, past) in self.past.iter().enumerate() {
            let signal = widen(&past.signal);
            let banks: Vec<f64> = past.banks(&signal).collect();
            let mut output = vec![0.0; width];
            let direct = if index + 1 == self.past.len() {
                signal
            } else {
                vec![0.0; width]
            };
            kernel::own::output(&mix, &direct, &banks, &mut output);
            outputs.push((past.source(), output));
        }
        // Under the position blend nothing is blended before the first hop: the start alone feeds it.
        if self.past.is_empty() {
            let first = ContributionSource::Token {
                position: 0,
                node: flow.node,
            };
            outputs.push((first, widen(&flow.output)));
        }
        // x_j W of each past signal; b and PE follow, which do not depend on the path.
        let mut contributions: Vec<Contribution> = outputs
            .into_iter()
            .map(|(source, x)| {
                let mut vector = vec![0.0; width];
                f64::product(&x, &matrix, width, &mut vector);
                Contribution { source, vector }
            })
            .collect();
        let mut push = |source, values: &[f32]| {
            let vector = widen(values);
            contributions.push(Contribution { source, vector });
        };
        push(ContributionSource::Bias, bias);
        if mechanism.profile.position_table {
            push(ContributionSource::Position, &base);
        }
        EdgeAttribution {
            target,
            preactivation: own::preactivation(mechanism, &flow.output, &base, &row),
            contributions,
        }
    }

    fn composed(&self, mechanism: &Mechanism, flow: &Flow, target: u32) -> EdgeAttribution {
        let (width, weights) = (mechanism.profile.width, &mechanism.weights);
        let (x, rows) = (self.blended(), self.past.len());
        let node = NodeRows::read(mechanism, flow.node);
        let factors = node.factors();
        let mut outputs = outputs_alone(mechanism, &factors, &x, rows);
        // ρ = (x B) C of the edge's own residual.
        let own = composed::residual_row(mechanism, flow.node, target)
            .map(|edge_row| weights.row("edge.residual", edge_row));
        if let (Some(own), Some(rank @ 1..)) = (&own, mechanism.profile.residual) {
            let mut projected = vec![0.0; rows * rank];
            let input = widen(weights.values("edge.residual_in"));
            f64::product(&x, &input, rank, &mut projected);
            f64::product(&projected, &widen(&own[width..]), width, &mut outputs);
        }
        let mut contributions: Vec<Contribution> = self
            .past
            .iter()
            .zip(outputs.chunks_exact(width))
            .map(|(past, vector)| Contribution {
                source: past.source(),
                vector: vector.to_vec(),
            })
            .collect();
        let beta = weights.row("node.target", target as usize);
        let mut push = |source, values: &[f32]| {
            let vector = widen(values);
            contributions.push(Contribution { source, vector });
        };
        if let Some(own) = &own {
            push(ContributionSource::Bias, &own[..width]);
        }
        // z = Σ_j (the terms above) + a_u + β_t.
        push(ContributionSource::Source, factors.offset);
        push(ContributionSource::Target, &beta);
        let mut preactivation = composed::carried(mechanism, flow, target);
        kernel::vector::add_scaled(1.0, &beta, &mut preactivation);
        EdgeAttribution {
            target,
            preactivation,
            contributions,
        }
    }

    /// Return `x = [c; 2 m]` of each past signal alone; only the last still flows on directly. `[T, X]`
    fn blended(&self) -> Vec<f64> {
        let mut x = Vec::new();
        for (index, past) in self.past.iter().enumerate() {
            let direct = if index + 1 == self.past.len() {
                1.0
            } else {
                0.0
            };
            let signal = widen(&past.signal);
            x.extend(signal.iter().map(|c| direct * c));
            x.extend(past.banks(&signal).map(|m| 2.0 * m));
        }
        x
    }
}

impl PastSignal {
    fn source(&self) -> ContributionSource {
        ContributionSource::Token {
            position: self.position,
            node: self.node,
        }
    }

    /// What the signal contributes to the banks. `[K·D]`
    fn banks(&self, signal: &[f64]) -> impl Iterator<Item = f64> {
        // Linear in c with one weight per column of each bank.
        let banks = self.weights.iter().enumerate();
        banks.map(|(index, w)| w * signal[index % signal.len()])
    }
}

/// Compute h of each past signal alone, without the offset of the node. `x [T, X]` → `[T, D]`
fn outputs_alone(
    mechanism: &Mechanism,
    factors: &Factors<'_, f32>,
    x: &[f64],
    rows: usize,
) -> Vec<f64> {
    let (width, rank) = (mechanism.profile.width, mechanism.profile.rank);
    let narrow = composed::shared(mechanism);
    // The kernel of inference, in f64 and with a_u = 0: what remains is linear in x, so it can run on each signal
    // alone.
    let shared = Shared {
        width,
        gain: &[],
        kappa: 0.0,
        mix: &widen(narrow.mix),
        low_in: &widen(narrow.low_in),
        low_out: &widen(narrow.low_out),
    };
    let wide = Factors {
        target: &[],
        scale: &widen(factors.scale),
        offset: &vec![0.0; width],
        low_scale: &widen(factors.low_scale),
        gate: &[],
    };
    let mut outputs = vec![0.0; rows * width];
    kernel::composed::output(
        &shared,
        |_| wide,
        x,
        &mut vec![0.0; rows * width],
        &mut vec![0.0; rows * rank],
        &mut outputs,
    );
    outputs
}

/// Whether the first signal flows into the first hop without entering the blend.
fn starts_unblended(mechanism: &Mechanism) -> bool {
    mechanism.profile.form == EdgeForm::Own && mechanism.profile.blend == BlendKind::Position
}

/// Read rows of a matrix, transposed. `[columns, rows]`
fn transposed(table: &Table, rows: std::ops::Range<usize>) -> Vec<f64> {
    let count = rows.len();
    let mut matrix = vec![0.0; count * table.columns()];
    let mut values = vec![0.0; table.columns()];
    for (index, row) in rows.enumerate() {
        table.read_row(row, &mut values);
        for (column, &value) in values.iter().enumerate() {
            matrix[column * count + index] = f64::from(value);
        }
    }
    matrix
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}
