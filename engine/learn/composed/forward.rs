//! Forward pass along the true paths of a batch: [`kernel::composed::forward`] step by step.

use rayon::prelude::*;

use super::flow::{Columns, Shard, paths};
use super::{At, Composed};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::blend::Gates;
use crate::kernel::composed::{Factors, Shared};
use crate::kernel::real::Real;
use crate::kernel::{self, position};
use crate::learn::batch::{Batch, SHARD};
use crate::signal::BlendKind;

/// One step of the sequences of a shard.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) batch: &'a Batch,
    /// First sequence of the shard, and how many it has.
    pub(super) first: usize,
    pub(super) width: usize,
    pub(super) step: usize,
}

impl<'a> Step<'a> {
    /// Return all steps of a shard, first to last.
    pub(super) fn all(batch: &'a Batch, shard: usize) -> impl DoubleEndedIterator<Item = Self> {
        let first = shard * SHARD;
        let width = SHARD.min(batch.sequences() - first);
        (0..batch.steps).map(move |step| Self {
            batch,
            first,
            width,
            step,
        })
    }

    /// Rows of the step within the shard.
    pub(super) fn rows(&self) -> std::ops::Range<usize> {
        self.step * self.width..(self.step + 1) * self.width
    }

    /// Tokens of the shard's sequence `index`.
    pub(super) fn tokens(&self, index: usize) -> &'a [u32] {
        self.batch.sequence(self.first + index)
    }
}

impl<R: Real> Composed<R> {
    /// Run every sequence along its true path. Shards are independent tasks.
    pub(super) fn walk(&mut self, graph: &TokenGraph, batch: &Batch, dropout: f64) {
        let columns = Columns::of(&self.profile);
        let rows = batch.sequences() * batch.steps;
        // Taken out, so that tasks can read `self` while each writes its shard's rows.
        let mut flow = std::mem::take(&mut self.flow);
        flow.resize(rows, columns);
        let first = self.first_sequence * batch.steps;
        flow.draw_masks(first, columns.d, dropout, self.seed, batch.index);
        if let Some(residual) = &mut self.residual {
            residual.resize(rows);
        }
        let this = &*self;
        // λ of the position blend depends on the step alone.
        let positions = position::weights(&this.of(At::Positions).value, batch.steps);
        let shards = flow.shards(batch.steps, columns);
        shards
            .into_par_iter()
            .enumerate()
            .for_each(|(shard, mut flow)| {
                for step in Step::all(batch, shard) {
                    this.hop(graph, step, &positions, &mut flow);
                }
            });
        self.flow = flow;
        if let Some(residual) = &mut self.residual {
            residual.project(&self.flow.blended, rows);
        }
    }

    /// Run one step of one shard.
    fn hop(&self, graph: &TokenGraph, step: Step<'_>, positions: &[R], flow: &mut Shard<'_, R>) {
        let columns = Columns::of(&self.profile);
        let (d, g, x) = (columns.d, columns.g, columns.x);
        let rows = step.rows();
        // What the step before left flows on: h, plus δ of the edge that is taken, and the banks.
        if step.step == 0 {
            flow.preactivation[..rows.end * d].fill(R::zero());
            flow.banks[..rows.end * g].fill(R::zero());
        } else {
            let before = rows.start - step.width..rows.start;
            flow.preactivation[rows.start * d..rows.end * d]
                .copy_from_slice(&flow.output[before.start * d..before.end * d]);
            flow.banks
                .copy_within(before.start * g..before.end * g, rows.start * g);
            if let Some(residual) = &self.residual {
                for (index, row) in rows.clone().enumerate() {
                    let tokens = &step.tokens(index)[step.step - 1..];
                    // Rows are ordered by step: the same sequence one step earlier.
                    let earlier = row - step.width;
                    residual.add_delta(
                        graph.edge_row(NodeId(tokens[0]), NodeId(tokens[1])),
                        &flow.blended[earlier * x..(earlier + 1) * x],
                        &mut flow.preactivation[row * d..(row + 1) * d],
                    );
                }
            }
        }
        let mut paths = paths!(flow, rows, columns);
        kernel::composed::forward(
            &self.shared(),
            self.gates(positions.get(step.step)),
            R::one(),
            |index| self.factors(step.tokens(index)[step.step]),
            &mut paths,
        );
        // Dropout applies to h as the energies see it; the path carries the whole h.
        for index in rows.start * d..rows.end * d {
            flow.kept[index] = flow.output[index] * flow.mask_out[index];
        }
    }

    /// Return the gates of a step; `position` is its λ under the position blend.
    pub(super) fn gates(&self, position: Option<&R>) -> Gates<'_, R, R> {
        let decay = &self.of(At::Decay).value;
        match self.profile.blend {
            BlendKind::Position => Gates::Fixed(position.copied().unwrap_or(R::zero())),
            BlendKind::Decay => Gates::Decay(decay),
            BlendKind::Gated => Gates::Gated {
                decay,
                signal: &self.of(At::GateSignal).value,
            },
        }
    }

    /// Return the weights that all nodes share.
    pub(super) fn shared(&self) -> Shared<'_, R> {
        Shared {
            width: self.profile.width,
            gain: &self.of(At::Gain).value,
            kappa: kernel::composed::kappa(self.scalar(2)),
            mix: &self.of(At::Mix).value,
            low_in: &self.of(At::LowIn).value,
            low_out: &self.of(At::LowOut).value,
        }
    }

    /// Return the factors of a node.
    pub(super) fn factors(&self, node: u32) -> Factors<'_, R> {
        // Parameters that the profile lacks have no rows.
        let row = |at: At| match self.of(at).shape[0] {
            0 => &[][..],
            _ => self.of(at).row(node as usize),
        };
        Factors {
            target: row(At::Target),
            scale: row(At::Scale),
            offset: row(At::Offset),
            low_scale: row(At::LowScale),
            gate: row(At::Gate),
        }
    }
}
