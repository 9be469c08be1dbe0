//! Corpora: a stream of documents from files, folders, globs and standard input.
//!
//! Memory does not grow with the corpus: plain text, JSONL and `<doc>` markup are read line by line, a JSON array item by
//! item, and a document longer than [`LONGEST`] is returned in pieces.
//!
//! Text is UTF-8 or UTF-16, as it is or compressed by gzip or Zstandard; the first bytes of a file decide, not its name.
//! Line ends are converted to `\n` and byte-order marks are skipped.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::text::cut::cut;
use crate::text::input::read_text;
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
    skipped: usize,
    open: Option<Source>,
    /// A document longer than [`LONGEST`], and the bytes of it that were returned.
    long: Option<(String, usize)>,
    /// The first of the files and their number, until a document is returned.
    blank: Option<(PathBuf, usize)>,
    simplify: HashMap<char, char>,
}

/// Record of a run in its folder.
pub(crate) const RUN_RECORD: &str = "run.json";

/// Return whether a text is the record of a run, and not other JSON.
pub(crate) fn is_run_record(text: &str) -> bool {
    let record = serde_json::from_str::<serde_json::Value>(text).ok();
    record.is_some_and(|record| record["data"]["train"].is_array())
}

/// Return whether a folder contains a run, whose files are not a corpus.
pub(crate) fn is_run_folder(folder: &Path) -> bool {
    read_text(&folder.join(RUN_RECORD)).is_ok_and(|text| is_run_record(&text))
}

impl Corpus {
    /// Open sources: files, folders (in the order of names), glob patterns, or `-` for standard input. A file that can
    /// be read only once, such as a named pipe, is a source too.
    ///
    /// Hidden files and editors' backups in folders and among the matches of a pattern are skipped and counted.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a missing source, [`ErrorKind::Input`] for a folder or pattern without files.
    pub fn open<S: AsRef<Path>>(sources: &[S], options: CorpusOptions) -> Result<Self> {
        let mut found = Files::default();
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
            long: None,
            simplify,
        })
    }

    /// The files that have not been read yet.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(PathBuf::as_path)
    }

    /// Number of hidden files and folders, and of editors' backups, that were skipped.
    pub fn skipped(&self) -> usize {
        self.skipped
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
                return Ok(Some(self.simplified(piece)));
            }
            if self.open.is_none() {
                let Some(path) = self.sources.pop_front() else {
                    return Ok(None);
                };
                self.open = Some(Source::open(&path, self.options.format)?);
            }
            let source = self.open.as_mut().expect("opened just now");
            match source.next(&self.options)? {
                Some(text) if text.trim().is_empty() => {}
                Some(text) if text.len() > 2 * LONGEST => self.long = Some((text, 0)),
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
        let mut next = self.next_document().transpose();
        if let (None, Some((first, count))) = (&next, self.blank.take()) {
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

/// Files of the sources, in order.
#[derive(Default)]
struct Files {
    files: VecDeque<PathBuf>,
    skipped: usize,
}

impl Files {
    fn add(&mut self, source: &Path) -> Result<()> {
        let pattern = source
            .to_str()
            .filter(|text| text.contains(['*', '?', '[']));
        let (before, skipped) = (self.files.len(), self.skipped);
        let kind = if source.is_dir() {
            self.add_folder(source)?;
            "the folder contains no files to read"
        } else if source.as_os_str() == "-" || source.exists() {
            self.files.push_back(source.to_path_buf());
            return Ok(());
        } else if let Some(pattern) = pattern {
            self.add_matches(pattern)?;
            "no file matches the pattern"
        } else {
            source.metadata().map_err(Error::io_at(source))?;
            "the source is neither a file nor a folder"
        };
        if self.files.len() > before {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Input, kind).at(source.display());
        Err(match self.skipped - skipped {
            0 => error,
            count => error.advice(format!("hidden files and backups are skipped: {count}")),
        })
    }

    fn add_folder(&mut self, folder: &Path) -> Result<()> {
        let entries = std::fs::read_dir(folder).map_err(Error::io_at(folder))?;
        let mut entries: Vec<PathBuf> = entries
            .map(|entry| {
                entry
                    .map(|entry| entry.path())
                    .map_err(Error::io_at(folder))
            })
            .collect::<Result<_>>()?;
        entries.sort();
        for entry in entries {
            if entry.file_name().is_some_and(is_hidden) {
                self.skipped += 1;
            } else if entry.is_dir() {
                // Links to folders are not followed, because they could form a cycle. The folder of a run contains no corpus,
                // but may be in the folder of its corpus.
                if !entry.is_symlink() && !is_run_folder(&entry) {
                    self.add_folder(&entry)?;
                }
            } else if entry.is_file() {
                self.files.push_back(entry);
            }
        }
        Ok(())
    }

    fn add_matches(&mut self, pattern: &str) -> Result<()> {
        let matches = glob::glob(pattern).map_err(|error| {
            Error::new(ErrorKind::Input, format!("invalid pattern: {error}")).at(pattern)
        })?;
        // Hidden names that the pattern itself contains are asked for.
        let asked: Vec<&OsStr> = Path::new(pattern)
            .iter()
            .filter(|&name| is_hidden(name))
            .collect();
        let wild = asked
            .iter()
            .any(|name| name.to_string_lossy().contains(['*', '?', '[']));
        let skipped = |name: &OsStr| is_hidden(name) && !wild && !asked.contains(&name);
        for path in matches {
            let path =
                path.map_err(|error| Error::new(ErrorKind::Io, error.to_string()).at(pattern))?;
            if path.iter().any(skipped) {
                self.skipped += 1;
            } else if path.is_file() {
                self.files.push_back(path);
            }
        }
        Ok(())
    }
}

/// Whether a file or folder is hidden, a backup of an editor, or made by a file manager.
fn is_hidden(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name != b"." && name != b".."
        || name.ends_with(b"~")
        || name.starts_with(b"#") && name.ends_with(b"#")
        || [&b"Thumbs.db"[..], b"desktop.ini", b"__MACOSX"].contains(&name)
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
