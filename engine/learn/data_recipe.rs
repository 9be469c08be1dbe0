//! What a run file says about its text: `[data]`.

use serde::{Deserialize, Serialize};

use crate::text::{CorpusFormat, Reading};

/// Where text comes from and how it becomes tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Data {
    /// Sources of training text: files, folders, globs, or `.u16`/`.u32` id files. Relative to the run file.
    pub train: Vec<String>,
    /// Sources of validation text; without any, the last `validation-share` of the training documents.
    #[serde(default)]
    pub validation: Vec<String>,
    /// Of every hundred blocks of training text, how many are held out when `validation` is empty.
    #[serde(default = "two_percent")]
    pub validation_share: f64,
    /// Windows `first,count` of the validation text that are used; all by default.
    #[serde(default)]
    pub validation_windows: Option<[usize; 2]>,
    /// Format of the sources.
    #[serde(default)]
    pub format: CorpusFormat,
    /// Field of JSON objects that holds the text.
    #[serde(default)]
    pub field: Option<String>,
    /// Replace bytes that are not UTF-8.
    #[serde(default)]
    pub lossy: bool,
    /// OpenCC map from traditional to simplified characters.
    #[serde(default)]
    pub simplify: Option<String>,
    /// Characters, BPE, or bare ids.
    #[serde(default)]
    pub tokens: TokenKind,
    /// Which way the text is read: forward, backward, or both (a gpt, told by `<l2r>` and `<r2l>`).
    #[serde(default, skip_serializing_if = "Reading::is_forward")]
    pub direction: Reading,
    /// Size of the vocabulary.
    #[serde(default = "four_thousand")]
    pub vocabulary: usize,
    /// A `tokenizer.json` to use instead of training one.
    #[serde(default)]
    pub tokenizer: Option<String>,
    /// sha256 of each source file that must match, by path as given.
    #[serde(default)]
    pub sha256: std::collections::BTreeMap<String, String>,
}

fn two_percent() -> f64 {
    0.02
}

fn four_thousand() -> usize {
    4000
}

/// What a token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// Byte pairs, trained on the text.
    #[default]
    Bpe,
    /// Characters, the most frequent ones.
    Characters,
    /// The sources are ids already.
    Ids,
}
