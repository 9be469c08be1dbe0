//! Means over texts with intervals, correlation, areas under curves.

use serde::Serialize;

use crate::kernel::random::Random;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

/// A mean over texts with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// The 2.5th percentile of the means of 1,000 resamples of the texts (Efron 1979).
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

impl Interval {
    /// Measure the mean of values, one for each text.
    pub(super) fn of(values: &[f64], seed: u64) -> Self {
        let count = values.len().max(1);
        let mut random = Random::new(seed);
        let mut means: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                let picks = (0..values.len()).map(|_| values[random.below(count as u64) as usize]);
                picks.sum::<f64>() / count as f64
            })
            .collect();
        means.sort_by(f64::total_cmp);
        Self {
            mean: values.iter().sum::<f64>() / count as f64,
            low: means[RESAMPLES * 25 / 1000],
            high: means[RESAMPLES * 975 / 1000 - 1],
        }
    }
}

/// Pearson's correlation of two lists; 0 where one of them is constant.
pub(super) fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len().max(1) as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut covariance, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        covariance += a * b;
        square_a += a * a;
        square_b += b * b;
    }
    let scale = (square_a * square_b).sqrt();
    if scale > 0.0 { covariance / scale } else { 0.0 }
}

/// Area under a curve of evenly spaced points, by trapezia, over a range of 1.
pub(super) fn area(points: &[f64]) -> f64 {
    let pairs = points.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
    pairs.sum::<f64>() / (points.len() - 1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_known_lists() {
        let interval = Interval::of(&[1.0, 2.0, 3.0, 4.0], 1);
        assert_eq!(interval.mean, 2.5);
        assert!(
            interval.low >= 1.0
                && interval.low < 2.5
                && interval.high > 2.5
                && interval.high <= 4.0
        );
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]), 1.0);
        assert_eq!(correlation(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
        assert_eq!(correlation(&[1.0, 1.0], &[3.0, 2.0]), 0.0);
        assert_eq!(area(&[1.0, 0.5, 0.0]), 0.5);
    }
}
