//! The default recipe of a text without a run file; its sizes follow the amount of text.

use crate::learn::corpus_size::CorpusSize;
use crate::learn::recipe::{Kind, Recipe, TokenKind, Train};
use crate::{Error, ErrorKind, Result};

/// Sizes for a text of up to `bytes`.
struct Sizes {
    bytes: u64,
    vocabulary: usize,
    /// Mean bytes of a token at this vocabulary, in English.
    token_bytes: f64,
    width: usize,
    layers: usize,
    /// Sequences, and predictions in each.
    batch: (usize, usize),
    /// Passes over the text.
    passes: f64,
    dropout: f64,
}

/// A larger text supports a larger model, which learns it in fewer passes and with less dropout.
#[rustfmt::skip]
const SIZES: [Sizes; 5] = [
    Sizes { bytes: 20_000, vocabulary: 320, token_bytes: 1.4, width: 32, layers: 1, batch: (8, 16), passes: 10.0, dropout: 0.3 },
    Sizes { bytes: 60_000, vocabulary: 512, token_bytes: 2.0, width: 32, layers: 1, batch: (8, 32), passes: 10.0, dropout: 0.3 },
    Sizes { bytes: 500_000, vocabulary: 1000, token_bytes: 2.5, width: 64, layers: 1, batch: (16, 32), passes: 12.0, dropout: 0.3 },
    Sizes { bytes: 3_000_000, vocabulary: 2000, token_bytes: 3.0, width: 128, layers: 2, batch: (32, 32), passes: 6.0, dropout: 0.25 },
    Sizes { bytes: u64::MAX, vocabulary: 4000, token_bytes: 3.5, width: 128, layers: 2, batch: (32, 48), passes: 3.0, dropout: 0.15 },
];
/// Tokens of training at most: minutes on two cores.
const MOST_TOKENS: f64 = 3e6;
/// Bytes of validation text that are enough, and that are not exceeded.
const VALIDATION: (f64, f64) = (60_000.0, 200_000.0);

impl Recipe {
    /// Return the recipe that these changes make of the default one: what the user decides before a text is read.
    ///
    /// # Errors
    /// As [`Recipe::parse`].
    pub fn of_changes(changes: &[String]) -> Result<Self> {
        let read = Self::read("name = \"text\"\n[data]\ntrain = [\"-\"]\n", changes)?;
        let sources = read.data.train.clone();
        Self::parse(
            &Self::suited_to(&read, "text", sources).to_run_file("")?,
            changes,
        )
    }

    /// Create a recipe of default settings: those of layered edges, unless `given` names another preset or kind.
    fn suited_to(given: &Self, name: &str, sources: Vec<String>) -> Self {
        let mut recipe = Self::with_defaults(name, sources, is_layered(given));
        if given.kind != Kind::Graph {
            // Only a graph has a profile.
            recipe.profile.clear();
        }
        recipe
    }

    /// Choose a recipe for a text: vocabulary, width, batch, number of tokens and validation text follow its size. Training
    /// takes seconds for some kilobytes and some minutes at most on two cores. It has layered edges unless `given`,
    /// the recipe [`Self::of_changes`], has another preset or kind.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a text of fewer than 200 bytes.
    pub fn for_text(
        name: &str,
        sources: Vec<String>,
        size: &CorpusSize,
        given: &Self,
    ) -> Result<Self> {
        if size.bytes < 200 {
            let what = format!("{} bytes of text are too few to train on", size.bytes);
            return Err(Error::new(ErrorKind::Input, what).advice("give at least some kilobytes"));
        }
        let bytes = size.bytes as f64;
        let sizes = SIZES.iter().find(|sizes| size.bytes <= sizes.bytes);
        let sizes = sizes.expect("the last has no limit");
        let (tokens, vocabulary, token_bytes) = if size.ideographic {
            (TokenKind::Characters, sizes.vocabulary.max(1000) * 2, 3.0)
        } else {
            (TokenKind::Bpe, sizes.vocabulary, sizes.token_bytes)
        };
        let corpus_tokens = bytes / token_bytes;
        // About 60 kB of validation text, of a large corpus at least 2 % up to 200 kB, of a small one at most 10 %.
        let mut fraction = (VALIDATION.0 / bytes)
            .clamp(0.02, 0.1)
            .min(VALIDATION.1 / bytes);
        let steps = sizes.batch.1.min((corpus_tokens / 8.0) as usize);
        if corpus_tokens * fraction < 2.0 * steps as f64 {
            fraction = 0.0;
        }
        let step_tokens = (sizes.batch.0 * steps) as u64;
        let total =
            (corpus_tokens * sizes.passes).min(MOST_TOKENS) as u64 / step_tokens * step_tokens;
        let total_steps = (total / step_tokens).max(1);
        let every = (total_steps / 10).max(1);
        let mut recipe = Self::suited_to(given, name, sources);
        recipe.data.validation_fraction = (fraction * 1e5).round() / 1e5;
        (recipe.data.tokens, recipe.data.vocabulary) = (tokens, vocabulary);
        if given.kind == Kind::Graph {
            let mut insert = |key: &str, size: usize| {
                recipe.profile.insert(key.into(), (size as i64).into());
            };
            insert("width", sizes.width);
            if is_layered(given) {
                insert("layers", sizes.layers);
            }
        }
        recipe.train = Train {
            tokens: total.max(step_tokens),
            batch: sizes.batch.0,
            steps,
            dropout: sizes.dropout,
            warmup: (total_steps / 10).clamp(1, 60),
            // At least twenty blocks, so that each of the ten folds has some.
            block: ((corpus_tokens / 20.0) as usize).clamp(2 * steps, 1500),
            validate_every: every,
            checkpoint_every: every,
            ..recipe.train
        };
        Ok(recipe)
    }
}

/// Whether a recipe is that of a graph of layered edges, which it is if it names no preset.
fn is_layered(recipe: &Recipe) -> bool {
    let preset = recipe.profile.get("preset").and_then(toml::Value::as_str);
    recipe.kind == Kind::Graph && preset.is_none_or(|name| name == "layered")
}
