//! The schedule of a batch of own edges: which edges are scored for which rows, and where everything lies.

use super::edge_weights::EdgeWeights;
use super::lists::{Groups, Lists, NONE, Regions, next, sorted_by_node, source};
use super::stage::Stage;
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::gpu::path_own;
use crate::kernel::gpu::table::padded;
use crate::kernel::position;
use crate::learn::batch::Batch;
use crate::signal::{EnergyKind, PositionOffset};

/// Layout and lists of a batch; offsets count numbers.
pub(super) struct Plan {
    pub at: path_own::Batch,
    /// Position rows: row 0, then that of each hop; for `at.first_position`.
    pub position_rows: Vec<f32>,
    /// The nodes whose energies are stored at once, and the rows at them.
    pub groups: Vec<NodeGroup>,
    /// Items of each position in the order, by buffer.
    pub fans: Vec<u32>,
    /// Gradients of the shared edge, by piece.
    pub partial: u32,
    /// Sums of squares of own edges' gradients, offset and count.
    pub edge_squares: (u32, usize),
    /// Rows whose logits are stored at once.
    pub chunk: usize,
    pub scratch: u32,
    pub squares: u32,
    pub d_lambda: u32,
    pub result: u32,
    /// Rows by node.
    pub nodes: Groups,
    /// First rows of the sequences, by node.
    pub first_rows: Groups,
    /// Candidates by target.
    pub candidates: Groups,
    pub pieces: [Groups; 2],
    /// Size of the workspace.
    pub floats: usize,
}

/// Nodes whose energies are stored at once. Every row at a node is in one group, so that the gradient of an edge is complete
/// within it.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeGroup {
    /// First position of its rows in the order.
    pub first: usize,
    /// Number of its rows.
    pub rows: usize,
    /// Items of each buffer of edges, offset in the integers and count; the shared edge's last.
    pub items: Vec<(u32, usize)>,
    /// Items of the shared edge, one for each piece of the rows.
    pub shared_items: u32,
}

/// What a plan is made from.
pub(super) struct Schedule<'a> {
    pub stage: &'a Stage,
    pub edge_weights: &'a EdgeWeights,
    pub graph: &'a TokenGraph,
    pub batch: &'a Batch,
    /// Runs of columns that an edge's gradient is computed in.
    pub column_runs: usize,
}

/// Which edges are scored: each node's fan, or the part of it that leads to candidates.
struct Scored {
    /// Rows sorted by node. `[B · T]`
    order: Vec<u32>,
    /// Of each buffer: first position in `order`, rows, row of the edge, its number in the fan. `[items, 4]`
    items: Vec<Vec<u32>>,
    /// Of each buffer: first item of each position in `order`, and how many. `[B · T, 2]`
    fans: Vec<Vec<u32>>,
    /// Offset of each row's energies among those of its group. `[B · T]`
    starts: Vec<u32>,
    /// Own edges of each row. `[B · T]`
    counts: Vec<u32>,
    /// Number of the true edge in the fan of each row, 0 for the shared one. `[B · T]`
    chosen: Vec<u32>,
    /// First edge row of each row's node. `[B · T]`
    first_edge_rows: Vec<u32>,
    /// Numbers of the candidates' edges in the fan. `[B · T, C]`
    numbers: Vec<u32>,
    /// The candidates' edges in the graph, or `NONE`. `[B · T, C]`
    candidate_edges: Vec<u32>,
    /// The nodes whose energies are stored at once; items are numbered, not yet at their offsets.
    groups: Vec<NodeGroup>,
    /// Numbers of energies and slopes, of the current group and of the largest one.
    energies: [usize; 2],
}

/// The shared edge's items for its gradient: one for each piece of the rows. `[pieces, 4]`
fn shared_items(first: usize, rows: usize, pieces: usize) -> Vec<u32> {
    let each = rows.div_ceil(pieces).max(1);
    (0..pieces)
        .flat_map(|piece| {
            let skipped = (piece * each).min(rows);
            let count = each.min(rows - skipped);
            [(first + skipped) as u32, count as u32, 0, 0]
        })
        .collect()
}

