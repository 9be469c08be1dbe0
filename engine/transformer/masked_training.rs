//! Masking of training batches for a BERT: the recipe's fraction, or what hooks of `mask/1` return.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::hook::{Answer, Call, Mask, MaskMoment, MaskOutcome, MaskTokens};
use crate::kernel::random::Random;
use crate::learn::data::TokenData;
use crate::learn::recipe::{NetworkRecipe, Recipe};
use crate::text::Vocabulary;
use crate::transformer::batch::TokenBatch;
use crate::transformer::masking::{MaskedBatch, Masking, mask_tokens};
use crate::{Error, ErrorKind, Result};

/// Number of frequency tags; each covers a tenth of the training text.
const DECILES: u64 = 10;

/// Random stream of masks in training.
const STREAM: u64 = 0x6869_6465;

/// Masks tokens of training batches.
pub(super) struct MaskedTraining {
    recipe: NetworkRecipe,
    seed: u64,
    steps: u64,
    /// Steps of an epoch.
    epoch: f64,
    vocabulary: usize,
    /// Tag of each token id; empty without tags. `[V]`
    tags: Vec<u32>,
    /// Whether each token id begins a word; empty unless words are masked whole. `[V]`
    begins: Vec<bool>,
    hook: Option<Arc<dyn Mask>>,
}

impl MaskedTraining {
    /// Create the masking of a recipe; paths in it are relative to `base`.
    pub(super) fn new(
        recipe: &Recipe,
        data: &TokenData,
        base: &Path,
        hook: Option<Arc<dyn Mask>>,
    ) -> Result<Self> {
        let network = recipe.network.clone().unwrap_or_default();
        let vocabulary = data.tokenizer.vocabulary();
        let tags = match network.mask_tags.as_deref() {
            None => Vec::new(),
            Some("deciles") => deciles(data.train(), vocabulary.len()),
            Some(file) => read_tags(&base.join(file), vocabulary.len())?,
        };
        let masked_whole = network.mask_words.then_some(vocabulary.len() as u32);
        let begins = (0..masked_whole.unwrap_or(0))
            .map(|id| begins_word(vocabulary, id))
            .collect();
        // An epoch has as many steps as batches cover the training text.
        let per_step = (recipe.train.batch * recipe.train.steps) as f64;
        Ok(Self {
            recipe: network,
            seed: recipe.seed,
            steps: recipe.train.total_steps(),
            epoch: (data.train().len() as f64 / per_step).max(1.0),
            vocabulary: vocabulary.len(),
            tags,
            begins,
            hook,
        })
    }

    fn tags_of(&self, tokens: &[u32]) -> Vec<u32> {
        let tags = tokens
            .iter()
            .map_while(|&token| self.tags.get(token as usize));
        tags.copied().collect()
    }

    /// Number the words within each sequence.
    fn words_of(&self, input: &TokenBatch) -> Vec<u32> {
        if self.begins.is_empty() {
            return Vec::new();
        }
        let sequences = input.tokens.chunks(input.length);
        sequences
            .flat_map(|sequence| {
                let mut word = 0;
                sequence.iter().enumerate().map(move |(index, &token)| {
                    word += u32::from(index > 0 && self.begins[token as usize]);
                    word
                })
            })
            .collect()
    }

    /// Mask the batch of a step, numbered from 1.
    ///
    /// # Errors
    /// Errors of the hook; [`ErrorKind::Plugin`] for an invalid ratio or weight.
    pub(super) fn mask(&self, input: &TokenBatch, mask: u32, step: u64) -> Result<MaskedBatch> {
        let words = self.words_of(input);
        let (fraction, weights) = match &self.hook {
            Some(hook) => self.ask(&**hook, input, &words, step)?,
            None => (self.recipe.mask_fraction, None),
        };
        let masking = Masking {
            fraction,
            weights: weights.as_deref(),
            words: (!words.is_empty()).then_some(&words),
            draw: self.recipe.mask_draw,
            fixed: &[],
        };
        let mut random = Random::stream(self.seed, STREAM, step);
        Ok(mask_tokens(
            input,
            &masking,
            mask,
            self.vocabulary,
            &mut random,
        ))
    }

