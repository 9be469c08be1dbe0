//! Which earlier token pushed a signal where: the exact split of an edge's pre-activation.
//!
//! Given the gates of a path, what leaves a node is linear in every signal that arrived before it (see
//! [`crate::kernel::blend`]), and so is what an edge makes of it before any activation. [`Attribution`] keeps the
//! weight of every past arrival in the blend while a flow goes on, and [`Attribution::split`] gives the part that each
//! of them has in the pre-activation of any edge. What is not linear in the past stands for itself: the edge's
//! bias, the row of the position table, the offset of the source, the factor of the target.

use crate::Result;
use crate::signal::{BlendKind, EdgeForm, Flow, Mechanism, blend, composed, own};

/// What a part of a pre-activation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContributionSource {
    /// The signal that arrived at `node`, the token at `position` of the path (from 0).
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
    /// The offset of the source node (composed edges).
    Source,
    /// The factor of the target node (composed edges).
    Target,
}

/// One part of a pre-activation.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// What it comes from.
    pub part: ContributionSource,
    /// What it adds. `[D]`
    pub vector: Vec<f64>,
}

/// The pre-activation of an edge, whole and in parts.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeAttribution {
    /// The node that the edge leads to.
    pub target: u32,
    /// The pre-activation as the engine computes it: `x W + b + PE` of own edges, `h + β + ρ + r` of composed
    /// ones. The parts add up to it, but for rounding. `[D]`
    pub preactivation: Vec<f32>,
    /// The parts, tokens first.
    pub parts: Vec<Contribution>,
}

impl EdgeAttribution {
    /// ‖z‖₂ of the pre-activation.
    pub fn norm(&self) -> f64 {
        let square = |&z: &f32| f64::from(z).powi(2);
        self.preactivation.iter().map(square).sum::<f64>().sqrt()
    }

    /// How far each part pushes along the pre-activation, `part · z/‖z‖`: these add up to ‖z‖. Zeros where z is
    /// zero. As many as parts.
    pub fn values(&self) -> Vec<f64> {
        let norm = self.norm();
        let along = |part: &Contribution| match norm > 0.0 {
            true => {
                let both = part.vector.iter().zip(&self.preactivation);
                both.map(|(p, &z)| p * f64::from(z)).sum::<f64>() / norm
            }
            false => 0.0,
        };
        self.parts.iter().map(along).collect()
    }
}

/// One arrival with its weight in each bank.
#[derive(Clone, Debug)]
struct PastSignal {
    position: usize,
    node: u32,
    /// `[D]`
    signal: Vec<f32>,
    /// `(1 − λ_j) Π λ_i` over the later i. `[K·D]`
    weights: Vec<f64>,
}

/// The share that every token of a path has in the signal that leaves it.
///
/// It is told of every arrival, in order; only who wants to explain a path keeps one.
///
/// # Complexity
/// O(T·K·D) memory for T tokens and as much time a hop.
#[derive(Clone, Debug)]
pub struct Attribution {
    past: Vec<PastSignal>,
    normaliser: f64,
    positions: usize,
}

impl Attribution {
    /// The shares of a flow that has just begun.
    pub fn begin(mechanism: &Mechanism, flow: &Flow) -> Self {
        let mut attribution = Self {
            past: Vec::new(),
            normaliser: 0.0,
            positions: 0,
        };
        // The paper's start flows into the first hop and is not remembered.
        if !starts_unblended(mechanism) {
            attribution.arrive(mechanism, flow);
        } else {
            attribution.positions = 1;
        }
        attribution
    }

    /// The flow has taken a hop.
    pub fn hop(&mut self, mechanism: &Mechanism, flow: &Flow) {
        self.arrive(mechanism, flow);
    }

    fn arrive(&mut self, mechanism: &Mechanism, flow: &Flow) {
        let mut before = flow.clone();
        before.normaliser = self.normaliser;
        let (lambda, normaliser) = blend::gates(mechanism, &before, self.past.len());
        self.normaliser = normaliser;
        for past_signal in &mut self.past {
            for (weight, &l) in past_signal.weights.iter_mut().zip(&lambda) {
                *weight *= l;
            }
        }
        self.past.push(PastSignal {
            position: self.positions,
            node: flow.node,
            signal: flow.signal.clone(),
            weights: lambda.into_iter().map(|l| 1.0 - l).collect(),
        });
        self.positions += 1;
    }

    /// Splits the pre-activation of the edge from where the flow is to `target`.
    ///
    /// # Errors
    /// As [`Mechanism::hop`] for a target outside the graph.
    ///
    /// # Complexity
    /// O(T·D²) for own edges, O(T·K·D²) for composed ones.
    pub fn split(
        &self,
        mechanism: &Mechanism,
        flow: &Flow,
        target: u32,
    ) -> Result<EdgeAttribution> {
        mechanism.check_node(target)?;
        Ok(match mechanism.profile.form {
            EdgeForm::Own => self.own(mechanism, flow, target),
            EdgeForm::Composed => self.composed(mechanism, flow, target),
        })
    }

