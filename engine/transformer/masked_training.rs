//! Which tokens a bert has to fill in while it learns: the recipe's share, or what `mask/1` answers.

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

/// Tags of frequency: each stands for a tenth of the training text.
const DECILES: u64 = 10;

/// The random stream of hidden tokens in training.
const STREAM: u64 = 0x6869_6465;

/// Hides tokens of training batches.
pub(super) struct MaskedTraining {
    recipe: NetworkRecipe,
    seed: u64,
    steps: u64,
    /// Steps in a pass over the training text.
    pass: f64,
    vocabulary: usize,
    /// The tag of each token id, where the run has tags. `[V]`
    tags: Vec<u32>,
    /// Whether each token id begins a word, where words are hidden whole. `[V]`
    begins: Vec<bool>,
    hook: Option<Arc<dyn Mask>>,
}

impl MaskedTraining {
    /// What a recipe and its tokens say; files are relative to `base`.
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
        let begins = match network.mask_words {
            true => (0..vocabulary.len() as u32)
                .map(|id| begins_word(vocabulary, id))
                .collect(),
            false => Vec::new(),
        };
        let per_step = (recipe.train.batch * recipe.train.steps) as f64;
        Ok(Self {
            recipe: network,
            seed: recipe.seed,
            steps: recipe.train.total_steps(),
            pass: (data.train().len() as f64 / per_step).max(1.0),
            vocabulary: vocabulary.len(),
            tags,
            begins,
            hook,
        })
    }

    fn tags_of(&self, tokens: &[u32]) -> Vec<u32> {
        match self.tags.is_empty() {
            true => Vec::new(),
            false => tokens
                .iter()
                .map(|&token| self.tags[token as usize])
                .collect(),
        }
    }

    /// Counts words up within each sequence.
    fn words_of(&self, input: &TokenBatch) -> Vec<u32> {
        if self.begins.is_empty() {
            return Vec::new();
        }
        let mut word = 0;
        input
            .tokens
            .iter()
            .enumerate()
            .map(|(index, &token)| {
                let first = index % input.length == 0;
                if first {
                    word = 0;
                } else if self.begins[token as usize] {
                    word += 1;
                }
                word
            })
            .collect()
    }

    /// The batch of a step, numbered from 1, with its hidden tokens.
    ///
    /// # Errors
    /// Whatever the hook meets; [`ErrorKind::Plugin`] for a ratio or weight that is none.
    pub(super) fn mask(&self, input: &TokenBatch, mask: u32, step: u64) -> Result<MaskedBatch> {
        let mut fraction = self.recipe.mask_share;
        let words = self.words_of(input);
        let mut weights = vec![1.0; input.tokens.len()];
        let mut weighed = false;
        if let Some(hook) = &self.hook {
            let place = |what: String| {
                Error::new(ErrorKind::Plugin, what).at(format!("mask/1, step {step}"))
            };
            let moment = MaskMoment {
                step: step - 1,
                steps: self.steps,
                epoch: (step - 1) as f64 / self.pass,
            };
            if let Some(ratio) = hook.ratio(&Call::new(self.seed, 0, step), &moment)? {
                if !(0.0..=1.0).contains(&ratio) {
                    return Err(place(format!("a ratio of {ratio}")));
                }
                fraction = ratio;
            }
            let tags = self.tags_of(&input.tokens);
            let allowed = vec![true; input.length];
            let part = |values: &'_ [u32], from: usize| -> Vec<u32> {
                values
                    .get(from..from + input.length)
                    .unwrap_or(&[])
                    .to_vec()
            };
            for sequence in 0..input.sequences() {
                let from = sequence * input.length;
                let (tags, words) = (part(&tags, from), part(&words, from));
                let tokens = MaskTokens {
                    tokens: &input.tokens[from..from + input.length],
                    tags: &tags,
                    words: &words,
                    allowed: &allowed,
                    ratio: fraction,
                };
                let call = Call::new(self.seed, sequence as u64, step);
                let weights = &mut weights[from..from + input.length];
                weighed |= hook.weigh(&call, &tokens, weights)? == Answer::Given;
                if weights
                    .iter()
                    .any(|weight| !weight.is_finite() || *weight < 0.0)
                {
                    return Err(place("a weight that is negative or not a number".into()));
                }
            }
        }
        let masking = Masking {
            fraction,
            weights: weighed.then_some(&weights),
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

    /// Tells the hook how hard the hidden tokens of a step were. `tokens [M]`, `losses [M]`
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

    /// What a checkpoint has to keep.
    pub(super) fn notes(&self) -> Result<Value> {
        match &self.hook {
            Some(hook) => Ok(serde_json::json!({ "mask": hook.save()? })),
            None => Ok(Value::Null),
        }
    }

    /// Goes on from what a checkpoint kept.
    pub(super) fn restore(&self, notes: &Value) -> Result<()> {
        let Some(hook) = &self.hook else {
            return Ok(());
        };
        let state: Vec<u8> = serde_json::from_value(notes["mask"].clone()).map_err(|error| {
            Error::new(ErrorKind::Format, "the checkpoint keeps no state of mask/1")
                .because(error)
                .advice("resume with the plugins that the run began with")
        })?;
        hook.restore(&state)
    }
}

/// The tag of each token id: the tenth of the text, from the most frequent tokens on, that the id belongs to.
fn deciles(train: &[u32], vocabulary: usize) -> Vec<u32> {
    let mut counts = vec![0u64; vocabulary];
    for &token in train {
        counts[token as usize] += 1;
    }
    let mut order: Vec<usize> = (0..vocabulary).collect();
    order.sort_by_key(|&id| (std::cmp::Reverse(counts[id]), id));
    let (total, mut seen) = (train.len().max(1) as u64, 0);
    let mut tags = vec![0; vocabulary];
    for id in order {
        tags[id] = (seen * DECILES / total).min(DECILES - 1) as u32;
        seen += counts[id];
    }
    tags
}

/// Reads a tag for each token id, one a line; `-` for none.
fn read_tags(path: &Path, vocabulary: usize) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(error, path.display()))?;
    let tags = text
        .lines()
        .enumerate()
        .map(|(line, text)| match text.trim() {
            "-" => Ok(MaskTokens::UNTAGGED),
            text => text.parse().map_err(|_| {
                Error::new(ErrorKind::Format, format!("{text:?} is no tag"))
                    .at(format!("{}, line {}", path.display(), line + 1))
                    .advice("write a whole number for each token id, or -")
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

/// Whether a token begins a word: with white space, or as what is no letter after letters. Pieces that a `##`
/// marks go on with a word.
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
