//! Softmax over scores: probabilities, and the logarithm of their normaliser.

use crate::kernel::simd::{Arithmetic, Level, dispatch, exp};

#[inline(always)]
fn maximum<A: Arithmetic>(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = logits.as_chunks::<16>();
    for block in blocks {
        for lane in 0..16 {
            lanes[lane] = if block[lane] > lanes[lane] {
                block[lane]
            } else {
                lanes[lane]
            };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
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
    /// Turns scores into probabilities in place and returns ln Σ exp(score). `[N]`
    ///
    /// The maximum is subtracted first, so no finite score overflows.
    pub fn softmax_at(logits: &mut [f32]) -> f64 = softmax_body
}

/// [`softmax_at`] the best level of this processor.
pub fn softmax(logits: &mut [f32]) -> f64 {
    softmax_at(Level::current(), logits)
}

dispatch! {
    /// The highest score; −∞ of none. Numbers that are none are passed over. `[N]`
    pub fn highest_at(logits: &[f32]) -> f32 = maximum
}

/// [`highest_at`] the best level of this processor.
pub fn highest(logits: &[f32]) -> f32 {
    highest_at(Level::current(), logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_found_wherever_it_lies() {
        for level in Level::available() {
            assert_eq!(highest_at(level, &[]), f32::NEG_INFINITY);
            for place in [0, 15, 16, 40, 99] {
                let mut logits = vec![-2.0; 100];
                logits[7] = f32::NAN;
                logits[place] = -1.0;
                assert_eq!(highest_at(level, &logits), -1.0);
            }
        }
    }

    #[test]
    fn sums_to_one_and_agrees_with_f64() {
        for level in Level::available() {
            for length in [1usize, 15, 16, 17, 4000] {
                let logits: Vec<f32> = (0..length)
                    .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.9)
                    .collect();
                let top = logits.iter().copied().fold(f32::MIN, f32::max);
                let total: f64 = logits.iter().map(|&s| f64::from(s - top).exp()).sum();
                let mut result = logits.clone();
                let normaliser = softmax_at(level, &mut result);
                assert!(
                    (normaliser - (f64::from(top) + total.ln())).abs() < 2e-6,
                    "{level:?} {length}"
                );
                for (p, s) in result.iter().zip(&logits) {
                    let expected = f64::from(s - top).exp() / total;
                    assert!(
                        (f64::from(*p) - expected).abs() < 1e-6 * expected + 1e-30,
                        "{level:?} {length}"
                    );
                }
            }
        }
    }
}
