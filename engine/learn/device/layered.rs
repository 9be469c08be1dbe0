//! Training of layered edges on a device. `learn::layered` explains the formulas.
//!
//! All rows of a batch pass a layer together, as products; the kernels between them are those of one row, or of one column
//! of a sequence where the memory runs along the steps.

use super::layered_schedule::Plan;
use super::lists::{Lists, source};
use super::matrix::Matrix;
use super::stage::{Bound, Mask, Part, Stage, THREADS, parts};
use crate::Result;
use crate::kernel::gpu::path_layered::Parameters;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Buffer, Kernel, Purpose, memory, path_layered, spread};
use crate::learn::adamw::AdamMode;
use crate::learn::batch::Batch;
use crate::learn::dropout::{self, Rates};
use crate::learn::recipe::Train;

/// Trains layered edges on a device.
pub(super) struct DeviceLayered {
    pub stage: Stage,
    rates: Rates,
    seed: u64,
    /// The state that sequences continue from: n of the last node and m of each layer. `[B, L, D + K·w]`
    state: Buffer,
    /// Sequences whose state is kept.
    pub carried: usize,
}

impl DeviceLayered {
    pub fn new(stage: Stage, rates: Rates, seed: u64) -> Result<Self> {
        let state = stage.device.buffer(16, Purpose::Storage, "states")?;
        Ok(Self {
            stage,
            rates,
            seed,
            state,
            carried: 0,
        })
    }

    /// Numbers of the state of one sequence.
    pub(super) fn state_columns(&self) -> usize {
        let profile = &self.stage.profile;
        profile.layers * (profile.width + profile.widths().memory())
    }

    /// Write the state that sequences continue from. `[B, L, D + K·w]`
    pub fn write_state(&mut self, state: &[f32]) -> Result<()> {
        let sequences = state.len() / self.state_columns();
        self.reserve(sequences)?;
        self.carried = sequences;
        self.stage.device.write(&self.state, 0, state);
        Ok(())
    }

    /// Read the state that sequences continue from. `[B, L, D + K·w]`
    pub fn read_state(&self) -> Result<Vec<f32>> {
        match self.carried * self.state_columns() {
            0 => Ok(Vec::new()),
            count => self.stage.device.read(&self.state, 0, count),
        }
    }

    /// Allocate the state of so many sequences; what is kept stays.
    fn reserve(&mut self, sequences: usize) -> Result<()> {
        let bytes = (sequences * self.state_columns() * 4) as u64;
        if self.state.bytes() < bytes {
            let kept = self.read_state()?;
            let device = &self.stage.device;
            self.state = device.buffer(bytes, Purpose::Storage, "states")?;
            device.write(&self.state, 0, &kept);
        }
        Ok(())
    }

    /// Record and run a batch, in parts if it does not fit; with `learn`, backward pass and update too. Returns the result of
    /// [`Stage::finish`] for the last part, and the rows of all.
    pub fn run(
        &mut self,
        batch: &Batch,
        learn: Option<(&Train, u64)>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let carries = learn.is_some() && !batch.continued.is_empty();
        if carries {
            self.reserve(batch.sequences())?;
        }
        let mut together = self.stage.together;
        let all_parts = parts(&self.stage.device, &mut together, batch, |sequences| {
            let part = Part {
                first: 0,
                last: true,
                rows: 1,
            };
            self.plan(sequences, part, carries, &mut Lists::default())
                .floats
        });
        self.stage.together = together;
        self.stage.parts = all_parts.len();
        let (mut result, mut all) = (Vec::new(), Vec::new());
        for (part, sequences) in all_parts {
            let (found, rows) = self.run_part(batch, &sequences, part, carries, learn)?;
            result = found;
            all.extend(rows);
            // The device checks the loss of the last part; a step whose loss is not finite changes nothing.
            if all.iter().any(|value| !value.is_finite()) {
                break;
            }
        }
        if carries {
            self.carried = batch.sequences();
        }
        Ok((result, all))
    }

