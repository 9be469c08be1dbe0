//! Training of own edges on a device. `learn::own` explains the formulas.

use super::SHARED_EDGE;
use super::edge_weights::EdgeWeights;
use super::product::partial_numbers;
use super::schedule::{NodeGroup, Plan, Schedule};
use super::stage::{Bound, Mask, Part, SOFTMAX, Stage};
use crate::Result;
use crate::graph::TokenGraph;
use crate::kernel::gpu::fan::Mode;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Kernel, Size, fan, path_own, softmax_own};
use crate::learn::adamw::AdamMode;
use crate::learn::batch::Batch;
use crate::learn::recipe::Train;
use crate::signal::{BlendKind, size_constants};

/// Bytes of workgroup memory that a gradient may take.
const GRADIENT_BYTES: usize = 6 << 10;
/// Seed of the dropout masks.
const MASK_SEED: u64 = 0x6f77_6e00;

/// What a pass over the energies of a group is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// The loss.
    Loss,
    /// The loss and the gradients of logits, which are added to those of the biases.
    Gradient,
    /// The gradients of logits once more.
    Again,
}

/// Trains own edges on a device.
pub(super) struct DeviceOwn {
    pub stage: Stage,
    pub edge_weights: EdgeWeights,
    pub dropout: f64,
    pub seed: u64,
}

impl DeviceOwn {
    /// Record and run a batch; with `learn`, backward pass and update too. Returns the result of [`Stage::finish`].
    pub fn run(
        &mut self,
        graph: &TokenGraph,
        batch: &Batch,
        learn: Option<(&Train, u64)>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let device = &self.stage.device;
        let most = (device.workspace_bytes() / 4) as usize;
        let (plan, lists) = Schedule {
            stage: &self.stage,
            edge_weights: &self.edge_weights,
            graph,
            batch,
            column_runs: self.column_runs().1,
        }
        .plan(most.saturating_sub(partial_numbers(device)));
        self.stage.parts = plan.groups.len();
        // Gradients of own edges go into the optimiser as they are computed. So a batch is one part, and energies that do not
        // fit are computed group by group.
        let rows = batch.sequences() * batch.steps;
        let part = Part {
            first: 0,
            last: true,
            rows,
        };
        self.stage
            .begin(plan.floats, &lists, learn.is_some(), part)?;
        self.stage.device.write(
            &self.stage.floats,
            u64::from(plan.at.first_position) * 4,
            &plan.position_rows,
        );
        self.forward(batch, &plan, learn.is_some())?;
        for group in &plan.groups {
            self.loss(rows, &plan, group, learn.is_some())?;
        }
        if let Some((train, step)) = learn {
            if self.stage.profile.target_bias && plan.at.candidates_count > 0 {
                let logits = (plan.at.logits, 1);
                self.stage
                    .collect(&plan.candidates, 1, logits, None, plan.at.bias)?;
            }
            self.backward(batch, &plan)?;
            // The norm decides whether and how far parameters move, so it needs the squares of own edges' gradients first.
            let squares = train.clip > 0.0 || train.optimiser == AdamMode::Dense;
            let mut result = plan.edge_squares.0;
            for group in &plan.groups {
                self.score_again(rows, &plan, group)?;
                self.shared_gradient(&plan, group)?;
                if squares {
                    result = self.edges(&plan, group, (Mode::Squares, result), (train, step))?;
                }
            }
            self.gather(batch, &plan)?;
            let squares = (
                plan.edge_squares.0,
                if squares { plan.edge_squares.1 } else { 0 },
            );
            self.update(&plan, rows, squares, train, step)?;
        }
        self.stage.finish(plan.result, rows)
    }

