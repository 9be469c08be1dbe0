//! Training of composed edges on a device. `learn::composed` explains the formulas.

use super::composed_schedule::Plan;
use super::lists::Lists;
use super::product::Product;
use super::readout::Readout;
use super::stage::{Bound, Mask, Part, Stage, parts};
use crate::Result;
use crate::graph::TokenGraph;
use crate::kernel::composed::{EPSILON, KAPPA};
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Kernel, Size, path_composed, residual_training, spread};
use crate::learn::adamw::AdamMode;
use crate::learn::batch::Batch;
use crate::learn::batch::SHARD;
use crate::learn::recipe::Train;
use crate::signal::{BlendKind, size_constants};

/// Seeds of the dropout masks: of the targets in the nodes' input, and of the nodes' output.
const MASK_SEEDS: [u64; 2] = [0x6e6f_6465, 0x6f75_7400];

/// Trains composed edges on a device.
pub(super) struct DeviceComposed {
    pub stage: Stage,
    pub dropout: f64,
    pub seed: u64,
    /// Whether edges have own residuals.
    pub own: bool,
}

impl DeviceComposed {
    pub fn new(stage: Stage, dropout: f64, seed: u64, graph: &TokenGraph) -> Self {
        let own = stage.profile.residual.is_some() && graph.own_edges() > 0;
        Self {
            stage,
            dropout,
            seed,
            own,
        }
    }

    /// Record and run a batch, in parts if it does not fit; with `learn`, backward pass and update too. Returns the result of
    /// [`Stage::finish`] for the last part, and the rows of all.
    pub fn run(
        &mut self,
        graph: &TokenGraph,
        batch: &Batch,
        learn: Option<(&Train, u64)>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut all = Vec::new();
        let mut result = Vec::new();
        for (part, sequences) in self.parts(graph, batch) {
            let (found, rows) = self.run_part(graph, batch, &sequences, part, learn)?;
            result = found;
            all.extend(rows);
            // The device checks the loss of the last part; a step whose loss is not finite changes nothing.
            if all.iter().any(|value| !value.is_finite()) {
                break;
            }
        }
        Ok((result, all))
    }

    fn parts(&mut self, graph: &TokenGraph, batch: &Batch) -> Vec<(Part, Batch)> {
        let mut together = self.stage.together;
        let parts = parts(&self.stage.device, &mut together, batch, |part| {
            self.plan(
                graph,
                part,
                part.sequences() * part.steps,
                &mut Lists::default(),
            )
            .floats
        });
        self.stage.together = together;
        self.stage.parts = parts.len();
        parts
    }

    fn run_part(
        &mut self,
        graph: &TokenGraph,
        whole: &Batch,
        batch: &Batch,
        part: Part,
        learn: Option<(&Train, u64)>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut lists = Lists::default();
        let mut plan = self.plan(graph, batch, part.rows, &mut lists);
        if part.last && part.first > 0 {
            // The optimiser moves what any part has gradients of.
            (plan.touched_nodes, plan.own_rows) = self.touched(graph, whole, &mut lists);
        }
        let rows = batch.sequences() * batch.steps;
        self.stage
            .begin(plan.floats, &lists, learn.is_some(), part)?;
        self.forward(batch, &plan, part, learn.is_some())?;
        self.loss(batch, &plan, learn.is_some())?;
        if let Some((train, step)) = learn {
            self.backward(batch, &plan)?;
            // The backward pass leaves gradients by row; blocks need their sums.
            self.gather(batch, &plan)?;
            if part.last {
                self.update(&plan, rows, train, step)?;
            }
        }
        self.stage.finish(plan.result, rows)
    }

    /// Record the norm of all gradients and the optimiser.
    fn update(&mut self, plan: &Plan, rows: usize, train: &Train, step: u64) -> Result<()> {
        self.stage.norm(
            (0, 0),
            (plan.at.rows, rows),
            train,
            plan.squares,
            plan.result,
        )?;
        // Rows of nodes and own residuals without a row in the batch have no gradient.
        let mut touched = vec![
            ("node.scale", plan.touched_nodes),
            ("node.offset", plan.touched_nodes),
            ("blend.gate", plan.touched_nodes),
            ("node.low_scale", plan.touched_nodes),
            ("edge.residual", plan.own_rows),
        ];
        if self.stage.profile.static_resistance {
            touched.push(("node.trust", plan.touched_nodes));
        }
        if train.optimiser == AdamMode::Dense {
            touched.clear();
        }
        self.stage.update(train, step, plan.result, &touched)
    }

