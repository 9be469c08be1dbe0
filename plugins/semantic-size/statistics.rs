//! Ranks, correlations, areas under curves, and what chance would make of a difference.

use brillm_plugin::RandomStream;

use crate::solve;

/// Ranks from 1, equal values sharing theirs.
pub(crate) fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let mut to = from;
        while to + 1 < order.len() && values[order[to + 1]] == values[order[from]] {
            to += 1;
        }
        let rank = 1.0 + (from + to) as f64 / 2.0;
        order[from..=to].iter().for_each(|&at| ranks[at] = rank);
        from = to + 1;
    }
    ranks
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Pearson's correlation; 0 where either side does not vary.
pub(crate) fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (ma, mb) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        ab += (x - ma) * (y - mb);
        aa += (x - ma) * (x - ma);
        bb += (y - mb) * (y - mb);
    }
    if aa * bb > 0.0 {
        ab / (aa * bb).sqrt()
    } else {
        0.0
    }
}

/// Spearman's rank correlation.
pub(crate) fn spearman(a: &[f64], b: &[f64]) -> f64 {
    correlation(&ranks(a), &ranks(b))
}

/// Spearman's correlation of what the ranks of controls leave of either side.
pub(crate) fn partial_spearman(a: &[f64], b: &[f64], controls: &[Vec<f64>]) -> f64 {
    let controls: Vec<Vec<f64>> = controls.iter().map(|control| ranks(control)).collect();
    let left = |values: &[f64]| solve::residual(&ranks(values), &controls);
    correlation(&left(a), &left(b))
}

/// Area under the ROC curve of scores against labels; one half where a class is empty.
pub(crate) fn area(scores: &[f64], labels: &[bool]) -> f64 {
    let positive = labels.iter().filter(|label| **label).count() as f64;
    let negative = labels.len() as f64 - positive;
    if positive == 0.0 || negative == 0.0 {
        return 0.5;
    }
    let sum: f64 = ranks(scores)
        .iter()
        .zip(labels)
        .filter(|(_, label)| **label)
        .map(|(rank, _)| rank)
        .sum();
    (sum - positive * (positive + 1.0) / 2.0) / (positive * negative)
}

/// How often random signs make a mean at least as far from 0 as this one's: the share, both ways.
pub(crate) fn sign_flips(differences: &[f64], rounds: usize, random: &mut RandomStream) -> f64 {
    let seen = mean(differences).abs();
    let as_far = (0..rounds)
        .filter(|_| {
            let sum: f64 = differences
                .iter()
                .map(|value| {
                    if random.bits() & 1 == 0 {
                        *value
                    } else {
                        -value
                    }
                })
                .sum();
            (sum / differences.len().max(1) as f64).abs() >= seen - 1e-12
        })
        .count();
    (as_far + 1) as f64 / (rounds + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_small_cases() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert_eq!(
            area(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]),
            0.75
        );
        assert_eq!(area(&[1.0, 2.0], &[true, true]), 0.5);
        assert!((spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 4.0, 9.0, 16.0]) - 1.0).abs() < 1e-12);
        assert_eq!(correlation(&[1.0, 1.0], &[1.0, 2.0]), 0.0);
        let mut random = RandomStream::new(1);
        assert!(sign_flips(&[1.0; 12], 2000, &mut random) < 0.01);
        assert!(sign_flips(&[1.0, -1.0, 1.0, -1.0], 500, &mut random) > 0.9);
    }

    #[test]
    fn what_a_control_explains_is_taken_out() {
        let mut random = RandomStream::new(5);
        let control: Vec<f64> = (0..400).map(|_| random.uniform()).collect();
        let near = |random: &mut RandomStream| -> Vec<f64> {
            control.iter().map(|c| c + 0.2 * random.uniform()).collect()
        };
        let (a, b) = (near(&mut random), near(&mut random));
        assert!(spearman(&a, &b) > 0.9);
        assert!(partial_spearman(&a, &b, std::slice::from_ref(&control)).abs() < 0.15);
    }

    #[test]
    fn correlations_are_scipys() {
        let (rows, target) = solve::tests::formula();
        let column = |at: usize| (0..24).map(|row| rows.row(row)[at]).collect::<Vec<f64>>();
        let whole = spearman(&target, &column(0));
        assert!((whole - 0.82872051697).abs() < 1e-9, "{whole}");
        let controls = [column(1), column(2)];
        let partial = partial_spearman(&target, &column(0), &controls);
        assert!((partial - 0.92101246416).abs() < 1e-6, "{partial}");
        // 8 of the 64 signings of these six lie as far from 0.
        let mut random = RandomStream::new(3);
        let share = sign_flips(&[0.3, -0.1, 0.5, 0.2, -0.05, 0.4], 20_000, &mut random);
        assert!((share - 0.125).abs() < 0.01, "{share}");
    }
}
