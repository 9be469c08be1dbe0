//! The tokens of a run: corpora encoded once into a file of the run folder, then mapped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::kernel::bytes::Bytes;
use crate::learn::recipe::{Data, Recipe, TokenKind};
use crate::text::{
    Corpus, CorpusOptions, LEFT_TO_RIGHT, RIGHT_TO_LEFT, Reading, Tokenizer, read_ids,
};
use crate::{Error, ErrorKind, Result};

/// Documents encoded together.
const TOGETHER: usize = 256;
/// A tokenizer that `tokenizer.json` cannot say, in the folder of a network.
pub(crate) const OWN_TOKENIZER: &str = "tokenizer.brillm.json";

/// The training and validation tokens of a run, with their tokenizer.
pub struct TokenData {
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    train: Bytes,
    validation: Bytes,
    /// Bytes of UTF-8 behind the validation tokens; 0 where the source was ids.
    pub validation_bytes: u64,
    /// sha256 of each source file, by path as given.
    pub sources: BTreeMap<String, String>,
}

impl TokenData {
    /// The training tokens.
    pub fn train(&self) -> &[u32] {
        self.train.typed().expect("written as u32")
    }

    /// The validation tokens; may be empty.
    pub fn validation(&self) -> &[u32] {
        self.validation.typed().expect("written as u32")
    }

    /// Encodes the sources of a recipe into `folder`, or maps what an earlier start of the run left there.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Checksum`] for a source that is not the one the recipe names;
    /// [`ErrorKind::Input`] for a text too short to train on.
    pub fn prepare(
        recipe: &Recipe,
        base: &Path,
        folder: &Path,
        note: &mut dyn FnMut(&str),
    ) -> Result<Self> {
        let data = &recipe.data;
        let sources = checksums(data, base)?;
        let (train_file, validation_file) = (
            folder.join("train.tokens"),
            folder.join("validation.tokens"),
        );
        let done = folder.join("tokens.json");
        if !done.exists() {
            let tokenizer = make_tokenizer(recipe, base, note)?;
            let mut train = TokenFile::create(&train_file)?;
            let mut validation = TokenFile::create(&validation_file)?;
            let mut bytes = 0;
            if data.tokens == TokenKind::Ids {
                let read = |sources: &[String]| -> Result<Vec<u32>> {
                    let mut ids = Vec::new();
                    for source in sources {
                        ids.extend(read_ids(
                            &Recipe::resolve(base, source),
                            Some(data.vocabulary),
                        )?);
                    }
                    // A run of ids is one document.
                    if data.direction == Reading::Backward {
                        ids.reverse();
                    }
                    Ok(ids)
                };
                let ids = read(&data.train)?;
                let held = if data.validation.is_empty() {
                    read_share(ids.len(), data.validation_share)
                } else {
                    0
                };
                train.write(&ids[..ids.len() - held])?;
                validation.write(&ids[ids.len() - held..])?;
                validation.write(&read(&data.validation)?)?;
            } else {
                note("encoding the text");
                let share = if data.validation.is_empty() {
                    data.validation_share
                } else {
                    0.0
                };
                bytes += encode(
                    &tokenizer,
                    data.direction,
                    open(data, base, &data.train)?,
                    share,
                    &mut train,
                    &mut validation,
                )?;
                if !data.validation.is_empty() {
                    bytes += encode(
                        &tokenizer,
                        data.direction,
                        open(data, base, &data.validation)?,
                        1.0,
                        &mut train,
                        &mut validation,
                    )?;
                }
            }
            train.finish()?;
            validation.finish()?;
            let record = serde_json::json!({
                "validation_bytes": bytes,
                "tokenizer": String::from_utf8_lossy(&tokenizer.to_bytes()),
            });
            crate::learn::checkpoint::write_whole(&done, record.to_string().as_bytes())?;
        }
        let text =
            std::fs::read_to_string(&done).map_err(|error| Error::io(error, done.display()))?;
        let damaged = || {
            Error::new(ErrorKind::Format, "is damaged")
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
        if result.train().len() < recipe.train.steps + 2 {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "{} tokens are too few for sequences of {}",
                    result.train().len(),
                    recipe.train.steps
                ),
            )
            .advice("give more text, or lower train.steps"));
        }
        Ok(result)
    }
}

fn read_share(length: usize, share: f64) -> usize {
    (length as f64 * share) as usize
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
        Reading::Both => tokenizer.with_marks(&[LEFT_TO_RIGHT, RIGHT_TO_LEFT]),
        _ => Ok(tokenizer),
    }
}

