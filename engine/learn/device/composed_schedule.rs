//! The schedule of a batch of composed edges: its lists, and where everything lies in the workspace.

use super::composed::DeviceComposed;
use super::lists::{Groups, Lists, Regions, next, sorted_by_node, source};
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{path_composed, residual_training};
use crate::learn::batch::Batch;

/// Layout and lists of a batch; offsets count numbers.
pub(super) struct Plan {
    pub at: path_composed::Batch,
    pub residual: residual_training::Parameters,
    /// Where the targets of longer walks begin for each row.
    pub walks: u32,
    /// Rows whose logits are stored at once.
    pub chunk: usize,
    pub d_lambda: u32,
    pub scratch: u32,
    pub squares: u32,
    pub result: u32,
    /// Rows of the whole batch.
    pub total: usize,
    /// Rows by node.
    pub nodes: Groups,
    /// Nodes that the optimiser moves, of the whole batch in its last part.
    pub touched_nodes: Groups,
    /// Items by residual row.
    pub own_rows: Groups,
    /// Items by target.
    pub targets: Groups,
    pub pieces: [Groups; 2],
    /// Size of the workspace.
    pub floats: usize,
}

/// Lists of the own residuals: an item is an own edge of a node with rows of the batch.
#[derive(Default)]
struct Residuals {
    /// Residual row of the edge from each row to its next token, + 1; 0 for none. `[B · T]`
    edge_rows: Vec<u32>,
    /// First edge row of each row's node. `[B · T]`
    first_edge_rows: Vec<u32>,
    /// Where each row's own edges begin among the energies. `[B · T]`
    edge_starts: Vec<u32>,
    /// Rows sorted by node. `[B · T]`
    order: Vec<u32>,
    /// First position in `order`, rows, residual row, target. `[items, 4]`
    items: Vec<u32>,
    /// First item of each position in `order`, and how many. `[B · T, 2]`
    fans: Vec<u32>,
    /// Energies of all rows.
    energies: usize,
}

impl Residuals {
    fn of(graph: &TokenGraph, batch: &Batch) -> Self {
        let mut all = Self::default();
        for row in 0..batch.sequences() * batch.steps {
            let node = NodeId(source(batch, row));
            let edge = graph.edge(node, NodeId(next(batch, row)));
            let edge_row = edge.map_or(0, |edge| graph.edge_rows()[edge.index()]);
            let own = graph.own_slots(node);
            all.edge_rows.push(edge_row);
            all.first_edge_rows.push(own.start as u32);
            all.edge_starts.push(all.energies as u32);
            all.energies += own.len();
        }
        // An item for each own edge of each node that has rows.
        let mut position = 0;
        let (order, groups) = sorted_by_node(batch);
        for (node, count) in groups {
            let fan = graph.fan(NodeId(node));
            let first = (all.items.len() / 4) as u32;
            let edges = fan.edge_rows.iter().zip(fan.targets);
            for (&edge_row, &target) in edges.filter(|&(&edge_row, _)| edge_row > 0) {
                all.items
                    .extend([position as u32, count as u32, edge_row - 1, target]);
            }
            let edges = (all.items.len() / 4) as u32 - first;
            all.fans
                .extend(std::iter::repeat_n([first, edges], count).flatten());
            position += count;
        }
        all.order = order;
        all
    }
}

impl DeviceComposed {
    /// Sizes, and offsets of the blocks of parameters.
    fn parameters_at(&self, steps: usize) -> path_composed::Batch {
        let stage = &self.stage;
        let block = |name: &str| stage.blocks.at(name);
        path_composed::Batch {
            scale: block("node.scale"),
            offset: block("node.offset"),
            mix: block("edge.mix"),
            gain: block("node.gain"),
            decay: block("blend.decay"),
            gate: block("blend.gate"),
            gate_signal: block("blend.gate_signal"),
            low_scale: block("node.low_scale"),
            low_in: block("edge.low_in"),
            low_out: block("edge.low_out"),
            residual: block("edge.residual"),
            residual_in: block("edge.residual_in"),
            ..stage.readout_at(steps)
        }
    }

