//! Own residual of a composed edge: a low-rank matrix and a bias of its own, added to what its nodes give.
//!
//! Edge e adds `δ = ρ + r_e` to h, with `ρ = (x B) C_e`, `B [X, r]` shared, `C_e [r, D]` and `r_e [D]` its own. A row
//! of `edge.residual` is `r_e`, then the rows of `C_e`: `[(1 + r) D]`. With b = β_t + r_e the energy is
//! `‖h + β_t + δ‖² = ‖h‖² + ‖b‖² + 2 h·b + 2 b·ρ + 2 h·ρ + ‖ρ‖²`.

use crate::kernel::real::Real;

/// Compute `ρ = y C_e` from `projected y = x B [r]` and the edge's row. `[D]`
pub fn turn<R: Real>(projected: &[R], row: &[R]) -> Vec<R> {
    let width = row.len() / (1 + projected.len());
    let mut rho = vec![R::zero(); width];
    R::product(projected, &row[width..], width, &mut rho);
    rho
}

/// Backward pass of [`turn`] to its input: `C_e · dρ`. `[r]`
pub fn turn_backward<R: Real>(d_rho: &[R], row: &[R]) -> Vec<R> {
    let matrix = row[d_rho.len()..].chunks_exact(d_rho.len());
    matrix.map(|c| R::dot(c, d_rho)).collect()
}

/// Return the energy of an edge with a residual. All `[D]`.
pub fn energy<R: Real>(output: &[R], target: &[R], rho: &[R], bias: &[R]) -> R {
    let columns = output.iter().zip(target).zip(rho.iter().zip(bias));
    columns
        .map(|((&h, &b), (&p, &r))| (h + b + p + r).powi(2))
        .sum()
}

/// Return what a residual adds to the energy above rest: `2 h·δ + 2 b·ρ + ‖ρ‖²`. All `[D]`.
///
/// Rest is ‖b‖², not ‖β‖²; see [`rest`].
pub fn energy_above_rest<R: Real>(output: &[R], target: &[R], rho: &[R], bias: &[R]) -> R {
    let two = R::of(2.0);
    (0..output.len())
        .map(|j| {
            let b = target[j] + bias[j];
            two * (output[j] * (rho[j] + bias[j]) + b * rho[j]) + rho[j] * rho[j]
        })
        .sum()
}

/// Return `‖β + r‖² − ‖β‖²`: what a residual adds to the energy at rest. All `[D]`.
pub fn rest<R: Real>(target: &[R], bias: &[R]) -> R {
    let columns = target.iter().zip(bias);
    columns.map(|(&b, &r)| R::of(2.0) * b * r + r * r).sum()
}
