//! Energies, loss and gradients of fans by blocks of edges, which have the same bits on whatever ranks they are computed.
//!
//! A fan consists of blocks of [`FAN_BLOCK`] own edges, by ascending target, and of the *rest*, block 0: the shared edge with
//! the targets that have no edge of their own. The home of a node computes the rest, and the blocks of its own edges; other
//! ranks compute theirs. For each row, with the logits s of [`crate::kernel::logits`]:
//!
//! ```text
//! l_b = ln Σ_{t∈b} exp s_t    q_t = exp(s_t − l_b)    each block alone
//! L   = ln Σ_b exp l_b                                the home, in the order of blocks
//! p_t = q_t · exp(l_b − L)                            each block alone
//! ```
//!
//! What blocks add up to, the gradients of signals, of ln α and of the prior weight, is rounded to fixed point block by block.

use std::ops::Range;

use rayon::prelude::*;

use super::Own;
use super::exact::Rounding;
use super::fan::{Group, Scoring, edge_signals_backward, rows_by_source, scored_edges, stretches};
use super::fans::{Fans, Way};
use super::row_scores::Tally;
use crate::Result;
use crate::graph::{FAN_BLOCK, NodeId};
use crate::kernel::real::Real;
use crate::signal::EnergyKind;

/// A block of a fan in a batch.
pub(super) struct Block {
    /// Index in the fan; 0 is the rest.
    pub(super) index: usize,
    /// Its edges among those of the group.
    pub(super) edges: Range<usize>,
}

/// What this rank computes of the fan of one source in a batch, in addition to its [`Group`].
pub(super) struct Part {
    pub(super) source: u32,
    /// Whether this rank is the home of the source.
    pub(super) home: bool,
    /// Whether other ranks compute blocks of the fan too.
    pub(super) cut: bool,
    /// Blocks of the whole fan, the rest included.
    pub(super) fan_blocks: usize,
    /// Blocks of this rank, ascending.
    pub(super) blocks: Vec<Block>,
    /// Targets of the edges of the group, ascending.
    pub(super) targets: Vec<u32>,
    /// Energies of the shared edge, then of the edges of the group; then their factors. `[1 + F, n]`
    pub(super) energies: Vec<f32>,
    /// l of each row and block of the fan, where it is cut. `[n, blocks of the fan]`
    logs: Vec<f64>,
    /// L of each row, where the fan is cut. `[n]`
    totals: Vec<f64>,
    /// Sums over the blocks of this rank, in the units of [`Rounding`].
    pub(super) sums: PartSums,
    /// Gradients of the signals, in fixed point. `[n, D]`
    d_signals: Vec<i64>,
    /// Gradient of the prior weight, summed over all ranks at the home.
    pub(super) d_prior_weight: i64,
}

/// Sums of the blocks of a part.
#[derive(Default)]
pub(super) struct PartSums {
    /// Terms that are out of range.
    pub(super) invalid: i64,
    pub(super) nats: i64,
    pub(super) d_log_alpha: i64,
    pub(super) d_prior_weight: i64,
}

