//! Which of several scored things stay: [`highest`], and [`RankingOrder`] with the controls a ranking is measured against.

use serde::{Deserialize, Serialize};

use crate::RandomStream;

/// The `count` highest scores, as ascending indices.
///
/// Among equals the lower index wins; what is not a number counts as lowest. All where `count` is not less than
/// their number. O(n) and the sorting of what stays.
///
/// ```
/// assert_eq!(brillm_plugin::highest(&[0.1, 0.9, 0.5, 0.9], 2), [1, 3]);
/// ```
pub fn highest(scores: &[f32], count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    if count < order.len() {
        let score = |at: u32| {
            let score = scores[at as usize];
            if score.is_nan() {
                f32::NEG_INFINITY
            } else {
                score
            }
        };
        if count > 0 {
            order.select_nth_unstable_by(count - 1, |&a, &b| {
                score(b).total_cmp(&score(a)).then(a.cmp(&b))
            });
        }
        order.truncate(count);
        order.sort_unstable();
    }
    order
}

/// By what things are preferred; an option of plugins that rank by attention, so that each can be measured against
/// controls that keep exactly as many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RankingOrder {
    /// The highest scores: the technique itself.
    #[default]
    Attention,
    /// The lowest scores.
    Reversed,
    /// The host's random numbers.
    Random,
    /// The latest.
    Recency,
}

impl RankingOrder {
    /// Chooses `count` of the scored things, as ascending indices.
    ///
    /// `seed` is where random choices come from: [`crate::Call::random`], plus what tells apart the choices of one
    /// step, for example layer and head, since the host's numbers are the same for all of them.
    pub fn choose(self, seed: u64, scores: &[f32], count: usize) -> Vec<u32> {
        match self {
            Self::Attention => highest(scores, count),
            Self::Reversed => {
                let turned: Vec<f32> = scores.iter().map(|score| -score).collect();
                highest(&turned, count)
            }
            Self::Random => {
                let mut stream = RandomStream::new(seed);
                let random: Vec<f32> = scores.iter().map(|_| stream.uniform() as f32).collect();
                highest(&random, count)
            }
            Self::Recency => {
                let length = scores.len();
                (length.saturating_sub(count) as u32..length as u32).collect()
            }
        }
    }
}

/// A number of things, or below 1 a share of them; an option of plugins with a budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amount(pub f64);

impl Amount {
    /// How many of `whole`: the rounded share where it is below 1, else itself. Never more than `usize` holds.
    ///
    /// ```
    /// use brillm_plugin::Amount;
    /// assert_eq!((Amount(0.25).of(10), Amount(64.0).of(10)), (3, 64));
    /// ```
    pub fn of(self, whole: usize) -> usize {
        if self.0 < 1.0 {
            (self.0.max(0.0) * whole as f64).round() as usize
        } else {
            self.0 as usize
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_stay() {
        for (scores, count, expected) in [
            (vec![], 3, vec![]),
            (vec![1.0], 0, vec![]),
            (vec![1.0, 2.0], 5, vec![0, 1]),
            (vec![3.0, 1.0, 2.0], 2, vec![0, 2]),
            (vec![1.0, 1.0, 1.0], 2, vec![0, 1]),
            (vec![f32::NAN, -1.0, f32::NEG_INFINITY], 1, vec![1]),
            (vec![f32::INFINITY, 5.0, f32::NAN, 7.0], 2, vec![0, 3]),
        ] {
            assert_eq!(highest(&scores, count), expected, "{scores:?} {count}");
        }
    }

    #[test]
    fn controls_choose_as_many() {
        let scores = [0.1, 0.9, 0.5, 0.7, 0.2];
        for (preference, expected) in [
            (RankingOrder::Attention, [1, 3]),
            (RankingOrder::Reversed, [0, 4]),
            (RankingOrder::Recency, [3, 4]),
        ] {
            assert_eq!(preference.choose(1, &scores, 2), expected);
            assert_eq!(preference.choose(1, &scores, 9), [0, 1, 2, 3, 4]);
        }
        let random = |seed| RankingOrder::Random.choose(seed, &[0.0; 40], 20);
        assert_eq!(random(3), random(3));
        assert_ne!(random(3), random(4));
        let mut met = [0; 40];
        (0..400).for_each(|seed| random(seed).iter().for_each(|&at| met[at as usize] += 1));
        assert!(
            met.iter().all(|count| (140..260).contains(count)),
            "{met:?}"
        );
    }

    #[test]
    fn amounts_are_counts_or_shares() {
        for (amount, whole, expected) in [(0.0, 8, 0), (0.125, 8, 1), (0.99, 100, 99), (3.0, 8, 3)]
        {
            assert_eq!(Amount(amount).of(whole), expected);
        }
    }
}
