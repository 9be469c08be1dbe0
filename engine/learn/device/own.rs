//! Own edges on a device. The formulas stand in `learn::own`.

use super::SHARED_EDGE;
use super::edge_weights::EdgeWeights;
use super::own_gradients::Mode;
use super::schedule::{Plan, Schedule};
use super::stage::Stage;
use crate::Result;
use crate::graph::TokenGraph;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Buffer, Kernel, Size, fan, path, position, softmax, spread};
use crate::learn::adamw::AdamMode;
use crate::learn::batch::Batch;
use crate::learn::recipe::Train;
use crate::signal::{BlendKind, EnergyKind};

/// Bytes of workgroup memory that a gradient may take.
const GRADIENT_BYTES: usize = 12 << 10;

/// The learner of own edges on a device.
pub(super) struct DeviceOwn {
    pub stage: Stage,
    pub edge_weights: EdgeWeights,
    pub dropout: f64,
    pub seed: u64,
}

impl DeviceOwn {
    /// Records and runs a batch; with `learn`, the way back and the update too. Returns what
    /// [`Stage::finish`] does.
    pub fn run(
        &mut self,
        graph: &TokenGraph,
        batch: &Batch,
        learn: Option<(&Train, u64)>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let (plan, lists) = Schedule {
            stage: &self.stage,
            edge_weights: &self.edge_weights,
            graph,
            batch,
            blocks: self.column_blocks(),
        }
        .plan();
        self.stage.begin(plan.floats, &lists)?;
        self.stage.device.write(
            &self.stage.floats,
            u64::from(plan.path.first) * 4,
            &plan.position_rows,
        );
        let dense = learn.is_some_and(|(train, _)| train.optimiser == AdamMode::Dense);
        let gradients = self.stage.blocks.gradients.clone();
        self.stage.program.zero(&gradients);
        if dense {
            for shard in &self.edge_weights.shards {
                if let Some(gradient) = &shard.gradient {
                    self.stage.program.zero(gradient);
                }
            }
        }
        self.forward(batch, &plan, learn.is_some())?;
        self.logit(batch, &plan, learn.is_some())?;
        let rows = batch.sequences() * batch.steps;
        if let Some((train, step)) = learn {
            self.backward(batch, &plan)?;
            self.gather(batch, &plan)?;
            let clips = train.clip > 0.0 || dense;
            if clips {
                self.edges(&plan, Mode::Squares, train, step)?;
            }
            let squares = if clips { plan.squares_count } else { 0 };
            self.stage.norm(
                (plan.squares, squares),
                (plan.rows, rows),
                train,
                plan.parts,
                plan.result,
            )?;
            let touched = [
                ("node.start", plan.starts_of.targets, plan.starts_of.count),
                ("blend.gate", plan.nodes.targets, plan.nodes.count),
                ("node.trust", plan.nodes.targets, plan.nodes.count),
            ];
            let touched = if dense { &[][..] } else { &touched };
            self.edges(
                &plan,
                if dense { Mode::Store } else { Mode::Move },
                train,
                step,
            )?;
            if dense {
                self.update_edges(&plan, train, step)?;
            }
            self.stage.update(train, step, plan.result, touched)?;
        }
        self.stage.finish(plan.result, rows)
    }

    /// Columns of an edge that one workgroup brings together, and how many such runs an edge has.
    pub(super) fn column_blocks(&self) -> (usize, usize) {
        let d = self.stage.profile.width;
        let wide = padded(d);
        let columns = (GRADIENT_BYTES / 4 / (d + 1)).clamp(1, wide);
        (columns, wide.div_ceil(columns))
    }

    /// Buffers of the edges: every shard, then the block of the shared edge.
    fn edge_buffers(&self) -> Vec<[Buffer; 3]> {
        let shards = self.edge_weights.shards.iter();
        let mut all: Vec<[Buffer; 3]> = shards
            .map(|shard| {
                [
                    shard.value.clone(),
                    shard.first.clone(),
                    shard.second.clone(),
                ]
            })
            .collect();
        let blocks = &self.stage.blocks;
        all.push([
            blocks.values.clone(),
            blocks.first.clone(),
            blocks.second.clone(),
        ]);
        all
    }