    /// Record the norm of all gradients, of own edges by their sums of squares, and the optimiser.
    fn update(
        &mut self,
        plan: &Plan,
        rows: usize,
        squares: (u32, usize),
        train: &Train,
        step: u64,
    ) -> Result<()> {
        let nats = (plan.at.rows, rows);
        self.stage
            .norm(squares, nats, train, plan.squares, plan.result)?;
        // Dense: rows without a gradient move too, so gradients are stored and every row is visited. Touched: a gradient goes
        // from the workgroup into the optimiser and is never stored.
        let dense = train.optimiser == AdamMode::Dense;
        if dense {
            for shard in &self.edge_weights.shards {
                if let Some(gradient) = &shard.gradient {
                    self.stage.program.zero(gradient);
                }
            }
        }
        let mode = if dense { Mode::Store } else { Mode::Update };
        for group in &plan.groups {
            self.score_again(rows, plan, group)?;
            self.edges(plan, group, (mode, 0), (train, step))?;
        }
        if dense {
            self.update_edges(plan, train, step)?;
            return self.stage.update(train, step, plan.result, &[]);
        }
        let touched = [
            ("node.start", plan.first_rows),
            ("blend.gate", plan.nodes),
            ("node.trust", plan.nodes),
        ];
        self.stage.update(train, step, plan.result, &touched)
    }

    /// Columns of an edge whose gradient one workgroup computes, and how many such runs an edge has.
    pub(super) fn column_runs(&self) -> (usize, usize) {
        let d = self.stage.profile.width;
        // A workgroup sums (D + 1) × columns numbers of a gradient, matrix and bias, in its own memory.
        let columns = (GRADIENT_BYTES / 4 / (d + 1)).clamp(1, padded(d));
        (columns, padded(d).div_ceil(columns))
    }

    /// Offset of the edges in a buffer: the shared edge is one of the blocks.
    fn edges_at(&self, buffer: usize) -> u32 {
        if buffer == self.edge_weights.shards.len() {
            self.stage.blocks.at(SHARED_EDGE)
        } else {
            0
        }
    }

    /// Record one of the path kernels for a step and a buffer of edges: one workgroup a sequence.
    fn run_path(
        &mut self,
        kernel: &Kernel,
        batch: &Batch,
        plan: &Plan,
        step: usize,
        buffer: usize,
    ) -> Result<()> {
        let profile = &self.stage.profile;
        let mut constants = size_constants(profile).to_vec();
        constants.push(("WORKGROUP", self.stage.device.workgroup()));
        let parameters = path_own::Parameters {
            at: plan.at,
            step: step as u32,
            buffer: buffer as u32,
            edges: self.edges_at(buffer),
            // The start signal: ones, or a sum of one.
            level: if profile.start_at_ones {
                1.0
            } else {
                (1.0 / profile.width as f64) as f32
            },
        };
        let shard = self.edge_weights.shards.get(buffer);
        let edges = shard.map_or(Bound::Values, |shard| Bound::Other(&shard.value));
        let buffers = [Bound::Integers, Bound::Values, edges];
        let size = Size::Direct(batch.sequences() as u32, 1, 1);
        self.stage
            .run(kernel, &constants, &parameters, &buffers, size)
    }

    fn forward(&mut self, batch: &Batch, plan: &Plan, learn: bool) -> Result<()> {
        let rate = if learn { self.dropout } else { 0.0 };
        let seed = self.seed ^ MASK_SEED;
        let mask = Mask {
            at: plan.at.mask,
            width: self.stage.profile.width,
            rows: [batch.sequences(), batch.steps],
            first: 0,
            shard: 0,
        };
        self.stage.dropout(mask, rate, seed, batch.index)?;
        if self.stage.profile.blend == BlendKind::Position {
            self.stage.position_weights(batch.steps, plan.at.weights)?;
        }
        // A step's rows may need edges of any buffer; each dispatch skips the rows of other buffers.
        let shared = self.edge_weights.shards.len();
        for step in 0..batch.steps {
            if step > 0 {
                for buffer in 0..=shared {
                    self.run_path(&path_own::PREACTIVATION, batch, plan, step, buffer)?;
                }
            }
            self.run_path(&path_own::NODE, batch, plan, step, shared)?;
        }
        Ok(())
    }

