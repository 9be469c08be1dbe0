//! Training of a word tokenizer: a token for each word between spaces, and one for each line end.
//!
//! For texts that are words already, such as those of the Penn Treebank benchmark. Spaces are not kept.

use std::collections::HashMap;

use serde_json::json;

use crate::text::Tokenizer;
use crate::text::pipeline::Pipeline;
use crate::{Error, ErrorKind, Result};

/// The token of words outside the vocabulary.
const UNKNOWN: &str = "<unk>";
/// The token of a line end, `<eos>` in the literature.
const LINE_END: &str = "\n";

impl Tokenizer {
    /// Train a word tokenizer: a token for each of the most frequent words between spaces, for the line end, and for all
    /// other words, `<unk>`, `size` in all.
    ///
    /// ```
    /// use brillm::text::Tokenizer;
    /// let text = " the cat saw a <unk> \n the dog \n";
    /// let tokenizer = Tokenizer::train_words([text.to_string()].into_iter(), 10_000)?;
    /// let ids = tokenizer.encode("the dog saw the bird\n")?;
    /// assert_eq!(tokenizer.decode(&ids), "the dog saw the <unk> \n");
    /// # Ok::<(), brillm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a size below 3.
    pub fn train_words(texts: impl Iterator<Item = String>, size: usize) -> Result<Self> {
        Self::of_pipeline(train(texts, size)?)
    }
}

/// Train a vocabulary of `size` tokens: the unknown word, the line end, and the most frequent words.
fn train(texts: impl Iterator<Item = String>, size: usize) -> Result<Pipeline> {
    if size < 3 {
        let what = format!("a word vocabulary of {size} tokens is too small");
        return Err(Error::new(ErrorKind::Configuration, what)
            .advice("the unknown word, the line end and a word need at least 3"));
    }
    let mut counts: HashMap<String, u64> = HashMap::new();
    for text in texts {
        for word in text.split_whitespace() {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.to_string(), 1)),
            }
        }
    }
    counts.remove(UNKNOWN);
    let mut ranked: Vec<(String, u64)> = counts.into_iter().collect();
    ranked.sort_unstable_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
    ranked.truncate(size - 2);
    let words = ranked.into_iter().map(|(word, _)| word);
    let tokens = [UNKNOWN, LINE_END]
        .map(String::from)
        .into_iter()
        .chain(words);
    let vocabulary: serde_json::Map<_, _> = tokens.zip((0u32..).map(Into::into)).collect();
    // Without a decoder, tokens are joined by spaces.
    Pipeline::build(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"String": LINE_END}, "behavior": "Isolated", "invert": false},
            {"type": "Split", "pattern": {"Regex": r"[^\S\n]+"}, "behavior": "Removed", "invert": false},
        ]},
        "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN},
    }))
}