impl Scored {
    /// Add `rows` rows at one node, with `each` numbers of energies and slopes, to the last group, or to a new one if it would
    /// have more than `most` numbers.
    fn open_group(&mut self, position: usize, rows: usize, each: usize, most: usize) {
        let numbers = rows * each;
        let energies = self.energies[0];
        if self.groups.is_empty() || (energies > 0 && energies + numbers > most) {
            self.groups.push(NodeGroup {
                first: position,
                items: self
                    .items
                    .iter()
                    .map(|items| ((items.len() / 4) as u32, 0))
                    .collect(),
                ..NodeGroup::default()
            });
            self.energies[0] = 0;
        }
        if let Some(group) = self.groups.last_mut() {
            group.rows += rows;
        }
        self.energies[1] = self.energies[1].max(self.energies[0] + numbers);
    }

    /// Write the items, and return the groups with their offsets.
    fn put_groups(&self, lists: &mut Lists, pieces: usize) -> Vec<NodeGroup> {
        let offsets: Vec<u32> = self.items.iter().map(|items| lists.put(items)).collect();
        let ends = self.items.iter().map(|items| ((items.len() / 4) as u32, 0));
        let mut next: Vec<(u32, usize)> = ends.collect();
        let mut groups = self.groups.clone();
        for group in groups.iter_mut().rev() {
            let first = group.items.clone();
            for ((item, end), offset) in group.items.iter_mut().zip(&next).zip(&offsets) {
                *item = (offset + 4 * item.0, (end.0 - item.0) as usize);
            }
            next = first;
            group.shared_items = lists.put(&shared_items(group.first, group.rows, pieces));
        }
        groups
    }
}

