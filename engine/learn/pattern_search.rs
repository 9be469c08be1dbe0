//! Pattern search: the minimum of a function of a few numbers, without gradients (Hooke and Jeeves 1961).

use crate::Result;

/// Largest number of rounds.
const ROUNDS: usize = 40;
/// The search ends when its steps are this fraction of the first.
const FINEST: f64 = 0.06;

/// Find a minimum near `first`, with steps that start at `steps`. `measure` returns the value of each point.
///
/// # Errors
/// Those of `measure`.
pub(super) fn minimum<const N: usize>(
    first: [f64; N],
    mut steps: [f64; N],
    mut measure: impl FnMut(&[[f64; N]]) -> Result<Vec<f64>>,
) -> Result<([f64; N], f64)> {
    let initial = steps[0];
    let (mut best, mut least) = (first, measure(&[first])?[0]);
    for _ in 0..ROUNDS {
        let around: Vec<[f64; N]> = (0..2 * N)
            .map(|index| {
                let mut point = best;
                // Points 2 i and 2 i + 1 lie one step above and below along axis i.
                let sign = if index % 2 == 0 { 1.0 } else { -1.0 };
                point[index / 2] += sign * steps[index / 2];
                point
            })
            .collect();
        let found = measure(&around)?;
        // All axes that help at once first; then the best of them alone.
        let mut joint = best;
        for (index, &value) in found.iter().enumerate() {
            if value < least && value <= found[index ^ 1] {
                joint[index / 2] = around[index][index / 2];
            }
        }
        let moved = joint != best;
        if moved {
            let together = measure(&[joint])?[0];
            let (alone, value) = around
                .iter()
                .zip(&found)
                .min_by(|a, b| a.1.total_cmp(b.1))
                .map(|(point, &value)| (*point, value))
                .unwrap_or((best, least));
            (best, least) = if together < value {
                (joint, together)
            } else {
                (alone, value)
            };
        }
        // No direction helps at this distance: halve the steps.
        if !moved {
            steps.iter_mut().for_each(|step| *step *= 0.5);
            if steps[0] < FINEST * initial {
                break;
            }
        }
    }
    Ok((best, least))
}
