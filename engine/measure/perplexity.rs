//! Perplexity: exp of the mean −ln p of predicted tokens.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;

/// The sum of −ln p over predicted tokens; `exp` of its mean is the perplexity.
///
/// Perplexities over different numbers of candidates cannot be compared, so the sum records how many candidates each
/// probability is normalised over.
///
/// ```
/// use brillm::measure::Perplexity;
/// let mut perplexity = Perplexity::new(4000);
/// perplexity.add(0.25_f64);
/// perplexity.add(1.0);
/// assert!((perplexity.perplexity() - 2.0).abs() < 1e-12);
/// assert!((perplexity.bits_per_byte(4) - 0.5).abs() < 1e-12);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Perplexity {
    nats: f64,
    tokens: u64,
    candidates: u64,
}

impl Perplexity {
    /// Create an empty sum of predictions over `candidates` candidates each (V for the full vocabulary).
    pub fn new(candidates: u64) -> Self {
        Self {
            nats: 0.0,
            tokens: 0,
            candidates,
        }
    }

    /// Add a predicted token by its probability. Zero makes the perplexity infinite.
    pub fn add(&mut self, probability: f64) {
        self.add_nats(-probability.ln());
    }

    /// Add a predicted token by its −ln p, in nats.
    pub fn add_nats(&mut self, nats: f64) {
        self.add_sum(nats, 1);
    }

    /// Add `tokens` predicted tokens whose −ln p sum to `nats`, for example those of a batch.
    pub fn add_sum(&mut self, nats: f64, tokens: u64) {
        self.nats += nats;
        self.tokens += tokens;
    }

    /// Add another sum.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] if the numbers of candidates differ.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.candidates != other.candidates {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "surprises over {} and over {} candidates cannot be added",
                    self.candidates, other.candidates
                ),
            )
            .advice("measure both over the full vocabulary"));
        }
        self.add_sum(other.nats, other.tokens);
        Ok(())
    }

    /// The sum of −ln p, in nats.
    pub fn nats(&self) -> f64 {
        self.nats
    }

    /// Number of predicted tokens.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Number of candidates that each probability is normalised over.
    pub fn candidates(&self) -> u64 {
        self.candidates
    }

    /// Mean −ln p, in nats; NaN without tokens.
    pub fn nats_per_token(&self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// `exp` of the mean −ln p; NaN without tokens.
    pub fn perplexity(&self) -> f64 {
        self.nats_per_token().exp()
    }

    /// Bits per byte of the text, which has `bytes` bytes: unlike the perplexity, comparable between vocabularies. NaN or
    /// infinite for zero bytes.
    pub fn bits_per_byte(&self, bytes: u64) -> f64 {
        self.nats / std::f64::consts::LN_2 / bytes as f64
    }
}

impl fmt::Display for Perplexity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "perplexity {:.2} over {} tokens, {} candidates each",
            self.perplexity(),
            self.tokens,
            self.candidates
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_guess_has_the_perplexity_of_its_candidates() {
        let mut perplexity = Perplexity::new(50);
        for _ in 0..1000 {
            perplexity.add(1.0 / 50.0);
        }
        assert!((perplexity.perplexity() - 50.0).abs() < 1e-9);
        assert_eq!(
            perplexity.to_string(),
            "perplexity 50.00 over 1000 tokens, 50 candidates each"
        );
    }

    #[test]
    fn sums_over_different_candidates_do_not_mix() {
        let mut full = Perplexity::new(4000);
        full.add(0.5);
        let mut part = full;
        part.merge(&full).unwrap();
        assert_eq!(part.tokens(), 2);
        let error = full.merge(&Perplexity::new(400)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().contains("4000 and over 400"));
        assert_eq!(full.tokens(), 1);
    }

    #[test]
    fn an_impossible_token_makes_it_infinite() {
        let mut perplexity = Perplexity::new(2);
        perplexity.add(0.0);
        assert_eq!(perplexity.perplexity(), f64::INFINITY);
    }
}
