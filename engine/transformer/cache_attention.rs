//! Attention of new rows over the cache slots of their sequences, and the sums of it that eviction policies need.

use rayon::prelude::*;

use crate::hook::{HeadReduction, KeepNeeds};
use crate::kernel::vector::add_scaled;
use crate::transformer::Configuration;
use crate::transformer::Row;
use crate::transformer::cache::Cache;
use crate::transformer::cache_slots::{Slots, Visibility};
use crate::transformer::eviction::{reduction, window};

/// Multiplications above which the rows of a sequence are computed by several threads.
const PARALLEL: usize = 1 << 16;

/// Attention of each sequence's last row, averaged over heads, by position; not a number for evicted positions.
type LastRows = Vec<(Row, Vec<f32>)>;

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
    let (mut last_rows, mut start) = (Vec::new(), 0);
    for rows in rows.chunk_by(|a, b| a.sequence == b.sequence) {
        let span = start..start + rows.len() * stride;
        start = span.end;
        let (queries, output) = (&queries[span.clone()], &mut output[span]);
        let sequence = &mut cache.sequences[rows[0].sequence];
        // Positions run to the end of the text, kept or not.
        let length = sequence.next as usize;
        let statistics = sequence.statistics[layer];
        let head_groups = &mut sequence.layers[source];
        // A head group is one key head, or all of them; its queries are neighbouring columns of a row.
        let width = stride / head_groups.len();
        let mut seen = vec![f32::NAN; if watched { length } else { 0 }];
        for (group, slots) in head_groups.iter_mut().enumerate() {
            let span = group * width..(group + 1) * width;
            let pass = GroupPass {
                shape,
                scale: shape.scale(layer),
                window: shape.window(layer),
                statistics,
                rows,
                watched,
            };
            let attention = pass.run(slots, queries, output, stride, span);
            // Only the last row keeps the attention of all heads.
            if let Some(last) = attention.iter().rev().find_map(|row| row.full.as_ref()) {
                add_by_position(slots, last, shape.heads, &mut seen);
            }
            let reduced = attention.into_iter().filter_map(|row| row.reduced);
            remember(slots, layer, source, &statistics, reduced);
        }
        if let (true, Some(last)) = (watched, rows.last()) {
            last_rows.push((*last, seen));
        }
    }
    (output, last_rows)
}

/// Attention of one sequence's new rows in one head group.
struct GroupPass<'a> {
    shape: &'a Configuration,
    scale: f32,
    /// Positions that a position attends to; 0 for no limit.
    window: usize,
    statistics: KeepNeeds,
    rows: &'a [Row],
    watched: bool,
}

/// Probabilities of one row that are needed after its output is computed.
struct RowAttention {
    /// Heads reduced as the eviction policy asked. `[1 or key heads][slots]`
    reduced: Option<Vec<f32>>,
    /// All heads, of the last row where it is watched. `[H][slots]`
    full: Option<Vec<f32>>,
}

impl GroupPass<'_> {
    /// Compute the columns `span` of all rows' outputs. `queries`, `output`: `[rows, stride]`
    fn run(
        &self,
        slots: &Slots,
        queries: &[f32],
        output: &mut [f32],
        stride: usize,
        span: std::ops::Range<usize>,
    ) -> Vec<RowAttention> {
        let pages = slots.read();
        let count = self.rows.len();
        let one = |(index, output): (usize, &mut [f32])| {
            // Causal: slots of later positions of the same call are hidden by their position.
            let visibility = Visibility {
                position: self.rows[index].position,
                window: self.window,
            };
            let queries = &queries[index * stride..][span.clone()];
            let mut probabilities = Vec::new();
            slots.attend(
                &pages,
                queries,
                (self.scale, self.shape.attention_cap),
                visibility,
                count == 1,
                &mut output[span.clone()],
                &mut probabilities,
            );
            let statistics = &self.statistics;
            // A window needs the last rows only.
            let wanted =
                statistics.accumulated || index.saturating_add(window(statistics)) >= count;
            RowAttention {
                reduced: ((window(statistics) > 0 || statistics.accumulated) && wanted).then(
                    || {
                        let heads = span.len() / self.shape.head_width;
                        reduce(&probabilities, slots, heads, reduction(statistics))
                    },
                ),
                full: (self.watched && index + 1 == count).then_some(probabilities),
            }
        };
        // Rows are independent: each writes its own columns of the output.
        if count > 1 && count * slots.capacity() * span.len() > PARALLEL {
            let rows = output.par_chunks_exact_mut(stride);
            rows.enumerate().map(one).collect()
        } else {
            let rows = output.chunks_exact_mut(stride);
            rows.enumerate().map(one).collect()
        }
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

/// Reduce attention over heads: to their mean, or to one row for each key head. `[H][slots]` → `[1 or key heads][slots]`
fn reduce(
    probabilities: &[f32],
    slots: &Slots,
    heads: usize,
    reduction: HeadReduction,
) -> Vec<f32> {
    let columns = slots.capacity();
    let groups = match reduction {
        HeadReduction::All => 1,
        _ => slots.heads(),
    };
    let group = heads / groups;
    let mut reduced = vec![0.0; groups * columns];
    let rows = probabilities.chunks_exact(columns);
    for (head, row) in rows.enumerate() {
        // Query heads of a group are neighbours: head h belongs to group ⌊h / (H / groups)⌋.
        let sums = &mut reduced[head / group * columns..][..columns];
        if reduction == HeadReduction::GroupMaximum {
            for (max, &p) in sums.iter_mut().zip(row) {
                *max = p.max(*max);
            }
        } else {
            add_scaled(1.0 / group as f32, row, sums);
        }
    }
    reduced
}

/// Add the rows' reduced attention to what the slots remember.
fn remember(
    slots: &mut Slots,
    layer: usize,
    source: usize,
    statistics: &KeepNeeds,
    rows: impl Iterator<Item = Vec<f32>>,
) {
    let heads = match reduction(statistics) {
        HeadReduction::All => 1,
        _ => slots.heads(),
    };
    for row in rows {
        // A layer that reads another's cache can contribute to the sums that its owner's policy sees.
        if layer != source && statistics.accumulated {
            slots.sums_of(source, heads).add(row.clone(), true, 0);
        }
        slots
            .sums_of(layer, heads)
            .add(row, statistics.accumulated, window(statistics));
    }
}
