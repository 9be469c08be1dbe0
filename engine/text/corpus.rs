//! Corpora: documents out of files, folders, globs and standard input, one at a time.
//!
//! Memory does not grow with the corpus: plain text, JSONL and `<doc>` markup are read line by line, a JSON
//! array item by item, and a document longer than [`LONGEST`] is handed on in pieces.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// Bytes of one document at most; longer ones come in pieces, cut at line ends where there are any.
pub const LONGEST: usize = 1 << 20;

/// How the bytes of a source are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CorpusFormat {
    /// By the name and the first bytes: `.jsonl`, `.json`, `<doc …>`, else plain.
    #[default]
    Auto,
    /// Plain text; blank lines separate paragraphs of one document, a file is a document.
    Plain,
    /// One JSON object or string a line.
    Jsonl,
    /// A JSON array of strings or objects.
    Json,
    /// Wikipedia as wikiextractor writes it: `<doc …>` title, text, `</doc>`.
    Doc,
}

/// What to read and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CorpusOptions {
    /// The format; guessed per file by default.
    pub format: CorpusFormat,
    /// The field of JSON objects that holds the text; `text`, `story`, `content`, `paragraphs` or `desc` by default.
    pub field: Option<String>,
    /// Replace bytes that are not UTF-8 instead of stopping.
    pub lossy: bool,
    /// A map of characters in OpenCC's format (`傳<tab>传 …`), applied to all text.
    pub simplify: Option<PathBuf>,
}

/// A stream of documents.
pub struct Corpus {
    options: CorpusOptions,
    sources: VecDeque<PathBuf>,
    open: Option<Source>,
    simplify: HashMap<char, char>,
}

struct Source {
    location: String,
    format: CorpusFormat,
    reader: Box<dyn BufRead + Send>,
    line: u64,
    offset: u64,
    finished: bool,
    /// Documents of a JSON array that are read but not handed out.
    ready: VecDeque<String>,
}

