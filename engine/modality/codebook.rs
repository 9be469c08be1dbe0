//! A codebook: vectors that stand for the vectors near them, learned by k-means.
//!
//! The implementation is ours because a model must be the same bits for a seed on any number of threads, and because
//! linfa-clustering, the usual crate, brings sixty others, with a second ndarray.

use serde::{Deserialize, Serialize};

use crate::kernel::random::Random;
use crate::{Error, ErrorKind, Result};

/// Vectors that a codebook is learned from at most; more are thinned out evenly.
pub(super) const MOST_VECTORS: usize = 1 << 17;
/// Iterations at most.
const ITERATIONS: usize = 50;

/// Vectors of equal width, each the mean of the vectors that it replaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Codebook {
    width: usize,
    values: Vec<f32>,
}

impl Codebook {
    /// Learn a codebook of at most `codes` vectors by k-means (Lloyd 1982), begun with k-means++ (Arthur and
    /// Vassilvitskii 2007). Vectors with fewer different values give fewer codes. `vectors` is `[N, width]`.
    ///
    /// ```
    /// use brillm::modality::Codebook;
    /// let codebook = Codebook::learn(&[0.0, 0.1, 5.0, 5.2], 1, 2, 0)?;
    /// let near: Vec<f32> = [0.05f32, 6.0].iter().map(|&x| codebook.row(codebook.nearest(&[x]))[0]).collect();
    /// assert_eq!(near, [0.05, 5.1]);
    /// # Ok::<(), brillm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Input`] without vectors.
    pub fn learn(vectors: &[f32], width: usize, codes: usize, seed: u64) -> Result<Self> {
        use rayon::prelude::*;
        if width == 0 || vectors.len() < width || codes == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                "a codebook needs vectors to learn from",
            ));
        }
        let step = (vectors.len() / width).div_ceil(MOST_VECTORS);
        let vectors: Vec<&[f32]> = vectors.chunks_exact(width).step_by(step).collect();
        let mut codebook = Self::begin(&vectors, width, codes, seed);
        let mut assigned = vec![usize::MAX; vectors.len()];
        for _ in 0..ITERATIONS {
            let nearest: Vec<usize> = vectors
                .par_iter()
                .map(|vector| codebook.nearest(vector))
                .collect();
            if nearest == assigned {
                break;
            }
            assigned = nearest;
            // Sums in a fixed order and in f64: the same bits on any number of threads.
            let mut sums = vec![0.0f64; codebook.values.len()];
            let mut counts = vec![0usize; codebook.len()];
            for (vector, &code) in vectors.iter().zip(&assigned) {
                counts[code] += 1;
                for (sum, &value) in sums[code * width..].iter_mut().zip(*vector) {
                    *sum += f64::from(value);
                }
            }
            // A code without vectors stays where it is.
            for code in (0..codebook.len()).filter(|&code| counts[code] > 0) {
                for at in code * width..(code + 1) * width {
                    codebook.values[at] = (sums[at] / counts[code] as f64) as f32;
                }
            }
        }
        Ok(codebook)
    }

    /// Choose vectors as first codes: each with a probability proportional to its squared distance to those before it.
    fn begin(vectors: &[&[f32]], width: usize, codes: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut values = vectors[(random.uniform() * vectors.len() as f64) as usize].to_vec();
        let mut distances = vec![f64::INFINITY; vectors.len()];
        while values.len() < codes * width {
            let last = &values[values.len() - width..];
            for (distance, vector) in distances.iter_mut().zip(vectors) {
                *distance = distance.min(f64::from(squared_distance(vector, last)));
            }
            let mut left = random.uniform() * distances.iter().sum::<f64>();
            let chosen = distances.iter().position(|&distance| {
                left -= distance;
                distance > 0.0 && left <= 0.0
            });
            // Rounding may leave a rest behind the last one.
            let Some(chosen) = chosen.or_else(|| distances.iter().rposition(|&one| one > 0.0))
            else {
                break;
            };
            values.extend_from_slice(vectors[chosen]);
        }
        Self { width, values }
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Return whether the codebook is empty.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The vector of a code. `[width]`
    ///
    /// # Panics
    /// For a code that is not below [`Self::len`].
    pub fn row(&self, code: usize) -> &[f32] {
        &self.values[code * self.width..(code + 1) * self.width]
    }

    /// Find the code of the nearest vector; of two equally near ones the first.
    pub fn nearest(&self, vector: &[f32]) -> usize {
        let mut best = (f32::INFINITY, 0);
        for (code, row) in self.values.chunks_exact(self.width).enumerate() {
            let distance = squared_distance(vector, row);
            if distance < best.0 {
                best = (distance, code);
            }
        }
        best.1
    }

    /// Check a codebook that was read from a file.
    pub(super) fn check(&self, width: usize) -> Result<()> {
        let whole = self.width == width && self.values.len() % width == 0;
        if whole && !self.is_empty() && self.values.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Format,
            format!("the codebook does not hold finite vectors of {width} numbers"),
        ))
    }
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_means_finds_separate_groups() {
        // Four groups around the corners of a square, in an order that mixes them.
        let corners = [[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]];
        let vectors: Vec<f32> = (0..400)
            .flat_map(|n| {
                let [x, y] = corners[n % 4];
                [x + (n % 7) as f32 * 0.1, y + (n % 5) as f32 * 0.1]
            })
            .collect();
        for seed in 0..5 {
            let codebook = Codebook::learn(&vectors, 2, 4, seed).unwrap();
            let mut found: Vec<usize> = (0..4)
                .map(|corner| codebook.nearest(&corners[corner]))
                .collect();
            found.sort_unstable();
            assert_eq!(found, [0, 1, 2, 3], "seed {seed}");
        }
    }

    #[test]
    fn few_different_vectors_give_few_codes() {
        let codebook = Codebook::learn(&[1.0, 2.0, 1.0, 2.0, 2.0], 1, 64, 3).unwrap();
        assert_eq!(codebook.len(), 2);
        assert!(Codebook::learn(&[], 1, 64, 3).is_err());
    }
}
