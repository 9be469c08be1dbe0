//! Attention of one head.
//!
//! `p = softmax(scale · q Kᵀ)`, `output = p V` (Vaswani et al. 2017). Keys and values are transposed, component by
//! component (`[width][T]`), so that every loop runs over neighbouring numbers. The backward pass recomputes the
//! probabilities from queries and keys instead of keeping a matrix of T² numbers (Dao et al. 2022).

use std::ops::Range;

use crate::kernel::simd::{Arithmetic, dispatch};
use crate::kernel::softmax::softmax;
use crate::kernel::vector::{add_scaled, dot};

/// Sizes and mask of one head.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Positions, `T`.
    pub length: usize,
    /// Components of a query, key or value.
    pub width: usize,
    /// Factor on `q·k`, usually 1/√width.
    pub scale: f32,
    /// Whether a position attends only to itself and those before it.
    pub causal: bool,
    /// Positions before padding.
    pub valid: usize,
    /// Positions that a causal position attends to, itself included, and as many on the other side where attention is
    /// not causal; 0 for no limit.
    pub window: usize,
    /// Bound c of the logits, `c tanh(logit / c)`; 0 for none.
    pub cap: f32,
}

/// Bound logits by ±cap, smoothly; 0 for no bound.
pub fn cap_logits(cap: f32, logits: &mut [f32]) {
    if cap > 0.0 {
        for logit in logits {
            *logit = cap * (*logit / cap).tanh();
        }
    }
}

impl Head {
    /// Return the positions that position `t` attends to.
    #[inline]
    pub fn visible(&self, t: usize) -> Range<usize> {
        let end = if self.causal {
            (t + 1).min(self.valid)
        } else {
            match self.window {
                0 => self.valid,
                window => (t + window).min(self.valid),
            }
        };
        let start = match self.window {
            0 => 0,
            window => (t + 1).saturating_sub(window),
        };
        start.min(end)..end
    }

    /// Compute the probabilities of the positions that position `t` attends to. `query [width]`, `keys [width][T]`
    fn attend(&self, query: &[f32], keys: &[f32], t: usize, probabilities: &mut Vec<f32>) {
        let seen = self.visible(t);
        probabilities.clear();
        probabilities.resize(seen.len(), 0.0);
        add_logits(query, keys, self.length, seen, self.scale, probabilities);
        cap_logits(self.cap, probabilities);
        if !probabilities.is_empty() {
            softmax(probabilities);
        }
    }

    /// Compute the output of position `t`. `query`, `output`: `[width]`; `keys`, `values`: `[width][T]`.
    ///
    /// O(T · width). `scratch` is reused memory; on return it holds the probabilities of [`Self::visible`].
    pub fn forward(
        &self,
        query: &[f32],
        keys: &[f32],
        values: &[f32],
        t: usize,
        output: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        self.attend(query, keys, t, scratch);
        let seen = self.visible(t);
        for (component, output) in output.iter_mut().enumerate() {
            let row = component * self.length;
            // output = Σ_t p_t v_t, one component at a time.
            *output = dot(scratch, &values[row + seen.start..row + seen.end]);
        }
    }

    /// Backward pass of [`Self::forward`]: adds to the three gradients.
    ///
    /// `output` is the gradient of the output, `[width]`; `to_query [width]`; `to_keys`, `to_values`
    /// `[width][T]`.
    #[allow(clippy::too_many_arguments, reason = "kernels take plain slices")]
    pub fn backward(
        &self,
        query: &[f32],
        keys: &[f32],
        values: &[f32],
        t: usize,
        output: &[f32],
        to_query: &mut [f32],
        to_keys: &mut [f32],
        to_values: &mut [f32],
        scratch: &mut (Vec<f32>, Vec<f32>),
    ) {
        let seen = self.visible(t);
        let (probabilities, slopes) = scratch;
        self.attend(query, keys, t, probabilities);
        slopes.clear();
        slopes.resize(seen.len(), 0.0);
        for (component, &gradient) in output.iter().enumerate() {
            let row = component * self.length;
            let span = row + seen.start..row + seen.end;
            // ∂L/∂p = dOutput · V and ∂L/∂V = p ⊗ dOutput.
            add_scaled(gradient, &values[span.clone()], slopes);
            add_scaled(gradient, probabilities, &mut to_values[span]);
        }
        // Softmax: ∂L/∂s_j = p_j (g_j − Σ_i p_i g_i), with g = dOutput · V.
        let mean = dot(probabilities, slopes);
        for (slope, &p) in slopes.iter_mut().zip(probabilities.iter()) {
            *slope = p * (*slope - mean) * self.scale;
        }
        if self.cap > 0.0 {
            // d c tanh(s / c) / ds = 1 − tanh²(s / c).
            probabilities.fill(0.0);
            add_logits(
                query,
                keys,
                self.length,
                seen.clone(),
                self.scale,
                probabilities,
            );
            for (slope, logit) in slopes.iter_mut().zip(probabilities.iter()) {
                *slope *= 1.0 - (logit / self.cap).tanh().powi(2);
            }
        }
        for (component, &q) in query.iter().enumerate() {
            let row = component * self.length;
            let span = row + seen.start..row + seen.end;
            // dq = ds K and dK = ds ⊗ q; ds includes the scale.
            to_query[component] += dot(slopes, &keys[span.clone()]);
            add_scaled(q, slopes, &mut to_keys[span]);
        }
    }
}

