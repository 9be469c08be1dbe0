//! Sums over slices: dot products and scaled additions, vectorised by level.

use crate::kernel::simd::{Arithmetic, Level, dispatch};

#[inline(always)]
fn dot_body<A: Arithmetic>(a: &[f32], b: &[f32]) -> f32 {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    let mut lanes = [[0.0f32; 16]; 4];
    let (blocks_a, rest_a) = a.as_chunks::<64>();
    let (blocks_b, rest_b) = b.as_chunks::<64>();
    for (block_a, block_b) in blocks_a.iter().zip(blocks_b) {
        for part in 0..4 {
            for lane in 0..16 {
                let at = part * 16 + lane;
                lanes[part][lane] = A::multiply_add(block_a[at], block_b[at], lanes[part][lane]);
            }
        }
    }
    let mut total = 0.0;
    for lane in 0..16 {
        total += (lanes[0][lane] + lanes[1][lane]) + (lanes[2][lane] + lanes[3][lane]);
    }
    for (&a, &b) in rest_a.iter().zip(rest_b) {
        total = A::multiply_add(a, b, total);
    }
    total
}

#[inline(always)]
fn add_scaled_body<A: Arithmetic>(factor: f32, values: &[f32], sum: &mut [f32]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum = A::multiply_add(factor, value, *sum);
    }
}

#[inline(always)]
fn scale_body<A: Arithmetic>(factor: f32, values: &mut [f32]) {
    for value in values {
        *value *= factor;
    }
}

dispatch! {
    /// Σ a b. `[N]`, `[N]`
    pub fn dot_at(a: &[f32], b: &[f32]) -> f32 = dot_body
}

dispatch! {
    /// `sum += factor · values`. `[N]`, `[N]`
    pub fn add_scaled_at(factor: f32, values: &[f32], sum: &mut [f32]) = add_scaled_body
}

dispatch! {
    /// `values *= factor`. `[N]`
    pub fn scale_at(factor: f32, values: &mut [f32]) = scale_body
}

/// [`dot_at`] the best level of this processor.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_at(Level::current(), a, b)
}

/// [`add_scaled_at`] the best level of this processor.
pub fn add_scaled(factor: f32, values: &[f32], sum: &mut [f32]) {
    add_scaled_at(Level::current(), factor, values, sum);
}

/// [`scale_at`] the best level of this processor.
pub fn scale(factor: f32, values: &mut [f32]) {
    scale_at(Level::current(), factor, values);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_agrees_with_f64() {
        for level in Level::available() {
            for length in [0usize, 1, 63, 64, 65, 300] {
                let a: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin()).collect();
                let b: Vec<f32> = (0..length).map(|i| (i as f32 * 0.11).cos()).collect();
                let exact: f64 = a
                    .iter()
                    .zip(&b)
                    .map(|(&a, &b)| f64::from(a) * f64::from(b))
                    .sum();
                assert!(
                    (f64::from(dot_at(level, &a, &b)) - exact).abs() < 1e-5,
                    "{level:?} {length}"
                );
                let mut sum = b.clone();
                add_scaled_at(level, 0.5, &a, &mut sum);
                for i in 0..length {
                    assert!(
                        (sum[i] - (b[i] + 0.5 * a[i])).abs() < 1e-6,
                        "{level:?} {length}"
                    );
                }
            }
        }
    }
}
