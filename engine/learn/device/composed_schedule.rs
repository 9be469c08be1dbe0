//! The schedule of a batch of composed edges: its lists, and where everything lies.

use super::composed::DeviceComposed;
use super::lists::{Groups, Lists, Regions};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::walk;
use crate::learn::batch::Batch;

/// Numbers of the scores that are kept at once.
const SCORES: usize = 16 << 20;

/// Places of a batch: in the workspace, and of its lists.
pub(super) struct ComposedPlan {
    pub walk: walk::Parameters,
    pub result: u32,
    pub rows: u32,
    pub logits: u32,
    pub chunk: usize,
    pub extra: u32,
    pub d_beta: u32,
    pub d_lambda: u32,
    pub scratch: u32,
    pub parts: u32,
    pub folds: u32,
    pub first_rows: u32,
    pub edge_starts: u32,
    pub order: u32,
    pub items: u32,
    pub items_count: usize,
    pub fans: u32,
    pub nodes: Groups,
    pub own_rows: Groups,
    pub targets: Groups,
    pub pieces: [Groups; 2],
    pub floats: usize,
}

impl DeviceComposed {
    /// Lays a batch out: its lists go into `lists`, everything else into regions of the workspace.
    pub(super) fn plan(
        &self,
        graph: &TokenGraph,
        batch: &Batch,
        lists: &mut Lists,
    ) -> ComposedPlan {
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
        let (mut edge_rows, mut first_rows, mut edge_starts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut items, mut fans, mut order, mut keys) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut extra = 0u32;
        if self.own {
            for row in 0..rows {
                let edge = graph.edge(NodeId(source(row)), NodeId(next(row)));
                edge_rows.push(edge.map_or(0, |edge| graph.edge_rows()[edge.index()]));
                let own = graph.own_slots(NodeId(source(row)));
                first_rows.push(own.start as u32);
                edge_starts.push(extra);
                extra += own.len() as u32;
            }
            order = (0..rows as u32).collect();
            order.sort_by_key(|&row| source(row as usize));
            let mut place = 0u32;
            for group in order.chunk_by(|&a, &b| source(a as usize) == source(b as usize)) {
                let fan = graph.fan(NodeId(source(group[0] as usize)));
                let first = (items.len() / 4) as u32;
                for (&edge_row, &target) in fan
                    .edge_rows
                    .iter()
                    .zip(fan.targets)
                    .filter(|&(&edge_row, _)| edge_row > 0)
                {
                    keys.push((edge_row - 1, target));
                    items.extend([place, group.len() as u32, edge_row - 1, target]);
                }
                let count = (items.len() / 4) as u32 - first;
                fans.extend(group.iter().flat_map(|_| [first, count]));
                place += group.len() as u32;
            }
        }
        let items_count = keys.len();
        let own_rows = lists.by_key(keys.iter().map(|&(edge_row, _)| (edge_row, 0)));
        let targets = lists.by_key(
            keys.iter()
                .enumerate()
                .map(|(item, &(_, target))| (target, item as u32)),
        );
        let edge_rows = lists.put(&edge_rows);
        let first_rows = lists.put(&first_rows);
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
            edge_rows,
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
            preactivation: of_rows(wide),
            inverse: of_rows(1),
            before: of_rows(wide),
            signal: of_rows(wide),
            blended: of_rows(x),
            lambda: of_rows(g),
            mixed: of_rows(wide),
            low: of_rows(rank),
            scaled: of_rows(rank),
            output: of_rows(wide),
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
        ComposedPlan {
            walk: walk::Parameters {
                positions: regions.take(steps),
                d_banks: regions.take(sequences * g),
                d_blended: regions.take(sequences * x),
                rows: row_place,
                ..walk
            },
            result,
            rows: row_place,
            logits: regions.take(chunk * stage.nodes),
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
            first_rows,
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
}