    /// Offsets of what each row of the batch keeps, besides those of [`Self::parameters_at`].
    fn rows_at(&self, rows: usize, steps: usize, regions: &mut Regions) -> path_composed::Batch {
        let profile = &self.stage.profile;
        let wide = padded(profile.width);
        let (g, x) = (profile.banks * wide, (1 + profile.banks) * wide);
        let (rank, residual_rank) = (profile.rank, profile.residual.unwrap_or(0));
        let mut of_rows = |columns: usize| regions.take(rows * columns);
        path_composed::Batch {
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
            d_output: of_rows(wide),
            d_mixed: of_rows(wide),
            d_low: of_rows(rank),
            d_low_scale: of_rows(rank),
            d_gate: of_rows(g),
            d_target: of_rows(wide),
            d_preactivation: of_rows(wide),
            d_before: of_rows(wide),
            d_gain: of_rows(wide),
            d_projected: of_rows(residual_rank),
            ..self.parameters_at(steps)
        }
    }

    /// Lay a part of a batch of `total` rows out: lists go into `lists`, everything else into regions of the workspace.
    pub(super) fn plan(
        &self,
        graph: &TokenGraph,
        batch: &Batch,
        total: usize,
        lists: &mut Lists,
    ) -> Plan {
        let (stage, profile) = (&self.stage, &self.stage.profile);
        let (sequences, steps) = (batch.sequences(), batch.steps);
        let rows = sequences * steps;
        let wide = padded(profile.width);
        let (g, x) = (profile.banks * wide, (1 + profile.banks) * wide);
        let residual_rank = profile.residual.unwrap_or(0);
        let nodes = lists.by_key((0..rows).map(|row| (source(batch, row), row as u32)));
        let pieces = lists.pieces(rows);
        let own = self.own.then(|| Residuals::of(graph, batch));
        let own = own.unwrap_or_default();
        let items = own.items.chunks_exact(4);
        let items_count = items.len();
        // Only the keys are used: the residual rows that the optimiser has to update.
        let own_rows = lists.by_key(items.clone().map(|item| (item[2], 0)));
        let by_target = items.enumerate();
        let targets = lists.by_key(by_target.map(|(index, item)| (item[3], index as u32)));
        let mut regions = Regions::default();
        // V logits a row: as many rows at once as the limit allows.
        let chunk = stage.softmax_rows(rows);
        let mut at = path_composed::Batch {
            tokens: lists.put(&batch.tokens),
            folds: lists.put(&batch.folds),
            edge_rows: lists.put(&own.edge_rows),
            first_edge_rows: lists.put(&own.first_edge_rows),
            edge_starts: lists.put(&own.edge_starts),
            ..self.rows_at(rows, steps, &mut regions)
        };
        // The rows follow the result: both are read back at once.
        let result = regions.take(4);
        at.rows = regions.take(rows * 4);
        at.positions = regions.take(steps);
        at.d_banks = regions.take(sequences * g);
        at.d_blended = regions.take(sequences * x);
        at.logits = regions.take(chunk * stage.nodes);
        at.extra = regions.take(own.energies);
        let d_beta = if residual_rank > 0 { items_count } else { 0 };
        Plan {
            residual: residual_training::Parameters {
                at,
                order: lists.put(&own.order),
                rows_count: rows as u32,
                items: lists.put(&own.items),
                items_count: items_count as u32,
                fans: lists.put(&own.fans),
                d_beta: regions.take(d_beta * wide),
            },
            at,
            walks: lists.walks(&stage.walks, batch),
            chunk,
            d_lambda: regions.take(steps),
            // Large enough for the widest sum over all rows.
            scratch: regions.take(pieces[0].count * (2 * g).max(wide).max(4)),
            squares: regions.take(stage.norm_pieces()),
            result,
            total,
            nodes,
            touched_nodes: nodes,
            own_rows,
            targets,
            pieces,
            floats: regions.end,
        }
    }

    /// Nodes, and residual rows, of which a batch has gradients.
    pub(super) fn touched(
        &self,
        graph: &TokenGraph,
        batch: &Batch,
        lists: &mut Lists,
    ) -> (Groups, Groups) {
        let rows = 0..batch.sequences() * batch.steps;
        let nodes = lists.by_key(rows.map(|row| (source(batch, row), 0)));
        let own = self.own.then(|| Residuals::of(graph, batch));
        let own = own.unwrap_or_default();
        let items = own.items.chunks_exact(4);
        (nodes, lists.by_key(items.map(|item| (item[2], 0))))
    }
}
