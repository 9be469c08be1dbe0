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

/// What all hops of a batch have in common.
pub(super) struct Hops<R> {
    /// Position row of each step. `[T][D]`
    table: Vec<Vec<R>>,
    /// λ of each step under the position blend. `[T]`
    positions: Vec<R>,
    /// Position row of the start. `[D]`
    first: Vec<R>,
}

/// The rows of one sequence of a [`Path`].
pub(super) struct Sequence<'a, R> {
    pub(super) edge_rows: &'a [u32],
    pub(super) before: &'a mut [R],
    pub(super) signal: &'a mut [R],
    pub(super) input: &'a mut [R],
    pub(super) banks: &'a mut [R],
    pub(super) lambda: &'a mut [R],
}

/// The rows of one sequence of a [`Path`], with those of its gradients.
pub(super) struct Gradients<'a, R> {
    pub(super) edge_rows: &'a [u32],
    pub(super) before: &'a [R],
    pub(super) signal: &'a [R],
    pub(super) banks: &'a [R],
    pub(super) lambda: &'a [R],
    pub(super) d_input: &'a mut [R],
    pub(super) d_before: &'a mut [R],
    pub(super) d_gate: &'a mut [R],
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

    /// Return the rows of each sequence, as tasks that share nothing they write. `width` is D and K·D.
    pub(super) fn sequences(
        &mut self,
        steps: usize,
        (d, g): (usize, usize),
    ) -> impl IndexedParallelIterator<Item = (usize, Sequence<'_, R>)> {
        self.edge_rows
            .par_chunks(steps)
            .zip(self.before.par_chunks_mut(steps * d))
            .zip(self.signal.par_chunks_mut(steps * d))
            .zip(self.input.par_chunks_mut(steps * d))
            .zip(self.banks.par_chunks_mut(steps * g))
            .zip(self.lambda.par_chunks_mut(steps * g))
            .map(
                |(((((edge_rows, before), signal), input), banks), lambda)| Sequence {
                    edge_rows,
                    before,
                    signal,
                    input,
                    banks,
                    lambda,
                },
            )
            .enumerate()
    }

    /// As [`Self::sequences`], for the backward pass.
    pub(super) fn gradients(
        &mut self,
        steps: usize,
        (d, g): (usize, usize),
    ) -> impl IndexedParallelIterator<Item = (usize, Gradients<'_, R>)> {
        let (edge_rows, before, signal) = (&self.edge_rows, &self.before, &self.signal);
        let (banks, lambda) = (&self.banks, &self.lambda);
        self.d_input
            .par_chunks_mut(steps * d)
            .zip(self.d_before.par_chunks_mut(steps * d))
            .zip(self.d_gate.par_chunks_mut(steps * g))
            .enumerate()
            .map(move |(sequence, ((d_input, d_before), d_gate))| {
                let rows =
                    |columns: usize| sequence * steps * columns..(sequence + 1) * steps * columns;
                let gradients = Gradients {
                    edge_rows: &edge_rows[rows(1)],
                    before: &before[rows(d)],
                    signal: &signal[rows(d)],
                    banks: &banks[rows(g)],
                    lambda: &lambda[rows(g)],
                    d_input,
                    d_before,
                    d_gate,
                };
                (sequence, gradients)
            })
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

    /// Return what all hops of a batch have in common.
    pub(super) fn hops(&self, steps: usize) -> Hops<R> {
        Hops {
            table: (0..steps).map(|hop| self.position_row(hop)).collect(),
            positions: position::weights(&self.of(At::Positions).value, steps),
            first: self.table_row(0),
        }
    }

    /// Take out the buffers of a batch, with the dropout mask and the edge rows of its hops.
    pub(super) fn begin(&mut self, graph: &TokenGraph, batch: &Batch, dropout: f64) -> Path<R> {
        let (d, steps) = (self.profile.width, batch.steps);
        let mut path = std::mem::take(&mut self.path);
        path.resize(batch.sequences() * steps, d, self.profile.banks * d);
        let (first, seed) = (self.first_sequence * steps, self.seed);
        path.draw_mask(first, d, dropout, seed, batch.index);
        let sequences = path.edge_rows.par_chunks_mut(steps).enumerate();
        sequences.for_each(|(sequence, edge_rows)| {
            let pairs = batch.sequence(sequence).windows(2);
            for (edge_row, pair) in edge_rows.iter_mut().zip(pairs) {
                *edge_row = graph.edge_row(NodeId(pair[0]), NodeId(pair[1]));
            }
        });
        path
    }

    /// Run every sequence along its true path; each is a task of its own.
    pub(super) fn walk(&mut self, graph: &TokenGraph, batch: &Batch, dropout: f64) {
        // Taken out, so that tasks can read `self` while each writes its sequence's rows.
        let mut path = self.begin(graph, batch, dropout);
        let hops = self.hops(batch.steps);
        let this = &*self;
        let width = (self.profile.width, self.profile.banks * self.profile.width);
        path.sequences(batch.steps, width)
            .for_each(|(sequence, mut path)| {
                let tokens = batch.sequence(sequence);
                for i in 0..batch.steps {
                    if i > 0 {
                        this.leave(&hops, tokens, i - 1, &mut path);
                    }
                    this.arrive(&hops, tokens, i, &mut path);
                }
            });
        self.path = path;
    }

    /// Take hop `i` of a sequence from its node: `z_{i+1} = x_i W + b + PE`, over the edge that the path takes.
    pub(super) fn leave(
        &self,
        hops: &Hops<R>,
        tokens: &[u32],
        i: usize,
        path: &mut Sequence<'_, R>,
    ) {
        let d = self.profile.width;
        let edge = self.edge(tokens[i], path.edge_rows[i]);
        let z = &mut path.before[(i + 1) * d..(i + 2) * d];
        R::preactivations(&path.input[i * d..(i + 1) * d], &hops.table[i], edge, d, z);
    }

    /// Run node `i` of a sequence: the pre-activation that has reached it, and the banks of the node before it, become its
    /// banks and the input of its hop.
    pub(super) fn arrive(
        &self,
        hops: &Hops<R>,
        tokens: &[u32],
        i: usize,
        path: &mut Sequence<'_, R>,
    ) {
        let d = self.profile.width;
        let g = self.profile.banks * d;
        let (at, gates) = (i * d..(i + 1) * d, i * g..(i + 1) * g);
        if i == 0 {
            // z_0 = level + n_{v_0} + PE[0].
            let start = self.of(At::Start).row(tokens[0] as usize);
            let z = &mut path.before[at.clone()];
            for j in 0..d {
                z[j] = R::of(self.profile.start_level(j)) + start[j] + hops.first[j];
            }
            path.banks[gates.clone()].fill(R::zero());
        } else {
            path.banks.copy_within((i - 1) * g..i * g, i * g);
        }
        let mut hop = kernel::own::Path {
            signal: &mut path.signal[at.clone()],
            lambda: &mut path.lambda[gates.clone()],
            banks: &mut path.banks[gates],
            output: &mut path.input[at.clone()],
        };
        let node = self.node(tokens[i], i, &hops.positions);
        kernel::own::forward(&node, &path.before[at], &mut hop);
    }
}
