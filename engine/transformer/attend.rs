//! Attention of whole sequences as one operation with a way back: no matrix of T² numbers is kept.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernel::attention::{Head, gather, scatter};
use crate::transformer::operation::{like, look, made, slice};

/// Attention of whole sequences: queries `[B·T, H·d]`, keys and values `[B·T, Hkv·d]`.
pub(super) struct Attend {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    /// Components of one head.
    pub(super) width: usize,
    /// Sequences, `B`.
    pub(super) sequences: usize,
    /// Positions in each sequence, `T`.
    pub(super) length: usize,
    pub(super) scale: f32,
    pub(super) causal: bool,
    pub(super) window: usize,
    /// Positions of each sequence that are no padding; empty for all. `[B]`
    pub(super) valid: Arc<[usize]>,
}

impl Attend {
    /// Runs `work` for every sequence and key head, with keys and values of that head transposed.
    ///
    /// The results come in the order (sequence, head), on any number of threads.
    fn each<T: Send>(
        &self,
        keys: &[f32],
        values: &[f32],
        work: impl Fn(usize, usize, &Head, &[f32], &[f32]) -> T + Sync,
    ) -> Vec<T> {
        let (width, length) = (self.width, self.length);
        let stride = self.kv_heads * width;
        (0..self.sequences * self.kv_heads)
            .into_par_iter()
            .map(|item| {
                let (sequence, kv) = (item / self.kv_heads, item % self.kv_heads);
                let span = sequence * length * stride..(sequence + 1) * length * stride;
                let mut k = vec![0.0; width * length];
                let mut v = k.clone();
                gather(&keys[span.clone()], stride, kv * width, width, &mut k);
                gather(&values[span], stride, kv * width, width, &mut v);
                let head = Head {
                    length,
                    width,
                    scale: self.scale,
                    causal: self.causal,
                    valid: self.valid.get(sequence).copied().unwrap_or(length),
                    window: self.window,
                };
                work(sequence, kv, &head, &k, &v)
            })
            .collect()
    }

    /// Where the query of (sequence, position, head) lies.
    fn place(&self, sequence: usize, t: usize, head: usize) -> std::ops::Range<usize> {
        let start = ((sequence * self.length + t) * self.heads + head) * self.width;
        start..start + self.width
    }

    /// The query heads that share a key head.
    fn group(&self, kv: usize) -> std::ops::Range<usize> {
        let share = self.heads / self.kv_heads;
        kv * share..(kv + 1) * share
    }

    fn forward(&self, queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
        let parts = self.each(keys, values, |sequence, kv, head, k, v| {
            let group = self.group(kv);
            let mut mixed = vec![0.0; group.len() * self.length * self.width];
            let mut scratch = Vec::new();
            let mut outputs = mixed.chunks_exact_mut(self.width);
            for query in group {
                for t in 0..self.length {
                    let output = outputs.next().expect("one for each query");
                    let query = &queries[self.place(sequence, t, query)];
                    head.forward(query, k, v, t, output, &mut scratch);
                }
            }
            mixed
        });
        let mut output = vec![0.0; queries.len()];
        self.lay(parts.iter().map(Vec::as_slice), &mut output);
        output
    }

    /// Puts the parts of all (sequence, key head) where their queries lie.
    fn lay<'a>(&self, parts: impl Iterator<Item = &'a [f32]>, output: &mut [f32]) {
        for (item, part) in parts.enumerate() {
            let (sequence, kv) = (item / self.kv_heads, item % self.kv_heads);
            let mut rows = part.chunks_exact(self.width);
            for query in self.group(kv) {
                for t in 0..self.length {
                    let row = rows.next().expect("one for each query");
                    output[self.place(sequence, t, query)].copy_from_slice(row);
                }
            }
        }
    }

    fn backward(
        &self,
        queries: &[f32],
        keys: &[f32],
        values: &[f32],
        gradient: &[f32],
    ) -> [Vec<f32>; 3] {
        let parts = self.each(keys, values, |sequence, kv, head, k, v| {
            let group = self.group(kv);
            let mut to_queries = vec![0.0; group.len() * self.length * self.width];
            let (mut to_keys, mut to_values) = (vec![0.0; k.len()], vec![0.0; v.len()]);
            let mut scratch = (Vec::new(), Vec::new());
            let mut rows = to_queries.chunks_exact_mut(self.width);
            for query in group {
                for t in 0..self.length {
                    let place = self.place(sequence, t, query);
                    head.backward(
                        &queries[place.clone()],
                        k,
                        v,
                        t,
                        &gradient[place],
                        rows.next().expect("one for each query"),
                        &mut to_keys,
                        &mut to_values,
                        &mut scratch,
                    );
                }
            }
            (to_queries, to_keys, to_values)
        });
        let mut to_queries = vec![0.0; queries.len()];
        self.lay(parts.iter().map(|part| part.0.as_slice()), &mut to_queries);
        let (mut to_keys, mut to_values) = (vec![0.0; keys.len()], vec![0.0; values.len()]);
        let stride = self.kv_heads * self.width;
        for (item, (_, k, v)) in parts.iter().enumerate() {
            let (sequence, offset) = (item / self.kv_heads, item % self.kv_heads * self.width);
            let span = sequence * self.length * stride..(sequence + 1) * self.length * stride;
            scatter(k, stride, offset, self.width, &mut to_keys[span.clone()]);
            scatter(v, stride, offset, self.width, &mut to_values[span]);
        }
        [to_queries, to_keys, to_values]
    }
}

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        made(
            self.forward(slice(q, lq)?, slice(k, lk)?, slice(v, lv)?),
            lq.shape(),
        )
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [to_q, to_k, to_v] = look(q, |q| {
            look(k, |k| {
                look(v, |v| look(gradient, |back| self.backward(q, k, v, back)))
            })
        })????;
        Ok((
            Some(like(to_q, q)?),
            Some(like(to_k, k)?),
            Some(like(to_v, v)?),
        ))
    }
}
