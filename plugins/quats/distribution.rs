//! What a distribution of next tokens looks like: entropy, kurtosis, its highest probability.

use brillm_plugin::{PluginError, Result};

/// Measures of the softmax of logits; tokens whose logit is −∞ are not candidates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Distribution {
    /// −Σ p ln p, in nats.
    pub entropy: f64,
    /// The highest probability.
    pub highest: f64,
    /// Pearson's kurtosis of the probabilities, mean of fourth powers over square of mean squares; `None` where
    /// all are alike.
    pub kurtosis: Option<f64>,
    /// Tokens that may follow.
    pub candidates: usize,
}

impl Distribution {
    /// Measures scores; `None` without candidates. O(V)
    ///
    /// # Errors
    /// For a score that is not a number or +∞.
    pub fn of(logits: &[f32]) -> Result<Option<Self>> {
        let mut most = f64::NEG_INFINITY;
        let mut candidates = 0;
        for (token, &logit) in logits.iter().enumerate() {
            if logit.is_nan() || logit == f32::INFINITY {
                return Err(PluginError::new(format!(
                    "the score of token {token} is {logit}"
                )));
            }
            if logit > f32::NEG_INFINITY {
                most = most.max(f64::from(logit));
                candidates += 1;
            }
        }
        if candidates == 0 {
            return Ok(None);
        }
        let weights = || {
            logits
                .iter()
                .filter(|&&logit| logit > f32::NEG_INFINITY)
                .map(|&logit| f64::from(logit) - most)
        };
        let total: f64 = weights().map(f64::exp).sum();
        let normaliser = total.ln();
        let mean = 1.0 / candidates as f64;
        let (mut entropy, mut second, mut fourth) = (0.0, 0.0, 0.0);
        for weight in weights() {
            let logarithm = weight - normaliser;
            let p = logarithm.exp();
            entropy -= p * logarithm;
            let square = (p - mean) * (p - mean);
            second += square;
            fourth += square * square;
        }
        second *= mean;
        fourth *= mean;
        // Rounding leaves differences between equal probabilities; they are not a shape.
        let flat = second <= 1e-20 * mean * mean;
        Ok(Some(Self {
            entropy: entropy.max(0.0),
            highest: 1.0 / total,
            kurtosis: (!flat).then(|| fourth / (second * second)),
            candidates,
        }))
    }

    /// Entropy divided by that of equal probabilities, 0 to 1.
    pub fn normalised_entropy(&self) -> f64 {
        if self.candidates > 1 {
            (self.entropy / (self.candidates as f64).ln()).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The model-free features: normalised entropy, ln of the highest probability, ln of the kurtosis (0 where it
    /// has none).
    pub fn features(&self) -> [f32; 3] {
        [
            self.normalised_entropy() as f32,
            self.highest.ln() as f32,
            self.kurtosis.map_or(0.0, f64::ln) as f32,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(logits: &[f32]) -> Distribution {
        Distribution::of(logits).unwrap().unwrap()
    }

    #[test]
    fn kurtosis_is_pearsons() {
        // One spike above equals gives the same whatever its height: V² / (V − 1) − 3.
        let spike = |candidates: usize, height: f32| {
            let mut logits = vec![0.0; candidates];
            logits[candidates / 2] = height;
            of(&logits).kurtosis.unwrap()
        };
        let p = |spike: f32, rest: f32| (spike / rest).ln();
        assert!((spike(4, p(0.97, 0.01)) - 7.0 / 3.0).abs() < 1e-6);
        assert!((spike(4, p(0.26, 0.74 / 3.0)) - 7.0 / 3.0).abs() < 1e-4);
        assert!((spike(4000, 100.0) - 3998.00025).abs() < 1e-4);
        assert_eq!(of(&[2.0; 7]).kurtosis, None);
    }

    #[test]
    fn entropy_and_candidates() {
        let even = of(&[1.0, f32::NEG_INFINITY, 1.0, 1.0, 1.0]);
        assert_eq!(even.candidates, 4);
        assert!((even.entropy - 4f64.ln()).abs() < 1e-12);
        assert!((even.normalised_entropy() - 1.0).abs() < 1e-12);
        assert!((even.highest - 0.25).abs() < 1e-12);
        let sure = of(&[0.0, 60.0, 0.0]);
        assert!(sure.entropy < 1e-20 && sure.highest > 1.0 - 1e-12);
        assert_eq!(of(&[3.0]).normalised_entropy(), 0.0);
        assert_eq!(Distribution::of(&[]).unwrap(), None);
        assert_eq!(Distribution::of(&[f32::NEG_INFINITY; 3]).unwrap(), None);
        for broken in [f32::NAN, f32::INFINITY] {
            assert!(Distribution::of(&[0.0, broken]).is_err());
        }
    }
}
