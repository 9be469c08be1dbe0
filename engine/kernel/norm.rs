//! Normalisation of a row by its root mean square, or by its mean and deviation; forward and backward.
//!
//! `y = w (x − m) r + b` with `r = 1/√(mean((x − m)²) + ε)`; RMS normalisation (Zhang and Sennrich 2019) has
//! `m = 0` and no `b`, layer normalisation (Ba et al. 2016) the row's mean.

use crate::kernel::vector::dot;

/// Mean that is subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// None: the root mean square alone.
    Rms,
    /// The row's mean.
    Layer,
}

/// Return the mean m that is subtracted from a row, and its factor r.
fn moments(kind: NormKind, epsilon: f32, row: &[f32]) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = match kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => row.iter().sum::<f32>() / n,
    };
    let square = match kind {
        NormKind::Rms => dot(row, row),
        NormKind::Layer => row.iter().map(|x| (x - mean) * (x - mean)).sum(),
    };
    (mean, 1.0 / (square / n + epsilon).sqrt())
}

/// Normalise one row. All `[N]`; `bias` may be empty.
pub fn forward(
    kind: NormKind,
    epsilon: f32,
    row: &[f32],
    weight: &[f32],
    bias: &[f32],
    output: &mut [f32],
) {
    let (mean, scale) = moments(kind, epsilon, row);
    for i in 0..row.len() {
        output[i] = weight[i] * ((row[i] - mean) * scale);
    }
    for (output, bias) in output.iter_mut().zip(bias) {
        *output += bias;
    }
}

/// Backward pass of [`forward`] for one row: sets `to_row` and adds to the others.
///
/// `∂x = r (g w − mean(g w) [layer] − x̂ mean(g w x̂))` with `x̂ = (x − m) r`.
#[allow(clippy::too_many_arguments, reason = "kernels take plain slices")]
pub fn backward(
    kind: NormKind,
    epsilon: f32,
    row: &[f32],
    weight: &[f32],
    gradient: &[f32],
    to_row: &mut [f32],
    to_weight: &mut [f32],
    to_bias: &mut [f32],
) {
    let (mean, scale) = moments(kind, epsilon, row);
    let n = row.len() as f32;
    // Sums of g w, the part along the mean, and of g w x̂, the part along the row.
    let (mut plain, mut along) = (0.0, 0.0);
    for i in 0..row.len() {
        let unit = (row[i] - mean) * scale;
        let inner = gradient[i] * weight[i];
        plain += inner;
        along += inner * unit;
        to_weight[i] += gradient[i] * unit;
    }
    for (to, gradient) in to_bias.iter_mut().zip(gradient) {
        *to += gradient;
    }
    let plain = if kind == NormKind::Layer {
        plain / n
    } else {
        0.0
    };
    for i in 0..row.len() {
        let unit = (row[i] - mean) * scale;
        to_row[i] = scale * (gradient[i] * weight[i] - plain - unit * along / n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backward_follows_differences() {
        let row: Vec<f32> = (0..9).map(|i| (i as f32 * 0.9).sin() + 0.2).collect();
        let weight: Vec<f32> = (0..9).map(|i| 1.0 + 0.1 * i as f32).collect();
        let bias = vec![0.3; 9];
        let back: Vec<f32> = (0..9).map(|i| (i as f32 * 1.7).cos()).collect();
        for kind in [NormKind::Rms, NormKind::Layer] {
            let bias: &[f32] = if kind == NormKind::Rms { &[] } else { &bias };
            let loss = |row: &[f32], weight: &[f32]| {
                let mut output = vec![0.0; 9];
                forward(kind, 1e-5, row, weight, bias, &mut output);
                output
                    .iter()
                    .zip(&back)
                    .map(|(y, g)| f64::from(y * g))
                    .sum::<f64>()
            };
            let (mut dx, mut dw, mut db) = (vec![0.0; 9], vec![0.0; 9], vec![0.0; bias.len()]);
            backward(kind, 1e-5, &row, &weight, &back, &mut dx, &mut dw, &mut db);
            for i in 0..9 {
                let nudge = |x: &[f32], by: f32| {
                    let mut x = x.to_vec();
                    x[i] += by;
                    x
                };
                let h = 1e-2;
                let x = (loss(&nudge(&row, h), &weight) - loss(&nudge(&row, -h), &weight)) / 0.02;
                let w = (loss(&row, &nudge(&weight, h)) - loss(&row, &nudge(&weight, -h))) / 0.02;
                assert!(
                    (x - f64::from(dx[i])).abs() < 1e-3,
                    "{kind:?} {x} {}",
                    dx[i]
                );
                assert!(
                    (w - f64::from(dw[i])).abs() < 1e-3,
                    "{kind:?} {w} {}",
                    dw[i]
                );
            }
            assert_eq!(
                db,
                if bias.is_empty() {
                    vec![]
                } else {
                    back.clone()
                }
            );
        }
    }
}
