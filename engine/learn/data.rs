//! The tokens of a run: corpora encoded once into files of the run folder, which are then memory-mapped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::kernel::bytes::Bytes;
use crate::learn::recipe::{Data, Recipe, TokenKind};
use crate::model::sha256::sha256;
use crate::text::{
    Corpus, CorpusOptions, LEFT_TO_RIGHT, RIGHT_TO_LEFT, ReadingDirection, Tokenizer, read_ids,
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
    /// sha256 of each source file, by path as given.
    pub sources: BTreeMap<String, String>,
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
        let sources = checksums(&recipe.data, base)?;
        let done = folder.join("tokens.json");
        let [train_file, validation_file] =
            ["train.tokens", "validation.tokens"].map(|name| folder.join(name));
        if !done.exists() {
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
            let record = serde_json::json!({
                "validation_bytes": output.validation_bytes,
                "tokenizer": String::from_utf8_lossy(&tokenizer.to_bytes()),
            });
            // Written last: this file marks the token files as complete.
            crate::learn::checkpoint::write_whole(&done, record.to_string().as_bytes())?;
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
            sources,
        };
        let (tokens, steps) = (result.train().len(), recipe.train.steps);
        if tokens < steps + 2 {
            let what = format!("{tokens} tokens are too few for sequences of {steps}");
            return Err(
                Error::new(ErrorKind::Input, what).advice("give more text, or lower train.steps")
            );
        }
        Ok(result)
    }
}

fn options(data: &Data, base: &Path) -> CorpusOptions {
    CorpusOptions {
        format: data.format,
        field: data.field.clone(),
        lossy: data.lossy,
        simplify: data.simplify.as_ref().map(|path| base.join(path)),
    }
}

fn open(data: &Data, base: &Path, sources: &[String]) -> Result<Corpus> {
    let paths: Vec<String> = sources
        .iter()
        .map(|source| Recipe::resolve(base, source).to_string_lossy().into_owned())
        .collect();
    Corpus::open(&paths, options(data, base))
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
    match data.direction {
        ReadingDirection::Both => tokenizer.with_marks(&[LEFT_TO_RIGHT, RIGHT_TO_LEFT]),
        _ => Ok(tokenizer),
    }
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
    if data.train.iter().any(|source| source == "-") {
        return Err(Error::new(
            ErrorKind::Configuration,
            "standard input can be read only once",
        )
        .advice("name a tokenizer in data.tokenizer, or save the text to a file first"));
    }
    note("making the vocabulary");
    // Tokenizers train on an iterator of strings: the first error of the corpus ends it and is returned afterwards.
    let first_error = std::sync::Mutex::new(None);
    let texts = open(data, base, &data.train)?.map_while(|text| match text {
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
        let corpus = open(data, base, &data.train)?;
        self.encode(tokenizer, data.direction, corpus, held_out_fraction(data))?;
        if !data.validation.is_empty() {
            let corpus = open(data, base, &data.validation)?;
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
        fraction: f64,
    ) -> Result<()> {
        use rayon::prelude::*;
        let stop = tokenizer.vocabulary().stop();
        // Documents due to the validation file: grows by `fraction` with each document.
        let mut due = 0.0;
        let mut corpus = corpus.flat_map(|document| match document {
            Ok(text) => paragraphs(text).into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });
        loop {
            let documents: Vec<String> = corpus.by_ref().take(TOGETHER).collect::<Result<_>>()?;
            if documents.is_empty() {
                return Ok(());
            }
            let encoded: Vec<Vec<u32>> = documents
                .par_iter()
                .map(|document| tokenizer.encode(document))
                .collect::<Result<_>>()?;
            for (document, mut ids) in documents.iter().zip(encoded) {
                if direction == ReadingDirection::Backward {
                    ids.reverse();
                }
                ids.extend(stop);
                due += fraction;
                if due >= 1.0 {
                    due -= 1.0;
                    self.validation_bytes += document.len() as u64;
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

/// Split a long document into pieces of some thousand bytes, so that validation text comes from all of a book.
fn paragraphs(text: String) -> Vec<String> {
    const PIECE: usize = 8192;
    if text.len() <= 2 * PIECE {
        return vec![text];
    }
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for line in text.split_inclusive('\n') {
        piece.push_str(line);
        if piece.len() >= PIECE {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    pieces.push(piece);
    pieces.retain(|piece| !piece.trim().is_empty());
    pieces
}

/// Compute the sha256 of every source file, and compare it with that of the recipe.
fn checksums(data: &Data, base: &Path) -> Result<BTreeMap<String, String>> {
    let mut sums = BTreeMap::new();
    for source in data.train.iter().chain(&data.validation) {
        let path = Recipe::resolve(base, source);
        if source == "-" {
            continue;
        }
        let files: Vec<PathBuf> = if path.is_file() {
            vec![path]
        } else {
            let corpus = Corpus::open(&[path.to_string_lossy()], CorpusOptions::default())?;
            corpus.files().map(Path::to_path_buf).collect()
        };
        for file in files {
            let name = file
                .strip_prefix(base)
                .unwrap_or(&file)
                .to_string_lossy()
                .into_owned();
            sums.insert(name, sha256(&file)?);
        }
    }
    for (name, wanted) in &data.sha256 {
        if let Some(found) = sums.get(name)
            && !found.eq_ignore_ascii_case(wanted)
        {
            return Err(Error::new(
                ErrorKind::Checksum,
                format!("expected sha256 {wanted}, found {found}"),
            )
            .at(base.join(name).display())
            .advice("get the source that the recipe names"));
        }
    }
    Ok(sums)
}

struct TokenFile {
    file: BufWriter<File>,
    path: PathBuf,
}

impl TokenFile {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io_at(&path))?;
        Ok(Self {
            file: BufWriter::new(file),
            path: path.to_path_buf(),
        })
    }

    fn write(&mut self, ids: &[u32]) -> Result<()> {
        self.file
            .write_all(bytemuck::cast_slice(ids))
            .map_err(Error::io_at(&self.path))
    }

    fn finish(mut self) -> Result<()> {
        self.file.flush().map_err(Error::io_at(&self.path))
    }
}

fn map(path: &Path) -> Result<Bytes> {
    let bytes = crate::model::map_file(path)?;
    if bytes.len() % 4 != 0 {
        return Err(Error::new(ErrorKind::Format, "the file is cut short")
            .at(path.display())
            .advice("delete the run folder"));
    }
    Ok(bytes)
}
