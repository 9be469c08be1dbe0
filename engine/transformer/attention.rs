//! Attention of whole sequences as one differentiable operation that stores no matrix of T² numbers.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Result;
use rayon::prelude::*;

use crate::kernel::attention::{Head, gather, scatter};
use crate::transformer::operation::Operation;

/// Attention of whole sequences: queries `[B·T, H·d]`, keys and values `[B·T, Hkv·d]` → `[B·T, H·d]`.
///
/// One task computes one key head of one sequence with the query heads that share it: a *group*.
pub(super) struct Attention {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    /// Components of one head.
    pub(super) width: usize,
    /// Sequences, `B`.
    pub(super) sequences: usize,
    /// Positions in each sequence, `T`.
    pub(super) length: usize,
    /// Factor of the logits.
    pub(super) scale: f32,
    pub(super) causal: bool,
    /// Positions a causal position attends to, itself included; 0 for no limit.
    pub(super) window: usize,
    /// Bound of the logits; 0 for none.
    pub(super) cap: f32,
    /// Positions of each sequence that are not padding; empty for all. `[B]`
    pub(super) valid: Arc<[usize]>,
}

impl Attention {
    /// Run `work(sequence, key head, head, keys, values)` for every group, keys and values as `[d][T]`.
    ///
    /// Results are in the order (sequence, key head), whatever the number of threads.
    fn each_group<T: Send>(
        &self,
        keys: &[f32],
        values: &[f32],
        work: impl Fn(usize, usize, &Head, &[f32], &[f32]) -> T + Sync,
    ) -> Vec<T> {
        let (width, length) = (self.width, self.length);
        (0..self.sequences * self.kv_heads)
            .into_par_iter()
            .map(|group| {
                let (sequence, kv) = (group / self.kv_heads, group % self.kv_heads);
                let (rows, stride) = (self.kv_rows(sequence), self.kv_heads * width);
                // Copy the head's keys and values as `[d][T]`: the kernel's loops then run over neighbouring numbers.
                let mut k = vec![0.0; width * length];
                let mut v = k.clone();
                gather(&keys[rows.clone()], stride, kv * width, width, &mut k);
                gather(&values[rows], stride, kv * width, width, &mut v);
                let head = Head {
                    length,
                    width,
                    scale: self.scale,
                    causal: self.causal,
                    valid: self.valid.get(sequence).copied().unwrap_or(length),
                    window: self.window,
                    cap: self.cap,
                };
                work(sequence, kv, &head, &k, &v)
            })
            .collect()
    }

    /// Return the numbers of a sequence's keys.
    fn kv_rows(&self, sequence: usize) -> Range<usize> {
        let size = self.length * self.kv_heads * self.width;
        sequence * size..(sequence + 1) * size
    }

    /// Return the position and the numbers of each query of a group, head by head.
    fn queries(&self, sequence: usize, kv: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        // Grouped-query attention (Ainslie et al. 2023): H / Hkv neighbouring query heads share a key head.
        let group = self.heads / self.kv_heads;
        let (length, heads, width) = (self.length, self.heads, self.width);
        (kv * group..(kv + 1) * group).flat_map(move |head| {
            (0..length).map(move |t| {
                let start = ((sequence * length + t) * heads + head) * width;
                (t, start..start + width)
            })
        })
    }

    /// Copy the rows that every group computed to the positions of their queries.
    fn assemble<'a>(&self, groups: impl Iterator<Item = &'a Vec<f32>>, output: &mut [f32]) {
        for (group, rows) in groups.enumerate() {
            let queries = self.queries(group / self.kv_heads, group % self.kv_heads);
            for ((_, query), row) in queries.zip(rows.chunks_exact(self.width)) {
                output[query].copy_from_slice(row);
            }
        }
    }

    fn group_size(&self) -> usize {
        self.heads / self.kv_heads * self.length * self.width
    }
}

impl Operation<3> for Attention {
    const NAME: &'static str = "attention";

    fn forward(&self, [queries, keys, values]: [&[f32]; 3]) -> Result<Vec<f32>> {
        // Groups write disjoint outputs, but their rows are not neighbours: each computes a block of its own.
        let groups = self.each_group(keys, values, |sequence, kv, head, k, v| {
            let mut rows = vec![0.0; self.group_size()];
            let mut scratch = Vec::new();
            let outputs = rows.chunks_exact_mut(self.width);
            for ((t, query), output) in self.queries(sequence, kv).zip(outputs) {
                head.forward(&queries[query], k, v, t, output, &mut scratch);
            }
            rows
        });
        let mut output = vec![0.0; queries.len()];
        self.assemble(groups.iter(), &mut output);
        Ok(output)
    }

    fn backward(
        &self,
        [queries, keys, values]: [&[f32]; 3],
        gradient: &[f32],
    ) -> Result<[Vec<f32>; 3]> {
        let groups = self.each_group(keys, values, |sequence, kv, head, k, v| {
            // All query heads of a group add to the gradient of the same keys and values; one task sums them in order,
            // so that the result does not depend on the number of threads.
            let mut to_queries = vec![0.0; self.group_size()];
            let (mut to_keys, mut to_values) = (vec![0.0; k.len()], vec![0.0; v.len()]);
            let mut scratch = (Vec::new(), Vec::new());
            let rows = to_queries.chunks_exact_mut(self.width);
            for ((t, query), to_query) in self.queries(sequence, kv).zip(rows) {
                head.backward(
                    &queries[query.clone()],
                    k,
                    v,
                    t,
                    &gradient[query],
                    to_query,
                    &mut to_keys,
                    &mut to_values,
                    &mut scratch,
                );
            }
            (to_queries, to_keys, to_values)
        });
        let mut to_queries = vec![0.0; queries.len()];
        self.assemble(groups.iter().map(|group| &group.0), &mut to_queries);
        let (mut to_keys, mut to_values) = (vec![0.0; keys.len()], vec![0.0; values.len()]);
        let stride = self.kv_heads * self.width;
        // Each key head belongs to one group: its gradient is written once.
        for (group, (_, k, v)) in groups.iter().enumerate() {
            let rows = self.kv_rows(group / self.kv_heads);
            let offset = group % self.kv_heads * self.width;
            scatter(k, stride, offset, self.width, &mut to_keys[rows.clone()]);
            scatter(v, stride, offset, self.width, &mut to_values[rows]);
        }
        Ok([to_queries, to_keys, to_values])
    }
}
