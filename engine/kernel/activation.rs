//! The activation of a node: exact GELU, x Φ(x) (Hendrycks and Gimpel 2016), with its derivative; the sigmoid of gates.
//!
//! Φ(x) = (1 + erf(x/√2)) / 2, not the tanh approximation: the authors' code uses the exact form.

use crate::kernel::simd::{Arithmetic, dispatch, erf, exp};

/// Compute x Φ(x) within 3e-7 |x| of the exact value: enough for energies, and the cheapest form.
#[inline(always)]
pub fn gelu<A: Arithmetic>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<A>(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// Compute x Φ(x) and its derivative Φ(x) + x φ(x), with small *relative* errors in both tails.
///
/// Adam divides small gradients by small roots, so the slope of a node at z = −6 matters as much as at 1:
/// Φ(−a) = e^(−a²/2) t P(t) / 2 with t = 1/(1 + a/(2√2)), a polynomial fitted to the scaled erfc within 2e-7
/// relative over a ≤ 13. Both values share the exponential.
#[inline(always)]
#[allow(
    clippy::excessive_precision,
    reason = "coefficients as they were fitted"
)]
pub fn gelu_with_derivative<A: Arithmetic>(x: f32) -> (f32, f32) {
    const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
    let a = x.abs().min(13.0);
    let t = 1.0 / A::multiply_add(a, 0.5 * std::f32::consts::FRAC_1_SQRT_2, 1.0);
    let mut p = -5.994149297e-02_f32;
    p = A::multiply_add(p, t, 2.886475325e-01);
    p = A::multiply_add(p, t, -4.952147901e-01);
    p = A::multiply_add(p, t, 2.867156565e-01);
    p = A::multiply_add(p, t, -3.219478205e-02);
    p = A::multiply_add(p, t, 2.048667818e-01);
    p = A::multiply_add(p, t, 2.425999492e-01);
    p = A::multiply_add(p, t, 2.824378610e-01);
    p = A::multiply_add(p, t, 2.820832431e-01);
    let density = exp::<A>(-0.5 * a * a);
    let tail = 0.5 * density * t * p;
    let cumulative = if x < 0.0 { tail } else { 1.0 - tail };
    (
        x * cumulative,
        A::multiply_add(x * INVERSE_SQRT_TAU, density, cumulative),
    )
}

#[inline(always)]
fn forward_body<A: Arithmetic>(input: &[f32], output: &mut [f32]) {
    for (output, &input) in output.iter_mut().zip(input) {
        *output = gelu_with_derivative::<A>(input).0;
    }
}

#[inline(always)]
fn backward_body<A: Arithmetic>(input: &[f32], gradient: &mut [f32]) {
    for (gradient, &input) in gradient.iter_mut().zip(input) {
        *gradient *= gelu_with_derivative::<A>(input).1;
    }
}

#[inline(always)]
fn sigmoid_body<A: Arithmetic>(input: &[f32], output: &mut [f32]) {
    for (output, &input) in output.iter_mut().zip(input) {
        *output = 1.0 / (1.0 + exp::<A>(-input));
    }
}

dispatch! {
    /// Compute `output = σ(input) = 1/(1 + e^−input)`, element by element. `[N]`
    pub fn sigmoid, sigmoid_at(input: &[f32], output: &mut [f32]) = sigmoid_body
}

/// [`sigmoid`] in f64.
pub fn reference_sigmoid(input: &[f64], output: &mut [f64]) {
    for (output, &input) in output.iter_mut().zip(input) {
        *output = 1.0 / (1.0 + (-input).exp());
    }
}

dispatch! {
    /// Compute `output = GELU(input)`, element by element. `[N]`
    pub fn forward, forward_at(input: &[f32], output: &mut [f32]) = forward_body
}

dispatch! {
    /// Multiply by the derivative: `gradient *= GELU'(input)`. `[N]`
    pub fn backward, backward_at(input: &[f32], gradient: &mut [f32]) = backward_body
}

/// Compute x Φ(x) and its derivative in f64: the reference of tests.
pub fn reference(x: f64) -> (f64, f64) {
    let cumulative = 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    (x * cumulative, cumulative + x * density)
}

/// [`forward`] in f64.
pub fn reference_forward(input: &[f64], output: &mut [f64]) {
    for (output, &input) in output.iter_mut().zip(input) {
        *output = reference(input).0;
    }
}

/// [`backward`] in f64.
pub fn reference_backward(input: &[f64], gradient: &mut [f64]) {
    for (gradient, &input) in gradient.iter_mut().zip(input) {
        *gradient *= reference(input).1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::Level;

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
                let tolerance = 4e-7 * (1.0 + f64::from(x).abs());
                let near = |found: f32, exact: f64| (f64::from(found) - exact).abs() < tolerance;
                assert!(near(value[i], expected), "{level:?} gelu({x})");
                assert!(near(slope[i], derivative), "{level:?} gelu'({x})");
            }
        }
    }
}
