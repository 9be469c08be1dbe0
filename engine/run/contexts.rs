//! Perplexity after contexts of different lengths: how far back a model's predictions depend on the text.

use serde::Serialize;

use crate::kernel::random::Random;
use crate::run::{HookedEngine, SequenceOptions, SequenceRanks, StreamOptions};
use crate::{Error, ErrorKind, Result};

/// Predictions for each context length, at most.
const PREDICTIONS: usize = 2000;
/// The random stream that shuffles contexts.
const SHUFFLING: u64 = 0x7368_7566;

/// Shuffles all but the last tokens of each context.
#[derive(Clone, Copy, Debug)]
pub struct Shuffle {
    /// Tokens at the end that keep their order.
    pub kept: usize,
    /// Seed of the shuffling.
    pub seed: u64,
}

/// The same predictions after contexts of several lengths.
#[derive(Clone, Debug, Serialize)]
pub struct ContextEvaluation {
    /// One row for each length.
    pub contexts: Vec<ContextRow>,
    /// Tokens predicted after each.
    pub tokens: usize,
}

/// Perplexity after contexts of one length.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ContextRow {
    /// Tokens of the context.
    pub context: usize,
    /// exp of the nats per token.
    pub perplexity: f64,
    /// Mean −ln p.
    pub nats_per_token: f64,
}

impl HookedEngine {
    /// Predict the same tokens, evenly spaced in a text, after contexts of different lengths, with charges and recall of what
    /// the context contains.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when the text is shorter than the longest context; [`ErrorKind::Unsupported`] for dynamic
    /// evaluation, which learns from a stream; as [`HookedEngine::session`].
    pub fn contexts(
        &self,
        tokens: &[u32],
        lengths: &[usize],
        shuffle: Option<Shuffle>,
        options: &StreamOptions,
    ) -> Result<ContextEvaluation> {
        if options.dynamic.is_some() {
            let what = "dynamic evaluation learns from a stream, and contexts are apart";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .advice("measure a stream, or leave dynamic evaluation out"));
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if longest == 0 || tokens.len() <= longest + 1 {
            return Err(Error::new(
                ErrorKind::Input,
                format!("{} tokens are too few for these contexts", tokens.len()),
            )
            .advice("use a longer text or shorter contexts"));
        }
        let stride = ((tokens.len() - longest) / PREDICTIONS).max(1);
        let positions: Vec<usize> = (longest..tokens.len())
            .step_by(stride)
            .take(PREDICTIONS)
            .collect();
        let row = |&length: &usize| {
            let one = |index: usize| {
                let position = positions[index];
                let mut context = tokens[position - length..position].to_vec();
                if let Some(shuffle) = shuffle {
                    let shuffled = length.saturating_sub(shuffle.kept);
                    Random::stream(shuffle.seed, SHUFFLING, position as u64)
                        .shuffle(&mut context[..shuffled]);
                }
                let options = SequenceOptions {
                    sequence: position as u64,
                    charges: options.charges.map(|charges| charges.charges()),
                    recall: options.recall,
                    ..SequenceOptions::default()
                };
                self.session(&context, &options)?
                    .resistance(tokens[position])
            };
            let in_order = !self.hooks().is_empty();
            let one_process = SequenceRanks::one_process();
            let nats = one_process.numbers(positions.len(), in_order, &one)?;
            let mean = nats.iter().sum::<f64>() / nats.len() as f64;
            Ok(ContextRow {
                context: length,
                perplexity: mean.exp(),
                nats_per_token: mean,
            })
        };
        Ok(ContextEvaluation {
            contexts: lengths.iter().map(row).collect::<Result<_>>()?,
            tokens: positions.len(),
        })
    }
}
