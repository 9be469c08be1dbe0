//! The optimiser on a device: the norm of the gradient, AdamW, and running averages.

use super::lists::{Groups, NONE};
use super::stage::{Bound, Stage, THREADS};
use crate::Result;
use crate::kernel::gpu::adamw::Update;
use crate::kernel::gpu::{Size, adamw, average, norm, spread};
use crate::learn::edge_trainer::average_decay;
use crate::learn::recipe::Train;

/// Gradients whose squares one workgroup sums.
const PIECE: usize = 8192;

impl Stage {
    /// Record the norm of all gradients, with sums of squares of own edges' gradients, and the factor that clips it.
    ///
    /// `edges` are those sums and `rows` the rows of four numbers: offsets and counts.
    pub fn norm(
        &mut self,
        edges: (u32, usize),
        rows: (u32, usize),
        train: &Train,
        squares: u32,
        result: u32,
    ) -> Result<()> {
        let pieces = self.norm_pieces() as u32;
        let parameters = norm::Parameters {
            numbers: self.blocks.numbers as u32,
            piece: PIECE as u32,
            squares,
            pieces,
            edges: edges.0,
            edges_count: edges.1 as u32,
            // Nats are the last number of a row of four.
            nats: rows.0 + 3,
            nats_stride: 4,
            rows: rows.1 as u32,
            limit: train.clip.max(0.0) as f32,
            result,
        };
        let constants = [("WORKGROUP", self.device.wide_workgroup())];
        for (kernel, groups) in [(&norm::SQUARES, pieces), (&norm::FINISH, 1)] {
            let size = Size::Direct(groups, 1, 1);
            self.run(kernel, &constants, &parameters, &[Bound::Gradients], size)?;
        }
        Ok(())
    }

    /// Pieces whose squares are summed by one workgroup each.
    pub fn norm_pieces(&self) -> usize {
        self.blocks.numbers.div_ceil(PIECE)
    }

    /// Record the optimiser on every block; `touched` lists the rows to update, where not all are.
    pub fn update(
        &mut self,
        train: &Train,
        step: u64,
        result: u32,
        touched: &[(&str, Groups)],
    ) -> Result<()> {
        let rate = train.rate_at(step - 1);
        for block in self.blocks.list.clone() {
            let rate = if block.name == super::SHARED_EDGE {
                rate * train.edge_rate
            } else {
                rate
            };
            let update = train.adamw().update::<f32>(step, rate, block.decays);
            // Untouched rows have no gradient; in touched mode they keep their momentum too.
            let listed = touched.iter().find(|(name, _)| *name == block.name);
            let rows = listed.map_or(block.rows, |(_, groups)| groups.count);
            if rows * block.columns * block.rows == 0 {
                continue;
            }
            let parameters = adamw::Parameters {
                update: Update::new(&update, result),
                block: block.offset,
                columns: block.columns as u32,
                rows: rows as u32,
                list: listed.map_or(NONE, |(_, groups)| groups.targets),
            };
            let buffers = [
                Bound::Integers,
                Bound::Values,
                Bound::Gradients,
                Bound::FirstMoments,
                Bound::SecondMoments,
            ];
            self.run_adamw(&parameters, &buffers)?;
        }
        self.average(train, step, result)
    }

    /// Record the move of the running averages towards the parameters, where averages are kept.
    fn average(&mut self, train: &Train, step: u64, result: u32) -> Result<()> {
        let Some(averages) = self.blocks.averages.clone() else {
            return Ok(());
        };
        let parameters = average::Parameters {
            numbers: self.blocks.numbers as u32,
            result,
            decay: if self.averaged {
                average_decay(train.average, step)
            } else {
                0.0
            },
        };
        let size = spread(&self.device, self.blocks.numbers, THREADS);
        let constants = [("WORKGROUP", THREADS)];
        let buffers = [Bound::Values, Bound::Other(&averages)];
        self.run(&average::AVERAGE, &constants, &parameters, &buffers, size)?;
        self.averaged = true;
        Ok(())
    }

    /// Record the optimiser on `parameters.rows` rows.
    pub fn run_adamw(&mut self, parameters: &adamw::Parameters, buffers: &[Bound]) -> Result<()> {
        let numbers = parameters.rows as usize * parameters.columns as usize;
        let size = spread(&self.device, numbers, THREADS);
        let constants = [("WORKGROUP", THREADS)];
        self.run(&adamw::UPDATE, &constants, parameters, buffers, size)
    }
}
