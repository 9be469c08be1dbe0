//! The tokenizer of a model folder in Hugging Face's layout, whichever files hold it.

#[cfg(feature = "transformer")]
mod gguf;
#[cfg(feature = "transformer")]
mod gguf_vocabulary;
mod protobuf;
mod sentencepiece;
mod settings;
mod vocabulary_files;

use std::path::{Path, PathBuf};

#[cfg(feature = "transformer")]
pub(crate) use self::gguf::GgufVocabulary;
use self::settings::{Settings, Template};
use crate::text::pipeline::Pipeline;
use crate::text::{Tokenizer, download};
use crate::{Error, ErrorKind, Result};

/// A tokenizer that `tokenizer.json` cannot express (characters, bare ids), in the format of `.bril` files.
pub(crate) const OWN_TOKENIZER: &str = "tokenizer.brillm.json";
/// A tokenizer of the `tokenizers` crate.
const JSON: &str = "tokenizer.json";
/// Names of SentencePiece models.
const SENTENCE_PIECE: [&str; 4] = [
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
];

impl Tokenizer {
    /// Open the tokenizer of a folder; `None` if it has no tokenizer file of any layout.
    ///
    /// Where there is no `tokenizer.json`, the tokenizer is built from the vocabulary's files as `transformers`
    /// does. Special tokens come from `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Vocabulary`] or [`ErrorKind::Format`] for an invalid file.
    pub fn open_folder(folder: &Path) -> Result<Option<Self>> {
        let file =
            |name: &str| Some(folder.join(name)).filter(|path| path.symlink_metadata().is_ok());
        if let Some(own) = file(OWN_TOKENIZER) {
            let rows = settings::object(folder, "config.json")?.remove("vocab_size");
            let rows = rows.and_then(|rows| rows.as_u64()).unwrap_or(0);
            let tokenizer = at(&own, |bytes| Self::from_bytes_for(&bytes, rows as usize))?;
            return Ok(Some(Settings::read(folder)?.end(tokenizer, &[])));
        }
        if let Some(json) = file(JSON) {
            let settings = Settings::read(folder)?;
            return at(&json, |bytes| {
                settings.apply(Pipeline::read(&bytes)?, &[], Template::File)
            })
            .map(Some);
        }
        if let Some(model) = SENTENCE_PIECE.iter().find_map(|name| file(name)) {
            let settings = Settings::read(folder)?;
            return at(&model, |bytes| sentencepiece::open(&bytes, &settings)).map(Some);
        }
        if let (Some(vocabulary), Some(merges)) = (file("vocab.json"), file("merges.txt")) {
            let settings = Settings::read(folder)?;
            let merges = read(&merges)?;
            return at(&vocabulary, |bytes| {
                vocabulary_files::byte_pairs(&bytes, &merges, &settings)
            })
            .map(Some);
        }
        if let Some(vocabulary) = file("vocab.txt") {
            let settings = Settings::read(folder)?;
            return at(&vocabulary, |bytes| {
                vocabulary_files::word_pieces(vocabulary_files::lines(&bytes)?, &settings)
            })
            .map(Some);
        }
        let Some(scored) = scored_file(folder)? else {
            return Ok(None);
        };
        let tokenizer = Self::open_scored(&scored)?;
        Ok(Some(Settings::read(folder)?.end(tokenizer, &[])))
    }

    /// Describe a begin token that an encoded text has twice: in the text, and added by the tokenizer.
    #[cfg(feature = "transformer")]
    pub(crate) fn doubled_begin(&self, ids: &[u32]) -> Option<String> {
        let before = self.frame().0;
        let begin = before.last().filter(|_| ids.starts_with(&before))?;
        let token = self.vocabulary().token(*begin)?;
        (ids.get(before.len()) == Some(begin)).then(|| {
            format!("the text begins with {token}, which the tokenizer adds too: leave it out")
        })
    }

    /// Create a tokenizer of `size` bare ids for a folder without a tokenizer. Encoding text names the files that were
    /// looked for.
    ///
    /// # Errors
    /// As [`Self::ids`].
    #[cfg(feature = "transformer")]
    pub(crate) fn without_text(folder: &Path, size: usize) -> Result<Self> {
        Ok(Self::ids(size)?.missing(Self::searched(folder)))
    }

    /// Describe which files were looked for in a folder without a tokenizer.
    pub(crate) fn searched(folder: &Path) -> String {
        format!(
            "{} has no tokenizer: it has none of {OWN_TOKENIZER}, {JSON}, {}, vocab.json with merges.txt, vocab.txt, \
             tok*.bin",
            folder.display(),
            SENTENCE_PIECE.join(", ")
        )
    }
}

/// Read a file of a tokenizer, without a byte-order mark.
///
/// # Errors
/// As [`download::read`].
fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = download::read(path)?;
    Ok(match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => rest.to_vec(),
        None => bytes,
    })
}

/// Read a file and parse it; errors name it.
pub(super) fn at<T>(path: &Path, parse: impl FnOnce(Vec<u8>) -> Result<T>) -> Result<T> {
    parse(read(path)?).map_err(|error| error.at(path.display()))
}

/// Make an error of a file that is not what its name says.
fn malformed(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Format, what.to_string())
}

/// Find the first `tok*.bin` of a folder.
fn scored_file(folder: &Path) -> Result<Option<PathBuf>> {
    let in_folder = |error| Error::io(error, folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(in_folder)? {
        let path = entry.map_err(in_folder)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("tok") && name.ends_with(".bin") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found.into_iter().next())
}