    fn run_part(
        &mut self,
        whole: &Batch,
        batch: &Batch,
        part: Part,
        carries: bool,
        learn: Option<(&Train, u64)>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut lists = Lists::default();
        let plan = self.plan(batch, part, carries, &mut lists);
        let rows = batch.sequences() * batch.steps;
        // The optimiser moves what any part has gradients of.
        let mut nodes = plan.nodes;
        if part.last && part.first > 0 {
            let all = (0..part.rows).map(|row| (source(whole, row), 0));
            nodes = lists.by_key(all);
        }
        self.stage
            .begin(plan.floats, &lists, learn.is_some(), part)?;
        self.drop_out(batch, &plan, part, learn.is_some())?;
        self.forward(&plan)?;
        self.stage.softmax(&plan.readout, rows, learn.is_some())?;
        if let Some((train, step)) = learn {
            self.backward(&plan)?;
            if part.last {
                let nats = (plan.readout.at.rows, rows);
                let (squares, result) = (plan.squares, plan.result);
                self.stage.norm((0, 0), nats, train, squares, result)?;
                // Nodes without a row in the batch have no gradient of their prior weight.
                let sparse = train.optimiser == AdamMode::Touched;
                let touched = (sparse && self.stage.profile.static_resistance)
                    .then_some(("node.trust", nodes));
                self.stage.update(train, step, result, touched.as_slice())?;
            }
        }
        self.stage.finish(plan.result, rows)
    }

    /// Record the dropout masks, from the streams of training on the CPU: both drop the same numbers.
    fn drop_out(&mut self, batch: &Batch, plan: &Plan, part: Part, learn: bool) -> Result<()> {
        let rates = if learn { self.rates } else { Rates::default() };
        let widths = self.stage.profile.widths();
        let (d, x, shared) = (widths.signal, widths.blended(), &plan.layers[0]);
        let b = batch.sequences();
        // Nodes are dropped in all sequences; other masks have one row for all steps of a sequence.
        let mut masks = vec![
            (
                shared.mask_node,
                1,
                self.stage.nodes,
                rates.node,
                dropout::NODE,
            ),
            (shared.mask_input, b, d, rates.input, dropout::INPUT),
            (shared.mask_output, b, d, rates.output, dropout::OUTPUT),
        ];
        let layers = &plan.layers[..self.stage.profile.layers];
        let of_layers = (dropout::MEMORY..).zip(layers);
        masks.extend(of_layers.map(|(purpose, at)| (at.mask_memory, b, x, rates.memory, purpose)));
        for (at, sequences, width, rate, purpose) in masks {
            let mask = Mask {
                at,
                width,
                rows: [sequences, 1],
                first: if purpose == dropout::NODE {
                    0
                } else {
                    part.first
                },
                shard: 0,
            };
            let seed = self.seed ^ purpose;
            self.stage.dropout(mask, rate, seed, batch.index)?;
        }
        Ok(())
    }

    /// Record a kernel that has one workgroup for each row.
    fn by_row(&mut self, kernel: &Kernel, at: &Parameters) -> Result<()> {
        let workgroup = self.stage.device.wide_workgroup();
        self.record(kernel, at, (at.sequences * at.steps) as usize, 1, workgroup)
    }

    /// Record a kernel that has one thread for each of so many columns of each row or sequence.
    fn by_column(&mut self, kernel: &Kernel, at: &Parameters, columns: usize) -> Result<()> {
        self.record(kernel, at, columns, THREADS, THREADS)
    }

    /// Record a kernel for `count` items, of which a workgroup takes `together`.
    fn record(
        &mut self,
        kernel: &Kernel,
        at: &Parameters,
        count: usize,
        together: u32,
        workgroup: u32,
    ) -> Result<()> {
        let profile = &self.stage.profile;
        let constants = [
            ("D", profile.width as u32),
            ("W", padded(profile.width) as u32),
            ("INNER", profile.inner as u32),
            ("BANKS", profile.banks as u32),
            ("WORKGROUP", workgroup),
        ];
        let size = spread(&self.stage.device, count, together);
        let buffers = [Bound::Integers, Bound::Values, Bound::Other(&self.state)];
        self.stage.run(kernel, &constants, at, &buffers, size)
    }

    /// The matrices of a layer: W of its edges and A of its blend.
    fn matrices(&self, layer: usize) -> [Matrix; 2] {
        let (blocks, widths) = (&self.stage.blocks, self.stage.profile.widths());
        let of = |name: &str, outputs: usize, inputs: usize| Matrix {
            at: blocks.at(name) + (layer * outputs * inputs) as u32,
            outputs,
            inputs,
        };
        [
            of("layer.edge", widths.edge(), 2 * widths.signal),
            of("layer.mix", widths.signal, widths.blended()),
        ]
    }

