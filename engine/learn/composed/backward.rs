//! Backward pass along every path, after the loss: [`kernel::composed::backward`], last step first.

use rayon::prelude::*;

use super::flow::{Columns, Shard, paths};
use super::forward::Step;
use super::{At, Composed};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::composed::Backward;
use crate::kernel::product::{Operand, multiply};
use crate::kernel::real::Real;
use crate::kernel::{self, position};
use crate::learn::batch::Batch;
use crate::signal::BlendKind;

/// Gradients that one shard carries from a step to the one before it.
struct Carried<R> {
    /// Of h. `[width, D]`
    output: Vec<R>,
    /// Of m. `[width, K·D]`
    banks: Vec<R>,
    /// Of x, through own residuals. `[width, X]`
    blended: Vec<R>,
    /// Row that an edge with a residual left, edge row (from 0), gradient of δ.
    path: Vec<(usize, usize, Vec<R>)>,
}

impl<R: Real> Composed<R> {
    /// Run the backward pass along every path; the loss left the gradient of kept h in the flow.
    pub(super) fn back(&mut self, graph: &TokenGraph, batch: &Batch) {
        let columns = Columns::of(&self.profile);
        let rows = batch.sequences() * batch.steps;
        let mut flow = std::mem::take(&mut self.flow);
        let this = &*self;
        let positions = position::weights(&this.of(At::Positions).value, batch.steps);
        let shards = flow.shards(batch.steps, columns);
        let path: Vec<_> = shards
            .into_par_iter()
            .enumerate()
            .map(|(shard, mut flow)| {
                let mut carried: Option<Carried<R>> = None;
                // h of a step is z of the next one (plus δ), so gradients flow from the last step to the first.
                for step in Step::all(batch, shard).rev() {
                    let carried = carried.get_or_insert_with(|| Carried {
                        output: vec![R::zero(); step.width * columns.d],
                        banks: vec![R::zero(); step.width * columns.g],
                        blended: vec![R::zero(); step.width * columns.x],
                        path: Vec::new(),
                    });
                    this.hop_backward(graph, step, &positions, &mut flow, carried);
                }
                carried.map_or_else(Vec::new, |carried| carried.path)
            })
            .collect();
        if let Some(residual) = &mut self.residual {
            residual.collect_path(path.into_iter().flatten(), &flow.blended);
        }

        // Gradients of shared matrices: one product over all rows each.
        let parameters = &mut self.parameters;
        let mut add = |at: At, a: &[R], a_columns: usize, b: &[R], b_columns: usize| {
            let gradient = &mut parameters[at as usize].gradient;
            let a = Operand::new(a, rows, a_columns).transposed();
            let b = Operand::new(b, rows, b_columns);
            multiply(R::one(), a, b, R::one(), gradient);
        };
        let Columns { d, g, x, rank } = columns;
        add(At::Mix, &flow.blended, x, &flow.d_mixed, d);
        if rank > 0 {
            add(At::LowIn, &flow.blended, x, &flow.d_low, rank);
        }
        if self.profile.blend == BlendKind::Gated {
            add(At::GateSignal, &flow.signal, d, &flow.d_gate, g);
        }
        self.scatter(batch, &flow, &positions);
        self.flow = flow;
    }

    /// Run one step of one shard backward.
    fn hop_backward(
        &self,
        graph: &TokenGraph,
        step: Step<'_>,
        positions: &[R],
        flow: &mut Shard<'_, R>,
        carried: &mut Carried<R>,
    ) {
        let columns = Columns::of(&self.profile);
        let (d, g, x) = (columns.d, columns.g, columns.x);
        let rows = step.rows();
        let span = |count: usize| rows.start * count..rows.end * count;
        let first_row = step.first * step.batch.steps;
        // h feeds the energies of its row and the next hop.
        for (index, &carried) in span(d).zip(&carried.output) {
            flow.d_output[index] = flow.d_output[index] * flow.mask_out[index] + carried;
        }
        // x feeds h, the residual energies of its row, and δ of the next hop, which is carried already.
        if let Some(residual) = &self.residual {
            for (index, d_blended) in carried.blended.chunks_exact_mut(x).enumerate() {
                residual.project_backward(first_row + rows.start + index, d_blended);
            }
        }
        // m of the step before: ∂λ of m ← λ m + (1 − λ) c is dm (m_before − c).
        let banks_before = match step.step {
            0 => Vec::new(),
            _ => flow.banks[(rows.start - step.width) * g..rows.start * g].to_vec(),
        };
        let paths = paths!(flow, rows, columns);
        let mut back = Backward {
            d_output: &flow.d_output[span(d)],
            banks_before: &banks_before,
            d_mixed: &mut flow.d_mixed[span(d)],
            d_low: &mut flow.d_low[span(columns.rank)],
            d_blended: &mut carried.blended,
            d_banks: &mut carried.banks,
            d_gate: &mut flow.d_gate[span(g)],
            d_before: &mut flow.d_before[span(d)],
            d_preactivation: &mut flow.d_preactivation[span(d)],
            d_target: &mut flow.d_target[span(d)],
        };
        kernel::composed::backward(
            &self.shared(),
            self.gates(positions.get(step.step)),
            |index| self.factors(step.tokens(index)[step.step]),
            &paths,
            &mut back,
        );
        // dz is also the gradient of the h that came in, and of δ.
        carried
            .output
            .copy_from_slice(&flow.d_preactivation[span(d)]);
        carried.blended.fill(R::zero());
        if step.step > 0 {
            self.residual_backward(graph, step, carried);
        }
    }

    /// Carry the gradient of the δ that reached a step to the blended signals of the step before.
    fn residual_backward(&self, graph: &TokenGraph, step: Step<'_>, carried: &mut Carried<R>) {
        let Some(residual) = &self.residual else {
            return;
        };
        let Columns { d, x, .. } = Columns::of(&self.profile);
        let first_row = step.first * step.batch.steps;
        for (index, row) in step.rows().enumerate() {
            let tokens = &step.tokens(index)[step.step - 1..];
            // δ was added to z: its gradient is dz.
            let d_delta = &carried.output[index * d..(index + 1) * d];
            let d_blended = &mut carried.blended[index * x..(index + 1) * x];
            let edge_row = graph.edge_row(NodeId(tokens[0]), NodeId(tokens[1]));
            if let Some(edge_row) = residual.delta_backward(edge_row, d_delta, d_blended) {
                let source = first_row + row - step.width;
                carried.path.push((source, edge_row, d_delta.to_vec()));
            }
        }
    }
}
