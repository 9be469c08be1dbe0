//! The schedule of a batch of own edges: which rows stand where, which edges are scored, where it all lies.

use super::edge_weights::EdgeWeights;
use super::lists::{Groups, Lists, NONE, Regions};
use super::stage::Stage;
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{fan, path, softmax};
use crate::kernel::position;
use crate::learn::batch::Batch;
use crate::signal::{EnergyKind, PositionOffset};

/// Numbers of the scores that are kept at once.
const SCORES: usize = 16 << 20;

/// Places of a batch: in the workspace, and of its lists.
pub(super) struct Plan {
    pub path: path::Parameters,
    pub fan: fan::Parameters,
    pub softmax: softmax::OwnParameters,
    /// Position rows: row 0, then that of each hop; they go to `path.first`.
    pub position_rows: Vec<f32>,
    /// Items of each buffer of edges, and how many; the shared edge's last.
    pub items: Vec<(u32, usize)>,
    /// Items of each place in the order, by buffer.
    pub fans: Vec<u32>,
    /// Items of the shared edge, in pieces of rows.
    pub shared_pieces: u32,
    pub partial: u32,
    pub squares: u32,
    pub squares_count: usize,
    pub result: u32,
    pub rows: u32,
    pub chunk: usize,
    pub scratch: u32,
    pub parts: u32,
    pub d_lambda: u32,
    pub nodes: Groups,
    /// First nodes of the sequences.
    pub starts_of: Groups,
    /// Candidates by target.
    pub candidates: Groups,
    pub pieces: [Groups; 2],
    pub floats: usize,
}

/// What a plan is made from.
pub(super) struct Schedule<'a> {
    pub stage: &'a Stage,
    pub edge_weights: &'a EdgeWeights,
    pub graph: &'a TokenGraph,
    pub batch: &'a Batch,
    /// Columns of a run of columns, and how many runs an edge has.
    pub blocks: (usize, usize),
}

