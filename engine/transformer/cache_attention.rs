//! Attention of new rows over the cache slots of their sequences, and the sums of it that eviction policies need.

use std::ops::Range;

use rayon::prelude::*;

use crate::hook::{HeadReduction, KeepNeeds};
use crate::kernel::vector::add_scaled;
use crate::transformer::Configuration;
use crate::transformer::Row;
use crate::transformer::cache::{Cache, Sequence};
use crate::transformer::cache_slots::{PARALLEL_HEADS, Slots, Visibility};
use crate::transformer::eviction::{reduction, window};

/// Multiplications above which the rows of a sequence, or several sequences, are computed by several threads.
const PARALLEL: usize = 1 << 16;

/// Attention of each sequence's last row, averaged over heads, by position; not a number for evicted positions.
type LastRows = Vec<(Row, Vec<f32>)>;

/// Rows whose attention is kept at once for its sums.
const ROWS: usize = 64;

/// Compute the attention of all rows over their sequences' slots. `queries [N, H·d]` → `[N, H·d]`
///
/// Where a policy asked for sums of attention, they are added to the slots. Where the layer's attention is
/// `watched`, that of each sequence's last row is returned as well.
pub(super) fn attend(
    shape: &Configuration,
    cache: &mut Cache,
    layer: usize,
    rows: &[Row],
    queries: &[f32],
    watched: bool,
) -> (Vec<f32>, LastRows) {
    let stride = shape.heads * shape.head_width;
    let source = cache.plan.layers[layer].source;
    let mut output = vec![0.0; queries.len()];
    let chunks: Vec<&[Row]> = rows.chunk_by(|a, b| a.sequence == b.sequence).collect();
    let (mut passes, mut work) = (Vec::with_capacity(chunks.len()), 0);
    let (mut queries, mut rest) = (queries, &mut output[..]);
    let mut sequences = cache.sequences.iter_mut().enumerate();
    for rows in chunks {
        // Rows are numbered sequence by sequence, in their order.
        let Some((_, sequence)) = sequences.find(|(index, _)| *index == rows[0].sequence) else {
            debug_assert!(
                false,
                "rows of sequence {} are out of order",
                rows[0].sequence
            );
            break;
        };
        let (own_queries, other_queries) = queries.split_at(rows.len() * stride);
        let (own_output, other_output) = rest.split_at_mut(rows.len() * stride);
        (queries, rest) = (other_queries, other_output);
        work += own_output.len() * sequence.next as usize;
        passes.push(SequencePass {
            shape,
            layer,
            source,
            rows,
            watched,
            sequence,
            queries: own_queries,
            output: own_output,
        });
    }
    let last_rows = if passes.len() > 1 && work > PARALLEL {
        passes
            .into_par_iter()
            .filter_map(SequencePass::run)
            .collect()
    } else {
        passes.into_iter().filter_map(SequencePass::run).collect()
    };
    (output, last_rows)
}

/// Attention of one sequence's new rows.
struct SequencePass<'a> {
    shape: &'a Configuration,
    layer: usize,
    /// The layer whose slots are read.
    source: usize,
    rows: &'a [Row],
    watched: bool,
    sequence: &'a mut Sequence,
    /// `[rows, H · d]`
    queries: &'a [f32],
    /// `[rows, H · d]`
    output: &'a mut [f32],
}

impl SequencePass<'_> {
    /// Compute the output of all rows. Returns the attention of the last one if it is watched.
    fn run(self) -> Option<(Row, Vec<f32>)> {
        let (shape, sequence) = (self.shape, self.sequence);
        let pass = GroupPass {
            shape,
            scale: shape.scale(self.layer),
            window: shape.window(self.layer),
            statistics: sequence.statistics[self.layer],
            layer: self.layer,
            source: self.source,
            rows: self.rows,
            watched: self.watched,
        };
        let head_groups = &mut sequence.layers[self.source];
        let stride = shape.heads * shape.head_width;
        let attention = pass.run_all(head_groups, self.queries, self.output, stride);
        let last = self.rows.last().filter(|_| self.watched)?;
        // Positions run to the end of the text, kept or not.
        let mut seen = vec![f32::NAN; sequence.next as usize];
        for (slots, attention) in head_groups.iter().zip(&attention) {
            add_by_position(slots, attention, shape.heads, &mut seen);
        }
        Some((*last, seen))
    }
}

/// Attention of one sequence's new rows in one head group.
struct GroupPass<'a> {
    shape: &'a Configuration,
    scale: f32,
    /// Positions that a position attends to; 0 for no limit.
    window: usize,
    statistics: KeepNeeds,
    layer: usize,
    /// The layer whose slots are read.
    source: usize,
    rows: &'a [Row],
    watched: bool,
}

