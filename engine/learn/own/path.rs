//! Forward pass along the true path of every sequence: [`kernel::own::forward`] hop by hop.

use rayon::prelude::*;

use super::{At, Own};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel;
use crate::kernel::blend::Gates;
use crate::kernel::own::Node;
use crate::kernel::position;
use crate::kernel::real::Real;
use crate::learn::batch::Batch;
use crate::signal::{BlendKind, PositionOffset};

/// The true paths of a batch. Row `b·T + i` holds the i-th signal of sequence b (0 is the start) and the
/// input of its hop i.
#[derive(Default)]
pub(super) struct Path<R> {
    /// Edge row of hop i; 0 is the shared edge. `[N]`
    pub(super) edge_rows: Vec<u32>,
    /// Pre-activation. `[N, D]`
    pub(super) before: Vec<R>,
    /// Signal. `[N, D]`
    pub(super) signal: Vec<R>,
    /// Banks after the hop, and λ. `[N, K·D]`
    pub(super) banks: Vec<R>,
    pub(super) lambda: Vec<R>,
    /// Input of hop i. `[N, D]`
    pub(super) input: Vec<R>,
    /// Dropout mask, 0 or 1/(1 − p), on the input as the energies see it. `[N, D]`
    pub(super) mask: Vec<R>,
    /// Gradients of the inputs `[N, D]`, pre-activations `[N, D]` and gates `[N, K·D]`.
    pub(super) d_input: Vec<R>,
    pub(super) d_before: Vec<R>,
    pub(super) d_gate: Vec<R>,
}

impl<R: Real> Path<R> {
    fn resize(&mut self, rows: usize, d: usize, g: usize) {
        self.edge_rows.resize(rows, 0);
        for buffer in [
            &mut self.before,
            &mut self.signal,
            &mut self.input,
            &mut self.mask,
            &mut self.d_input,
            &mut self.d_before,
        ] {
            buffer.resize(rows * d, R::zero());
        }
        for buffer in [&mut self.banks, &mut self.lambda, &mut self.d_gate] {
            buffer.resize(rows * g, R::zero());
        }
    }

    fn draw_mask(&mut self, first: usize, d: usize, dropout: f64, seed: u64, index: u64) {
        let seed = seed ^ 0x6f77_6e00;
        crate::learn::dropout::draw(&mut self.mask, first, d, dropout, seed, index);
    }
}

impl<R: Real> Own<R> {
    /// Return the position row that hop `hop` adds, or zeros. `[D]`
    pub(super) fn position_row(&self, hop: usize) -> Vec<R> {
        let offset = usize::from(self.profile.offset == PositionOffset::Train);
        self.table_row(hop + offset)
    }

    fn table_row(&self, position: usize) -> Vec<R> {
        let mut row = vec![0.0; self.profile.width];
        self.profile.position_row(position, &mut row);
        let widened = row.into_iter().map(f64::from);
        widened.map(R::of).collect()
    }

    /// Return how a node blends signal `i` of a path. `positions [T]`
    pub(super) fn node(&self, node: u32, i: usize, positions: &[R]) -> Node<'_, R, R> {
        let decay = &self.of(At::Decay).value;
        let gates = match self.profile.blend {
            // The first signal flows into the first hop without entering the blend.
            BlendKind::Position if i == 0 => None,
            BlendKind::Position => Some(Gates::Fixed(positions[i - 1])),
            BlendKind::Decay => Some(Gates::Decay(decay)),
            BlendKind::Gated => Some(Gates::Gated {
                decay,
                signal: &self.of(At::GateSignal).value,
            }),
        };
        Node {
            gates,
            gate: match self.profile.blend {
                BlendKind::Gated => self.of(At::Gate).row(node as usize),
                BlendKind::Position | BlendKind::Decay => &[],
            },
            mix: &self.of(At::Mix).value,
            gain: R::one(),
        }
    }

    /// Run every sequence along its true path; each is a task of its own.
    pub(super) fn walk(&mut self, graph: &TokenGraph, batch: &Batch, dropout: f64) {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let rows = batch.sequences() * steps;
        // Taken out, so that tasks can read `self` while each writes its sequence's rows.
        let mut path = std::mem::take(&mut self.path);
        path.resize(rows, d, g);
        path.draw_mask(
            self.first_sequence * steps,
            d,
            dropout,
            self.seed,
            batch.index,
        );
        let table: Vec<Vec<R>> = (0..steps).map(|hop| self.position_row(hop)).collect();
        let positions = position::weights(&self.of(At::Positions).value, steps);
        let first = self.table_row(0);
        let this = &*self;
        // Every buffer is cut by sequence, so that tasks share nothing they write.
        path.edge_rows
            .par_chunks_mut(steps)
            .zip(path.before.par_chunks_mut(steps * d))
            .zip(path.signal.par_chunks_mut(steps * d))
            .zip(path.input.par_chunks_mut(steps * d))
            .zip(path.banks.par_chunks_mut(steps * g))
            .zip(path.lambda.par_chunks_mut(steps * g))
            .enumerate()
            .for_each(
                |(sequence, (((((edge_rows, before), signal), input), banks), lambda))| {
                    let tokens = batch.sequence(sequence);
                    for i in 0..steps {
                        edge_rows[i] = graph.edge_row(NodeId(tokens[i]), NodeId(tokens[i + 1]));
                        let (at, gates) = (i * d..(i + 1) * d, i * g..(i + 1) * g);
                        // z_0 = level + n_{v_0} + PE[0]; afterwards z_i = x_{i−1} W + b + PE over the edge that the
                        // path takes.
                        let z = &mut before[at.clone()];
                        if i == 0 {
                            let start = this.of(At::Start).row(tokens[0] as usize);
                            for j in 0..d {
                                z[j] = R::of(this.profile.start_level(j)) + start[j] + first[j];
                            }
                            banks[gates.clone()].fill(R::zero());
                        } else {
                            let edge = this.of(At::EdgeWeights).row(edge_rows[i - 1] as usize);
                            R::preactivations(
                                &input[(i - 1) * d..i * d],
                                &table[i - 1],
                                edge,
                                d,
                                z,
                            );
                            banks.copy_within((i - 1) * g..i * g, i * g);
                        }
                        let mut hop = kernel::own::Path {
                            signal: &mut signal[at.clone()],
                            lambda: &mut lambda[gates.clone()],
                            banks: &mut banks[gates],
                            output: &mut input[at.clone()],
                        };
                        let node = this.node(tokens[i], i, &positions);
                        kernel::own::forward(&node, &before[at], &mut hop);
                    }
                },
            );
        self.path = path;
    }
}
