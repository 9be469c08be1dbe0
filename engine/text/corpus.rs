//! Corpora: a stream of documents from files, folders, globs and standard input.
//!
//! Memory does not grow with the corpus: plain text, JSONL and `<doc>` markup are read line by line, a JSON array item by
//! item, and a document longer than [`LONGEST`] is returned in pieces.
//!
//! Text is UTF-8 or UTF-16, as it is or compressed by gzip or Zstandard; the first bytes of a file decide, not its name.
//! Line ends are converted to `\n` and byte-order marks are skipped.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::modality::{Codecs, MediaFile, Modality};
use crate::text::corpus_files::{CorpusFiles, Skipped, SkippedFiles};
use crate::text::cut::cut;
use crate::text::input::read_text;
use crate::text::json_record::Part;
use crate::text::source::Source;
use crate::{Error, ErrorKind, Result};

/// Bytes of a document at most; longer ones are returned in pieces, which end after a line, a sentence or a word if
/// possible.
pub const LONGEST: usize = 1 << 20;

/// Format of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CorpusFormat {
    /// Detected by extension and first bytes: `.jsonl`, `.json`, `<doc …>`, otherwise plain.
    #[default]
    Auto,
    /// Plain text; each file is a document.
    Plain,
    /// One JSON object or string per line.
    Jsonl,
    /// A JSON array of strings or objects.
    Json,
    /// Output of wikiextractor: `<doc …>`, title, text, `</doc>`.
    Doc,
}

/// Options of a [`Corpus`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CorpusOptions {
    /// Format; detected for each file by default.
    pub format: CorpusFormat,
    /// Field of JSON objects that contains the text; `text`, `story`, `content`, `paragraphs` or `desc` by default.
    pub field: Option<String>,
    /// Whether to replace bytes that are not UTF-8 instead of stopping.
    pub lossy: bool,
    /// File that maps characters, in OpenCC's format (`傳<tab>传 …`), applied to all text.
    pub simplify: Option<PathBuf>,
}

/// A stream of documents.
pub struct Corpus {
    options: CorpusOptions,
    sources: VecDeque<PathBuf>,
    skipped: Skipped,
    open: Option<Source>,
    /// The folder of the open source, to which the paths of its records are relative.
    folder: PathBuf,
    /// Modalities whose files are parts of records.
    media: Vec<Modality>,
    /// What encodes the files; those without a codec are left out.
    codecs: Codecs,
    /// Files that records name in fields of `media`, and files that have no codec.
    named_files: usize,
    left_out: usize,
    /// A document longer than [`LONGEST`], and the bytes of it that were returned.
    long: Option<(String, usize)>,
    /// The first of the files and their number, until a document is returned.
    blank: Option<(PathBuf, usize)>,
    simplify: HashMap<char, char>,
}

impl Corpus {
    /// Open sources: files, folders (in the order of names), glob patterns, or `-` for standard input. A file that can
    /// be read only once, such as a named pipe, is a source too.
    ///
    /// Hidden files, editors' backups and the folders of runs are skipped in folders and among the matches of a pattern, and
    /// their files are counted.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a missing source, [`ErrorKind::Input`] for a folder or pattern without files.
    pub fn open<S: AsRef<Path>>(sources: &[S], options: CorpusOptions) -> Result<Self> {
        let mut found = CorpusFiles::default();
        for source in sources {
            found.add(source.as_ref())?;
        }
        if found.files.is_empty() {
            return Err(Error::new(ErrorKind::Input, "the corpus has no sources"));
        }
        let simplify = match &options.simplify {
            Some(path) => read_simplify(path)?,
            None => HashMap::new(),
        };
        Ok(Self {
            options,
            blank: found
                .files
                .front()
                .map(|first| (first.clone(), found.files.len())),
            sources: found.files,
            skipped: found.skipped,
            open: None,
            folder: PathBuf::new(),
            media: Vec::new(),
            codecs: Codecs::default(),
            named_files: 0,
            left_out: 0,
            long: None,
            simplify,
        })
    }