#[inline(always)]
fn add_logits_body<A: Arithmetic>(
    query: &[f32],
    keys: &[f32],
    length: usize,
    seen: Range<usize>,
    scale: f32,
    logits: &mut [f32],
) {
    for (component, &q) in query.iter().enumerate() {
        let row = component * length;
        let keys = &keys[row + seen.start..row + seen.end];
        for (logit, &key) in logits.iter_mut().zip(keys) {
            *logit = A::multiply_add(q * scale, key, *logit);
        }
    }
}

dispatch! {
    /// Add `scale · q·k` to the logits of the keys `seen` of one head. `query [width]`, `keys [width][length]`
    ///
    /// Keys are stored component by component, so that the inner loop runs over neighbouring numbers.
    pub fn add_logits, add_logits_at(query: &[f32], keys: &[f32], length: usize, seen: Range<usize>, scale: f32, logits: &mut [f32]) = add_logits_body
}

/// Gather one head from rows of heads: `output[component][t] = rows[t][offset + component]`.
pub fn gather(rows: &[f32], stride: usize, offset: usize, width: usize, output: &mut [f32]) {
    let length = rows.len() / stride;
    for (t, row) in rows.chunks_exact(stride).enumerate() {
        for component in 0..width {
            output[component * length + t] = row[offset + component];
        }
    }
}

/// Backward pass of [`gather`]: adds to `rows`.
pub fn scatter(gathered: &[f32], stride: usize, offset: usize, width: usize, rows: &mut [f32]) {
    let length = rows.len() / stride;
    for (t, row) in rows.chunks_exact_mut(stride).enumerate() {
        for component in 0..width {
            row[offset + component] += gathered[component * length + t];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(length: usize, step: f32) -> Vec<f32> {
        (0..length).map(|i| (i as f32 * step).sin()).collect()
    }

    /// Σ weights · output over all positions, in f64 by definition.
    fn definition(head: &Head, q: &[f32], k: &[f32], v: &[f32], weights: &[f32]) -> f64 {
        let at = |x: &[f32], c: usize, t: usize| f64::from(x[c * head.length + t]);
        let mut sum = 0.0;
        for t in 0..head.length {
            let seen: Vec<usize> = head.visible(t).collect();
            let logits: Vec<f64> = seen
                .iter()
                .map(|&s| {
                    (0..head.width)
                        .map(|c| f64::from(q[t * head.width + c]) * at(k, c, s))
                        .sum::<f64>()
                        * f64::from(head.scale)
                })
                .map(|logit| match f64::from(head.cap) {
                    0.0 => logit,
                    cap => cap * (logit / cap).tanh(),
                })
                .collect();
            let total: f64 = logits.iter().map(|s| s.exp()).sum();
            for c in 0..head.width {
                let mixed: f64 = seen
                    .iter()
                    .zip(&logits)
                    .map(|(&s, score)| score.exp() / total * at(v, c, s))
                    .sum();
                sum += f64::from(weights[t * head.width + c]) * mixed;
            }
        }
        sum
    }

    #[test]
    fn forward_and_backward_follow_the_definition() {
        for (causal, valid, window, cap) in [
            (true, 7, 0, 0.0),
            (false, 7, 0, 0.0),
            (false, 5, 0, 0.0),
            (true, 7, 3, 0.0),
            (false, 6, 2, 0.0),
            (true, 7, 0, 0.7),
        ] {
            let head = Head {
                length: 7,
                width: 5,
                scale: 0.45,
                causal,
                valid,
                window,
                cap,
            };
            let (q, k, v, weights) = (wave(35, 0.7), wave(35, 1.3), wave(35, 2.1), wave(35, 0.31));
            let mut scratch = (Vec::new(), Vec::new());
            let mut found = 0.0;
            let (mut dq, mut dk, mut dv) = (vec![0.0; 35], vec![0.0; 35], vec![0.0; 35]);
            for t in 0..7 {
                let span = t * 5..t * 5 + 5;
                let mut output = vec![0.0; 5];
                head.forward(&q[span.clone()], &k, &v, t, &mut output, &mut scratch.0);
                found += f64::from(dot(&output, &weights[span.clone()]));
                head.backward(
                    &q[span.clone()],
                    &k,
                    &v,
                    t,
                    &weights[span.clone()],
                    &mut dq[span],
                    &mut dk,
                    &mut dv,
                    &mut scratch,
                );
            }
            let whole = |q: &[f32], k: &[f32], v: &[f32]| definition(&head, q, k, v, &weights);
            assert!((found - whole(&q, &k, &v)).abs() < 1e-5);
            for i in 0..35 {
                let nudge = |x: &[f32], by: f32| {
                    let mut x = x.to_vec();
                    x[i] += by;
                    x
                };
                let h = 1e-2f32;
                let slopes = [
                    (
                        dq[i],
                        whole(&nudge(&q, h), &k, &v) - whole(&nudge(&q, -h), &k, &v),
                    ),
                    (
                        dk[i],
                        whole(&q, &nudge(&k, h), &v) - whole(&q, &nudge(&k, -h), &v),
                    ),
                    (
                        dv[i],
                        whole(&q, &k, &nudge(&v, h)) - whole(&q, &k, &nudge(&v, -h)),
                    ),
                ];
                for (found, difference) in slopes {
                    let expected = difference / (2.0 * f64::from(h));
                    assert!(
                        (f64::from(found) - expected).abs() < 2e-4,
                        "{found} {expected}"
                    );
                }
            }
        }
    }
}