    fn edges_at(&self, buffer: usize) -> u32 {
        if buffer as u32 == self.edge_weights.shared() {
            self.stage.blocks.at(SHARED_EDGE)
        } else {
            0
        }
    }

    fn run_path(
        &mut self,
        kernel: &Kernel,
        plan: &Plan,
        step: usize,
        buffer: usize,
        sequences: usize,
    ) -> Result<()> {
        let mut constants = self.stage.sizes();
        constants.push(("WORKGROUP", self.stage.device.workgroup()));
        let parameters = path::Parameters {
            step: step as u32,
            buffer: buffer as u32,
            edges: self.edges_at(buffer),
            ..plan.path
        };
        let [edges, ..] = self.edge_buffers().swap_remove(buffer);
        let (integers, values) = (
            self.stage.integers.clone(),
            self.stage.blocks.values.clone(),
        );
        let size = Size::Direct(sequences as u32, 1, 1);
        self.stage.run(
            kernel,
            &constants,
            &parameters,
            &[&integers, &values, &edges],
            size,
        )
    }

    fn forward(&mut self, batch: &Batch, plan: &Plan, learn: bool) -> Result<()> {
        let sequences = batch.sequences();
        let rate = if learn { self.dropout } else { 0.0 };
        let seed = self.seed ^ 0x6f77_6e00;
        self.stage.dropout(
            plan.path.mask,
            [sequences, batch.steps],
            rate,
            seed,
            batch.index,
            0,
        )?;
        if self.stage.profile.blend == BlendKind::Position {
            let parameters = self.stage.position(batch.steps, plan.path.weights);
            self.stage
                .run_position(&position::WEIGHTS, &parameters, 1)?;
        }
        for step in 0..batch.steps {
            if step > 0 {
                for buffer in 0..=self.edge_weights.shards.len() {
                    self.run_path(&path::ARRIVE, plan, step, buffer, sequences)?;
                }
            }
            self.run_path(
                &path::REACH,
                plan,
                step,
                self.edge_weights.shards.len(),
                sequences,
            )?;
        }
        Ok(())
    }

    pub(super) fn run_fan(
        &mut self,
        kernel: &Kernel,
        plan: &Plan,
        buffer: usize,
        change: impl FnOnce(&mut fan::Parameters),
        size: Size,
    ) -> Result<()> {
        let d = self.stage.profile.width;
        let (columns, _) = self.column_blocks();
        let constants = [
            ("WORKGROUP", self.stage.device.workgroup()),
            ("D", d as u32),
            ("W", padded(d) as u32),
            ("COLUMNS", columns as u32),
            ("NUMBERS", ((d + 1) * columns) as u32),
        ];
        let mut parameters = fan::Parameters {
            buffer: buffer as u32,
            edges: self.edges_at(buffer),
            items: plan.items[buffer].0,
            items_count: plan.items[buffer].1 as u32,
            fans: plan.fans[buffer],
            ..plan.fan
        };
        change(&mut parameters);
        let [edges, first, second] = self.edge_buffers().swap_remove(buffer);
        let first = match self
            .edge_weights
            .shards
            .get(buffer)
            .and_then(|shard| shard.gradient.as_ref())
        {
            Some(gradient) if parameters.mode == Mode::Store as u32 => gradient.clone(),
            _ => first,
        };
        let integers = self.stage.integers.clone();
        self.stage.run(
            kernel,
            &constants,
            &parameters,
            &[&integers, &edges, &first, &second],
            size,
        )
    }

