//! The tokens of a run: corpora encoded once into files of the run folder, which are then read or memory-mapped.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use brillm_file::OutputFile;

use crate::kernel::bytes::Bytes;
use crate::learn::recipe::{Data, Recipe, TokenKind};
use crate::learn::source_files::{SourceFiles, open};
use crate::modality::{Codecs, Modality};
use crate::text::{
    Corpus, LEFT_TO_RIGHT, RIGHT_TO_LEFT, ReadingDirection, SkippedFiles, Tokenizer, cut, read_ids,
};
use crate::{Error, ErrorKind, Result};

/// Documents that are encoded in parallel.
const TOGETHER: usize = 256;

/// The training and validation tokens of a run, with their tokenizer.
pub struct TokenData {
    /// The tokenizer of all tokens.
    pub tokenizer: Tokenizer,
    train: Bytes,
    validation: Bytes,
    /// Bytes of text in the validation documents; 0 where the sources are ids.
    pub validation_bytes: u64,
    /// sha256 of each source file, by path as given, and of the images and sounds that records name.
    pub sources: BTreeMap<String, String>,
    /// Files in the folders of the sources that were skipped.
    pub skipped_files: SkippedFiles,
}

impl TokenData {
    /// Tokens of the training documents. `[N]`
    pub fn train(&self) -> &[u32] {
        self.train.typed().expect("written as u32")
    }

    /// Tokens of the validation documents; may be empty. `[N]`
    pub fn validation(&self) -> &[u32] {
        self.validation.typed().expect("written as u32")
    }

    /// Encode the sources of a recipe into `folder`, or map the files that an earlier start of the run wrote there.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Checksum`] for a source whose sha256 differs from the recipe's;
    /// [`ErrorKind::Input`] for a text too short to train on.
    pub fn prepare(
        recipe: &Recipe,
        base: &Path,
        folder: &Path,
        note: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let done = folder.join("tokens.json");
        let [train_file, validation_file] =
            ["train.tokens", "validation.tokens"].map(|name| folder.join(name));
        if !done.exists() {
            let files = SourceFiles::find(&recipe.data, base, folder)?;
            let sources = files.checksums(&recipe.data, base)?;
            let tokenizer = make_tokenizer(recipe, base, note)?;
            let mut output = Output {
                train: TokenFile::create(&train_file)?,
                validation: TokenFile::create(&validation_file)?,
                validation_bytes: 0,
            };
            if recipe.data.tokens == TokenKind::Ids {
                output.write_ids(&recipe.data, base)?;
            } else {
                note("encoding the text");
                output.write_text(&recipe.data, base, &tokenizer)?;
            }
            output.train.finish()?;
            output.validation.finish()?;
            files.check_unchanged(&recipe.data, base, folder)?;
            let record = serde_json::json!({
                "sources": sources,
                "skipped_files": files.skipped,
                "validation_bytes": output.validation_bytes,
                "tokenizer": String::from_utf8_lossy(&tokenizer.to_bytes()),
            });
            // Written last: this file marks the token files as complete.
            brillm_file::write(&done, record.to_string()).map_err(Error::io_at(&done))?;
        }
        let text = std::fs::read_to_string(&done).map_err(Error::io_at(&done))?;
        let damaged = || {
            Error::new(ErrorKind::Format, "the file is damaged")
                .at(done.display())
                .advice("delete the run folder")
        };
        let record: serde_json::Value = serde_json::from_str(&text).map_err(|_| damaged())?;
        let tokenizer =
            Tokenizer::from_bytes(record["tokenizer"].as_str().ok_or_else(damaged)?.as_bytes())?;
        let result = Self {
            tokenizer,
            train: map(&train_file)?,
            validation: map(&validation_file)?,
            validation_bytes: record["validation_bytes"].as_u64().ok_or_else(damaged)?,
            sources: serde_json::from_value(record["sources"].clone()).unwrap_or_default(),
            skipped_files: serde_json::from_value(record["skipped_files"].clone())
                .unwrap_or_default(),
        };
        result.check_lengths(recipe)?;
        Ok(result)
    }