    /// Rank of the own residuals; 0 where there are none.
    fn residual_rank(&self) -> usize {
        self.stage
            .profile
            .residual
            .filter(|_| self.own)
            .unwrap_or(0)
    }

    /// Record a pass along the paths: one workgroup a sequence.
    fn run_path(&mut self, kernel: &Kernel, batch: &Batch, plan: &Plan) -> Result<()> {
        let mut constants = size_constants(&self.stage.profile).to_vec();
        constants.extend([
            ("WORKGROUP", self.stage.device.wide_workgroup()),
            ("RANK", self.stage.profile.rank as u32),
            ("RESIDUAL", u32::from(self.own)),
            ("RESIDUAL_RANK", self.residual_rank() as u32),
        ]);
        let parameters = path_composed::Parameters {
            at: plan.at,
            epsilon: EPSILON as f32,
            kappa: KAPPA as f32,
        };
        let size = Size::Direct(batch.sequences() as u32, 1, 1);
        let buffers = [Bound::Integers, Bound::Values];
        self.stage
            .run(kernel, &constants, &parameters, &buffers, size)
    }

    fn forward(&mut self, batch: &Batch, plan: &Plan, part: Part, learn: bool) -> Result<()> {
        let rate = if learn { self.dropout } else { 0.0 };
        // The streams of training on the CPU: both drop the same numbers.
        for (mask, purpose) in [plan.at.mask_node, plan.at.mask_out]
            .into_iter()
            .zip(MASK_SEEDS)
        {
            let mask = Mask {
                at: mask,
                width: self.stage.profile.width,
                rows: [batch.sequences(), batch.steps],
                first: part.first * batch.steps,
                shard: SHARD,
            };
            let seed = self.seed ^ purpose;
            self.stage.dropout(mask, rate, seed, batch.index)?;
        }
        if self.stage.profile.blend == BlendKind::Position {
            self.stage
                .position_weights(batch.steps, plan.at.positions)?;
        }
        self.run_path(&path_composed::FORWARD, batch, plan)
    }

    /// Record one of the kernels of own residuals.
    fn run_residual(&mut self, kernel: &Kernel, plan: &Plan, size: Size) -> Result<()> {
        let stage = &mut self.stage;
        let constants = [
            ("WORKGROUP", stage.device.workgroup()),
            ("W", padded(stage.profile.width) as u32),
            ("RANK", stage.profile.residual.unwrap_or(0) as u32),
        ];
        let buffers = [Bound::Integers, Bound::Values, Bound::Gradients];
        stage.run(kernel, &constants, &plan.residual, &buffers, size)
    }

    /// Energies of own residuals, and the softmax over all targets.
    fn loss(&mut self, batch: &Batch, plan: &Plan, learn: bool) -> Result<()> {
        let rows = batch.sequences() * batch.steps;
        let items = plan.residual.items_count as usize;
        if self.own {
            let device = &self.stage.device;
            let size = spread(device, items, device.workgroup());
            self.run_residual(&residual_training::ENERGIES, plan, size)?;
        }
        let readout = Readout {
            at: plan.at,
            walks: plan.walks,
            chunk: plan.chunk,
            total: plan.total,
            residual: self.own,
        };
        self.stage.softmax(&readout, rows, learn)
    }

    fn backward(&mut self, batch: &Batch, plan: &Plan) -> Result<()> {
        if self.own {
            // Residuals add to x through their energies, before the paths run backward; their own gradients need those
            // of the paths.
            let rows = spread(&self.stage.device, batch.sequences() * batch.steps, 1);
            self.run_residual(&residual_training::SIGNALS, plan, rows)?;
        }
        self.run_path(&path_composed::BACKWARD, batch, plan)?;
        if self.own {
            let size = spread(&self.stage.device, plan.residual.items_count as usize, 1);
            self.run_residual(&residual_training::EDGES, plan, size)?;
        }
        Ok(())
    }

