//! The `[data]` section of a run file: sources of text and their tokens.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::modality::{AudioSettings, ImageSettings, Modality};
use crate::text::{CorpusFormat, CorpusOptions, ReadingDirection};

/// Sources of text, and how it is tokenized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Data {
    /// Sources of training text: files, folders, globs, or `.u16`/`.u32` id files. Relative to the run file.
    #[serde(deserialize_with = "paths")]
    pub train: Vec<String>,
    /// Sources of validation text; without any, the fraction `validation-fraction` of the training documents.
    #[serde(default, deserialize_with = "paths")]
    pub validation: Vec<String>,
    /// Fraction of the training documents that is held out when `validation` is empty.
    #[serde(default = "two_percent", alias = "validation-share")]
    pub validation_fraction: f64,
    /// Range `[first, count]` of validation windows; all by default.
    #[serde(default)]
    pub validation_windows: Option<[usize; 2]>,
    /// Format of the sources.
    #[serde(default)]
    pub format: CorpusFormat,
    /// Field of JSON objects that holds the text.
    #[serde(default)]
    pub field: Option<String>,
    /// Whether to replace bytes that are not UTF-8 instead of stopping.
    #[serde(default)]
    pub lossy: bool,
    /// Map from traditional to simplified characters, in OpenCC's format.
    #[serde(default)]
    pub simplify: Option<String>,
    /// Unit of the tokens.
    #[serde(default)]
    pub tokens: TokenKind,
    /// Reading direction: forward, backward, or both (a gpt, marked by `<l2r>` and `<r2l>`).
    #[serde(default, skip_serializing_if = "ReadingDirection::is_forward")]
    pub direction: ReadingDirection,
    /// Size of the vocabulary.
    #[serde(default = "four_thousand")]
    pub vocabulary: usize,
    /// A `tokenizer.json` to use instead of training one.
    #[serde(default)]
    pub tokenizer: Option<String>,
    /// Images that JSON records name in their field `image`, as tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSettings>,
    /// Sounds that JSON records name in their field `audio`, as tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<AudioSettings>,
    /// Expected sha256 of source files, by path as given. `image files` and `audio files` are those that records name: the sha256
    /// of the lines that `sha256sum` prints for them, in the order of their paths.
    #[serde(default)]
    pub sha256: std::collections::BTreeMap<String, String>,
}

impl Data {
    /// The modalities that have settings.
    pub fn media(&self) -> Vec<Modality> {
        let (image, audio) = (self.image.is_some(), self.audio.is_some());
        [(Modality::Image, image), (Modality::Audio, audio)]
            .into_iter()
            .filter_map(|(modality, used)| used.then_some(modality))
            .collect()
    }

    /// How the sources are read; paths are relative to `base`.
    pub fn corpus_options(&self, base: &Path) -> CorpusOptions {
        CorpusOptions {
            format: self.format,
            field: self.field.clone(),
            lossy: self.lossy,
            simplify: self.simplify.as_ref().map(|path| base.join(path)),
        }
    }
}

/// Read a list of paths, or one path as a list.
fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Paths;
    impl<'de> Visitor<'de> for Paths {
        type Value = Vec<String>;
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a path or a list of paths")
        }
        fn visit_str<E: de::Error>(self, path: &str) -> Result<Self::Value, E> {
            Ok(vec![path.into()])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut paths = Vec::new();
            while let Some(path) = list.next_element()? {
                paths.push(path);
            }
            Ok(paths)
        }
    }
    deserializer.deserialize_any(Paths)
}

fn two_percent() -> f64 {
    0.02
}

fn four_thousand() -> usize {
    4000
}

/// Unit of the tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// Byte-pair encoding, trained on the text.
    #[default]
    Bpe,
    /// The most frequent characters.
    Characters,
    /// The most frequent words between spaces, and the line end.
    Words,
    /// Token ids, which the sources already contain.
    Ids,
}
