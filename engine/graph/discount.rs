//! The discounts of modified Kneser-Ney smoothing.
//!
//! Chen and Goodman (1999), equation 26: with `n_r` the number of items seen exactly `r` times and
//! `Y = n_1 / (n_1 + 2 n_2)`, the discount of an item seen `r` times is
//! `D_r = r − (r+1) Y n_{r+1} / n_r`.

/// Discounts of items seen once, twice, and three or more times; their mass goes to unseen items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Discounts {
    /// `D_1`, `D_2`, `D_3+`; each lies in `[0, r]`.
    pub by_count: [f64; 3],
}

impl Discounts {
    /// Estimate the discounts from the number of items seen exactly 1, 2, 3 and 4 times.
    ///
    /// Where the counts of counts are too small for the estimate (tiny corpora), they are `0.5, 1.0, 1.5`.
    pub fn estimate(counts_of_counts: [u64; 4]) -> Self {
        let [n1, n2, n3, n4] = counts_of_counts.map(|count| count as f64);
        if n1 == 0.0 || n2 == 0.0 || n3 == 0.0 || n4 == 0.0 {
            return Self {
                by_count: [0.5, 1.0, 1.5],
            };
        }
        let y = n1 / (n1 + 2.0 * n2);
        let discount =
            |r: f64, lower: f64, upper: f64| (r - (r + 1.0) * y * upper / lower).clamp(0.0, r);
        Self {
            by_count: [
                discount(1.0, n1, n2),
                discount(2.0, n2, n3),
                discount(3.0, n3, n4),
            ],
        }
    }

    /// The discount of an item seen `count` times; zero for an unseen one.
    pub fn of(&self, count: u64) -> f64 {
        match count {
            0 => 0.0,
            1..=3 => self.by_count[count as usize - 1],
            _ => self.by_count[2],
        }
    }
}
