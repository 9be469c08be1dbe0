//! Softmax: probabilities of logits, and the logarithm of their normaliser.

use crate::kernel::simd::{Arithmetic, dispatch, exp};

#[inline(always)]
fn maximum<A: Arithmetic>(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = logits.as_chunks::<16>();
    for block in blocks {
        for lane in 0..16 {
            // A comparison, not f32::max: one instruction, and NaN is passed over.
            let (value, top) = (block[lane], lanes[lane]);
            lanes[lane] = if value > top { value } else { top };
        }
    }
    let all = lanes.iter().chain(rest).copied();
    all.fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn softmax_body<A: Arithmetic>(logits: &mut [f32]) -> f64 {
    let top = maximum::<A>(logits);
    let mut lanes = [0.0f32; 16];
    let mut total = 0.0f64;
    let (blocks, rest) = logits.as_chunks_mut::<16>();
    // Partial sums of at most 64 blocks keep the f32 rounding below 1e-6 for any length.
    for group in blocks.chunks_mut(64) {
        lanes.fill(0.0);
        for block in group {
            for lane in 0..16 {
                let value = exp::<A>(block[lane] - top);
                block[lane] = value;
                lanes[lane] += value;
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
    }
    for logit in rest {
        *logit = exp::<A>(*logit - top);
        total += f64::from(*logit);
    }
    let scale = (1.0 / total) as f32;
    for logit in logits {
        *logit *= scale;
    }
    f64::from(top) + total.ln()
}

dispatch! {
    /// Turn logits into probabilities in place; returns ln Σ exp(logit). `[N]`
    ///
    /// The maximum is subtracted first, so that no finite logit overflows.
    pub fn softmax, softmax_at(logits: &mut [f32]) -> f64 = softmax_body
}

dispatch! {
    /// Return the highest logit, −∞ for none; NaN is passed over. `[N]`
    pub fn highest, highest_at(logits: &[f32]) -> f32 = maximum
}

/// [`softmax`] in f64.
pub fn reference(logits: &mut [f64]) -> f64 {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut total = 0.0;
    for logit in logits.iter_mut() {
        *logit = (*logit - top).exp();
        total += *logit;
    }
    logits.iter_mut().for_each(|logit| *logit /= total);
    top + total.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::Level;

    #[test]
    fn highest_finds_the_maximum_at_every_index() {
        for level in Level::available() {
            assert_eq!(highest_at(level, &[]), f32::NEG_INFINITY);
            for index in [0, 15, 16, 40, 99] {
                let mut logits = vec![-2.0; 100];
                logits[7] = f32::NAN;
                logits[index] = -1.0;
                assert_eq!(highest_at(level, &logits), -1.0);
            }
        }
    }

    #[test]
    fn every_level_agrees_with_f64() {
        for level in Level::available() {
            for length in [1usize, 15, 16, 17, 4000] {
                let logit = |i| ((i * 37 % 101) as f32 - 50.0) * 0.9;
                let mut found: Vec<f32> = (0..length).map(logit).collect();
                let top = highest(&found);
                // The kernel subtracts the maximum in f32: so does the reference.
                let mut exact: Vec<f64> = found.iter().map(|&s| f64::from(s - top)).collect();
                let normaliser = softmax_at(level, &mut found);
                let expected = f64::from(top) + reference(&mut exact);
                assert!((normaliser - expected).abs() < 2e-6, "{level:?} {length}");
                for (&p, exact) in found.iter().zip(exact) {
                    let near = (f64::from(p) - exact).abs() < 1e-6 * exact + 1e-30;
                    assert!(near, "{level:?} {length}");
                }
            }
        }
    }
}