    /// Check that the training text fills a sequence, and the validation text, where there is to be one, a window.
    fn check_lengths(&self, recipe: &Recipe) -> Result<()> {
        let too_short = |what, advice: &str| Err(Error::new(ErrorKind::Input, what).advice(advice));
        let (tokens, steps) = (self.train().len(), recipe.train.steps);
        if tokens < steps + 2 {
            let what = format!("{tokens} tokens are too few for sequences of {steps}");
            return too_short(what, "add training text, or lower train.steps");
        }
        let windows = self.validation().len().saturating_sub(1) / steps;
        let first = recipe.data.validation_windows.map_or(0, |[first, _]| first);
        let wanted = !recipe.data.validation.is_empty() || recipe.data.validation_fraction > 0.0;
        if wanted && windows <= first {
            let what = format!(
                "{} tokens of validation text contain {windows} windows of {}, too few to validate",
                self.validation().len(),
                steps + 1
            );
            return too_short(
                what,
                "give more text, raise data.validation-fraction, lower train.steps, or train without validation: \
                 data.validation-fraction = 0",
            );
        }
        Ok(())
    }
}

fn make_tokenizer(recipe: &Recipe, base: &Path, note: &mut dyn FnMut(&str)) -> Result<Tokenizer> {
    let data = &recipe.data;
    let model = recipe
        .initial
        .as_ref()
        .or(recipe.graph.transpose_of.as_ref());
    let tokenizer = match (model, &data.tokenizer) {
        (Some(model), None) => tokenizer_of(&base.join(model))?,
        _ => fresh_tokenizer(data, base, note)?,
    };
    let tokenizer = with_codecs(recipe, base, tokenizer, note)?;
    match data.direction {
        ReadingDirection::Both => tokenizer.with_marks(&[LEFT_TO_RIGHT, RIGHT_TO_LEFT]),
        _ => Ok(tokenizer),
    }
}

/// Learn the codebooks of images and sounds, unless an initial model has them.
fn with_codecs(
    recipe: &Recipe,
    base: &Path,
    tokenizer: Tokenizer,
    note: &mut dyn FnMut(&str),
) -> Result<Tokenizer> {
    let data = &recipe.data;
    let known = |modality: &Modality| tokenizer.modality_tokens(*modality).is_ok();
    if data.media().iter().all(known) {
        return Ok(tokenizer);
    }
    if data.tokens == TokenKind::Ids || tokenizer.codecs().is_some() {
        let what =
            "codebooks cannot be added to a vocabulary of bare ids or to one that has codebooks";
        return Err(Error::new(ErrorKind::Configuration, what)
            .advice("remove [data.image] and [data.audio]"));
    }
    note("learning the codebooks of images and sounds");
    let files = open(data, base, &data.train)?.media_files()?;
    let (image, audio) = (data.image.as_ref(), data.audio.as_ref());
    tokenizer.with_codecs(Codecs::learn(&files, image, audio, recipe.seed)?)
}

/// Read the tokenizer of a model, which is a `.bril` file or a folder.
fn tokenizer_of(model: &Path) -> Result<Tokenizer> {
    if !model.is_dir() {
        let model = crate::model::Model::open(model, crate::model::Verify::Lazy)?;
        return Ok(model.tokenizer().clone());
    }
    Tokenizer::open_folder(model)?.ok_or_else(|| {
        Error::new(ErrorKind::Io, Tokenizer::searched(model))
            .advice("name the model's tokenizer in data.tokenizer")
    })
}

