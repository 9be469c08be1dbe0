//! The n-gram baseline: interpolated modified Kneser-Ney smoothing.
//!
//! Chen and Goodman (1999), section 3 and equations 25 and 26. With `c` the count of an n-gram at the highest
//! order and, at every lower order, the number of distinct tokens seen before it, and with `h'` the
//! context `h` without its first token:
//!
//! ```text
//! p(w|h) = max(c(hw) − D(c(hw)), 0) / Σ_v c(hv) + λ(h) p(w|h')      λ(h) = Σ_v D(c(hv)) / Σ_v c(hv)
//! p(w)   = the same with the empty context, and 1/V in place of p(w|h')
//! ```
//!
//! Each order has three discounts of its own. The text is one stream, without padding or sentence marks.

use crate::error::{Error, ErrorKind, Result};
use crate::graph::context_tree::{Level, count_levels};
use crate::measure::perplexity::Perplexity;
use crate::measure::windows::{Windows, check_ids};
use rayon::prelude::*;

/// A trained n-gram model over V tokens; every token has a probability above zero in every context.
///
/// ```
/// use brillm::measure::KneserNey;
/// let model = KneserNey::train(&[0, 1, 2, 0, 1, 2, 0, 1], 3, 2)?;
/// assert!(model.probability(&[0], 1) > model.probability(&[0], 2));
/// assert!((model.distribution(&[0]).iter().sum::<f64>() - 1.0).abs() < 1e-12);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct KneserNey {
    vocabulary_size: usize,
    /// Level k: contexts of k tokens. `[order]`
    levels: Vec<Level>,
}

impl KneserNey {
    /// Highest supported order.
    pub const MAXIMUM_ORDER: usize = 5;

    /// Train a model of `order` 1 to 5 on a text of token ids below `vocabulary_size`.
    ///
    /// A model of order n includes all lower orders, with continuation counts. A separately trained model of a lower
    /// order uses occurrence counts at its highest order, and differs slightly.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an order outside 1 to 5, an empty vocabulary, fewer tokens than the order,
    /// 2³² tokens or more, or an id outside the vocabulary.
    ///
    /// # Complexity
    /// O(order · T log T) time in parallel and about 60 bytes per token at the peak, for T tokens.
    pub fn train(tokens: &[u32], vocabulary_size: usize, order: usize) -> Result<Self> {
        let refuse = |what: String| Err(Error::new(ErrorKind::Input, what).at("Kneser-Ney"));
        if !(1..=Self::MAXIMUM_ORDER).contains(&order) {
            return refuse(format!(
                "invalid order {order}: expected 1 to {}",
                Self::MAXIMUM_ORDER
            ));
        }
        if tokens.len() < order {
            return refuse(format!(
                "{} tokens are too few for order {order}",
                tokens.len()
            ));
        }
        if u32::try_from(tokens.len()).is_err() {
            return refuse(format!("{} tokens are too many to count", tokens.len()));
        }
        check_ids(tokens, vocabulary_size)?;

        Ok(Self {
            vocabulary_size,
            levels: count_levels(tokens, order),
        })
    }

    /// The highest order: one more than the length of the longest context.
    pub fn order(&self) -> usize {
        self.levels.len()
    }

    /// Size of the vocabulary, V.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    /// Number of distinct n-grams of `order`; 0 for an order that the model does not have.
    pub fn grams(&self, order: usize) -> usize {
        match order
            .checked_sub(1)
            .and_then(|depth| self.levels.get(depth))
        {
            Some(level) => level.len(),
            None => 0,
        }
    }

    /// Compute p(token | context) from at most the last `order − 1` tokens of the context.
    ///
    /// A context of `k − 1` tokens gives the probability of the lower order k. A token outside the vocabulary has
    /// probability 0, and ends the context if it occurs there.
    ///
    /// # Complexity
    /// O(order · log V).
    pub fn probability(&self, context: &[u32], token: u32) -> f64 {
        if token as usize >= self.vocabulary_size {
            return 0.0;
        }
        let uniform = 1.0 / self.vocabulary_size as f64;
        self.walk(context)
            .fold(uniform, |shorter, (level, context)| {
                level.interpolate(context, token, shorter)
            })
    }

    /// Compute the distribution over the next token, which sums to 1. `[V]`
    ///
    /// # Complexity
    /// O(order · V).
    pub fn distribution(&self, context: &[u32]) -> Vec<f64> {
        let mut distribution = vec![1.0 / self.vocabulary_size as f64; self.vocabulary_size];
        for (level, context) in self.walk(context) {
            level.interpolate_all(context, &mut distribution);
        }
        distribution
    }

    /// Measure the perplexity of the order `order` on the windows of a text.
    ///
    /// A shorter text has fewer predictions. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an order that the model does not have, an id outside the vocabulary, or
    /// a text shorter than one window.
    pub fn evaluate(&self, tokens: &[u32], windows: &Windows, order: usize) -> Result<Perplexity> {
        if !(1..=self.order()).contains(&order) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("order {order} of a model of order {}", self.order()),
            )
            .at("Kneser-Ney")
            .advice("train a model of that order"));
        }
        let predictions: Vec<_> = windows.predictions(tokens.len())?.collect();
        let last = predictions.last().map_or(0, |prediction| prediction.target);
        check_ids(&tokens[..=last], self.vocabulary_size)?;
        let surprises: Vec<f64> = predictions
            .par_iter()
            .map(|prediction| {
                let context = &tokens[prediction.context.clone()];
                let context = &context[context.len().saturating_sub(order - 1)..];
                -self.probability(context, tokens[prediction.target]).ln()
            })
            .collect();
        let mut perplexity = Perplexity::new(self.vocabulary_size as u64);
        for nats in surprises {
            perplexity.add_nats(nats);
        }
        Ok(perplexity)
    }

    /// The nodes of the context tree from the empty context to `context`.
    fn walk(&self, context: &[u32]) -> impl Iterator<Item = (&Level, usize)> {
        let mut earlier = context.iter().rev();
        let mut node = Some(0);
        self.levels.iter().map_while(move |level| {
            let here = node?;
            node = earlier.next().and_then(|&token| level.child(here, token));
            Some((level, here))
        })
    }
}
