//! Classification measures: accuracy, F1 and Matthews correlation.

use serde::Serialize;

/// Confusion matrix of true and predicted labels.
#[derive(Clone, Debug)]
pub struct Confusion {
    labels: usize,
    /// `[true][predicted]`
    counts: Vec<u64>,
}

/// Measures of a [`Confusion`] matrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Classification {
    /// Number of texts.
    pub texts: u64,
    /// Fraction of correct predictions.
    pub accuracy: f64,
    /// F1 of the second of two labels, or the mean over more labels.
    pub f1: f64,
    /// Matthews' correlation (Matthews 1975; for more than two labels Gorodkin 2004): 0 for guessing, 1 at best.
    pub matthews: f64,
    /// Fraction of the most frequent label: the accuracy of always predicting it.
    pub majority: f64,
}

impl Confusion {
    /// Create an empty matrix of `labels` labels.
    pub fn new(labels: usize) -> Self {
        Self {
            labels,
            counts: vec![0; labels * labels],
        }
    }

    /// Count a text. Both labels must be below the number of labels.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        self.counts[truth * self.labels + predicted] += 1;
    }

    fn f1(&self, label: usize) -> f64 {
        let right = self.counts[label * self.labels + label] as f64;
        let (mut truth, mut predicted) = (0.0, 0.0);
        for other in 0..self.labels {
            truth += self.counts[label * self.labels + other] as f64;
            predicted += self.counts[other * self.labels + label] as f64;
        }
        match truth + predicted {
            0.0 => 0.0,
            both => 2.0 * right / both,
        }
    }

    /// Compute the measures. O(labels²).
    pub fn figures(&self) -> Classification {
        let n = self.labels;
        let all = self.counts.iter().sum::<u64>() as f64;
        let right = (0..n).map(|at| self.counts[at * n + at]).sum::<u64>() as f64;
        let truths: Vec<f64> = (0..n)
            .map(|truth| {
                (0..n)
                    .map(|predicted| self.counts[truth * n + predicted] as f64)
                    .sum()
            })
            .collect();
        let predicted_counts: Vec<f64> = (0..n)
            .map(|predicted| {
                (0..n)
                    .map(|truth| self.counts[truth * n + predicted] as f64)
                    .sum()
            })
            .collect();
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let spread = (all * all - product(&truths, &truths))
            * (all * all - product(&predicted_counts, &predicted_counts));
        let matthews = if spread > 0.0 {
            (right * all - product(&truths, &predicted_counts)) / spread.sqrt()
        } else {
            0.0
        };
        Classification {
            texts: all as u64,
            accuracy: right / all.max(1.0),
            f1: match n {
                2 => self.f1(1),
                _ => (0..n).map(|label| self.f1(label)).sum::<f64>() / n.max(1) as f64,
            },
            matthews,
            majority: truths.iter().copied().fold(0.0, f64::max) / all.max(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Confusion;

    #[test]
    fn figures_are_those_of_their_definitions() {
        let mut confusion = Confusion::new(2);
        // True positives 6, false positives 1, false negatives 2, true negatives 3.
        for (truth, predicted, count) in [(1, 1, 6), (0, 1, 1), (1, 0, 2), (0, 0, 3)] {
            (0..count).for_each(|_| confusion.add(truth, predicted));
        }
        let figures = confusion.figures();
        assert_eq!(figures.texts, 12);
        assert!((figures.accuracy - 9.0 / 12.0).abs() < 1e-12);
        assert!((figures.f1 - 12.0 / 15.0).abs() < 1e-12);
        let matthews = (6.0 * 3.0 - 1.0 * 2.0) / (7.0f64 * 8.0 * 4.0 * 5.0).sqrt();
        assert!((figures.matthews - matthews).abs() < 1e-12);
        assert!((figures.majority - 8.0 / 12.0).abs() < 1e-12);
    }

    #[test]
    fn one_answer_for_all_correlates_with_nothing() {
        let mut confusion = Confusion::new(3);
        (0..3).for_each(|truth| confusion.add(truth, 0));
        assert_eq!(confusion.figures().matthews, 0.0);
    }
}