    /// Sum the gradients of the rows into the blocks.
    fn gather(&mut self, batch: &Batch, plan: &Plan) -> Result<()> {
        self.gather_matrices(batch, plan)?;
        self.gather_nodes(plan)?;
        self.gather_shared(batch, plan)
    }

    /// Matrices: gradient += Aᵀ B over all rows of the batch.
    fn gather_matrices(&mut self, batch: &Batch, plan: &Plan) -> Result<()> {
        let (profile, at) = (&self.stage.profile, plan.at);
        let wide = padded(profile.width);
        let (g, x) = (profile.banks * wide, (1 + profile.banks) * wide);
        let (rank, residual_rank) = (profile.rank, self.residual_rank());
        let gated = profile.blend == BlendKind::Gated;
        let gate_rows = if gated { profile.width } else { 0 };
        let blended = (at.blended, x);
        let d_projected = (at.d_projected, residual_rank);
        // A, B, gradient and its rows; a product without rows or columns is skipped.
        for (a, b, gradient, gradient_rows) in [
            (blended, (at.d_mixed, wide), at.mix, x),
            (blended, (at.d_low, rank), at.low_in, x),
            ((at.scaled, rank), (at.d_output, wide), at.low_out, rank),
            ((at.signal, wide), (at.d_gate, g), at.gate_signal, gate_rows),
            (blended, d_projected, at.residual_in, x),
        ] {
            self.stage.multiply(&Product {
                shape: [gradient_rows, b.1, batch.sequences() * batch.steps],
                a: [a.0, 1, a.1 as u32],
                b: [b.0, b.1 as u32, 1],
                b_in_values: false,
                c: [gradient, b.1 as u32],
                c_in_gradients: true,
                alpha: None,
            })?;
        }
        Ok(())
    }

    /// Rows of nodes: sums over the rows of the batch at each node.
    fn gather_nodes(&mut self, plan: &Plan) -> Result<()> {
        let (residual_rank, stage) = (self.residual_rank(), &mut self.stage);
        let (profile, at, nodes) = (stage.profile.clone(), plan.at, &plan.nodes);
        let (wide, rank) = (padded(profile.width), profile.rank);
        let (g, d_output) = (profile.banks * wide, (at.d_output, wide));
        if residual_rank > 0 {
            let d_beta = (plan.residual.d_beta, wide);
            stage.collect(&plan.targets, wide, d_beta, None, at.beta)?;
        }
        // Over the rows at each node: dp = Σ dh ⊙ mixed, da = Σ dh, and dβ gains the activation's part.
        stage.collect(nodes, wide, d_output, Some((at.mixed, wide)), at.scale)?;
        stage.collect(nodes, wide, d_output, None, at.offset)?;
        stage.collect(nodes, wide, (at.d_target, wide), None, at.beta)?;
        if rank > 0 {
            stage.collect(nodes, rank, (at.d_low_scale, rank), None, at.low_scale)?;
        }
        if profile.blend == BlendKind::Gated {
            stage.collect(nodes, g, (at.d_gate, g), None, at.gate)?;
        }
        Ok(())
    }

    /// Vectors that all nodes share: sums over all rows.
    fn gather_shared(&mut self, batch: &Batch, plan: &Plan) -> Result<()> {
        let (at, pieces, scratch, stage) = (plan.at, &plan.pieces, plan.scratch, &mut self.stage);
        let wide = padded(stage.profile.width);
        let gates = (at.d_gate, stage.profile.banks * wide);
        if stage.profile.blend == BlendKind::Position {
            stage.position_back(batch, at.positions, gates, 0, plan.d_lambda)?;
        } else {
            stage.sum(pieces, gates.1, gates, None, scratch, at.decay)?;
        }
        stage.sum(pieces, wide, (at.d_gain, wide), None, scratch, at.gain)?;
        stage.gather_readout(&at, &plan.nodes, pieces, scratch)
    }
}