    /// Ask the hook for the fraction, and for the weights of all tokens if it returns any. `[B · T]`
    fn ask(
        &self,
        hook: &dyn Mask,
        input: &TokenBatch,
        words: &[u32],
        step: u64,
    ) -> Result<(f64, Option<Vec<f32>>)> {
        let invalid =
            |what: String| Error::new(ErrorKind::Plugin, what).at(format!("mask/1, step {step}"));
        let moment = MaskMoment {
            step: step - 1,
            steps: self.steps,
            epoch: (step - 1) as f64 / self.epoch,
        };
        let ratio = hook.ratio(&Call::new(self.seed, 0, step), &moment)?;
        let ratio = ratio.unwrap_or(self.recipe.mask_fraction);
        if !(0.0..=1.0).contains(&ratio) {
            return Err(invalid(format!("invalid ratio {ratio}: expected 0 to 1")));
        }
        let tags = self.tags_of(&input.tokens);
        // Every token of a training batch may be masked.
        let allowed = vec![true; input.length];
        // A hook that declines leaves a sequence at equal weights.
        let mut weights = vec![1.0f32; input.tokens.len()];
        let mut given = false;
        for (sequence, weights) in weights.chunks_mut(input.length).enumerate() {
            let span = sequence * input.length..(sequence + 1) * input.length;
            let tokens = MaskTokens {
                tokens: &input.tokens[span.clone()],
                tags: tags.get(span.clone()).unwrap_or(&[]),
                words: words.get(span).unwrap_or(&[]),
                allowed: &allowed,
                ratio,
            };
            let call = Call::new(self.seed, sequence as u64, step);
            given |= hook.weigh(&call, &tokens, weights)? == Answer::Given;
            if weights
                .iter()
                .any(|weight| !weight.is_finite() || *weight < 0.0)
            {
                let what = "a weight is negative or not a number";
                return Err(invalid(what.into()));
            }
        }
        Ok((ratio, given.then_some(weights)))
    }

    /// Report the losses of a step's masked tokens to the hook. `tokens [M]`, `losses [M]`
    pub(super) fn learn(&self, step: u64, tokens: &[u32], losses: &[f32]) -> Result<()> {
        let Some(hook) = &self.hook else {
            return Ok(());
        };
        let outcome = MaskOutcome {
            tokens,
            tags: &self.tags_of(tokens),
            losses,
        };
        hook.learn(&Call::new(self.seed, 0, step), &outcome)
    }

    /// Return the hook's state for a checkpoint.
    pub(super) fn notes(&self) -> Result<Value> {
        match &self.hook {
            Some(hook) => Ok(serde_json::json!({ "mask": hook.save()? })),
            None => Ok(Value::Null),
        }
    }

    /// Restore the hook's state from a checkpoint.
    pub(super) fn restore(&self, notes: &Value) -> Result<()> {
        let Some(hook) = &self.hook else {
            return Ok(());
        };
        let state: Vec<u8> = serde_json::from_value(notes["mask"].clone()).map_err(|error| {
            Error::new(ErrorKind::Format, "the checkpoint has no state of mask/1")
                .because(error)
                .advice("resume with the plugins of the original run")
        })?;
        hook.restore(&state)
    }
}

/// Tag each token id with the tenth of the training text it belongs to, counted from the most frequent token.
fn deciles(train: &[u32], vocabulary: usize) -> Vec<u32> {
    let mut counts = vec![0u64; vocabulary];
    for &token in train {
        counts[token as usize] += 1;
    }
    let mut order: Vec<usize> = (0..vocabulary).collect();
    // Most frequent first; ties by id, so that tags are reproducible.
    order.sort_by_key(|&id| (std::cmp::Reverse(counts[id]), id));
    let (total, mut seen) = (train.len().max(1) as u64, 0);
    let mut tags = vec![0; vocabulary];
    for id in order {
        // The tenth that the tokens before it cover: frequent tokens have low tags.
        tags[id] = (seen * DECILES / total).min(DECILES - 1) as u32;
        seen += counts[id];
    }
    tags
}

/// Read a tag for each token id, one per line; `-` for none.
fn read_tags(path: &Path, vocabulary: usize) -> Result<Vec<u32>> {
    let text = crate::text::read_text(path)?;
    let tags = text
        .lines()
        .enumerate()
        .map(|(line, text)| match text.trim() {
            "-" => Ok(MaskTokens::UNTAGGED),
            text => text.parse().map_err(|_| {
                Error::new(ErrorKind::Format, format!("invalid tag {text:?}"))
                    .at(format!("{}: line {}", path.display(), line + 1))
                    .advice("write an integer for each token id, or -")
            }),
        })
        .collect::<Result<Vec<u32>>>()?;
    if tags.len() != vocabulary {
        return Err(Error::new(
            ErrorKind::Format,
            format!("{} tags for {vocabulary} tokens", tags.len()),
        )
        .at(path.display())
        .advice("write one line for each token id"));
    }
    Ok(tags)
}

/// Return whether a token begins a word: its first byte is not alphanumeric ASCII or part of a longer character, and
/// it is not a continuation marked by `##`.
fn begins_word(vocabulary: &Vocabulary, id: u32) -> bool {
    if vocabulary
        .token(id)
        .is_some_and(|token| token.starts_with("##"))
    {
        return false;
    }
    let bytes = vocabulary.bytes(id);
    bytes
        .first()
        .is_none_or(|first| !(first.is_ascii_alphanumeric() || *first >= 0x80))
}
