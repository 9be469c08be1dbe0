//! One source of a corpus, read document by document.

use std::io::{BufRead, Read};
use std::path::Path;

use crate::modality::Modality;
use crate::text::corpus::{CorpusFormat, CorpusOptions, LONGEST};
use crate::text::cut::cut;
use crate::text::entities::unescape;
use crate::text::input::Input;
use crate::text::json_record::{Nesting, Part, parts_of};
use crate::{Error, ErrorKind, Result};

/// Bytes of a JSON record at most; a record is parsed as a whole.
const LONGEST_RECORD: usize = 256 << 20;
const NOT_UTF8: &str = "convert the file to UTF-8, or replace such bytes with lossy = true (train --set data.lossy=true)";

/// An open file or standard input.
pub(super) struct Source {
    input: Input,
    format: CorpusFormat,
    /// Lines that were read completely.
    line: u64,
    /// Bytes of the current line that were read.
    column: u64,
    /// The start of the next line, where a long line was cut.
    carried: String,
    /// Modalities whose fields of records are files.
    media: Vec<Modality>,
}

impl Source {
    pub(super) fn open(path: &Path, format: CorpusFormat, media: &[Modality]) -> Result<Self> {
        let mut input = Input::open(path)?;
        let head = input.head()?.trim_ascii_start();
        let format = match (format, extension(path).as_str()) {
            (CorpusFormat::Auto, "jsonl" | "ndjson") => CorpusFormat::Jsonl,
            (CorpusFormat::Auto, "json") => CorpusFormat::Json,
            (CorpusFormat::Auto, _) if head.starts_with(b"<doc ") || head.starts_with(b"<doc>") => {
                CorpusFormat::Doc
            }
            (CorpusFormat::Auto, _) => CorpusFormat::Plain,
            (given, _) => given,
        };
        Ok(Self {
            input,
            format,
            line: 0,
            column: 0,
            carried: String::new(),
            media: media.to_vec(),
        })
    }

    /// Read the parts of the next document.
    pub(super) fn next(&mut self, options: &CorpusOptions) -> Result<Option<Vec<Part>>> {
        let text = match self.format {
            CorpusFormat::Plain | CorpusFormat::Auto => self.plain(options),
            CorpusFormat::Jsonl => return self.jsonl(options),
            CorpusFormat::Json => return self.json(options),
            CorpusFormat::Doc => self.doc(options),
        };
        Ok(text?.map(|text| vec![Part::Text(text)]))
    }

    /// The file and the line that was read last.
    pub(super) fn location(&self) -> String {
        // The last line of a file may lack its end.
        self.at_line(self.line + u64::from(self.column > 0))
    }

    fn at_line(&self, line: u64) -> String {
        format!("{} line {line}", self.input.location)
    }

