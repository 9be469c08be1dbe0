//! Composed edges on a device. The formulas stand in `learn::composed`.

use super::lists::{Groups, Lists, Regions};
use super::stage::{Product, Stage};
use crate::Result;
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Size, position, residual_training, softmax, spread, walk};
use crate::learn::adamw::AdamMode;
use crate::learn::batch::Batch;
use crate::learn::composed::SHARD;
use crate::learn::recipe::Train;
use crate::signal::BlendKind;

/// Numbers of the scores that are kept at once.
const SCORES: usize = 16 << 20;

/// The learner of composed edges on a device.
pub(super) struct DeviceComposed {
    pub stage: Stage,
    pub dropout: f64,
    pub seed: u64,
    /// Whether edges have own residuals.
    own: bool,
}

/// Places of a batch: in the workspace, and of its lists.
struct Plan {
    walk: walk::Parameters,
    result: u32,
    rows: u32,
    scores: u32,
    chunk: usize,
    extra: u32,
    d_beta: u32,
    d_lambda: u32,
    scratch: u32,
    parts: u32,
    folds: u32,
    first_slots: u32,
    edge_starts: u32,
    order: u32,
    items: u32,
    items_count: usize,
    fans: u32,
    nodes: Groups,
    own_rows: Groups,
    targets: Groups,
    pieces: [Groups; 2],
    floats: usize,
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
        self.score(batch, &plan, learn.is_some())?;
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

