//! Corpora: a stream of documents from files, folders, globs and standard input.
//!
//! Memory does not grow with the corpus: plain text, JSONL and `<doc>` markup are read line by line, a JSON array item by
//! item, and a document longer than [`LONGEST`] is returned in pieces.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::text::source::Source;
use crate::{Error, ErrorKind, Result};

/// Bytes of a document at most; longer ones are returned in pieces, which end at line ends where possible.
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
    open: Option<Source>,
    simplify: HashMap<char, char>,
}

impl Corpus {
    /// Open sources: files, folders (in the order of names), glob patterns, or `-` for standard input.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a missing source, [`ErrorKind::Input`] for a pattern without matches.
    pub fn open<S: AsRef<str>>(sources: &[S], options: CorpusOptions) -> Result<Self> {
        let mut files = VecDeque::new();
        for source in sources {
            find(source.as_ref(), &mut files)?;
        }
        if files.is_empty() {
            return Err(Error::new(ErrorKind::Input, "the corpus has no files"));
        }
        let simplify = match &options.simplify {
            Some(path) => read_simplify(path)?,
            None => HashMap::new(),
        };
        Ok(Self {
            options,
            sources: files,
            open: None,
            simplify,
        })
    }

    /// The files that have not been read yet.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(PathBuf::as_path)
    }

    fn next_document(&mut self) -> Result<Option<String>> {
        loop {
            if self.open.is_none() {
                let Some(path) = self.sources.pop_front() else {
                    return Ok(None);
                };
                self.open = Some(Source::open(&path, self.options.format)?);
            }
            let source = self.open.as_mut().expect("opened just now");
            match source.next(&self.options)? {
                Some(text) if text.trim().is_empty() => {}
                Some(text) => return Ok(Some(self.simplified(text))),
                None => self.open = None,
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
        let next = self.next_document().transpose();
        if matches!(next, Some(Err(_))) {
            // An error ends the stream: the rest of a damaged file cannot be trusted.
            self.open = None;
            self.sources.clear();
        }
        next
    }
}

fn find(source: &str, files: &mut VecDeque<PathBuf>) -> Result<()> {
    let path = Path::new(source);
    if source == "-" || path.is_file() {
        files.push_back(path.to_path_buf());
    } else if path.is_dir() {
        walk(path, files)?;
    } else if source.contains(['*', '?', '[']) {
        let pattern = glob::glob(source).map_err(|error| {
            Error::new(ErrorKind::Input, format!("invalid pattern: {error}")).at(source)
        })?;
        let before = files.len();
        for entry in pattern {
            let path =
                entry.map_err(|error| Error::new(ErrorKind::Io, error.to_string()).at(source))?;
            if path.is_file() {
                files.push_back(path);
            }
        }
        if files.len() == before {
            return Err(Error::new(ErrorKind::Input, "no file matches the pattern").at(source));
        }
    } else {
        return Err(Error::io(
            std::io::Error::from(std::io::ErrorKind::NotFound),
            source,
        ));
    }
    Ok(())
}

fn walk(folder: &Path, files: &mut VecDeque<PathBuf>) -> Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(Error::io_at(folder))?
        .map(|entry| {
            entry
                .map(|entry| entry.path())
                .map_err(Error::io_at(folder))
        })
        .collect::<Result<_>>()?;
    entries.sort();
    for entry in entries {
        // Links to folders are not followed, because they could form a cycle.
        if entry.is_dir() && !entry.is_symlink() {
            walk(&entry, files)?;
        } else if entry.is_file() {
            files.push_back(entry);
        }
    }
    Ok(())
}

fn read_simplify(path: &Path) -> Result<HashMap<char, char>> {
    let text = std::fs::read_to_string(path).map_err(Error::io_at(&path))?;
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