impl Corpus {
    /// Opens sources: files, folders (walked in order of names), glob patterns, or `-` for standard input.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a source that is not there, [`ErrorKind::Input`] for a pattern that matches nothing.
    pub fn open<S: AsRef<str>>(sources: &[S], options: CorpusOptions) -> Result<Self> {
        let mut files = VecDeque::new();
        for source in sources {
            find(source.as_ref(), &mut files)?;
        }
        if files.is_empty() {
            return Err(Error::new(ErrorKind::Input, "the corpus has no file"));
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

    /// The files that are still to be read.
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
            // An error ends the stream: what follows in a broken file is not trusted.
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
            Error::new(ErrorKind::Input, format!("a bad pattern: {error}")).at(source)
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
        // A link to a folder is not followed: it could lead back here.
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

impl Source {
    fn open(path: &Path, format: CorpusFormat) -> Result<Self> {
        let (location, inner): (String, Box<dyn Read + Send>) = if path.as_os_str() == "-" {
            ("standard input".into(), Box::new(std::io::stdin()))
        } else {
            let file = File::open(path).map_err(Error::io_at(&path))?;
            (path.display().to_string(), Box::new(file))
        };
        let mut reader: Box<dyn BufRead + Send> =
            Box::new(BufReader::with_capacity(1 << 16, inner));
        let head = reader
            .fill_buf()
            .map_err(|error| Error::io(error, &location))?;
        let start = head
            .iter()
            .position(|byte| !byte.is_ascii_whitespace())
            .map_or(&head[..0], |at| &head[at..]);
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or("");
        let format = match (format, extension) {
            (CorpusFormat::Auto, "jsonl" | "ndjson") => CorpusFormat::Jsonl,
            (CorpusFormat::Auto, "json") => {
                if start.first() == Some(&b'[') {
                    CorpusFormat::Json
                } else {
                    CorpusFormat::Jsonl
                }
            }
            (CorpusFormat::Auto, _) if start.starts_with(b"<doc ") => CorpusFormat::Doc,
            (CorpusFormat::Auto, _) => CorpusFormat::Plain,
            (given, _) => given,
        };
        Ok(Self {
            location,
            format,
            reader,
            line: 0,
            offset: 0,
            finished: false,
            ready: VecDeque::new(),
        })
    }

    fn next(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        match self.format {
            CorpusFormat::Plain | CorpusFormat::Auto => self.plain(options),
            CorpusFormat::Jsonl => self.jsonl(options),
            CorpusFormat::Json => self.json(options),
            CorpusFormat::Doc => self.doc(options),
        }
    }

    /// Reads one line, or the first [`LONGEST`] bytes of it.
    fn line(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        let mut taken = self.reader.by_ref().take(LONGEST as u64);
        taken
            .read_until(b'\n', &mut bytes)
            .map_err(|error| Error::io(error, &self.location))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        // A cut within a character: fetch the rest of it.
        while bytes.last() != Some(&b'\n') && cut_character(&bytes) {
            let mut byte = [0];
            match self
                .reader
                .read(&mut byte)
                .map_err(|error| Error::io(error, &self.location))?
            {
                0 => break,
                _ => bytes.push(byte[0]),
            }
        }
        if bytes.last() == Some(&b'\n') {
            self.line += 1;
        }
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(error) if options.lossy => {
                Ok(Some(String::from_utf8_lossy(error.as_bytes()).into_owned()))
            }
            Err(error) => {
                let at = offset + error.utf8_error().valid_up_to() as u64;
                Err(
                    Error::new(ErrorKind::Format, format!("byte {at} is not UTF-8 text"))
                        .at(&self.location)
                        .advice("convert the file, or read it with `lossy = true`"),
                )
            }
        }
    }

    fn plain(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        let mut text = String::new();
        while let Some(line) = self.line(options)? {
            text.push_str(&line);
            if text.len() >= LONGEST {
                break;
            }
        }
        Ok((!text.is_empty()).then_some(text))
    }

    fn jsonl(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        loop {
            let mut line = String::new();
            loop {
                let Some(part) = self.line(options)? else {
                    break;
                };
                line.push_str(&part);
                if line.ends_with('\n') {
                    break;
                }
                if line.len() > 64 * LONGEST {
                    return Err(Error::new(ErrorKind::Format, "a line of more than 64 MiB")
                        .at(format!("{} line {}", self.location, self.line + 1)));
                }
            }
            if line.is_empty() {
                return Ok(None);
            }
            if line.trim().is_empty() {
                continue;
            }
            let location = format!("{} line {}", self.location, self.line);
            let value: serde_json::Value = serde_json::from_str(&line).map_err(|error| {
                Error::new(ErrorKind::Format, format!("not JSON: {error}")).at(&location)
            })?;
            return text_of(value, options)
                .map(Some)
                .map_err(|error| error.at(location));
        }
    }

    /// A JSON array, item by item: the items are cut out by their brackets and quotes.
    fn json(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        while self.ready.is_empty() && !self.finished {
            match self.item()? {
                Some(item) => {
                    let location = format!("{} byte {}", self.location, self.offset);
                    let value: serde_json::Value =
                        serde_json::from_slice(&item).map_err(|error| {
                            Error::new(ErrorKind::Format, format!("not JSON: {error}"))
                                .at(&location)
                        })?;
                    self.ready
                        .push_back(text_of(value, options).map_err(|error| error.at(location))?);
                }
                None => self.finished = true,
            }
        }
        Ok(self.ready.pop_front())
    }

    fn item(&mut self) -> Result<Option<Vec<u8>>> {
        let mut item = Vec::new();
        let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
        loop {
            let buffer = self
                .reader
                .fill_buf()
                .map_err(|error| Error::io(error, &self.location))?;
            if buffer.is_empty() {
                if item.is_empty() {
                    return Ok(None);
                }
                return Err(
                    Error::new(ErrorKind::Format, "the file ends within an item")
                        .at(&self.location),
                );
            }
            let mut used = 0;
            let mut complete = false;
            for &byte in buffer {
                used += 1;
                let outside = depth == 0 && !quoted;
                if outside
                    && item.is_empty()
                    && (byte.is_ascii_whitespace() || matches!(byte, b',' | b'[' | b']'))
                {
                    continue;
                }
                if outside && matches!(byte, b',' | b']') {
                    complete = true;
                    break;
                }
                item.push(byte);
                if quoted {
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => quoted = false,
                        _ => {}
                    }
                } else {
                    match byte {
                        b'"' => quoted = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                }
            }
            self.reader.consume(used);
            self.offset += used as u64;
            if complete {
                return Ok(Some(item));
            }
            if item.len() > 64 * LONGEST {
                return Err(
                    Error::new(ErrorKind::Format, "an item of more than 64 MiB").at(&self.location)
                );
            }
        }
    }

    fn doc(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        let mut text = String::new();
        while let Some(line) = self.line(options)? {
            let trimmed = line.trim_end();
            if trimmed.starts_with("<doc ") && trimmed.ends_with('>') {
                continue;
            }
            if trimmed == "</doc>" {
                if !text.trim().is_empty() {
                    break;
                }
                continue;
            }
            // The markup leaves blank lines behind; one is enough between paragraphs.
            if trimmed.is_empty() && (text.is_empty() || text.ends_with("\n\n")) {
                continue;
            }
            text.push_str(&line);
            if text.len() >= LONGEST {
                break;
            }
        }
        Ok((!text.is_empty()).then_some(text))
    }
}

fn cut_character(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(4)..];
    matches!(std::str::from_utf8(tail), Err(error) if error.error_len().is_none())
        || tail.iter().all(|byte| byte & 0xc0 == 0x80)
}

fn text_of(value: serde_json::Value, options: &CorpusOptions) -> Result<String> {
    use serde_json::Value;
    let joined = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(lines) => {
            let lines: Option<Vec<&str>> = lines.iter().map(Value::as_str).collect();
            lines.map(|lines| lines.join("\n"))
        }
        _ => None,
    };
    let names: Vec<&str> = match &options.field {
        Some(field) => vec![field],
        None => vec!["text", "story", "content", "paragraphs", "desc"],
    };
    let text = match &value {
        Value::Object(fields) => names
            .iter()
            .find_map(|name| fields.get(*name))
            .and_then(joined),
        other => joined(other),
    };
    text.ok_or_else(|| {
        Error::new(
            ErrorKind::Format,
            format!("no text in the field {}", names.join(", ")),
        )
        .advice("name the field that holds the text with `field = \"…\"`")
    })
}
