//! The gated unit of Llama's feed-forward layer, forward and backward.
//!
//! `y = silu(g) u` with `silu(g) = g σ(g)` and `silu'(g) = σ(g) (1 + g (1 − σ(g)))` (Shazeer 2020).

use crate::kernel::simd::{Arithmetic, dispatch, exp};

#[inline(always)]
fn forward_body<A: Arithmetic>(gate: &[f32], up: &[f32], output: &mut [f32]) {
    for ((output, &g), &u) in output.iter_mut().zip(gate).zip(up) {
        *output = g / (1.0 + exp::<A>(-g)) * u;
    }
}

#[inline(always)]
fn backward_body<A: Arithmetic>(
    gate: &[f32],
    up: &[f32],
    gradient: &[f32],
    to_gate: &mut [f32],
    to_up: &mut [f32],
) {
    // Slices of one length let the compiler drop the bounds checks and vectorise.
    let length = gate.len();
    let (up, gradient) = (&up[..length], &gradient[..length]);
    let (to_gate, to_up) = (&mut to_gate[..length], &mut to_up[..length]);
    for i in 0..length {
        let g = gate[i];
        let sigmoid = 1.0 / (1.0 + exp::<A>(-g));
        to_up[i] = gradient[i] * g * sigmoid;
        to_gate[i] = gradient[i] * up[i] * sigmoid * A::multiply_add(g, 1.0 - sigmoid, 1.0);
    }
}

dispatch! {
    /// Compute `output = silu(gate) · up`, element by element. `[N]`
    pub fn forward, forward_at(gate: &[f32], up: &[f32], output: &mut [f32]) = forward_body
}

dispatch! {
    /// Set both gradients of [`forward`]. `[N]`
    pub fn backward, backward_at(
        gate: &[f32], up: &[f32], gradient: &[f32], to_gate: &mut [f32], to_up: &mut [f32],
    ) = backward_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::simd::Level;

    #[test]
    fn every_level_follows_f64() {
        let gate: Vec<f32> = (-300..300).map(|i| i as f32 * 0.05).collect();
        let up: Vec<f32> = (0..600).map(|i| (i as f32 * 0.3).cos()).collect();
        let back: Vec<f32> = (0..600).map(|i| (i as f32 * 0.17).sin()).collect();
        for level in Level::available() {
            let (mut y, mut dg, mut du) = (vec![0.0; 600], vec![0.0; 600], vec![0.0; 600]);
            forward_at(level, &gate, &up, &mut y);
            backward_at(level, &gate, &up, &back, &mut dg, &mut du);
            for i in 0..600 {
                let (g, u, b) = (f64::from(gate[i]), f64::from(up[i]), f64::from(back[i]));
                let sigmoid = 1.0 / (1.0 + (-g).exp());
                let near = |found: f32, expected: f64| (f64::from(found) - expected).abs() < 1e-5;
                assert!(near(y[i], g * sigmoid * u), "{level:?} {g}");
                assert!(near(du[i], b * g * sigmoid));
                assert!(near(dg[i], b * u * sigmoid * (1.0 + g * (1.0 - sigmoid))));
            }
        }
    }
}