fn fresh_tokenizer(data: &Data, base: &Path, note: &mut dyn FnMut(&str)) -> Result<Tokenizer> {
    if data.tokens == TokenKind::Ids {
        return Tokenizer::ids(data.vocabulary);
    }
    if let Some(path) = &data.tokenizer {
        return Tokenizer::open(&base.join(path));
    }
    let corpus = open(data, base, &data.train)?;
    if let Some(once) = corpus.files().find(|path| !path.is_file()) {
        let what = "a source that can be read only once is needed twice, first for the vocabulary";
        let standard = once.as_os_str() == "-";
        let name = if standard {
            Path::new("standard input")
        } else {
            once
        };
        return Err(Error::new(ErrorKind::Configuration, what)
            .at(name.display())
            .advice("name a tokenizer in data.tokenizer, or save the text to a file first"));
    }
    note("making the vocabulary");
    // Tokenizers train on an iterator of strings: the first error of the corpus ends it and is returned afterwards.
    let first_error = std::sync::Mutex::new(None);
    let texts = corpus.map_while(|text| match text {
        Ok(text) => Some(text),
        Err(error) => {
            *first_error
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            None
        }
    });
    let tokenizer = match data.tokens {
        TokenKind::Bpe => Tokenizer::train_bpe(texts, data.vocabulary),
        TokenKind::Words => Tokenizer::train_words(texts, data.vocabulary),
        _ => Tokenizer::train_characters(texts, data.vocabulary),
    };
    match first_error
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
    {
        Some(error) => Err(error),
        None => tokenizer,
    }
}

/// The token files that a run encodes its sources into.
struct Output {
    train: TokenFile,
    validation: TokenFile,
    /// Bytes of text in the validation documents.
    validation_bytes: u64,
}

impl Output {
    /// Copy sources of token ids; each of the two lists of sources is one document.
    fn write_ids(&mut self, data: &Data, base: &Path) -> Result<()> {
        let read = |sources: &[String]| -> Result<Vec<u32>> {
            let mut ids = Vec::new();
            for source in sources {
                let path = Recipe::resolve(base, source);
                ids.extend(read_ids(&path, Some(data.vocabulary))?);
            }
            if data.direction == ReadingDirection::Backward {
                ids.reverse();
            }
            Ok(ids)
        };
        let ids = read(&data.train)?;
        let held_out = (ids.len() as f64 * held_out_fraction(data)) as usize;
        let (train, validation) = ids.split_at(ids.len() - held_out);
        self.train.write(train)?;
        self.validation.write(validation)?;
        self.validation.write(&read(&data.validation)?)
    }

    fn write_text(&mut self, data: &Data, base: &Path, tokenizer: &Tokenizer) -> Result<()> {
        let codecs = tokenizer.codecs().cloned().unwrap_or_default();
        let open = |sources| Ok::<_, Error>(open(data, base, sources)?.with_codecs(&codecs));
        let corpus = open(&data.train)?;
        self.encode(tokenizer, data.direction, corpus, held_out_fraction(data))?;
        if !data.validation.is_empty() {
            let corpus = open(&data.validation)?;
            self.encode(tokenizer, data.direction, corpus, 1.0)?;
        }
        Ok(())
    }

