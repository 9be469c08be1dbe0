//! One source of a corpus, read document by document.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::text::corpus::{CorpusFormat, CorpusOptions, LONGEST};
use crate::{Error, ErrorKind, Result};

/// An open file or standard input.
pub(super) struct Source {
    location: String,
    format: CorpusFormat,
    reader: Box<dyn BufRead + Send>,
    line: u64,
    offset: u64,
    finished: bool,
    /// Documents of a JSON array that were read but not returned yet.
    ready: VecDeque<String>,
}

impl Source {
    pub(super) fn open(path: &Path, format: CorpusFormat) -> Result<Self> {
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

    pub(super) fn next(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        match self.format {
            CorpusFormat::Plain | CorpusFormat::Auto => self.plain(options),
            CorpusFormat::Jsonl => self.jsonl(options),
            CorpusFormat::Json => self.json(options),
            CorpusFormat::Doc => self.doc(options),
        }
    }

    /// Reads a line, or its first [`LONGEST`] bytes.
    fn line(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        let mut taken = self.reader.by_ref().take(LONGEST as u64);
        taken
            .read_until(b'\n', &mut bytes)
            .map_err(|error| Error::io(error, &self.location))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        // A cut within a character: read its other bytes.
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
                        .advice("convert the file, or set lossy = true"),
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
                let Some(chunk) = self.line(options)? else {
                    break;
                };
                line.push_str(&chunk);
                if line.ends_with('\n') {
                    break;
                }
                if line.len() > 64 * LONGEST {
                    return Err(Error::new(ErrorKind::Format, "the line exceeds 64 MiB")
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
                Error::new(ErrorKind::Format, format!("invalid JSON: {error}")).at(&location)
            })?;
            return text_of(value, options)
                .map(Some)
                .map_err(|error| error.at(location));
        }
    }

    /// Reads a JSON array item by item; items are delimited by their brackets and quotes.
    fn json(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        while self.ready.is_empty() && !self.finished {
            match self.item()? {
                Some(item) => {
                    let location = format!("{} byte {}", self.location, self.offset);
                    let value: serde_json::Value =
                        serde_json::from_slice(&item).map_err(|error| {
                            Error::new(ErrorKind::Format, format!("invalid JSON: {error}"))
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
        let mut nesting = Nesting::default();
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
                let outside = nesting.is_outside();
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
                nesting.advance(byte);
            }
            self.reader.consume(used);
            self.offset += used as u64;
            if complete {
                return Ok(Some(item));
            }
            if item.len() > 64 * LONGEST {
                return Err(
                    Error::new(ErrorKind::Format, "an item exceeds 64 MiB").at(&self.location)
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
            // Keep at most one of the blank lines around the markup.
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

/// The position of a byte in JSON: nesting depth, and whether it is within a string.
#[derive(Default)]
struct Nesting {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Nesting {
    /// Whether the next byte is outside of every value.
    fn is_outside(&self) -> bool {
        self.depth == 0 && !self.quoted
    }

    fn advance(&mut self, byte: u8) {
        match (self.quoted, byte) {
            (true, _) if self.escaped => self.escaped = false,
            (true, b'\\') => self.escaped = true,
            (_, b'"') => self.quoted = !self.quoted,
            (false, b'{' | b'[') => self.depth += 1,
            (false, b'}' | b']') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}