    /// The matrix of the read-out, R.
    fn read_matrix(&self) -> Matrix {
        let d = self.stage.profile.width;
        Matrix {
            at: self.stage.blocks.at("read.mix"),
            outputs: d,
            inputs: d,
        }
    }

    fn forward(&mut self, plan: &Plan) -> Result<()> {
        let widths = self.stage.profile.widths();
        let (d, z) = (widths.signal as u32, widths.edge());
        let Some((read, layers)) = plan.layers.split_last() else {
            return Ok(());
        };
        let sequences = read.sequences as usize;
        let rows = sequences * read.steps as usize;
        self.by_column(&memory::BEGIN, read, sequences * self.state_columns())?;
        for (index, at) in layers.iter().enumerate() {
            let [edge, mix] = self.matrices(index);
            self.by_row(&path_layered::NORMALS, at)?;
            self.stage
                .apply(rows, &edge, at.normals, [at.edge, z as u32])?;
            self.by_column(&memory::ACTIVATE, at, rows * z)?;
            self.by_column(&memory::SCAN, at, sequences * widths.memory())?;
            self.stage.apply(rows, &mix, at.blended, [at.mixed, d])?;
        }
        self.by_row(&path_layered::NORMALS, read)?;
        let (matrix, kept) = (
            self.read_matrix(),
            [read.kept, padded(widths.signal) as u32],
        );
        self.stage.apply(rows, &matrix, read.normals, kept)?;
        self.by_row(&path_layered::LEAVE, read)
    }

    /// Record the gradients of all parameters from that of kept h.
    fn backward(&mut self, plan: &Plan) -> Result<()> {
        let widths = self.stage.profile.widths();
        let (d, wide) = (widths.signal, padded(widths.signal));
        let (pieces, scratch) = (&plan.pieces, plan.scratch);
        let Some((read, layers)) = plan.layers.split_last() else {
            return Ok(());
        };
        let rows = (read.sequences * read.steps) as usize;
        self.by_row(&path_layered::LEAVE_BACK, read)?;
        let d_output = [read.d_output, wide as u32];
        let matrix = self.read_matrix();
        self.stage
            .apply_back(rows, &matrix, d_output, read.normals, read.d_normals)?;
        let d_outputs = (read.d_output, wide);
        self.stage
            .sum(pieces, d, d_outputs, None, scratch, read.bias)?;
        self.normals_back(plan, read)?;
        for (index, at) in layers.iter().enumerate().rev() {
            self.layer_back(plan, index, at)?;
        }
        self.by_row(&path_layered::ENTER_BACK, &layers[0])?;
        let (stage, d_target) = (&mut self.stage, (read.d_target, wide));
        stage.collect(&plan.nodes, wide, d_target, None, read.beta)?;
        stage.gather_readout(&plan.readout.at, &plan.nodes, pieces, scratch)
    }

    /// Record the gradients of one layer from that of the signals after it.
    fn layer_back(&mut self, plan: &Plan, index: usize, at: &Parameters) -> Result<()> {
        let widths = self.stage.profile.widths();
        let (d, z) = (widths.signal as u32, widths.edge());
        let sequences = at.sequences as usize;
        let rows = sequences * at.steps as usize;
        let [edge, mix] = self.matrices(index);
        self.by_row(&path_layered::ADD_BACK, at)?;
        self.stage
            .apply_back(rows, &mix, [at.d_mixed, d], at.blended, at.d_blended)?;
        self.by_column(&memory::SCAN_BACK, at, sequences * widths.memory())?;
        self.by_column(&memory::ACTIVATE_BACK, at, rows * widths.inner)?;
        let d_edge = [at.d_edge, z as u32];
        self.stage
            .apply_back(rows, &edge, d_edge, at.normals, at.d_normals)?;
        let (pieces, scratch) = (&plan.pieces, plan.scratch);
        self.stage
            .sum(pieces, z, (at.d_edge, z), None, scratch, at.bias)?;
        self.normals_back(plan, at)
    }

    /// Record the gradients of the signals that reach a layer, and of its gain.
    fn normals_back(&mut self, plan: &Plan, at: &Parameters) -> Result<()> {
        let d = self.stage.profile.width;
        self.by_row(&path_layered::NORMALS_BACK, at)?;
        let (pieces, d_gain) = (&plan.pieces, (at.d_gain, d));
        self.stage
            .sum(pieces, d, d_gain, None, plan.scratch, at.gain)
    }
}
