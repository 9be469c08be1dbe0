//! Text input: files and standard input, decompressed and decoded to UTF-8.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

use crate::text::decoding::{Decoding, Encoding};
use crate::text::decompress::Zstd;
use crate::text::download;
use crate::text::file_kind::{FileKind, HEAD};
use crate::{Error, ErrorKind, Result};

/// Bytes that [`read_text`] takes from a compressed file at most.
const LARGEST_UNPACKED: u64 = 64 << 20;

/// An open text: UTF-8 without a byte-order mark, with line ends of `\n`. Bytes that are not UTF-8 are not checked here.
///
/// Reads gzip, Zstandard and UTF-16, whatever the name of the file.
pub(crate) struct Input {
    /// The path, or "standard input".
    pub(crate) location: String,
    compression: Option<&'static str>,
    reader: Box<dyn BufRead + Send>,
}

impl Input {
    /// Open a file; `-` is standard input.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Format`] naming the format of a file that is not text.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let (location, file): (String, Box<dyn Read + Send>) = if path.as_os_str() == "-" {
            ("standard input".into(), Box::new(std::io::stdin()))
        } else {
            let file = File::open(path).map_err(|error| download::unreadable(error, path))?;
            (path.display().to_string(), Box::new(file))
        };
        Self::new(file, location)
    }

    fn new(file: Box<dyn Read + Send>, location: String) -> Result<Self> {
        let mut input = Self {
            location,
            compression: None,
            reader: Box::new(BufReader::new(file)),
        };
        let mut head = input.peek()?;
        let kind = FileKind::of(&head);
        let decompressed: Option<Box<dyn Read + Send>> = match kind {
            FileKind::Gzip => Some(Box::new(flate2::bufread::MultiGzDecoder::new(
                input.take_reader(),
            ))),
            FileKind::Zstd => Some(Box::new(Zstd::new(input.take_reader()))),
            _ => None,
        };
        if let Some(decompressed) = decompressed {
            input.compression = Some(if kind == FileKind::Gzip {
                "gzip"
            } else {
                "Zstandard"
            });
            input.reader = Box::new(BufReader::with_capacity(1 << 16, decompressed));
            head = input.peek()?;
        }
        match (FileKind::of(&head), input.compression) {
            (FileKind::Text, _) => {}
            (FileKind::Other(format, advice), None) => {
                return Err(not_text(
                    format!("the file is {format}, not text"),
                    &input.location,
                    advice,
                ));
            }
            (FileKind::Other(format, advice), Some(compression)) => {
                let what = format!("the {compression} file contains {format}, not text");
                return Err(not_text(what, &input.location, advice));
            }
            _ => {
                let what = "the file is compressed twice".to_string();
                return Err(not_text(what, &input.location, "decompress it once"));
            }
        }
        let reader = input.take_reader();
        input.reader = Box::new(Decoding::new(reader, Encoding::of(&head)));
        Ok(input)
    }

    /// The first bytes of the text.
    ///
    /// # Errors
    /// As reading.
    pub(crate) fn head(&mut self) -> Result<&[u8]> {
        match self.reader.fill_buf() {
            // Borrowed again, because a borrow that is returned would last through the other arm.
            Ok(_) => Ok(self.reader.fill_buf().unwrap_or_default()),
            Err(error) => Err(self.error(error)),
        }
    }

    fn take_reader(&mut self) -> Box<dyn BufRead + Send> {
        std::mem::replace(&mut self.reader, Box::new(std::io::empty()))
    }

    /// Read the first bytes and put them back. A pipe may give them in pieces.
    fn peek(&mut self) -> Result<Vec<u8>> {
        let mut head = Vec::new();
        let mut reader = self.take_reader();
        reader
            .by_ref()
            .take(HEAD as u64)
            .read_to_end(&mut head)
            .map_err(|error| self.error(error))?;
        self.reader = Box::new(BufReader::with_capacity(
            1 << 16,
            Cursor::new(head.clone()).chain(reader),
        ));
        Ok(head)
    }

    /// Describe a failure to read.
    pub(crate) fn error(&self, error: std::io::Error) -> Error {
        use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        match self.compression {
            Some(compression) if error.kind() == UnexpectedEof => Error::new(
                ErrorKind::Format,
                format!("the {compression} data ends early"),
            )
            .at(&self.location)
            .advice("get the file again: it is incomplete"),
            Some(compression) if matches!(error.kind(), InvalidData | InvalidInput | Other) => {
                Error::new(
                    ErrorKind::Format,
                    format!("the {compression} data is damaged: {error}"),
                )
                .at(&self.location)
                .advice("get the file again")
            }
            _ => Error::io(error, &self.location),
        }
    }
}

fn not_text(what: String, location: &str, advice: &str) -> Error {
    Error::new(ErrorKind::Format, what)
        .at(location)
        .advice(advice)
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }
}

/// Read a whole text file, or standard input for `-`: see [`Input`] for what is decoded.
///
/// # Errors
/// As [`Input::open`]; [`ErrorKind::Format`] with the line that is not text; [`ErrorKind::Input`] for a compressed file of
/// more than 64 MiB of text.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let mut input = Input::open(path)?;
    let limit = match input.compression {
        Some(_) => LARGEST_UNPACKED + 1,
        None => u64::MAX,
    };
    let mut bytes = Vec::new();
    let read = input.by_ref().take(limit).read_to_end(&mut bytes);
    read.map_err(|error| input.error(error))?;
    if bytes.len() as u64 == limit {
        return Err(
            Error::new(ErrorKind::Input, "the decompressed file exceeds 64 MiB")
                .at(&input.location)
                .advice("decompress it first"),
        );
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
        not_text(
            "the line is not UTF-8 text".into(),
            &format!("{} line {line}", input.location),
            "convert the file to UTF-8",
        )
    })
}
