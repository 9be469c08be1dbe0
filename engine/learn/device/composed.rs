//! Composed edges on a device. The formulas stand in `learn::composed`.

use super::composed_schedule::ComposedPlan;
use super::lists::Lists;
use super::stage::{Product, Stage};
use crate::Result;
use crate::graph::TokenGraph;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Size, position, residual_training, softmax, spread, walk};
use crate::learn::adamw::AdamMode;
use crate::learn::batch::Batch;
use crate::learn::composed::SHARD;
use crate::learn::recipe::Train;
use crate::signal::BlendKind;

/// The learner of composed edges on a device.
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

    /// Records and runs a batch; with `learn`, the way back and the update too. Returns what
    /// [`Stage::finish`] does.
    pub fn run(
        &mut self,
        graph: &TokenGraph,
        batch: &Batch,
        learn: Option<(&Train, u64)>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut lists = Lists::default();
        let plan = self.plan(graph, batch, &mut lists);
        self.stage.begin(plan.floats, &lists)?;
        let gradients = self.stage.blocks.gradients.clone();
        self.stage.program.zero(&gradients);
        self.forward(batch, &plan, learn.is_some())?;
        self.logit(batch, &plan, learn.is_some())?;
        if let Some((train, step)) = learn {
            self.backward(batch, &plan)?;
            self.gather(batch, &plan)?;
            let rows = batch.sequences() * batch.steps;
            self.stage
                .norm((0, 0), (plan.rows, rows), train, plan.parts, plan.result)?;
            let nodes = |name| (name, plan.nodes.targets, plan.nodes.count);
            let mut touched = vec![
                nodes("node.scale"),
                nodes("node.offset"),
                nodes("blend.gate"),
                nodes("node.low_scale"),
            ];
            if self.stage.profile.static_resistance {
                touched.push(nodes("node.trust"));
            }
            touched.push(("edge.residual", plan.own_rows.targets, plan.own_rows.count));
            if train.optimiser == AdamMode::Dense {
                touched.clear();
            }
            self.stage.update(train, step, plan.result, &touched)?;
        }
        let rows = batch.sequences() * batch.steps;
        self.stage.finish(plan.result, rows)
    }

    fn walk_constants(&self) -> Vec<(&'static str, u32)> {
        let profile = &self.stage.profile;
        let mut constants = self.stage.sizes();
        constants.extend([
            ("WORKGROUP", self.stage.device.wide_workgroup()),
            ("RANK", profile.rank as u32),
            ("RESIDUAL", u32::from(self.own)),
            (
                "RESIDUAL_RANK",
                if self.own {
                    profile.residual.unwrap_or(0)
                } else {
                    0
                } as u32,
            ),
        ]);
        constants
    }

    fn run_walk(
        &mut self,
        kernel: &crate::kernel::gpu::Kernel,
        plan: &ComposedPlan,
        sequences: usize,
    ) -> Result<()> {
        let constants = self.walk_constants();
        let (integers, values) = (
            self.stage.integers.clone(),
            self.stage.blocks.values.clone(),
        );
        let size = Size::Direct(sequences as u32, 1, 1);
        self.stage
            .run(kernel, &constants, &plan.walk, &[&integers, &values], size)
    }

    fn forward(&mut self, batch: &Batch, plan: &ComposedPlan, learn: bool) -> Result<()> {
        let shape = [batch.sequences(), batch.steps];
        let rate = if learn { self.dropout } else { 0.0 };
        for (mask, purpose) in [
            (plan.walk.mask_node, 0x6e6f_6465),
            (plan.walk.mask_out, 0x6f75_7400),
        ] {
            let seed = self.seed ^ purpose;
            self.stage
                .dropout(mask, shape, rate, seed, batch.index, SHARD)?;
        }
        if self.stage.profile.blend == BlendKind::Position {
            let parameters = self.stage.position(batch.steps, plan.walk.positions);
            self.stage
                .run_position(&position::WEIGHTS, &parameters, 1)?;
        }
        self.run_walk(&walk::FORWARD, plan, batch.sequences())
    }

    fn residual_parameters(
        &self,
        batch: &Batch,
        plan: &ComposedPlan,
    ) -> residual_training::Parameters {
        residual_training::Parameters {
            order: plan.order,
            items: plan.items,
            items_count: plan.items_count as u32,
            fans: plan.fans,
            edge_starts: plan.edge_starts,
            edge_rows: plan.walk.edge_rows,
            steps: batch.steps as u32,
            extra: plan.extra,
            kept: plan.walk.kept,
            projected: plan.walk.projected,
            d_kept: plan.walk.d_leaving,
            d_projected: plan.walk.d_projected,
            d_arrival: plan.walk.d_arrival,
            rows: plan.rows,
            d_beta: plan.d_beta,
            residual: plan.walk.residual,
            beta: plan.walk.beta,
        }
    }

    fn run_residual(
        &mut self,
        kernel: &crate::kernel::gpu::Kernel,
        batch: &Batch,
        plan: &ComposedPlan,
        size: Size,
    ) -> Result<()> {
        let stage = &self.stage;
        let constants = [
            ("WORKGROUP", stage.device.workgroup()),
            ("W", padded(stage.profile.width) as u32),
            ("RANK", stage.profile.residual.unwrap_or(0) as u32),
        ];
        let parameters = self.residual_parameters(batch, plan);
        let blocks = &stage.blocks;
        let (integers, values, gradients) = (
            stage.integers.clone(),
            blocks.values.clone(),
            blocks.gradients.clone(),
        );
        self.stage.run(
            kernel,
            &constants,
            &parameters,
            &[&integers, &values, &gradients],
            size,
        )
    }

    /// Scores all targets of every row, chunk by chunk, and sends their gradient to signals and targets.
    fn logit(&mut self, batch: &Batch, plan: &ComposedPlan, learn: bool) -> Result<()> {
        let rows = batch.sequences() * batch.steps;
        if self.own {
            let size = spread(
                &self.stage.device,
                plan.items_count,
                self.stage.device.workgroup(),
            );
            self.run_residual(&residual_training::ENERGIES, batch, plan, size)?;
        }
        let (v, wide) = (self.stage.nodes, padded(self.stage.profile.width));
        let (beta, scalars) = (plan.walk.beta, plan.walk.scalars);
        let constants = [
            ("WORKGROUP", self.stage.device.wide_workgroup()),
            ("RESIDUAL", u32::from(self.own)),
        ];
        for first in (0..rows).step_by(plan.chunk) {
            let count = plan.chunk.min(rows - first);
            let kept = plan.walk.kept + (first * wide) as u32;
            self.stage.multiply(&Product {
                shape: [count, v, wide],
                a: [kept, wide as u32, 1],
                b: [beta, 1, wide as u32],
                b_in_values: true,
                c: [plan.logits, v as u32],
                c_in_gradients: false,
                add: false,
                alpha: None,
            })?;
            let stage = &self.stage;
            let parameters = softmax::ComposedParameters {
                nodes_count: v as u32,
                edges_count: stage.edges as u32,
                steps: batch.steps as u32,
                first: first as u32,
                tokens: plan.walk.tokens,
                folds: plan.folds,
                first_rows: plan.first_rows,
                edge_starts: plan.edge_starts,
                logits: plan.logits,
                extra: plan.extra,
                rows: plan.rows,
                bias: stage.blocks.at("node.bias"),
                prior_weight: stage.blocks.at("node.trust"),
                scalars,
                lifts: stage.lifts,
                uses_prior: u32::from(stage.profile.static_resistance),
                learn: u32::from(learn),
                weight: 1.0 / rows as f32,
            };
            let buffers = [
                stage.integers.clone(),
                stage.blocks.values.clone(),
                stage.graph.clone(),
                stage.edge_rows.clone(),
                stage.prior.clone(),
            ];
            let buffers: Vec<_> = buffers.iter().collect();
            let size = Size::Direct(count as u32, 1, 1);
            self.stage
                .run(&softmax::COMPOSED, &constants, &parameters, &buffers, size)?;
            if !learn {
                continue;
            }
            self.stage.multiply(&Product {
                shape: [count, wide, v],
                a: [plan.logits, v as u32, 1],
                b: [beta, wide as u32, 1],
                b_in_values: true,
                c: [plan.walk.d_leaving + (first * wide) as u32, wide as u32],
                c_in_gradients: false,
                add: false,
                alpha: Some(scalars),
            })?;
            self.stage.multiply(&Product {
                shape: [v, wide, count],
                a: [plan.logits, 1, v as u32],
                b: [kept, wide as u32, 1],
                b_in_values: false,
                c: [beta, wide as u32],
                c_in_gradients: true,
                add: true,
                alpha: Some(scalars),
            })?;
            if self.stage.profile.target_bias {
                // Pieces of the whole batch begin with those of any chunk.
                let bias = self.stage.blocks.at("node.bias");
                self.stage.column_sums(count, v, plan.logits, bias)?;
            }
        }
        Ok(())
    }

    fn backward(&mut self, batch: &Batch, plan: &ComposedPlan) -> Result<()> {
        let rows = batch.sequences() * batch.steps;
        if self.own {
            let size = Size::Direct(rows as u32, 1, 1);
            self.run_residual(&residual_training::SIGNALS, batch, plan, size)?;
        }
        self.run_walk(&walk::BACKWARD, plan, batch.sequences())?;
        if self.own {
            let size = spread(&self.stage.device, plan.items_count, 1);
            self.run_residual(&residual_training::EDGES, batch, plan, size)?;
        }
        Ok(())
    }

    /// Brings the rows' gradients to the blocks they belong to.
    fn gather(&mut self, batch: &Batch, plan: &ComposedPlan) -> Result<()> {
        let rows = batch.sequences() * batch.steps;
        let profile = self.stage.profile.clone();
        let wide = padded(profile.width);
        let (g, x, rank) = (
            profile.banks * wide,
            (1 + profile.banks) * wide,
            profile.rank,
        );
        let walk = plan.walk;
        let product =
            |a: u32, a_columns: usize, b: u32, b_columns: usize, c: u32, c_rows: usize| Product {
                shape: [c_rows, b_columns, rows],
                a: [a, 1, a_columns as u32],
                b: [b, b_columns as u32, 1],
                b_in_values: false,
                c: [c, b_columns as u32],
                c_in_gradients: true,
                add: true,
                alpha: None,
            };
        let stage = &mut self.stage;
        stage.multiply(&product(walk.blended, x, walk.d_mixed, wide, walk.mix, x))?;
        stage.multiply(&product(walk.blended, x, walk.d_low, rank, walk.low_in, x))?;
        stage.multiply(&product(
            walk.scaled,
            rank,
            walk.d_leaving,
            wide,
            walk.low_out,
            rank,
        ))?;
        if profile.blend == BlendKind::Gated {
            stage.multiply(&product(
                walk.signal,
                wide,
                walk.d_gate,
                g,
                walk.gate_signal,
                profile.width,
            ))?;
        }
        let residual_rank = profile.residual.unwrap_or(0);
        if self.own && residual_rank > 0 {
            let input = product(
                walk.blended,
                x,
                walk.d_projected,
                residual_rank,
                walk.residual_in,
                x,
            );
            stage.multiply(&input)?;
            let d_beta = (plan.d_beta, wide);
            stage.collect(
                &plan.targets,
                wide,
                d_beta,
                None,
                (walk.beta, wide),
                true,
                true,
            )?;
        }
        let nodes = &plan.nodes;
        let (d_leaving, mixed) = ((walk.d_leaving, wide), (walk.mixed, wide));
        stage.collect(
            nodes,
            wide,
            d_leaving,
            Some(mixed),
            (walk.scale, wide),
            true,
            true,
        )?;
        stage.collect(
            nodes,
            wide,
            d_leaving,
            None,
            (walk.offset, wide),
            true,
            true,
        )?;
        stage.collect(
            nodes,
            wide,
            (walk.d_target, wide),
            None,
            (walk.beta, wide),
            true,
            true,
        )?;
        if rank > 0 {
            let low = (walk.d_low_scale, rank);
            stage.collect(nodes, rank, low, None, (walk.low_scale, rank), true, true)?;
        }
        let gates = (walk.d_gate, g);
        match profile.blend {
            BlendKind::Position => {
                let parameters = position::Parameters {
                    gates: walk.d_gate,
                    columns: g as u32,
                    sequences: batch.sequences() as u32,
                    d_lambda: plan.d_lambda,
                    ..stage.position(batch.steps, walk.positions)
                };
                stage.run_position(&position::GATHER, &parameters, batch.steps)?;
                let threads = stage.device.workgroup() as usize;
                stage.run_position(&position::BACK, &parameters, batch.steps.div_ceil(threads))?;
            }
            BlendKind::Decay => {
                stage.sum(&plan.pieces, g, gates, None, plan.scratch, walk.decay)?
            }
            BlendKind::Gated => {
                stage.sum(&plan.pieces, g, gates, None, plan.scratch, walk.decay)?;
                stage.collect(nodes, g, gates, None, (walk.gate, g), true, true)?;
            }
        }
        stage.sum(
            &plan.pieces,
            wide,
            (walk.d_gain, wide),
            None,
            plan.scratch,
            walk.gain,
        )?;
        stage.sum(
            &plan.pieces,
            3,
            (plan.rows, 4),
            None,
            plan.scratch,
            walk.scalars,
        )?;
        if profile.static_resistance {
            let prior_weight = stage.blocks.at("node.trust");
            stage.collect(
                nodes,
                1,
                (plan.rows + 1, 4),
                None,
                (prior_weight, 1),
                true,
                true,
            )?;
        }
        Ok(())
    }
}