impl Own<f32> {
    /// Compute the fans, or parts of fans, of a batch that belong to this rank: losses and, if the batch is learned, the
    /// gradients. Ranks exchange what cut fans need of one another.
    ///
    /// # Errors
    /// Those of an exchange.
    pub(super) fn logit_over(
        &mut self,
        fans: &Fans,
        scoring: &Scoring<'_, f32>,
        rounding: &Rounding,
    ) -> Result<(Vec<Group<f32>>, Vec<Part>)> {
        let order = rows_by_source(scoring.batch, |source| fans.has_part(source));
        let rows: Vec<&[(u32, u32)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
        let edges: Vec<Vec<(u32, u32)>> = rows
            .par_iter()
            .map(|rows| {
                let mut edges = scored_edges(scoring.graph, scoring.batch, rows);
                if fans.is_cut(rows[0].0) {
                    edges.retain(|&(edge_row, _)| fans.owns(rows[0].0, edge_row));
                }
                edges
            })
            .collect();
        let width = self.profile.width;
        let lengths = rows.iter().zip(&edges);
        let lengths: Vec<usize> = lengths
            .map(|(rows, edges)| (1 + edges.len()) * rows.len() * width)
            .collect();
        let mut buffer = self.take_fans(lengths.iter().sum());
        let this = &*self;
        let (groups, mut parts): (Vec<_>, Vec<_>) = stretches(&mut buffer, &lengths)
            .into_par_iter()
            .zip(rows)
            .zip(edges)
            .map(|((stretch, rows), edges)| {
                this.score_part(fans, scoring, rounding, rows, &edges, stretch)
            })
            .unzip();
        let mut groups: Vec<Group<f32>> = groups;
        fans.sum_logs(&mut parts)?;
        let tasks = stretches(&mut buffer, &lengths).into_par_iter();
        let tasks = tasks.zip(&mut groups).zip(&mut parts);
        tasks
            .filter(|(_, part)| part.cut)
            .for_each(|(((_, d_z), group), part)| {
                this.finish_part(scoring, rounding, group, part, d_z);
            });
        self.fans = buffer;
        if scoring.learn {
            fans.sum_gradients(&mut parts)?;
            let pairs = groups.par_iter_mut().zip(&mut parts);
            pairs
                .filter(|(_, part)| part.home)
                .for_each(|(group, part)| {
                    let sums = std::mem::take(&mut part.d_signals);
                    for (to, sum) in group.d_signals.iter_mut().zip(sums) {
                        *to = rounding.signal(sum, part.fan_blocks);
                    }
                });
        }
        Ok((groups, parts))
    }

    /// Compute the energies of a part, and all the rest where the fan is not cut.
    fn score_part(
        &self,
        fans: &Fans,
        scoring: &Scoring<'_, f32>,
        rounding: &Rounding,
        rows: &[(u32, u32)],
        edges: &[(u32, u32)],
        (at, d_z): (usize, &mut [f32]),
    ) -> (Group<f32>, Part) {
        let (d, n) = (self.profile.width, rows.len());
        let mut group = self.gather(rows, edges, at, scoring.learn);
        let mut part = Part::new(fans, scoring, group.source, edges, n);
        let base = scoring.base(&group.rows);
        // One product per edge over all rows of the group; slopes u = c ⊙ GELU'(z) stay in `d_z`.
        let squared = self.profile.energy == EnergyKind::Squared;
        let edge_rows = std::iter::once(0).chain(group.edge_rows.iter().copied());
        for ((edge_row, slopes), energies) in edge_rows
            .zip(d_z.chunks_exact_mut(n * d))
            .zip(part.energies.chunks_exact_mut(n))
        {
            // The shared edge is computed at home alone.
            if edge_row > 0 || part.home {
                let edge = self.edge(group.source, edge_row);
                f32::fan_forward(&group.signals, &base, edge, squared, slopes, energies);
            }
        }
        if !part.cut {
            self.finish_part(scoring, rounding, &mut group, &mut part, d_z);
            return (group, part);
        }
        let mut row = self.row_scores(scoring, &part);
        for index in 0..n {
            self.score_row(scoring, &group, &part, index, &mut row);
            for (block, &log) in part.blocks.iter().zip(&row.logs) {
                part.logs[index * part.fan_blocks + block.index] = log;
            }
        }
        (group, part)
    }

    /// Compute the losses of a part and, if the batch is learned, its gradients.
    fn finish_part(
        &self,
        scoring: &Scoring<'_, f32>,
        rounding: &Rounding,
        group: &mut Group<f32>,
        part: &mut Part,
        d_z: &mut [f32],
    ) {
        let mut row = self.row_scores(scoring, part);
        let mut tallies = vec![Tally::default(); part.blocks.len()];
        for index in 0..group.rows.len() {
            self.score_row(scoring, group, part, index, &mut row);
            let total = match part.cut {
                true => part.totals[index],
                // All blocks are of this rank, in order.
                false => log_sum(&row.logs),
            };
            if let Some((entry, logit)) = row.reached {
                let block = row.ranges.partition_point(|range| range.end <= entry);
                tallies[block].nats += total - f64::from(logit);
            }
            if scoring.learn {
                let scales = (total, rounding.scale);
                self.slope_row(group, part, index, scales, &mut row, &mut tallies);
            }
        }
        for tally in tallies {
            part.sums.add(rounding, &tally);
        }
        part.d_prior_weight = part.sums.d_prior_weight;
        if scoring.learn {
            self.signal_sums(group, part, rounding, d_z);
        }
        part.energies = Vec::new();
    }

    /// Turn slopes into gradients of the pre-activations, and sum the gradients of the signals block by block.
    fn signal_sums(
        &self,
        group: &Group<f32>,
        part: &mut Part,
        rounding: &Rounding,
        d_z: &mut [f32],
    ) {
        let (d, n) = (self.profile.width, group.rows.len());
        let mut scratch = vec![0.0; d * d];
        let mut block_sum = vec![0.0; n * d];
        part.d_signals = vec![0; n * d];
        for block in &part.blocks {
            // Index 0 is the shared edge.
            let edges = match block.index {
                0 => 0..1,
                _ => block.edges.start + 1..block.edges.end + 1,
            };
            if edges.is_empty() {
                continue;
            }
            block_sum.fill(0.0);
            for index in edges {
                let edge_row = match index {
                    0 => 0,
                    _ => group.edge_rows[index - 1],
                };
                let edge = self.edge(part.source, edge_row);
                let factors = &part.energies[index * n..(index + 1) * n];
                let d_z = &mut d_z[index * n * d..(index + 1) * n * d];
                edge_signals_backward(edge, factors, d_z, &mut scratch, &mut block_sum);
            }
            let valid = rounding.add_signals(&block_sum, part.fan_blocks, &mut part.d_signals);
            part.sums.invalid += i64::from(!valid);
        }
    }
}

impl Part {
    fn new(
        fans: &Fans,
        scoring: &Scoring<'_, f32>,
        source: u32,
        edges: &[(u32, u32)],
        rows: usize,
    ) -> Self {
        let (home, cut) = (fans.is_mine(source), fans.is_cut(source));
        let slots = scoring.graph.own_slots(NodeId(source));
        let rest = home.then_some(Block {
            index: 0,
            edges: 0..0,
        });
        let own = fans.blocks(source, fans.ranks.rank()).map(|block| {
            let border = |block: usize| {
                let row = slots.start + block * FAN_BLOCK;
                edges.partition_point(|&(edge_row, _)| (edge_row as usize) < row)
            };
            Block {
                index: block + 1,
                edges: border(block)..border(block + 1),
            }
        });
        let fan_blocks = 1 + slots.len().div_ceil(FAN_BLOCK);
        let of_cut = |length: usize| if cut { length } else { 0 };
        Self {
            source,
            home,
            cut,
            fan_blocks,
            blocks: rest.into_iter().chain(own).collect(),
            targets: edges.iter().map(|&(_, target)| target).collect(),
            energies: vec![0.0; (1 + edges.len()) * rows],
            logs: vec![f64::NEG_INFINITY; of_cut(rows * fan_blocks)],
            totals: vec![0.0; of_cut(rows)],
            sums: PartSums::default(),
            d_signals: Vec::new(),
            d_prior_weight: 0,
        }
    }