    /// The files that have not been read yet.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(PathBuf::as_path)
    }

    /// Count the files that were skipped, without those of the run in the folder `own`.
    pub fn skipped(&self, own: Option<&Path>) -> SkippedFiles {
        self.skipped.count(own)
    }

    /// Count the images and sounds that the records read so far name in their fields `image` and `audio`, and that are left out
    /// of the documents for want of a codec.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Encode the images and sounds that JSON records name in their fields `image` and `audio`: a document then contains
    /// the names of their tokens, in the order of the record's fields. Paths are relative to the file of the record.
    ///
    /// Without codecs these fields are ignored.
    #[must_use]
    pub fn with_codecs(mut self, codecs: &Codecs) -> Self {
        self.codecs = codecs.clone();
        let encoded = |modality: &Modality| codecs.codes(*modality).is_some();
        self.with_media(Modality::ALL.into_iter().filter(encoded).collect())
    }

    /// Set the modalities whose files are parts of records: a record of files alone is then valid. Files are left out.
    #[must_use]
    pub fn with_media(mut self, media: Vec<Modality>) -> Self {
        self.media = media;
        self
    }

    /// Return the images and sounds of all records, without reading them.
    ///
    /// # Errors
    /// Those of reading the corpus.
    pub fn media_files(mut self) -> Result<Vec<MediaFile>> {
        let mut files = Vec::new();
        while let Some(parts) = self.next_parts()? {
            for part in parts {
                if let Part::File(modality, path) = part {
                    files.push(MediaFile {
                        modality,
                        path: self.folder.join(path),
                        location: self.location(),
                    });
                }
            }
        }
        Ok(files)
    }

    /// Read the parts of the next record.
    fn next_parts(&mut self) -> Result<Option<Vec<Part>>> {
        loop {
            if self.open.is_none() {
                let Some(path) = self.sources.pop_front() else {
                    return Ok(None);
                };
                self.open = Some(Source::open(&path, self.options.format, &self.media)?);
                self.folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
            }
            let source = self.open.as_mut().expect("opened just now");
            match source.next(&self.options)? {
                Some(parts) => return Ok(Some(parts)),
                None => self.open = None,
            }
        }
    }

    /// The location of the record that was read last.
    fn location(&self) -> String {
        self.open.as_ref().map_or(String::new(), Source::location)
    }

    /// Write the parts of a record as one text.
    fn spelled(&mut self, parts: Vec<Part>) -> Result<String> {
        let mut text = String::new();
        for part in parts {
            self.named_files += usize::from(matches!(part, Part::File(..)));
            match part {
                Part::Text(part) => text.push_str(&self.simplified(part)),
                Part::LeftOut => self.left_out += 1,
                Part::File(modality, _) if self.codecs.codes(modality).is_none() => {
                    self.left_out += 1;
                }
                Part::File(modality, path) => {
                    let codes = self
                        .codecs
                        .encode_file(modality, &self.folder.join(path))
                        .map_err(|error| error.at(self.location()))?;
                    text.push_str(&Codecs::spell(modality, &codes));
                }
            }
        }
        Ok(text)
    }

    fn next_document(&mut self) -> Result<Option<String>> {
        loop {
            if let Some((text, start)) = &mut self.long {
                let rest = &text[*start..];
                let piece = rest[..cut(rest, LONGEST / 2, LONGEST)].to_string();
                *start += piece.len();
                if *start == text.len() {
                    self.long = None;
                }
                return Ok(Some(piece));
            }
            let Some(parts) = self.next_parts()? else {
                return Ok(None);
            };
            let text = self.spelled(parts)?;
            if text.len() > 2 * LONGEST {
                self.long = Some((text, 0));
            } else if !text.trim().is_empty() {
                return Ok(Some(text));
            }
        }
    }

    fn simplified(&self, text: String) -> String {
        if self.simplify.is_empty() {
            return text;
        }
        text.chars()
            .map(|character| self.simplify.get(&character).copied().unwrap_or(character))
            .collect()
    }
}

impl Iterator for Corpus {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut next = self.next_document().transpose();
        // A corpus of images alone has no text before its files are encoded.
        if let (None, Some((first, count))) = (&next, self.blank.take())
            && self.named_files == 0
        {
            let error =
                Error::new(ErrorKind::Input, "the corpus contains no text").at(first.display());
            next = Some(Err(match count {
                1 => error.advice("the file is empty or blank"),
                _ => error.advice(format!(
                    "this and the other {} files are empty or blank",
                    count - 1
                )),
            }));
        }
        if matches!(next, Some(Err(_))) {
            // An error ends the stream: the rest of a damaged file cannot be trusted.
            self.open = None;
            self.long = None;
            self.sources.clear();
        }
        next
    }
}

/// Describe how many images and sounds were left out of documents; see [`Corpus::left_out`].
pub fn describe_left_out(count: usize) -> String {
    format!(
        "{count} images and sounds of records were left out: the model was trained without them"
    )
}

fn read_simplify(path: &Path) -> Result<HashMap<char, char>> {
    let text = read_text(path)?;
    let mut map = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.split(['\t', ' ']);
        if let (Some(from), Some(to)) = (parts.next(), parts.next()) {
            let (mut from, mut to) = (from.chars(), to.chars());
            if let (Some(from), None, Some(to)) = (from.next(), from.next(), to.next()) {
                map.insert(from, to);
            }
        }
    }
    Ok(map)
}