    /// Read a line. One of more than [`LONGEST`] bytes is returned in pieces, cut between sentences or words.
    fn line(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        let mut bytes = std::mem::take(&mut self.carried).into_bytes();
        let (carried, most) = (bytes.len(), LONGEST.saturating_sub(bytes.len()) as u64);
        let mut taken = self.input.by_ref().take(most);
        let read = taken.read_until(b'\n', &mut bytes);
        read.map_err(|error| self.input.error(error))?;
        // A cut within a character: read its other bytes.
        while bytes.last() != Some(&b'\n') && cut_character(&bytes) {
            let mut byte = [0];
            let count = self.input.read(&mut byte);
            match count.map_err(|error| self.input.error(error))? {
                0 => break,
                _ => bytes.push(byte[0]),
            }
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        // Replacement characters may have made the carried text longer than its bytes.
        let column = self.column.saturating_sub(carried as u64);
        self.column = column + bytes.len() as u64;
        let mut text = utf8(bytes, options).map_err(|valid| {
            let byte = column + valid as u64 + 1;
            let what = format!("byte {byte} of the line is not UTF-8 text");
            Error::new(ErrorKind::Format, what)
                .at(self.at_line(self.line + 1))
                .advice(NOT_UTF8)
        })?;
        if text.ends_with('\n') {
            (self.line, self.column) = (self.line + 1, 0);
        } else if text.len() >= LONGEST {
            self.carried = text.split_off(cut(&text, LONGEST / 2, LONGEST));
        }
        Ok(Some(text))
    }

    fn plain(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        let mut text = String::new();
        while let Some(line) = self.line(options)? {
            text.push_str(&line);
            // A piece of a long line is returned before the rest of the line is read.
            if text.len() >= LONGEST || !self.carried.is_empty() {
                break;
            }
        }
        Ok((!text.is_empty()).then_some(text))
    }

    fn jsonl(&mut self, options: &CorpusOptions) -> Result<Option<Vec<Part>>> {
        loop {
            let number = self.line + 1;
            let mut line = String::new();
            while !line.ends_with('\n')
                && let Some(piece) = self.line(options)?
            {
                line.push_str(&piece);
                self.check_length(line.len(), number)?;
            }
            if line.is_empty() {
                return Ok(None);
            }
            // Files that were joined have a byte-order mark in the middle.
            let record = line.trim_start_matches('\u{feff}').trim();
            if !record.is_empty() {
                let location = &self.input.location;
                return parts_of(record, options, &self.media, location, number).map(Some);
            }
        }
    }

    fn check_length(&self, bytes: usize, line: u64) -> Result<()> {
        if bytes <= LONGEST_RECORD {
            return Ok(());
        }
        Err(
            Error::new(ErrorKind::Format, "the JSON record exceeds 256 MiB")
                .at(self.at_line(line))
                .advice("split the record, or convert the file to plain text"),
        )
    }

    /// Read the next item of a JSON array, or of a sequence of JSON values.
    fn json(&mut self, options: &CorpusOptions) -> Result<Option<Vec<Part>>> {
        let Some((item, line)) = self.item()? else {
            return Ok(None);
        };
        let item = utf8(item, options).map_err(|_| {
            Error::new(ErrorKind::Format, "the JSON value is not UTF-8 text")
                .at(self.at_line(line))
                .advice(NOT_UTF8)
        })?;
        parts_of(&item, options, &self.media, &self.input.location, line).map(Some)
    }

    /// Read the bytes of the next item, which brackets and quotes delimit, and the line it begins in.
    fn item(&mut self) -> Result<Option<(Vec<u8>, u64)>> {
        let mut item = Vec::new();
        let mut nesting = Nesting::default();
        let mut first_line = self.line + 1;
        let mut complete = false;
        while !complete {
            let buffer = match self.input.fill_buf() {
                Ok([]) => break,
                Ok(buffer) => buffer,
                Err(error) => return Err(self.input.error(error)),
            };
            let mut used = 0;
            for &byte in buffer {
                used += 1;
                self.line += u64::from(byte == b'\n');
                let separator = byte.is_ascii_whitespace() || matches!(byte, b',' | b'[' | b']');
                if nesting.is_outside() && item.is_empty() && separator {
                    first_line = self.line + 1;
                    continue;
                }
                complete = nesting.is_outside() && separator;
                if !complete {
                    item.push(byte);
                    nesting.advance(byte);
                    complete = nesting.is_outside() && matches!(byte, b'}' | b']' | b'"');
                }
                if complete {
                    break;
                }
            }
            self.input.consume(used);
            self.check_length(item.len(), first_line)?;
        }
        if nesting.is_outside() {
            return Ok((!item.is_empty()).then_some((item, first_line)));
        }
        let error = Error::new(ErrorKind::Format, "the file ends within the JSON value");
        Err(error.at(self.at_line(first_line)))
    }

    fn doc(&mut self, options: &CorpusOptions) -> Result<Option<String>> {
        let mut text = String::new();
        while let Some(line) = self.line(options)? {
            let trimmed = line.trim_end();
            if (trimmed.starts_with("<doc ") && trimmed.ends_with('>')) || trimmed == "<doc>" {
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
            text.push_str(&unescape(&line));
            if text.len() >= LONGEST || !self.carried.is_empty() {
                break;
            }
        }
        Ok((!text.is_empty()).then_some(text))
    }
}

/// The extension of a file without that of its compression, in lower case: `jsonl` of `A.JSONL.gz`.
fn extension(path: &Path) -> String {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let name = [".gz", ".zst", ".zstd"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(&name);
    name.rsplit_once('.')
        .map_or(String::new(), |(_, end)| end.to_string())
}

/// Decode UTF-8; without `lossy`, fail with the number of valid bytes before the first invalid one.
fn utf8(bytes: Vec<u8>, options: &CorpusOptions) -> std::result::Result<String, usize> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if options.lossy => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Err(error) => Err(error.utf8_error().valid_up_to()),
    }
}

/// Whether the last character lacks bytes.
fn cut_character(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let first = tail.iter().position(|byte| byte & 0xc0 != 0x80);
    let last = first.map(|first| std::str::from_utf8(&tail[first..]));
    matches!(last, Some(Err(error)) if error.error_len().is_none())
}