impl Schedule<'_> {
    fn source(&self, row: usize) -> u32 {
        self.batch.sequence(row / self.batch.steps)[row % self.batch.steps]
    }

    fn next(&self, row: usize) -> u32 {
        self.batch.sequence(row / self.batch.steps)[row % self.batch.steps + 1]
    }

    /// Buffer and row of the edge each row walks.
    fn walked(&self) -> Vec<u32> {
        let rows = self.batch.sequences() * self.batch.steps;
        (0..rows)
            .flat_map(|row| {
                let edge = self
                    .graph
                    .edge(NodeId(self.source(row)), NodeId(self.next(row)));
                let edge_row = edge.map_or(0, |edge| self.graph.edge_rows()[edge.index()]);
                let (buffer, row) = match edge_row {
                    0 => (self.edge_weights.shared(), 0),
                    edge_row => self.edge_weights.place(self.source(row), edge_row),
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

    /// The plan and its lists.
    pub fn plan(&self) -> (Plan, Lists) {
        let (stage, batch, graph, edge_weights) =
            (self.stage, self.batch, self.graph, self.edge_weights);
        let profile = &stage.profile;
        let (sequences, steps) = (batch.sequences(), batch.steps);
        let rows = sequences * steps;
        let wide = padded(profile.width);
        let g = profile.banks * wide;
        let row_numbers = (profile.width + 1) * wide;
        let mut lists = Lists::default();

        // Rows by source; the own edges that each group scores.
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.sort_by_key(|&row| self.source(row as usize));
        let buffers = edge_weights.shards.len() + 1;
        let mut items: Vec<Vec<u32>> = vec![Vec::new(); buffers];
        let mut fans: Vec<Vec<u32>> = vec![vec![0; 2 * rows]; buffers];
        let (mut starts, mut counts) = (vec![0u32; rows], vec![0u32; rows]);
        let (mut chosen, mut first_rows) = (vec![0u32; rows], vec![0u32; rows]);
        let (mut targets, mut numbers, mut places) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(candidates) = &batch.candidates {
            targets = candidates.targets.clone();
            numbers = vec![0u32; targets.len()];
            places = vec![NONE; targets.len()];
        }
        let mut energies = 0usize;
        let mut place = 0usize;
        for group in order.chunk_by(|&a, &b| self.source(a as usize) == self.source(b as usize)) {
            let node = self.source(group[0] as usize);
            let fan = graph.fan(NodeId(node));
            let mut edges: Vec<(u32, u32)> = fan
                .edge_rows
                .iter()
                .zip(fan.targets)
                .filter(|&(&edge_row, _)| edge_row > 0)
                .map(|(&edge_row, &target)| (edge_row, target))
                .collect();
            if let Some(candidates) = &batch.candidates {
                let mut wanted: Vec<u32> = group
                    .iter()
                    .flat_map(|&row| candidates.of(row as usize).iter().copied())
                    .collect();
                wanted.sort_unstable();
                edges.retain(|(_, target)| wanted.binary_search(target).is_ok());
            }
            let number = |target: u32| {
                let found = edges.binary_search_by_key(&target, |&(_, target)| target);
                found.map_or(0, |place| place as u32 + 1)
            };
            let count = group.len() as u32;
            let shared = buffers - 1;
            let shared_item = (items[shared].len() / 4) as u32;
            items[shared].extend([place as u32, count, 0, 0]);
            let own = edges
                .first()
                .map(|&(edge_row, _)| edge_weights.place(node, edge_row).0 as usize);
            let first_item = own.map_or(0, |buffer| (items[buffer].len() / 4) as u32);
            for (index, &(edge_row, _)) in edges.iter().enumerate() {
                let (buffer, row) = edge_weights.place(node, edge_row);
                items[buffer as usize].extend([place as u32, count, row, index as u32 + 1]);
            }
            for &row in group {
                let row = row as usize;
                fans[shared][2 * place] = shared_item;
                fans[shared][2 * place + 1] = 1;
                if let Some(buffer) = own {
                    fans[buffer][2 * place] = first_item;
                    fans[buffer][2 * place + 1] = edges.len() as u32;
                }
                // Energies, then their slopes.
                starts[row] = energies as u32;
                energies += 2 * (1 + edges.len());
                counts[row] = edges.len() as u32;
                chosen[row] = number(self.next(row));
                first_rows[row] = edge_weights.first_row(node);
                if let Some(candidates) = &batch.candidates {
                    for (index, &target) in candidates.of(row).iter().enumerate() {
                        let at = row * candidates.count + index;
                        numbers[at] = number(target);
                        places[at] = graph
                            .edge(NodeId(node), NodeId(target))
                            .map_or(NONE, |edge| edge.0);
                    }
                }
                place += 1;
            }
        }

        let nodes = lists.by_key((0..rows).map(|row| (self.source(row), row as u32)));
        let starts_of =
            lists.by_key((0..sequences).map(|b| (batch.sequence(b)[0], (b * steps) as u32)));
        let by_target = lists.by_key(
            targets
                .iter()
                .enumerate()
                .map(|(at, &target)| (target, at as u32)),
        );
        let pieces = lists.pieces(rows);
        let shared_items: Vec<u32> = (0..pieces[0].count)
            .flat_map(|piece| {
                let first = piece * rows.div_ceil(pieces[0].count).max(1);
                let per = rows.div_ceil(pieces[0].count).max(1);
                [
                    first.min(rows) as u32,
                    per.min(rows.saturating_sub(first)) as u32,
                    0,
                    0,
                ]
            })
            .collect();
        let shared_pieces = lists.put(&shared_items);
        let squares_count = items[..buffers - 1]
            .iter()
            .map(|list| list.len() / 4)
            .sum::<usize>()
            * self.blocks.1;
        let items: Vec<(u32, usize)> = items
            .iter()
            .map(|list| (lists.put(list), list.len() / 4))
            .collect();
        let fans = fans.iter().map(|list| lists.put(list)).collect();
        let (order, walked) = (lists.put(&order), lists.put(&self.walked()));
        let (tokens, folds) = (lists.put(&batch.tokens), lists.put(&batch.folds));
        let (starts, counts) = (lists.put(&starts), lists.put(&counts));
        let (chosen, first_rows) = (lists.put(&chosen), lists.put(&first_rows));
        let listed = batch
            .candidates
            .as_ref()
            .map_or(0, |candidates| candidates.count);
        let scored = lists.put(&targets);
        let (numbers, places) = (lists.put(&numbers), lists.put(&places));

        let mut regions = Regions::default();
        let position_rows = self.position_rows();
        let first = regions.take(position_rows.len());
        let mut of_rows = |columns: usize| regions.take(rows * columns);
        let at = |name: &str| stage.blocks.at(name);
        let path = path::Parameters {
            steps: steps as u32,
            tokens,
            walked,
            start: at("node.start"),
            decay: at("blend.decay"),
            gate: at("blend.gate"),
            gate_signal: at("blend.gate_signal"),
            mix: at("blend.mix"),
            level: match profile.start_at_ones {
                true => 1.0,
                false => (1.0 / profile.width as f64) as f32,
            },
            first,
            table: first + wide as u32,
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
            ..path::Parameters::default()
        };
        let chunk = (SCORES / stage.nodes).clamp(1, rows);
        let bare = !profile.static_resistance && !profile.target_bias;
        let logits = match (listed, bare) {
            (0, true) => 0,
            (0, false) => chunk * stage.nodes,
            (listed, _) => rows * listed,
        };
        let result = regions.take(4);
        let row_place = regions.take(rows * 4);
        let energies = regions.take(energies);
        let path = path::Parameters {
            weights: regions.take(steps),
            d_banks: regions.take(sequences * g),
            ..path
        };
        let squared = u32::from(profile.energy == EnergyKind::Squared);
        let plan = Plan {
            fan: fan::Parameters {
                steps: steps as u32,
                order,
                starts,
                walked,
                energies,
                kept: path.kept,
                input: path.input,
                mask: path.mask,
                table: path.table,
                d_input: path.d_input,
                d_before: path.d_before,
                squared,
                ..fan::Parameters::default()
            },
            softmax: softmax::OwnParameters {
                nodes_count: stage.nodes as u32,
                edges_count: stage.edges as u32,
                steps: steps as u32,
                tokens,
                folds,
                starts,
                counts,
                chosen,
                first_rows,
                candidates: scored,
                numbers,
                places,
                listed: listed as u32,
                energies,
                logits: regions.take(logits),
                rows: row_place,
                bias: at("node.bias"),
                has_bias: u32::from(profile.target_bias),
                prior_weight: at("node.trust"),
                scalars: at("scalars"),
                uses_prior: u32::from(profile.static_resistance),
                lifts: stage.lifts,
                squared,
                weight: 1.0 / rows as f32,
                ..softmax::OwnParameters::default()
            },
            path,
            position_rows,
            items,
            fans,
            shared_pieces,
            partial: regions.take(pieces[0].count * row_numbers),
            squares: regions.take(squares_count),
            squares_count,
            result,
            rows: row_place,
            chunk,
            scratch: regions.take(pieces[0].count * g.max(4)),
            parts: regions.take(stage.norm_pieces()),
            d_lambda: regions.take(steps),
            nodes,
            starts_of,
            candidates: by_target,
            pieces,
            floats: regions.end,
        };
        (plan, lists)
    }
}