impl Schedule<'_> {
    /// Buffer and row of the edge from each row to its next token. `[B · T, 2]`
    fn walked(&self) -> Vec<u32> {
        let rows = self.batch.sequences() * self.batch.steps;
        (0..rows)
            .flat_map(|row| {
                let (node, next) = (source(self.batch, row), next(self.batch, row));
                let edge = self.graph.edge(NodeId(node), NodeId(next));
                let edge_row = edge.map_or(0, |edge| self.graph.edge_rows()[edge.index()]);
                // Without an edge row of its own the hop takes the shared edge.
                let (buffer, row) = if edge_row == 0 {
                    (self.edge_weights.shared(), 0)
                } else {
                    self.edge_weights.location(node, edge_row)
                };
                [buffer, row]
            })
            .collect()
    }

    /// Position rows: the first, then that of each hop; padded.
    fn position_rows(&self) -> Vec<f32> {
        let profile = &self.stage.profile;
        let (d, wide) = (profile.width, padded(profile.width));
        let mut all = vec![0.0; (1 + self.batch.steps) * wide];
        if profile.position_table {
            let offset = usize::from(profile.offset == PositionOffset::Train);
            position::row(0, &mut all[..d]);
            for hop in 0..self.batch.steps {
                let start = (1 + hop) * wide;
                position::row(hop + offset, &mut all[start..start + d]);
            }
        }
        all
    }

    /// The own edges to score for the rows at one node: edge rows and targets, by target.
    fn own_edges(&self, node: u32, rows: &[u32]) -> Vec<(u32, u32)> {
        let fan = self.graph.fan(NodeId(node));
        let pairs = fan
            .edge_rows
            .iter()
            .copied()
            .zip(fan.targets.iter().copied());
        let mut edges: Vec<(u32, u32)> = pairs.filter(|&(edge_row, _)| edge_row > 0).collect();
        // Sampled softmax: edges to targets that no row at this node sampled need no energy.
        if let Some(candidates) = &self.batch.candidates {
            let mut wanted: Vec<u32> = rows
                .iter()
                .flat_map(|&row| candidates.of(row as usize).iter().copied())
                .collect();
            wanted.sort_unstable();
            edges.retain(|(_, target)| wanted.binary_search(target).is_ok());
        }
        edges
    }

    /// List what is scored, with at most `most` numbers of energies and slopes in a group of several nodes.
    fn scored(&self, most: usize) -> Scored {
        let rows = self.batch.sequences() * self.batch.steps;
        let buffers = self.edge_weights.shards.len() + 1;
        let candidates = self.batch.candidates.as_ref();
        let listed = candidates.map_or(0, |candidates| candidates.targets.len());
        let (order, groups) = sorted_by_node(self.batch);
        let mut scored = Scored {
            items: vec![Vec::new(); buffers],
            fans: vec![vec![0; 2 * rows]; buffers],
            starts: vec![0; rows],
            counts: vec![0; rows],
            chosen: vec![0; rows],
            first_edge_rows: vec![0; rows],
            numbers: vec![0; listed],
            candidate_edges: vec![NONE; listed],
            groups: Vec::new(),
            energies: [0; 2],
            order: Vec::new(),
        };
        // Node by node, so that the rows at a node share its edges.
        let mut position = 0;
        for (node, count) in groups {
            let rows = &order[position..position + count];
            self.score(&mut scored, node, position, rows, most);
            position += count;
        }
        scored.order = order;
        scored
    }

    /// Add the edges of one node and the rows at it, which begin at `position` of the order.
    fn score(&self, scored: &mut Scored, node: u32, position: usize, rows: &[u32], most: usize) {
        let edges = self.own_edges(node, rows);
        scored.open_group(position, rows.len(), 2 * (1 + edges.len()), most);
        // The number of the edge to a target within the fan; 0 is the shared edge.
        let number = |target: u32| {
            let found = edges.binary_search_by_key(&target, |&(_, target)| target);
            found.map_or(0, |index| index as u32 + 1)
        };
        let (first, count) = (position as u32, rows.len() as u32);
        let shared = scored.items.len() - 1;
        let shared_item = (scored.items[shared].len() / 4) as u32;
        scored.items[shared].extend([first, count, 0, 0]);
        // A fan lies in one buffer.
        let own = edges
            .first()
            .map(|&(edge_row, _)| self.edge_weights.location(node, edge_row).0 as usize);
        let own_item = own.map_or(0, |buffer| (scored.items[buffer].len() / 4) as u32);
        for (index, &(edge_row, _)) in edges.iter().enumerate() {
            let (buffer, row) = self.edge_weights.location(node, edge_row);
            scored.items[buffer as usize].extend([first, count, row, index as u32 + 1]);
        }
        for (position, &row) in (position..).zip(rows) {
            let row = row as usize;
            scored.fans[shared][2 * position..][..2].copy_from_slice(&[shared_item, 1]);
            if let Some(buffer) = own {
                let items = [own_item, edges.len() as u32];
                scored.fans[buffer][2 * position..][..2].copy_from_slice(&items);
            }
            scored.starts[row] = scored.energies[0] as u32;
            // Energies, then as many slopes.
            scored.energies[0] += 2 * (1 + edges.len());
            scored.counts[row] = edges.len() as u32;
            scored.chosen[row] = number(next(self.batch, row));
            scored.first_edge_rows[row] = self.edge_weights.first_row(node);
            if let Some(candidates) = &self.batch.candidates {
                let listed = (row * candidates.count..).zip(candidates.of(row));
                for (index, &target) in listed {
                    let edge = self.graph.edge(NodeId(node), NodeId(target));
                    scored.numbers[index] = number(target);
                    scored.candidate_edges[index] = edge.map_or(NONE, |edge| edge.0);
                }
            }
        }
    }

    /// Sizes, and offsets of the blocks of parameters.
    fn parameters_at(&self) -> path_own::Batch {
        let (stage, profile) = (self.stage, &self.stage.profile);
        let block = |name: &str| stage.blocks.at(name);
        path_own::Batch {
            steps: self.batch.steps as u32,
            nodes_count: stage.nodes as u32,
            edges_count: stage.edges as u32,
            squared: u32::from(profile.energy == EnergyKind::Squared),
            uses_prior: u32::from(profile.static_resistance),
            has_bias: u32::from(profile.target_bias),
            start: block("node.start"),
            decay: block("blend.decay"),
            gate: block("blend.gate"),
            gate_signal: block("blend.gate_signal"),
            mix: block("blend.mix"),
            bias: block("node.bias"),
            prior_weight: block("node.trust"),
            scalars: block("scalars"),
            lifts: stage.lifts,
            ..path_own::Batch::default()
        }
    }

    /// Return how many logits are stored: those of candidates for all rows, of all targets for a chunk of rows, and
    /// none where nothing but energy counts.
    fn logits(&self, rows: usize, listed: usize, chunk: usize) -> usize {
        let profile = &self.stage.profile;
        let bare = !profile.static_resistance && !profile.target_bias;
        match (listed, bare) {
            (0, true) => 0,
            (0, false) => chunk * self.stage.nodes,
            (listed, _) => rows * listed,
        }
    }

    /// Lists of the batch, and offsets of what each row keeps, besides those of [`Self::parameters_at`].
    fn rows_at(
        &self,
        scored: &Scored,
        lists: &mut Lists,
        regions: &mut Regions,
    ) -> path_own::Batch {
        let (profile, batch) = (&self.stage.profile, self.batch);
        let rows = batch.sequences() * batch.steps;
        let wide = padded(profile.width);
        let g = profile.banks * wide;
        let targets = batch.candidates.as_ref().map(|all| all.targets.as_slice());
        let targets = targets.unwrap_or_default();
        let mut of_rows = |columns: usize| regions.take(rows * columns);
        path_own::Batch {
            candidates_count: (targets.len() / rows) as u32,
            tokens: lists.put(&batch.tokens),
            folds: lists.put(&batch.folds),
            walked: lists.put(&self.walked()),
            order: lists.put(&scored.order),
            starts: lists.put(&scored.starts),
            counts: lists.put(&scored.counts),
            chosen: lists.put(&scored.chosen),
            first_edge_rows: lists.put(&scored.first_edge_rows),
            candidates: lists.put(targets),
            numbers: lists.put(&scored.numbers),
            candidate_edges: lists.put(&scored.candidate_edges),
            before: of_rows(wide),
            signal: of_rows(wide),
            banks: of_rows(g),
            lambda: of_rows(g),
            input: of_rows(wide),
            mask: of_rows(wide),
            kept: of_rows(wide),
            d_input: of_rows(wide),
            d_before: of_rows(wide),
            d_gate: of_rows(g),
            ..self.parameters_at()
        }
    }

    /// Lay the batch out; returns its lists too. Where its energies do not fit into a workspace of `most` numbers, they are
    /// stored for some nodes after others.
    pub fn plan(&self, most: usize) -> (Plan, Lists) {
        let (plan, lists, energies) = self.laid_out(usize::MAX);
        if plan.floats <= most {
            return (plan, lists);
        }
        let (plan, lists, _) = self.laid_out((most + energies).saturating_sub(plan.floats));
        (plan, lists)
    }

    /// Lay the batch out with at most `most` numbers of energies and slopes of several nodes at once; returns how many there
    /// are.
    fn laid_out(&self, most: usize) -> (Plan, Lists, usize) {
        let (stage, batch, profile) = (self.stage, self.batch, &self.stage.profile);
        let (sequences, steps) = (batch.sequences(), batch.steps);
        let rows = sequences * steps;
        let wide = padded(profile.width);
        let g = profile.banks * wide;
        // Numbers of one edge: the rows of W and the bias, padded.
        let row_numbers = (profile.width + 1) * wide;
        let mut lists = Lists::default();
        let scored = self.scored(most);
        let candidates = batch.candidates.as_ref();
        let targets = candidates.map_or(&[][..], |candidates| &candidates.targets);
        let listed = targets.len() / rows;
        let nodes = lists.by_key((0..rows).map(|row| (source(batch, row), row as u32)));
        let first_rows =
            lists.by_key((0..sequences).map(|b| (batch.sequence(b)[0], (b * steps) as u32)));
        let candidates = lists.by_key(targets.iter().copied().zip(0..));
        let pieces = lists.pieces(rows);
        let groups = scored.put_groups(&mut lists, pieces[0].count);
        let own_items = scored.items[..scored.items.len() - 1].iter();
        // One sum for each item and run of columns.
        let edge_squares = own_items.map(|items| items.len() / 4).sum::<usize>() * self.column_runs;
        let mut regions = Regions::default();
        let position_rows = self.position_rows();
        let first_position = regions.take(position_rows.len());
        let mut at = path_own::Batch {
            first_position,
            positions: first_position + wide as u32,
            ..self.rows_at(&scored, &mut lists, &mut regions)
        };
        // The rows follow the result: both are read back at once.
        let result = regions.take(4);
        at.rows = regions.take(rows * 4);
        at.energies = regions.take(scored.energies[1]);
        at.weights = regions.take(steps);
        at.d_banks = regions.take(sequences * g);
        let chunk = stage.softmax_rows(rows);
        at.logits = regions.take(self.logits(rows, listed, chunk));
        let plan = Plan {
            at,
            position_rows,
            groups,
            fans: scored.fans.iter().map(|list| lists.put(list)).collect(),
            partial: regions.take(pieces[0].count * row_numbers),
            edge_squares: (regions.take(edge_squares), edge_squares),
            chunk,
            scratch: regions.take(pieces[0].count * g.max(4)),
            squares: regions.take(stage.norm_pieces()),
            d_lambda: regions.take(steps),
            result,
            nodes,
            first_rows,
            candidates,
            pieces,
            floats: regions.end,
        };
        (plan, lists, scored.energies[1])
    }
}