    /// The parameters of the fan kernels for a group of nodes and a buffer of edges.
    pub(super) fn fan_parameters(
        &self,
        plan: &Plan,
        group: &NodeGroup,
        buffer: usize,
    ) -> fan::Parameters {
        let (items, count) = group.items[buffer];
        fan::Parameters {
            at: plan.at,
            buffer: buffer as u32,
            edges: self.edges_at(buffer),
            items,
            items_count: count as u32,
            fans: plan.fans[buffer],
            ..fan::Parameters::default()
        }
    }

    /// Record one of the fan kernels for the buffer of edges that the parameters name.
    pub(super) fn run_fan(
        &mut self,
        kernel: &Kernel,
        parameters: &fan::Parameters,
        size: Size,
    ) -> Result<()> {
        let d = self.stage.profile.width;
        let (columns, _) = self.column_runs();
        // Threads work on the columns of an edge side by side; where those are few, on several groups of four rows.
        let (workgroup, wide) = (self.stage.device.workgroup(), padded(d) as u32);
        let side = wide.next_power_of_two().min(workgroup);
        let slots = workgroup / side;
        let constants = [
            ("WORKGROUP", workgroup),
            ("D", d as u32),
            ("W", wide),
            ("COLUMNS", columns as u32),
            ("NUMBERS", ((d + 1) * columns) as u32),
            ("SIDE", side),
            ("SLOTS", slots),
            ("INPUTS", slots * d as u32),
            ("SLOPES", slots * wide),
        ];
        let stores = parameters.mode == Mode::Store as u32;
        let edges = match self.edge_weights.shards.get(parameters.buffer as usize) {
            Some(shard) => {
                let gradient = shard.gradient.as_ref().filter(|_| stores);
                [
                    &shard.value,
                    gradient.unwrap_or(&shard.first),
                    &shard.second,
                ]
                .map(Bound::Other)
            }
            None => [Bound::Values, Bound::FirstMoments, Bound::SecondMoments],
        };
        let buffers = [&[Bound::Integers], &edges[..]].concat();
        self.stage
            .run(kernel, &constants, parameters, &buffers, size)
    }

    /// Energies of a group of nodes, their softmax, and the gradients of the signals.
    fn loss(&mut self, rows: usize, plan: &Plan, group: &NodeGroup, learn: bool) -> Result<()> {
        let pass = if learn { Pass::Gradient } else { Pass::Loss };
        self.score(rows, plan, group, pass)?;
        if !learn {
            return Ok(());
        }
        // The shared edge sets the gradients of the signals, the others add to them.
        let shared = self.edge_weights.shards.len();
        let chunk = self.stage.device.workgroups() as usize;
        for buffer in std::iter::once(shared).chain(0..shared) {
            for first in (0..group.rows).step_by(chunk) {
                let position = (group.first + first) as u32;
                let mut parameters = fan::Parameters {
                    add: u32::from(buffer != shared),
                    // Positions in the order name items by their numbers among all of the buffer.
                    items: plan.groups[0].items[buffer].0,
                    fans: plan.fans[buffer] + 2 * position,
                    ..self.fan_parameters(plan, group, buffer)
                };
                parameters.at.order += position;
                let count = chunk.min(group.rows - first);
                let size = Size::Direct(count as u32, 1, 1);
                self.run_fan(&fan::SIGNALS, &parameters, size)?;
            }
        }
        Ok(())
    }

    /// Energies of a group of nodes and their softmax.
    fn score(&mut self, rows: usize, plan: &Plan, group: &NodeGroup, pass: Pass) -> Result<()> {
        for buffer in 0..=self.edge_weights.shards.len() {
            let parameters = self.fan_parameters(plan, group, buffer);
            let size = self.each_item(group, buffer);
            self.run_fan(&fan::ENERGIES, &parameters, size)?;
        }
        self.softmax(rows, plan, group, pass)
    }