/// The tokenizer of a model: a `.bril` file, or a folder.
fn tokenizer_of(model: &Path) -> Result<Tokenizer> {
    if !model.is_dir() {
        let model = crate::model::Model::open(model, crate::model::Verify::Lazy)?;
        return Ok(model.tokenizer().clone());
    }
    let own = model.join(OWN_TOKENIZER);
    if own.exists() {
        let bytes = std::fs::read(&own).map_err(|error| Error::io(error, own.display()))?;
        return Tokenizer::from_bytes(&bytes).map_err(|error| error.at(own.display()));
    }
    Tokenizer::open(&model.join("tokenizer.json"))
        .map_err(|error| error.advice("name the model's tokenizer in data.tokenizer"))
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
    // The first error of the corpus must not get lost behind an iterator of strings.
    let fault = std::sync::Mutex::new(None);
    let texts = open(data, base, &data.train)?.map_while(|text| match text {
        Ok(text) => Some(text),
        Err(error) => {
            *fault
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
            None
        }
    });
    let tokenizer = match data.tokens {
        TokenKind::Bpe => Tokenizer::train_bpe(texts, data.vocabulary),
        _ => Tokenizer::train_characters(texts, data.vocabulary),
    };
    match fault
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
    {
        Some(error) => Err(error),
        None => tokenizer,
    }
}

/// Encodes documents, dealing one of every 1/share to validation. Returns the validation's bytes of text.
///
/// Read backward, a document begins with its last token; its end is marked after its first.
fn encode(
    tokenizer: &Tokenizer,
    direction: Reading,
    corpus: Corpus,
    share: f64,
    train: &mut TokenFile,
    validation: &mut TokenFile,
) -> Result<u64> {
    use rayon::prelude::*;
    let stop = tokenizer.vocabulary().stop();
    let mut owed = 0.0;
    let mut bytes = 0;
    let mut corpus = corpus.flat_map(|document| match document {
        Ok(text) => paragraphs(text).into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    });
    loop {
        let documents: Vec<String> = corpus.by_ref().take(TOGETHER).collect::<Result<_>>()?;
        if documents.is_empty() {
            return Ok(bytes);
        }
        let encoded: Vec<Vec<u32>> = documents
            .par_iter()
            .map(|document| tokenizer.encode(document))
            .collect::<Result<_>>()?;
        for (document, mut ids) in documents.iter().zip(encoded) {
            if direction == Reading::Backward {
                ids.reverse();
            }
            ids.extend(stop);
            owed += share;
            if owed >= 1.0 {
                owed -= 1.0;
                bytes += document.len() as u64;
                validation.write(&ids)?;
            } else {
                train.write(&ids)?;
            }
        }
    }
}

/// A long document in pieces of some thousand bytes, so that validation is drawn from all over a book.
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

/// sha256 of every source file; those the recipe names must match.
fn checksums(data: &Data, base: &Path) -> Result<BTreeMap<String, String>> {
    let mut sums = BTreeMap::new();
    for source in data.train.iter().chain(&data.validation) {
        let path = Recipe::resolve(base, source);
        if source == "-" {
            continue;
        }
        let files: Vec<PathBuf> = match path.is_file() {
            true => vec![path],
            false => {
                let corpus = Corpus::open(&[path.to_string_lossy()], CorpusOptions::default())?;
                corpus.files().map(Path::to_path_buf).collect()
            }
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
                format!("sha256 is {found}, the recipe wants {wanted}"),
            )
            .at(base.join(name).display())
            .advice("the recipe says where its sources are to be had"));
        }
    }
    Ok(sums)
}

/// sha256 of a file, in hexadecimal.
///
/// # Errors
/// [`ErrorKind::Io`].
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|error| Error::io(error, path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file
            .read(&mut buffer)
            .map_err(|error| Error::io(error, path.display()))?
        {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

struct TokenFile {
    file: BufWriter<File>,
    path: PathBuf,
}

impl TokenFile {
    fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| Error::io(error, path.display()))?;
        Ok(Self {
            file: BufWriter::new(file),
            path: path.to_path_buf(),
        })
    }

    fn write(&mut self, ids: &[u32]) -> Result<()> {
        self.file
            .write_all(bytemuck::cast_slice(ids))
            .map_err(|error| Error::io(error, self.path.display()))
    }

    fn finish(mut self) -> Result<()> {
        self.file
            .flush()
            .map_err(|error| Error::io(error, self.path.display()))
    }
}

fn map(path: &Path) -> Result<Bytes> {
    let bytes = crate::model::map_file(path)?;
    if bytes.len() % 4 != 0 {
        return Err(Error::new(ErrorKind::Format, "is cut short")
            .at(path.display())
            .advice("delete the run folder"));
    }
    Ok(bytes)
}