    fn plan(&self, graph: &TokenGraph, batch: &Batch, lists: &mut Lists) -> Plan {
        let stage = &self.stage;
        let profile = &stage.profile;
        let (sequences, steps) = (batch.sequences(), batch.steps);
        let rows = sequences * steps;
        let wide = padded(profile.width);
        let (g, x) = (profile.banks * wide, (1 + profile.banks) * wide);
        let (rank, residual_rank) = (profile.rank, profile.residual.unwrap_or(0));
        let source = |row: usize| batch.sequence(row / steps)[row % steps];
        let next = |row: usize| batch.sequence(row / steps)[row % steps + 1];

        let tokens = lists.put(&batch.tokens);
        let folds = lists.put(&batch.folds);
        let nodes = lists.by_key((0..rows).map(|row| (source(row), row as u32)));
        let pieces = lists.pieces(rows);
        // Own residuals: an item is an own edge of a node that a row stands at.
        let (mut slots, mut first_slots, mut edge_starts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut items, mut fans, mut order, mut keys) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut extra = 0u32;
        if self.own {
            for row in 0..rows {
                let edge = graph.edge(NodeId(source(row)), NodeId(next(row)));
                slots.push(edge.map_or(0, |edge| graph.slots()[edge.index()]));
                let own = graph.own_slots(NodeId(source(row)));
                first_slots.push(own.start as u32);
                edge_starts.push(extra);
                extra += own.len() as u32;
            }
            order = (0..rows as u32).collect();
            order.sort_by_key(|&row| source(row as usize));
            let mut place = 0u32;
            for group in order.chunk_by(|&a, &b| source(a as usize) == source(b as usize)) {
                let fan = graph.fan(NodeId(source(group[0] as usize)));
                let first = (items.len() / 4) as u32;
                for (&slot, &target) in fan
                    .slots
                    .iter()
                    .zip(fan.targets)
                    .filter(|&(&slot, _)| slot > 0)
                {
                    keys.push((slot - 1, target));
                    items.extend([place, group.len() as u32, slot - 1, target]);
                }
                let count = (items.len() / 4) as u32 - first;
                fans.extend(group.iter().flat_map(|_| [first, count]));
                place += group.len() as u32;
            }
        }
        let items_count = keys.len();
        let own_rows = lists.by_key(keys.iter().map(|&(slot, _)| (slot, 0)));
        let targets = lists.by_key(
            keys.iter()
                .enumerate()
                .map(|(item, &(_, target))| (target, item as u32)),
        );
        let slots = lists.put(&slots);
        let first_slots = lists.put(&first_slots);
        let edge_starts = lists.put(&edge_starts);
        let order = lists.put(&order);
        let items = lists.put(&items);
        let fans = lists.put(&fans);

        let mut regions = Regions::default();
        let mut of_rows = |columns: usize| regions.take(rows * columns);
        let at = |name: &str| stage.blocks.at(name);
        let walk = walk::Parameters {
            steps: steps as u32,
            tokens,
            slots,
            beta: at("node.target"),
            scale: at("node.scale"),
            offset: at("node.offset"),
            mix: at("edge.mix"),
            gain: at("node.gain"),
            scalars: at("scalars"),
            decay: at("blend.decay"),
            gate: at("blend.gate"),
            gate_signal: at("blend.gate_signal"),
            low_scale: at("node.low_scale"),
            low_in: at("edge.low_in"),
            low_out: at("edge.low_out"),
            residual: at("edge.residual"),
            residual_in: at("edge.residual_in"),
            arrival: of_rows(wide),
            inverse: of_rows(1),
            before: of_rows(wide),
            signal: of_rows(wide),
            blended: of_rows(x),
            lambda: of_rows(g),
            mixed: of_rows(wide),
            low: of_rows(rank),
            scaled: of_rows(rank),
            leaving: of_rows(wide),
            kept: of_rows(wide),
            mask_node: of_rows(wide),
            mask_out: of_rows(wide),
            projected: of_rows(residual_rank),
            positions: 0,
            d_leaving: of_rows(wide),
            d_mixed: of_rows(wide),
            d_low: of_rows(rank),
            d_low_scale: of_rows(rank),
            d_gate: of_rows(g),
            d_target: of_rows(wide),
            d_arrival: of_rows(wide),
            d_before: of_rows(wide),
            d_gain: of_rows(wide),
            d_projected: of_rows(residual_rank),
            d_banks: 0,
            d_blended: 0,
            rows: 0,
        };
        let chunk = (SCORES / stage.nodes).clamp(1, rows);
        let result = regions.take(4);
        let row_place = regions.take(rows * 4);
        let scratch_columns = (2 * g).max(wide).max(4);
        Plan {
            walk: walk::Parameters {
                positions: regions.take(steps),
                d_banks: regions.take(sequences * g),
                d_blended: regions.take(sequences * x),
                rows: row_place,
                ..walk
            },
            result,
            rows: row_place,
            scores: regions.take(chunk * stage.nodes),
            chunk,
            extra: regions.take(extra as usize),
            d_beta: regions.take(if residual_rank > 0 {
                items_count * wide
            } else {
                0
            }),
            d_lambda: regions.take(steps),
            scratch: regions.take(pieces[0].count * scratch_columns),
            parts: regions.take(stage.norm_pieces()),
            folds,
            first_slots,
            edge_starts,
            order,
            items,
            items_count,
            fans,
            nodes,
            own_rows,
            targets,
            pieces,
            floats: regions.end,
        }
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
        plan: &Plan,
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

    fn forward(&mut self, batch: &Batch, plan: &Plan, learn: bool) -> Result<()> {
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

    fn residual_parameters(&self, batch: &Batch, plan: &Plan) -> residual_training::Parameters {
        residual_training::Parameters {
            order: plan.order,
            items: plan.items,
            items_count: plan.items_count as u32,
            fans: plan.fans,
            edge_starts: plan.edge_starts,
            slots: plan.walk.slots,
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
        plan: &Plan,
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
    fn score(&mut self, batch: &Batch, plan: &Plan, learn: bool) -> Result<()> {
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
                c: [plan.scores, v as u32],
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
                first_slots: plan.first_slots,
                edge_starts: plan.edge_starts,
                scores: plan.scores,
                extra: plan.extra,
                rows: plan.rows,
                bias: stage.blocks.at("node.bias"),
                trust: stage.blocks.at("node.trust"),
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
                stage.slots.clone(),
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
                a: [plan.scores, v as u32, 1],
                b: [beta, wide as u32, 1],
                b_in_values: true,
                c: [plan.walk.d_leaving + (first * wide) as u32, wide as u32],
                c_in_gradients: false,
                add: false,
                alpha: Some(scalars),
            })?;
            self.stage.multiply(&Product {
                shape: [v, wide, count],
                a: [plan.scores, 1, v as u32],
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
                self.stage.column_sums(count, v, plan.scores, bias)?;
            }
        }
        Ok(())
    }

    fn backward(&mut self, batch: &Batch, plan: &Plan) -> Result<()> {
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
    fn gather(&mut self, batch: &Batch, plan: &Plan) -> Result<()> {
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
            let trust = stage.blocks.at("node.trust");
            stage.collect(nodes, 1, (plan.rows + 1, 4), None, (trust, 1), true, true)?;
        }
        Ok(())
    }
}
