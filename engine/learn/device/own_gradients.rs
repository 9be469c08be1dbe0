//! Gradients of own edges: into the optimiser, into the blocks, into the norm.

use super::lists::NONE;
use super::own::DeviceOwn;
use super::product::Product;
use super::schedule::{NodeGroup, Plan};
use super::stage::Bound;
use crate::Result;
use crate::kernel::gpu::adamw::Update;
use crate::kernel::gpu::fan::Mode;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Size, adamw, fan};
use crate::learn::batch::Batch;
use crate::learn::recipe::Train;
use crate::signal::BlendKind;

/// The constants of the optimiser's step for own edges; `result` is the offset of the norm's result.
fn edge_update(train: &Train, step: u64, result: u32) -> Update {
    let rate = train.rate_at(step - 1) * train.edge_rate;
    Update::new(&train.adamw().update(step, rate, true), result)
}

impl DeviceOwn {
    /// Record the gradients of a group's own edges, used as `mode` says; `result` is where their sums of squares begin.
    /// Returns where those of the next group begin.
    pub(super) fn edges(
        &mut self,
        plan: &Plan,
        group: &NodeGroup,
        (mode, mut result): (Mode, u32),
        (train, step): (&Train, u64),
    ) -> Result<u32> {
        let (_, runs) = self.column_runs();
        for buffer in 0..self.edge_weights.shards.len() {
            let Size::Direct(x, y, _) = self.each_item(group, buffer) else {
                continue;
            };
            let parameters = fan::Parameters {
                update: edge_update(train, step, plan.result),
                mode: mode as u32,
                result,
                ..self.fan_parameters(plan, group, buffer)
            };
            let size = Size::Direct(x, y, runs as u32);
            self.run_fan(&fan::EDGES, &parameters, size)?;
            // Sums of squares of all buffers and groups are one list.
            result += (group.items[buffer].1 * runs) as u32;
        }
        Ok(result)
    }

    /// Record the dense optimiser: every own edge moves by its momentum.
    pub(super) fn update_edges(&mut self, plan: &Plan, train: &Train, step: u64) -> Result<()> {
        let columns = (self.stage.profile.width + 1) * padded(self.stage.profile.width);
        for shard in &self.edge_weights.shards {
            let Some(gradient) = &shard.gradient else {
                continue;
            };
            let parameters = adamw::Parameters {
                update: edge_update(train, step, plan.result),
                block: 0,
                columns: columns as u32,
                rows: shard.rows() as u32,
                list: NONE,
            };
            let edges = [&shard.value, gradient, &shard.first, &shard.second].map(Bound::Other);
            let buffers = [&[Bound::Integers], &edges[..]].concat();
            self.stage.run_adamw(&parameters, &buffers)?;
        }
        Ok(())
    }

    /// Sum the gradients of the rows into the blocks.
    pub(super) fn gather(&mut self, batch: &Batch, plan: &Plan) -> Result<()> {
        let rows = batch.sequences() * batch.steps;
        let (at, stage) = (plan.at, &mut self.stage);
        let profile = stage.profile.clone();
        let wide = padded(profile.width);
        let g = profile.banks * wide;
        let (pieces, scratch, gates) = (&plan.pieces, plan.scratch, (at.d_gate, g));
        let d_before = (at.d_before, wide);
        stage.collect(&plan.first_rows, wide, d_before, None, at.start)?;
        if profile.static_resistance {
            stage.sum(pieces, 2, (at.rows, 4), None, scratch, at.scalars)?;
            stage.collect(&plan.nodes, 1, (at.rows + 1, 4), None, at.prior_weight)?;
        }
        // The position blend has logits only, neither mix nor gates.
        if profile.blend == BlendKind::Position {
            return stage.position_back(batch, at.weights, gates, 1, plan.d_lambda);
        }
        stage.sum(pieces, g, gates, None, scratch, at.decay)?;
        // Mix: Σ d_input ⊙ signal, then Σ d_input ⊙ bank for each bank.
        let (d_input, signal) = ((at.d_input, wide), (at.signal, wide));
        stage.sum(pieces, wide, d_input, Some(signal), scratch, at.mix)?;
        for bank in 0..profile.banks {
            let banks = (at.banks + (bank * wide) as u32, g);
            let mix = at.mix + ((1 + bank) * wide) as u32;
            stage.sum(pieces, wide, d_input, Some(banks), scratch, mix)?;
        }
        if profile.blend == BlendKind::Gated {
            stage.collect(&plan.nodes, g, gates, None, at.gate)?;
            // dU = cᵀ d_gate over all rows.
            stage.multiply(&Product {
                shape: [profile.width, g, rows],
                a: [at.signal, 1, wide as u32],
                b: [at.d_gate, g as u32, 1],
                b_in_values: false,
                c: [at.gate_signal, g as u32],
                c_in_gradients: true,
                alpha: None,
            })?;
        }
        Ok(())
    }
}
