//! Sums of attention over past queries, for eviction policies (H2O, SnapKV and others rank tokens by them).

use std::collections::VecDeque;

use crate::kernel::vector::add_scaled;

/// Sums of one layer's attention to each slot.
#[derive(Clone, Debug)]
pub(super) struct AttentionSums {
    /// The attending layer.
    pub(super) layer: usize,
    /// Rows of sums: one for all heads, or one for each key head.
    pub(super) heads: usize,
    /// Sums over all queries so far. `[slots][heads]`
    accumulated: Vec<f32>,
    /// Attention of the last queries, newest last. Each `[heads][slots at that time]`
    recent: VecDeque<Vec<f32>>,
}

impl AttentionSums {
    pub(super) fn new(layer: usize, heads: usize) -> Self {
        Self {
            layer,
            heads,
            accumulated: Vec::new(),
            recent: VecDeque::new(),
        }
    }

    /// Clear a slot's sums when another token takes it.
    pub(super) fn clear(&mut self, slot: usize) {
        if let Some(sums) = self
            .accumulated
            .get_mut(slot * self.heads..(slot + 1) * self.heads)
        {
            sums.fill(0.0);
        }
        for row in &mut self.recent {
            // A row of an earlier step has as many columns as there were slots then.
            let columns = row.len() / self.heads;
            if slot < columns {
                for head in 0..self.heads {
                    row[head * columns + slot] = 0.0;
                }
            }
        }
    }

    /// Add one query's attention to the sums over all queries. `[heads][slots]`
    pub(super) fn accumulate(&mut self, row: &[f32]) {
        // The cache may have grown since the last query: new slots start at 0.
        self.accumulated.resize(row.len(), 0.0);
        if self.heads == 1 {
            return add_scaled(1.0, row, &mut self.accumulated);
        }
        let slots = row.len() / self.heads;
        for (head, row) in row.chunks_exact(slots).enumerate() {
            for (slot, &p) in row.iter().enumerate() {
                self.accumulated[slot * self.heads + head] += p;
            }
        }
    }

    /// Keep one query's attention `[heads][slots]` as the newest of the last `window` queries.
    pub(super) fn keep_recent(&mut self, mut row: Vec<f32>, window: usize) {
        if window == 0 {
            return;
        }
        // A ring of the last `window` queries.
        while self.recent.len() >= window {
            self.recent.pop_front();
        }
        row.shrink_to_fit();
        self.recent.push_back(row);
    }

    /// Forget all but the newest `queries` of the last queries.
    pub(super) fn forget(&mut self, queries: usize) {
        let older = self.recent.len().saturating_sub(queries);
        self.recent.drain(..older);
    }

    /// Sum the last queries' attention to each of `slots`, weighted linearly from `from` (oldest query) to `to`
    /// (newest). `[heads][slots.len()]`
    pub(super) fn column_sums(&self, slots: &[u32], from: f32, to: f32) -> Vec<f32> {
        let mut sums = vec![0.0; self.heads * slots.len()];
        let steps = self.recent.len().saturating_sub(1).max(1) as f32;
        for (age, row) in self.recent.iter().enumerate() {
            // Linear from the oldest query (age 0) to the newest.
            let weight = from + (to - from) * age as f32 / steps;
            let columns = row.len() / self.heads;
            for head in 0..self.heads {
                for (at, &slot) in slots.iter().enumerate() {
                    if (slot as usize) < columns {
                        sums[head * slots.len() + at] +=
                            weight * row[head * columns + slot as usize];
                    }
                }
            }
        }
        sums
    }

    /// Return the sums over all queries for each of `slots`. `[heads][slots.len()]`
    pub(super) fn totals(&self, slots: &[u32]) -> Vec<f32> {
        let mut sums = Vec::with_capacity(self.heads * slots.len());
        for head in 0..self.heads {
            sums.extend(slots.iter().map(|&slot| {
                let at = slot as usize * self.heads + head;
                self.accumulated.get(at).copied().unwrap_or(0.0)
            }));
        }
        sums
    }

    pub(super) fn bytes(&self) -> usize {
        (self.accumulated.len() + self.recent.iter().map(Vec::len).sum::<usize>()) * 4
    }
}
