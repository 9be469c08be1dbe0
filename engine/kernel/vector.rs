//! Sums over slices: dot products and scaled additions.

use crate::kernel::simd::{Arithmetic, dispatch};

#[inline(always)]
fn dot_body<A: Arithmetic>(a: &[f32], b: &[f32]) -> f32 {
    let length = a.len().min(b.len());
    let (a, b) = (&a[..length], &b[..length]);
    // Four accumulators of 16 lanes hide the latency of the multiply-add.
    let mut lanes = [[0.0f32; 16]; 4];
    let (blocks_a, rest_a) = a.as_chunks::<64>();
    let (blocks_b, rest_b) = b.as_chunks::<64>();
    for (block_a, block_b) in blocks_a.iter().zip(blocks_b) {
        for group in 0..4 {
            for lane in 0..16 {
                let at = group * 16 + lane;
                lanes[group][lane] = A::multiply_add(block_a[at], block_b[at], lanes[group][lane]);
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
    /// Return Σ a b. `[N]`, `[N]`
    pub fn dot, dot_at(a: &[f32], b: &[f32]) -> f32 = dot_body
}

dispatch! {
    /// Add a multiple: `sum += factor · values`. `[N]`, `[N]`
    pub fn add_scaled, add_scaled_at(factor: f32, values: &[f32], sum: &mut [f32]) = add_scaled_body
}

dispatch! {
    /// Multiply in place: `values *= factor`. `[N]`
    pub fn scale, scale_at(factor: f32, values: &mut [f32]) = scale_body
}

/// [`dot`] in f64.
pub fn reference_dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

/// [`add_scaled`] in f64.
pub fn reference_add_scaled(factor: f64, values: &[f64], sum: &mut [f64]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// [`scale`] in f64.
pub fn reference_scale(factor: f64, values: &mut [f64]) {
    values.iter_mut().for_each(|value| *value *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::Level;

    #[test]
    fn every_level_agrees_with_f64() {
        for (level, length) in Level::available()
            .into_iter()
            .flat_map(|level| [0usize, 1, 63, 64, 65, 300].map(|length| (level, length)))
        {
            let a: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..length).map(|i| (i as f32 * 0.11).cos()).collect();
            let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&x| f64::from(x)).collect() };
            let exact = reference_dot(&wide(&a), &wide(&b));
            let found = f64::from(dot_at(level, &a, &b));
            assert!((found - exact).abs() < 1e-5, "{level:?} {length}");
            let (mut sum, mut exact) = (b.clone(), wide(&b));
            add_scaled_at(level, 0.5, &a, &mut sum);
            reference_add_scaled(0.5, &wide(&a), &mut exact);
            for (found, exact) in sum.iter().zip(exact) {
                assert!(
                    (f64::from(*found) - exact).abs() < 1e-6,
                    "{level:?} {length}"
                );
            }
        }
    }
}