    /// Energies, softmax, and what they send back to the signals.
    fn logit(&mut self, batch: &Batch, plan: &Plan, learn: bool) -> Result<()> {
        let rows = batch.sequences() * batch.steps;
        let shared = self.edge_weights.shards.len();
        for buffer in 0..=shared {
            let size = spread(&self.stage.device, plan.items[buffer].1, 1);
            self.run_fan(&fan::ENERGIES, plan, buffer, |_| {}, size)?;
        }
        let profile = self.stage.profile.clone();
        let bare = !profile.static_resistance && !profile.target_bias;
        let listed = batch
            .candidates
            .as_ref()
            .map_or(0, |candidates| candidates.count);
        let kernel = match (listed > 0, bare) {
            (true, _) => &softmax::CANDIDATES,
            (false, true) => &softmax::CLASSES,
            (false, false) => &softmax::TARGETS,
        };
        let all_at_once = listed > 0 || bare;
        let chunk = if all_at_once { rows } else { plan.chunk };
        let constants = [("WORKGROUP", self.stage.device.wide_workgroup())];
        for first in (0..rows).step_by(chunk) {
            let count = chunk.min(rows - first);
            let stage = &self.stage;
            let parameters = softmax::OwnParameters {
                first: first as u32,
                learn: u32::from(learn),
                squared: u32::from(profile.energy == EnergyKind::Squared),
                ..plan.softmax
            };
            let buffers = [
                stage.integers.clone(),
                stage.blocks.values.clone(),
                stage.graph.clone(),
                stage.edge_rows.clone(),
                stage.prior.clone(),
            ];
            let buffers: Vec<&Buffer> = buffers.iter().collect();
            let size = spread(&stage.device, count, 1);
            let Size::Direct(x, 1, 1) = size else {
                return Err(crate::Error::new(
                    crate::ErrorKind::Resource,
                    format!("a batch of {rows} predictions is larger than the adapter allows"),
                )
                .advice("lower train.batch or train.steps"));
            };
            self.stage.run(
                kernel,
                &constants,
                &parameters,
                &buffers,
                Size::Direct(x, 1, 1),
            )?;
            if learn && profile.target_bias && !all_at_once {
                let bias = self.stage.blocks.at("node.bias");
                self.stage
                    .column_sums(count, self.stage.nodes, plan.softmax.logits, bias)?;
            }
        }
        if !learn {
            return Ok(());
        }
        if profile.target_bias && listed > 0 {
            let bias = self.stage.blocks.at("node.bias");
            let logits = (plan.softmax.logits, 1);
            self.stage
                .collect(&plan.candidates, 1, logits, None, (bias, 1), true, true)?;
        }
        for buffer in std::iter::once(shared).chain(0..shared) {
            let add = u32::from(buffer != shared);
            let size = Size::Direct(rows as u32, 1, 1);
            self.run_fan(
                &fan::SIGNALS,
                plan,
                buffer,
                |parameters| parameters.add = add,
                size,
            )?;
        }
        Ok(())
    }

    fn backward(&mut self, batch: &Batch, plan: &Plan) -> Result<()> {
        let sequences = batch.sequences();
        for step in (0..batch.steps).rev() {
            if step + 1 < batch.steps {
                for buffer in 0..=self.edge_weights.shards.len() {
                    self.run_path(&path::ARRIVE_BACK, plan, step, buffer, sequences)?;
                }
            }
            self.run_path(
                &path::REACH_BACK,
                plan,
                step,
                self.edge_weights.shards.len(),
                sequences,
            )?;
        }
        // The shared edge's gradient, in pieces of rows that are added up afterwards.
        let shared = self.edge_weights.shards.len();
        let (_, blocks) = self.column_blocks();
        let pieces = plan.pieces[0].count;
        let row = (self.stage.profile.width + 1) * padded(self.stage.profile.width);
        let (items, partial) = (plan.shared_pieces, plan.partial);
        let size = Size::Direct(pieces as u32, 1, blocks as u32);
        let change = |parameters: &mut fan::Parameters| {
            parameters.items = items;
            parameters.items_count = pieces as u32;
            parameters.mode = Mode::Partial as u32;
            parameters.result = partial;
        };
        self.run_fan(&fan::EDGES, plan, shared, change, size)?;
        let result = self.stage.blocks.at(SHARED_EDGE);
        self.stage.collect(
            &plan.pieces[1],
            row,
            (partial, row),
            None,
            (result, row),
            true,
            true,
        )
    }
}