impl GroupPass<'_> {
    /// Compute all head groups. Returns each one's attention of the last row if that is watched. `[groups][H][slots]`
    fn run_all(
        &self,
        head_groups: &mut [Slots],
        queries: &[f32],
        output: &mut [f32],
        stride: usize,
    ) -> Vec<Vec<f32>> {
        // A head group is one key head, or all of them; its queries are neighbouring columns of a row.
        let width = stride / head_groups.len();
        let many = |slots: &Slots| slots.capacity() * stride > PARALLEL_HEADS;
        if self.rows.len() == 1 && head_groups.len() > 1 && head_groups.iter().any(many) {
            let parts = (
                head_groups.par_iter_mut(),
                queries.par_chunks_exact(width),
                output.par_chunks_exact_mut(width),
            );
            let run = |(slots, queries, output)| self.run(slots, queries, output, width, 0..width);
            return parts.into_par_iter().map(run).collect();
        }
        let head_groups = head_groups.iter_mut().enumerate();
        let run = |(group, slots)| {
            let span = group * width..(group + 1) * width;
            self.run(slots, queries, output, stride, span)
        };
        head_groups.map(run).collect()
    }

    /// Compute the columns `span` of all rows' outputs. `queries`, `output`: `[rows, stride]`. Returns the attention of the
    /// last row if it is watched. `[H][slots]`
    fn run(
        &self,
        slots: &mut Slots,
        queries: &[f32],
        output: &mut [f32],
        stride: usize,
        span: Range<usize>,
    ) -> Vec<f32> {
        let statistics = &self.statistics;
        let (count, window) = (self.rows.len(), window(statistics));
        let measured = statistics.accumulated || window > 0;
        // A few rows at a time, where their attention is added up: that of all rows would be T² numbers.
        let together = if measured { ROWS.min(count) } else { count };
        let mut last = Vec::new();
        let parts = output.chunks_mut(together * stride).enumerate();
        for (part, output) in parts {
            let pages = slots.read();
            let one = |(index, output): (usize, &mut [f32])| {
                let index = part * together + index;
                // Causal: slots of later positions of the same call are hidden by their position.
                let visibility = Visibility {
                    position: self.rows[index].position,
                    window: self.window,
                };
                let mut probabilities = Vec::new();
                slots.attend(
                    &pages,
                    &queries[index * stride..][span.clone()],
                    (self.scale, self.shape.attention_cap),
                    visibility,
                    count == 1,
                    &mut output[span.clone()],
                    &mut probabilities,
                );
                let full = (self.watched && index + 1 == count).then(|| probabilities.clone());
                // A window needs the last rows only.
                let wanted = statistics.accumulated || index.saturating_add(window) >= count;
                let reduced = (measured && wanted).then(|| {
                    reduce(&mut probabilities, slots, reduction(statistics));
                    probabilities
                });
                (reduced, full)
            };
            // Rows are independent: each writes its own columns of the output.
            let attention: Vec<_> = if count > 1 && count * slots.capacity() * span.len() > PARALLEL
            {
                let rows = output.par_chunks_exact_mut(stride);
                rows.enumerate().map(one).collect()
            } else {
                let rows = output.chunks_exact_mut(stride);
                rows.enumerate().map(one).collect()
            };
            drop(pages);
            for (reduced, full) in attention {
                last = full.unwrap_or(last);
                if let Some(row) = reduced {
                    self.remember(slots, row);
                }
            }
        }
        last
    }

    /// Add a row's reduced attention to what the slots remember.
    fn remember(&self, slots: &mut Slots, row: Vec<f32>) {
        let statistics = &self.statistics;
        let heads = match reduction(statistics) {
            HeadReduction::All => 1,
            _ => slots.heads(),
        };
        // A layer that reads another's cache can contribute to the sums that its owner's policy sees.
        if self.layer != self.source && statistics.accumulated {
            slots.sums_of(self.source, heads).accumulate(&row);
        }
        let sums = slots.sums_of(self.layer, heads);
        if statistics.accumulated {
            sums.accumulate(&row);
        }
        sums.keep_recent(row, window(statistics));
    }
}

/// Add one row's attention in a head group, divided by the number of all heads, to the sums by position.
fn add_by_position(slots: &Slots, probabilities: &[f32], heads: usize, sums: &mut [f32]) {
    for (slot, &position) in slots.positions.iter().enumerate() {
        if let Some(sum) = sums.get_mut(position as usize) {
            let column = probabilities.iter().skip(slot).step_by(slots.capacity());
            *sum = if sum.is_nan() { 0.0 } else { *sum } + column.sum::<f32>() / heads as f32;
        }
    }
}

/// Reduce attention over heads in place: to their mean, or to one row for each key head. `[H][slots]` → `[1 or key heads][slots]`
fn reduce(probabilities: &mut Vec<f32>, slots: &Slots, reduction: HeadReduction) {
    let columns = slots.capacity();
    let groups = match reduction {
        HeadReduction::All => 1,
        _ => slots.heads(),
    };
    // Query heads of a group are neighbours: head h belongs to group ⌊h / (H / groups)⌋.
    let group = probabilities.len() / columns / groups;
    if group == 1 {
        return;
    }
    for index in 0..groups {
        let heads = &mut probabilities[index * group * columns..][..group * columns];
        let (sums, others) = heads.split_at_mut(columns);
        if reduction == HeadReduction::GroupMaximum {
            for row in others.chunks_exact(columns) {
                for (max, &p) in sums.iter_mut().zip(row) {
                    *max = p.max(*max);
                }
            }
        } else {
            let weight = 1.0 / group as f32;
            sums.iter_mut().for_each(|sum| *sum *= weight);
            for row in others.chunks_exact(columns) {
                add_scaled(weight, row, sums);
            }
        }
        let first = index * group * columns;
        probabilities.copy_within(first..first + columns, index * columns);
    }
    probabilities.truncate(groups * columns);
}