    /// Encode documents, one of every 1/fraction into the validation file.
    ///
    /// Read backward, a document begins with its last token; its end is marked after its first.
    fn encode(
        &mut self,
        tokenizer: &Tokenizer,
        direction: ReadingDirection,
        corpus: Corpus,
        mut fraction: f64,
    ) -> Result<()> {
        use rayon::prelude::*;
        let stop = tokenizer.vocabulary().stop();
        let encode = |document: &String| -> Result<Vec<u32>> {
            let mut ids = tokenizer.encode(document)?;
            if direction == ReadingDirection::Backward {
                ids.reverse();
            }
            ids.extend(stop);
            Ok(ids)
        };
        let has_media = |text: &str| tokenizer.codecs().is_some() && Modality::in_text(text);
        // Documents due to the validation file: grows by `fraction` with each document.
        let mut due = 0.0;
        let mut corpus = corpus.flat_map(|document| match document {
            // An image is never cut apart.
            Ok(text) if has_media(&text) => vec![Ok(text)],
            Ok(text) => paragraphs(text).into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });
        // Of this many documents one is held out; the first batch shows whether there are more.
        let needed = if fraction > 0.0 { 1.0 / fraction } else { 0.0 };
        let mut most = TOGETHER.max(needed.min(4096.0).ceil() as usize + 1);
        let mut first = true;
        loop {
            let mut documents: Vec<String> = corpus.by_ref().take(most).collect::<Result<_>>()?;
            if documents.is_empty() {
                return Ok(());
            }
            // At just as many, the sum of rounded fractions below may stay under 1.
            if first && documents.len() < most && documents.len() as f64 <= needed && needed > 1.0 {
                let held_out = match documents.iter().any(|text| has_media(text)) {
                    true => hold_out_whole(&mut documents, fraction),
                    false => hold_out(&mut documents, fraction).into_iter().collect(),
                };
                for text in held_out {
                    self.validation_bytes += tokenizer.text_bytes(&text) as u64;
                    self.validation.write(&encode(&text)?)?;
                }
                fraction = 0.0;
            }
            (first, most) = (false, TOGETHER);
            let encoded: Vec<Vec<u32>> = documents.par_iter().map(encode).collect::<Result<_>>()?;
            for (document, ids) in documents.iter().zip(encoded) {
                due += fraction;
                if due >= 1.0 {
                    due -= 1.0;
                    self.validation_bytes += tokenizer.text_bytes(document) as u64;
                    self.validation.write(&ids)?;
                } else {
                    self.train.write(&ids)?;
                }
            }
        }
    }
}

/// The fraction of the training text that is held out for validation.
fn held_out_fraction(data: &Data) -> f64 {
    if data.validation.is_empty() {
        data.validation_fraction
    } else {
        0.0
    }
}

/// Cut the end off the longest of a few documents: about the fraction of all text, for validation.
fn hold_out(documents: &mut [String], fraction: f64) -> Option<String> {
    let total: usize = documents.iter().map(String::len).sum();
    let held_out = (total as f64 * fraction) as usize;
    let longest = documents.iter_mut().max_by_key(|text| text.len())?;
    let length = longest.len();
    let start = cut(
        longest,
        length.saturating_sub(2 * held_out),
        length - held_out.min(length),
    );
    (0 < start && start < length).then(|| longest.split_off(start))
}

/// Take the last of a few documents for validation: about the fraction of them, and one at least, but not all.
fn hold_out_whole(documents: &mut Vec<String>, fraction: f64) -> Vec<String> {
    let held_out = (documents.len() as f64 * fraction).round() as usize;
    let held_out = held_out.max(1).min(documents.len() - 1);
    documents.split_off(documents.len() - held_out)
}

/// Split a long document into pieces of some thousand bytes, so that validation text comes from all of a book. Pieces
/// end after lines; in a line that is longer, after sentences or words.
fn paragraphs(text: String) -> Vec<String> {
    const PIECE: usize = 8192;
    if text.len() <= 2 * PIECE {
        return vec![text];
    }
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for mut line in text.split_inclusive('\n') {
        while line.len() > 2 * PIECE {
            let (start, rest) = line.split_at(cut(line, PIECE / 2, PIECE));
            piece.push_str(start);
            pieces.push(std::mem::take(&mut piece));
            line = rest;
        }
        piece.push_str(line);
        if piece.len() >= PIECE {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    pieces.push(piece);
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

struct TokenFile {
    file: OutputFile,
    path: PathBuf,
}

impl TokenFile {
    fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            file: OutputFile::create(path).map_err(Error::io_at(path))?,
            path: path.to_path_buf(),
        })
    }

    fn write(&mut self, ids: &[u32]) -> Result<()> {
        self.file
            .write_all(bytemuck::cast_slice(ids))
            .map_err(Error::io_at(&self.path))
    }

    fn finish(self) -> Result<()> {
        self.file.finish().map_err(Error::io_at(&self.path))
    }
}

fn map(path: &Path) -> Result<Bytes> {
    let bytes = crate::model::read_or_map(path)?;
    if bytes.len() % 4 != 0 {
        return Err(Error::new(ErrorKind::Format, "the file is cut short")
            .at(path.display())
            .advice("delete the run folder"));
    }
    Ok(bytes)
}
