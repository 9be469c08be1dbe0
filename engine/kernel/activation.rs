//! The activation of a node: exact GELU, x Φ(x), with its derivative beside it.
//!
//! Φ(x) = (1 + erf(x/√2)) / 2 (not the tanh approximation: the authors' code uses the exact form).

use crate::kernel::simd::{Arithmetic, Level, dispatch, erf, exp};

/// x Φ(x) in f32, within 3e-7 |x| of the exact value.
#[inline(always)]
pub fn gelu<A: Arithmetic>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<A>(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// d/dx x Φ(x) = Φ(x) + x φ(x).
#[inline(always)]
pub fn gelu_derivative<A: Arithmetic>(x: f32) -> f32 {
    const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
    let cumulative = 0.5 * (1.0 + erf::<A>(x * std::f32::consts::FRAC_1_SQRT_2));
    A::multiply_add(x * INVERSE_SQRT_TAU, exp::<A>(-0.5 * x * x), cumulative)
}

#[inline(always)]
fn forward_body<A: Arithmetic>(input: &[f32], output: &mut [f32]) {
    for (output, &input) in output.iter_mut().zip(input) {
        *output = gelu::<A>(input);
    }
}

#[inline(always)]
fn backward_body<A: Arithmetic>(input: &[f32], gradient: &mut [f32]) {
    for (gradient, &input) in gradient.iter_mut().zip(input) {
        *gradient *= gelu_derivative::<A>(input);
    }
}

dispatch! {
    /// `output = GELU(input)`, element by element. `[N]`
    pub fn forward_at(input: &[f32], output: &mut [f32]) = forward_body
}

dispatch! {
    /// `gradient *= GELU'(input)`, element by element. `[N]`
    pub fn backward_at(input: &[f32], gradient: &mut [f32]) = backward_body
}

/// [`forward_at`] the best level of this processor.
pub fn forward(input: &[f32], output: &mut [f32]) {
    forward_at(Level::current(), input, output);
}

/// [`backward_at`] the best level of this processor.
pub fn backward(input: &[f32], gradient: &mut [f32]) {
    backward_at(Level::current(), input, gradient);
}

/// x Φ(x) and its derivative in f64: the reference that tests trust.
pub fn reference(x: f64) -> (f64, f64) {
    let cumulative = 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    (x * cumulative, cumulative + x * density)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_follows_the_reference() {
        let input: Vec<f32> = (-1200..=1200).map(|i| i as f32 * 0.01).collect();
        for level in Level::available() {
            let mut value = vec![0.0; input.len()];
            let mut slope = vec![1.0; input.len()];
            forward_at(level, &input, &mut value);
            backward_at(level, &input, &mut slope);
            for (i, &x) in input.iter().enumerate() {
                let (expected, derivative) = reference(f64::from(x));
                let scale = 1.0 + f64::from(x).abs();
                assert!(
                    (f64::from(value[i]) - expected).abs() < 4e-7 * scale,
                    "{level:?} gelu({x})"
                );
                assert!(
                    (f64::from(slope[i]) - derivative).abs() < 4e-7 * scale,
                    "{level:?} gelu'({x})"
                );
            }
        }
    }
}