    fn rows(&self) -> usize {
        self.totals.len()
    }
}

impl PartSums {
    fn add(&mut self, rounding: &Rounding, tally: &Tally) {
        let terms = [
            (&mut self.nats, rounding.loss(tally.nats)),
            (&mut self.d_log_alpha, rounding.scalar(tally.d_log_alpha)),
            (
                &mut self.d_prior_weight,
                rounding.scalar(tally.d_prior_weight),
            ),
        ];
        for (sum, term) in terms {
            match term {
                Some(term) => *sum += term,
                None => self.invalid += 1,
            }
        }
    }
}

impl Fans {
    /// Sum the softmax of each row of the cut fans over their blocks: at their homes, which return the sums.
    fn sum_logs(&self, parts: &mut [Part]) -> Result<()> {
        let blocks = |part: &Part, rank: usize| -> Vec<usize> {
            let blocks = self.blocks(part.source, rank);
            blocks.map(|block| block + 1).collect()
        };
        self.between(
            "sums of blocks",
            Way::ToHomes,
            parts,
            |part| {
                let rows = part.logs.chunks_exact(part.fan_blocks);
                let mine = &part.blocks;
                rows.flat_map(|row| mine.iter().map(|block| row[block.index]))
                    .collect()
            },
            |part, from| part.rows() * blocks(part, from).len(),
            |part, from, logs| {
                let blocks = blocks(part, from);
                let rows = part.logs.chunks_exact_mut(part.fan_blocks);
                for (row, logs) in rows.zip(logs.chunks_exact(blocks.len())) {
                    for (&block, &log) in blocks.iter().zip(logs) {
                        row[block] = log;
                    }
                }
            },
        )?;
        for part in parts.iter_mut().filter(|part| part.cut && part.home) {
            let rows = part.logs.chunks_exact(part.fan_blocks);
            for (total, logs) in part.totals.iter_mut().zip(rows) {
                *total = log_sum(logs);
            }
        }
        self.between(
            "sums of fans",
            Way::FromHomes,
            parts,
            |part| part.totals.clone(),
            |part, _| part.rows(),
            |part, _, totals: &[f64]| part.totals.copy_from_slice(totals),
        )
    }

    /// Sum the gradients of signals and prior weights of the cut fans at their homes.
    fn sum_gradients(&self, parts: &mut [Part]) -> Result<()> {
        self.between(
            "gradients of signals",
            Way::ToHomes,
            parts,
            |part| {
                let mut numbers = part.d_signals.clone();
                numbers.push(part.sums.d_prior_weight);
                numbers
            },
            |part, _| part.d_signals.len() + 1,
            |part, _, numbers: &[i64]| {
                let (d_signals, d_prior_weight) = numbers.split_at(part.d_signals.len());
                for (sum, term) in part.d_signals.iter_mut().zip(d_signals) {
                    *sum += term;
                }
                part.d_prior_weight += d_prior_weight[0];
            },
        )
    }
}

/// Return ln Σ exp of some logarithms, summed in their order.
fn log_sum(logs: &[f64]) -> f64 {
    let top = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + logs.iter().map(|log| (log - top).exp()).sum::<f64>().ln()
}