    /// Compute the slopes of a group again, where those of another group are in their place.
    fn score_again(&mut self, rows: usize, plan: &Plan, group: &NodeGroup) -> Result<()> {
        match plan.groups.len() {
            1 => Ok(()),
            _ => self.score(rows, plan, group, Pass::Again),
        }
    }

    /// One workgroup for each item of a group and a buffer.
    pub(super) fn each_item(&self, group: &NodeGroup, buffer: usize) -> Size {
        crate::kernel::gpu::spread(&self.stage.device, group.items[buffer].1, 1)
    }

    /// The softmax over classes, all targets or candidates for the rows of a group, a run of rows at a time.
    fn softmax(&mut self, rows: usize, plan: &Plan, group: &NodeGroup, pass: Pass) -> Result<()> {
        let (at, stage) = (plan.at, &mut self.stage);
        let bias = stage.profile.target_bias;
        let bare = !stage.profile.static_resistance && !bias;
        let (kernel, chunk) = match (at.candidates_count > 0, bare) {
            (true, _) => (&softmax_own::CANDIDATES, rows),
            (false, true) => (&softmax_own::CLASSES, rows),
            (false, false) => (&softmax_own::TARGETS, plan.chunk),
        };
        let chunk = chunk.min(stage.device.workgroups() as usize);
        // The logits of all targets alone are a row of V numbers.
        let targets = at.candidates_count == 0 && !bare;
        let row_logits = if targets {
            stage.device.row_logits(stage.nodes)
        } else {
            1
        };
        let constants = [
            ("WORKGROUP", stage.device.wide_workgroup()),
            ("ROW_LOGITS", row_logits),
        ];
        for first in (0..group.rows).step_by(chunk) {
            let count = chunk.min(group.rows - first);
            let parameters = softmax_own::Parameters {
                at,
                first: (group.first + first) as u32,
                learn: u32::from(pass != Pass::Loss),
                // `DeviceTrainer::new` refuses longer walks for own edges.
                walks: 0,
                weight: 1.0 / rows as f32,
            };
            let size = Size::Direct(count as u32, 1, 1);
            stage.run(kernel, &constants, &parameters, &SOFTMAX, size)?;
            if pass == Pass::Gradient && bias && targets {
                stage.column_sums(count, stage.nodes, at.logits, at.bias)?;
            }
        }
        Ok(())
    }

    fn backward(&mut self, batch: &Batch, plan: &Plan) -> Result<()> {
        let shared = self.edge_weights.shards.len();
        for step in (0..batch.steps).rev() {
            if step + 1 < batch.steps {
                for buffer in 0..=shared {
                    self.run_path(&path_own::PREACTIVATION_BACK, batch, plan, step, buffer)?;
                }
            }
            self.run_path(&path_own::NODE_BACK, batch, plan, step, shared)?;
        }
        Ok(())
    }

    /// The gradient of the shared edge by the rows of a group: in pieces of rows, which are summed afterwards.
    fn shared_gradient(&mut self, plan: &Plan, group: &NodeGroup) -> Result<()> {
        let shared = self.edge_weights.shards.len();
        let (_, runs) = self.column_runs();
        let pieces = plan.pieces[0].count as u32;
        let parameters = fan::Parameters {
            items: group.shared_items,
            items_count: pieces,
            mode: Mode::Partial as u32,
            result: plan.partial,
            ..self.fan_parameters(plan, group, shared)
        };
        let size = Size::Direct(pieces, 1, runs as u32);
        self.run_fan(&fan::EDGES, &parameters, size)?;
        let numbers = (self.stage.profile.width + 1) * padded(self.stage.profile.width);
        let gradient = self.stage.blocks.at(SHARED_EDGE);
        let partial = (plan.partial, numbers);
        self.stage
            .collect(&plan.pieces[1], numbers, partial, None, gradient)
    }
}
