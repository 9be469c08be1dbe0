//! Where gradients of own edges go: into the optimiser, into blocks, into the norm.

use super::lists::NONE;
use super::own::DeviceOwn;
use super::schedule::Plan;
use super::stage::Product;
use crate::Result;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Buffer, Size, adamw, fan, position, spread};
use crate::learn::batch::Batch;
use crate::learn::recipe::Train;
use crate::signal::BlendKind;

/// What the gradient of edges is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Squares = 0,
    Move = 1,
    Partial = 2,
    Store = 3,
}

impl DeviceOwn {
    /// Forms the gradient of every own edge of the batch, and does with it what `mode` says.
    pub(super) fn edges(
        &mut self,
        plan: &Plan,
        mode: Mode,
        train: &Train,
        step: u64,
    ) -> Result<()> {
        let (_, blocks) = self.column_blocks();
        let rate = train.rate_at(step - 1) * train.edge_rate;
        let update = train.adamw().update::<f32>(step, rate, true);
        let mut before = 0;
        for buffer in 0..self.edge_weights.shards.len() {
            let count = plan.items[buffer].1;
            let Size::Direct(x, y, _) = spread(&self.stage.device, count, 1) else {
                continue;
            };
            let result = plan.squares + (before * blocks) as u32;
            let scale = plan.result;
            let change = |parameters: &mut fan::Parameters| {
                parameters.mode = mode as u32;
                parameters.result = result;
                parameters.beta1 = update.beta1;
                parameters.beta2 = update.beta2;
                parameters.rate = update.rate;
                parameters.correction = update.correction;
                parameters.epsilon = update.epsilon;
                parameters.shrink = update.shrink;
                parameters.scale = scale;
            };
            self.run_fan(
                &fan::EDGES,
                plan,
                buffer,
                change,
                Size::Direct(x, y, blocks as u32),
            )?;
            before += count;
        }
        Ok(())
    }

    /// The dense optimiser: every own edge moves by its momentum.
    pub(super) fn update_edges(&mut self, plan: &Plan, train: &Train, step: u64) -> Result<()> {
        let rate = train.rate_at(step - 1) * train.edge_rate;
        let update = train.adamw().update::<f32>(step, rate, true);
        let columns = (self.stage.profile.width + 1) * padded(self.stage.profile.width);
        for index in 0..self.edge_weights.shards.len() {
            let shard = &self.edge_weights.shards[index];
            let Some(gradient) = shard.gradient.clone() else {
                continue;
            };
            let parameters = adamw::Parameters {
                block: 0,
                columns: columns as u32,
                rows: shard.rows() as u32,
                list: NONE,
                beta1: update.beta1,
                beta2: update.beta2,
                rate: update.rate,
                correction: update.correction,
                epsilon: update.epsilon,
                shrink: update.shrink,
                scale: plan.result,
            };
            let size = spread(&self.stage.device, shard.rows() * columns, 64);
            let buffers = [
                self.stage.integers.clone(),
                shard.value.clone(),
                gradient,
                shard.first.clone(),
                shard.second.clone(),
            ];
            let buffers: Vec<&Buffer> = buffers.iter().collect();
            self.stage.run(
                &adamw::UPDATE,
                &[("WORKGROUP", 64)],
                &parameters,
                &buffers,
                size,
            )?;
        }
        Ok(())
    }

    /// Brings the rows' gradients to the blocks they belong to.
    pub(super) fn gather(&mut self, batch: &Batch, plan: &Plan) -> Result<()> {
        let rows = batch.sequences() * batch.steps;
        let profile = self.stage.profile.clone();
        let wide = padded(profile.width);
        let g = profile.banks * wide;
        let at = plan.path;
        let stage = &mut self.stage;
        let d_before = (at.d_before, wide);
        stage.collect(
            &plan.starts_of,
            wide,
            d_before,
            None,
            (at.start, wide),
            true,
            true,
        )?;
        if profile.static_resistance {
            let (scalars, prior_weight) =
                (stage.blocks.at("scalars"), stage.blocks.at("node.trust"));
            stage.sum(&plan.pieces, 2, (plan.rows, 4), None, plan.scratch, scalars)?;
            stage.collect(
                &plan.nodes,
                1,
                (plan.rows + 1, 4),
                None,
                (prior_weight, 1),
                true,
                true,
            )?;
        }
        if profile.blend == BlendKind::Position {
            let parameters = position::Parameters {
                gates: at.d_gate,
                columns: g as u32,
                sequences: batch.sequences() as u32,
                shift: 1,
                d_lambda: plan.d_lambda,
                ..stage.position(batch.steps, at.weights)
            };
            stage.run_position(&position::GATHER, &parameters, batch.steps)?;
            let threads = stage.device.workgroup() as usize;
            return stage.run_position(&position::BACK, &parameters, batch.steps.div_ceil(threads));
        }
        stage.sum(
            &plan.pieces,
            g,
            (at.d_gate, g),
            None,
            plan.scratch,
            at.decay,
        )?;
        let (d_input, signal) = ((at.d_input, wide), (at.signal, wide));
        stage.sum(
            &plan.pieces,
            wide,
            d_input,
            Some(signal),
            plan.scratch,
            at.mix,
        )?;
        for bank in 0..profile.banks {
            let banks = (at.banks + (bank * wide) as u32, g);
            let result = at.mix + ((1 + bank) * wide) as u32;
            stage.sum(
                &plan.pieces,
                wide,
                d_input,
                Some(banks),
                plan.scratch,
                result,
            )?;
        }
        if profile.blend == BlendKind::Gated {
            let gates = (at.d_gate, g);
            stage.collect(&plan.nodes, g, gates, None, (at.gate, g), true, true)?;
            stage.multiply(&Product {
                shape: [profile.width, g, rows],
                a: [at.signal, 1, wide as u32],
                b: [at.d_gate, g as u32, 1],
                b_in_values: false,
                c: [at.gate_signal, g as u32],
                c_in_gradients: true,
                add: true,
                alpha: None,
            })?;
        }
        Ok(())
    }
}