    fn own(&self, mechanism: &Mechanism, flow: &Flow, target: u32) -> EdgeAttribution {
        let width = mechanism.profile.width;
        let row = own::edge(mechanism, flow.node, target);
        let (matrix, bias) = row.split_at(width * width);
        let base = own::base(mechanism, flow);
        let mut preactivation: Vec<f32> = base.iter().zip(bias).map(|(b, o)| b + o).collect();
        for (&x, row) in flow.output.iter().zip(matrix.chunks_exact(width)) {
            crate::kernel::vector::add_scaled(x, row, &mut preactivation);
        }
        let mix = mechanism.weights.values("blend.mix");
        let leaves = |past_signal: &PastSignal, last: bool| -> Vec<f64> {
            (0..width)
                .map(|j| {
                    let c = f64::from(past_signal.signal[j]);
                    if mechanism.profile.blend == BlendKind::Position {
                        return past_signal.weights[j] * c;
                    }
                    let banks = past_signal.weights[j..].iter().step_by(width);
                    let mixed = banks.zip(mix[width + j..].iter().step_by(width));
                    let direct = if last { f64::from(mix[j]) } else { 0.0 };
                    (direct + mixed.map(|(w, &m)| w * f64::from(m)).sum::<f64>()) * c
                })
                .collect()
        };
        let mut output: Vec<(ContributionSource, Vec<f64>)> = Vec::new();
        if self.past.is_empty() {
            let first = ContributionSource::Token {
                position: 0,
                node: flow.node,
            };
            output.push((first, widen(&flow.output)));
        }
        let last = self.past.len().wrapping_sub(1);
        for (place, past_signal) in self.past.iter().enumerate() {
            output.push((past_signal.part(), leaves(past_signal, place == last)));
        }
        let mut parts: Vec<Contribution> = output
            .into_iter()
            .map(|(part, x)| Contribution {
                part,
                vector: through(&x, matrix, width),
            })
            .collect();
        parts.push(Contribution {
            part: ContributionSource::Bias,
            vector: widen(bias),
        });
        if mechanism.profile.position_table {
            parts.push(Contribution {
                part: ContributionSource::Position,
                vector: widen(&base),
            });
        }
        EdgeAttribution {
            target,
            preactivation,
            parts,
        }
    }

    fn composed(&self, mechanism: &Mechanism, flow: &Flow, target: u32) -> EdgeAttribution {
        let (width, weights) = (mechanism.profile.width, &mechanism.weights);
        let row = |table: &str, node: u32, columns: usize| {
            let mut row = vec![0.0; columns];
            weights.table(table).read_row(node as usize, &mut row);
            row
        };
        let beta = row("node.target", target, width);
        let offset = row("node.offset", flow.node, width);
        let scale = row("node.scale", flow.node, width);
        let rank = mechanism.profile.rank;
        let low_scale = match rank {
            0 => Vec::new(),
            _ => row("node.low_scale", flow.node, rank),
        };
        let own = composed::own_row(&mechanism.graph, flow.node, target)
            .filter(|_| mechanism.profile.residual.is_some())
            .map(|edge_row| {
                let columns = weights.table("edge.residual").columns();
                row("edge.residual", edge_row as u32, columns)
            });
        // x [X] → its part of h + ρ. [D]
        let flows = |x: &[f64]| -> Vec<f64> {
            let mut z = through(x, weights.values("edge.mix"), width);
            z.iter_mut()
                .zip(&scale)
                .for_each(|(z, &s)| *z *= f64::from(s));
            if rank > 0 {
                let mut low = through(x, weights.values("edge.low_in"), rank);
                low.iter_mut()
                    .zip(&low_scale)
                    .for_each(|(l, &s)| *l *= f64::from(s));
                add(
                    &mut z,
                    &through(&low, weights.values("edge.low_out"), width),
                );
            }
            if let (Some(own), Some(rank @ 1..)) = (&own, mechanism.profile.residual) {
                let projected = through(x, weights.values("edge.residual_in"), rank);
                add(&mut z, &through(&projected, &own[width..], width));
            }
            z
        };
        let last = self.past.len().wrapping_sub(1);
        let mut parts: Vec<Contribution> = self
            .past
            .iter()
            .enumerate()
            .map(|(place, past_signal)| {
                let direct = if place == last { 1.0 } else { 0.0 };
                let c = widen(&past_signal.signal);
                let mut x: Vec<f64> = c.iter().map(|c| direct * c).collect();
                let banks = past_signal.weights.chunks_exact(width);
                x.extend(banks.flat_map(|bank| bank.iter().zip(&c).map(|(w, c)| 2.0 * w * c)));
                Contribution {
                    part: past_signal.part(),
                    vector: flows(&x),
                }
            })
            .collect();
        let mut preactivation = composed::preactivation(mechanism, flow, target);
        crate::kernel::vector::add_scaled(1.0, &beta, &mut preactivation);
        if let Some(own) = &own {
            parts.push(Contribution {
                part: ContributionSource::Bias,
                vector: widen(&own[..width]),
            });
        }
        parts.push(Contribution {
            part: ContributionSource::Source,
            vector: widen(&offset),
        });
        parts.push(Contribution {
            part: ContributionSource::Target,
            vector: widen(&beta),
        });
        EdgeAttribution {
            target,
            preactivation,
            parts,
        }
    }
}

impl PastSignal {
    fn part(&self) -> ContributionSource {
        ContributionSource::Token {
            position: self.position,
            node: self.node,
        }
    }
}

/// Whether the first signal flows into the first hop without entering the blend.
fn starts_unblended(mechanism: &Mechanism) -> bool {
    mechanism.profile.form == EdgeForm::Own && mechanism.profile.blend == BlendKind::Position
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

fn add(sum: &mut [f64], values: &[f64]) {
    sum.iter_mut()
        .zip(values)
        .for_each(|(sum, value)| *sum += value);
}

/// `x M`, rows of `columns` numbers. `[R]`, `[R·C]` → `[C]`
fn through(x: &[f64], matrix: &[f32], columns: usize) -> Vec<f64> {
    let mut product = vec![0.0; columns];
    for (&x, row) in x.iter().zip(matrix.chunks_exact(columns)) {
        if x != 0.0 {
            for (sum, &m) in product.iter_mut().zip(row) {
                *sum += x * f64::from(m);
            }
        }
    }
    product
}
