//! The error type of the engine.
//!
//! An [`Error`] has an [`ErrorKind`] for programs and a message for people. The message has three parts: *what* is
//! wrong, *where* (a file, a block, a line, a node, a step) and, where the reader can act, *what to do*. Messages may
//! change in any release; kinds are only added.
#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::fmt;

/// The result of an operation of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// The class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system reported an error: a missing file, a closed pipe.
    Io,
    /// Bytes that violate their format: wrong magic, impossible length, bad JSON.
    Format,
    /// A checksum does not match: the file is damaged.
    Checksum,
    /// A format or interface version that this build does not support.
    Version,
    /// An argument is out of range or contradicts another.
    Input,
    /// A token or character is not in the vocabulary.
    Vocabulary,
    /// An invalid run file, recipe or option.
    Configuration,
    /// Arithmetic produced or met a value that is not finite.
    Numeric,
    /// Valid, but not supported by this build or this model.
    Unsupported,
    /// A plugin failed or returned an invalid answer.
    Plugin,
    /// The caller or the user cancelled the operation.
    Cancelled,
    /// Memory, disk or another resource is exhausted or too small.
    Resource,
}

impl ErrorKind {
    /// All kinds.
    pub(crate) const ALL: [Self; 12] = [
        Self::Io,
        Self::Format,
        Self::Checksum,
        Self::Version,
        Self::Input,
        Self::Vocabulary,
        Self::Configuration,
        Self::Numeric,
        Self::Unsupported,
        Self::Plugin,
        Self::Cancelled,
        Self::Resource,
    ];

    /// Return the name in lower case, for example `io`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Format => "format",
            Self::Checksum => "checksum",
            Self::Version => "version",
            Self::Input => "input",
            Self::Vocabulary => "vocabulary",
            Self::Configuration => "configuration",
            Self::Numeric => "numeric",
            Self::Unsupported => "unsupported",
            Self::Plugin => "plugin",
            Self::Cancelled => "cancelled",
            Self::Resource => "resource",
        }
    }
}

/// The parts of an error's message, for programs that show them separately.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorParts<'a> {
    /// What is wrong: a sentence without a full stop.
    pub what: &'a str,
    /// Where, from the outside in, joined by colons; `None` if no location is known.
    pub location: Option<String>,
    /// What to do; `None` where the reader cannot act.
    pub advice: Option<&'a str>,
}

#[derive(Debug)]
struct Detail {
    kind: ErrorKind,
    what: String,
    locations: Vec<String>,
    advice: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// An error: what is wrong, where, and what to do.
///
/// ```
/// use brillm::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Format, "the file does not begin with the .bril magic")
///     .at("model.bril")
///     .advice("convert a checkpoint of the authors with `brillm import`");
/// assert_eq!(error.kind(), ErrorKind::Format);
/// assert_eq!(
///     error.to_string(),
///     "model.bril: the file does not begin with the .bril magic \
///      (convert a checkpoint of the authors with `brillm import`)"
/// );
/// ```
#[derive(Debug)]
pub struct Error(Box<Detail>);

impl Error {
    /// Create an error of `kind`; `what` is a sentence without a full stop.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self(Box::new(Detail {
            kind,
            what: what.into(),
            locations: Vec::new(),
            advice: None,
            source: None,
        }))
    }

    /// Add the location of the error. Callers further out add theirs, which are printed first.
    #[must_use]
    pub fn at(mut self, location: impl fmt::Display) -> Self {
        self.0.locations.push(location.to_string());
        self
    }

    /// Add what the reader can do about the error.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Set the cause, for [`std::error::Error::source`].
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Create an error from an input-output failure at `location`, for example a path.
    pub fn io(source: std::io::Error, location: impl fmt::Display) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::OutOfMemory => ErrorKind::Resource,
            _ => ErrorKind::Io,
        };
        let mut error = Self::new(kind, describe(&source)).at(location);
        error.0.advice = match source.kind() {
            std::io::ErrorKind::NotFound => Some("check the path".into()),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Some("check the permissions of the file and its folder".into())
            }
            std::io::ErrorKind::StorageFull => {
                Some("free some space; files saved before are complete".into())
            }
            std::io::ErrorKind::InvalidData if source.to_string().contains("UTF-8") => {
                Some("convert the file to UTF-8".into())
            }
            _ => None,
        };
        error.because(source)
    }

    /// Create an error from invalid JSON on one line of a file; the caller adds the file and the line.
    pub(crate) fn json_line(source: serde_json::Error) -> Self {
        let text = source.to_string();
        let what = text
            .rsplit_once(" at line ")
            .map_or(&*text, |(what, _)| what);
        let part = if source.is_data() { "record" } else { "JSON" };
        let what = format!("invalid {part} at column {}: {what}", source.column());
        Self::new(ErrorKind::Format, what).because(source)
    }

    /// Create an error from JSON of a program that does not have the expected types; the caller adds the field.
    pub fn json(source: serde_json::Error) -> Self {
        let text = source.to_string();
        let what = text
            .rsplit_once(" at line ")
            .map_or(&*text, |(what, _)| what);
        Self::new(ErrorKind::Input, in_words(what)).because(source)
    }

    /// Return a conversion of input-output failures at `path`, for [`Result::map_err`](std::result::Result::map_err).
    pub fn io_at(path: &(impl AsRef<std::path::Path> + ?Sized)) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::io(error, path.as_ref().display())
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Return the parts of the message.
    ///
    /// ```
    /// let error = brillm::open("absent.bril").unwrap_err();
    /// let parts = error.parts();
    /// assert_eq!(parts.what, "no such file or folder");
    /// assert_eq!(parts.location.as_deref(), Some("absent.bril"));
    /// assert_eq!(parts.advice, Some("check the path"));
    /// ```
    pub fn parts(&self) -> ErrorParts<'_> {
        let mut locations: Vec<&str> = self.0.locations.iter().map(String::as_str).collect();
        locations.reverse();
        ErrorParts {
            what: &self.0.what,
            location: (!locations.is_empty()).then(|| locations.join(": ")),
            advice: self.0.advice.as_deref(),
        }
    }

    /// Whether the cause is a pipe whose reader has exited; a command then exits without a message.
    pub fn is_broken_pipe(&self) -> bool {
        self.0
            .source
            .as_ref()
            .and_then(|source| source.downcast_ref::<std::io::Error>())
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// Describe an input-output failure in the same words on every system.
fn describe(source: &std::io::Error) -> String {
    let text = source.to_string();
    let plain = match source.kind() {
        std::io::ErrorKind::NotFound => "no such file or folder",
        std::io::ErrorKind::IsADirectory => "the path is a folder, not a file",
        std::io::ErrorKind::NotADirectory => "a part of the path is a file, not a folder",
        std::io::ErrorKind::PermissionDenied => "permission denied",
        std::io::ErrorKind::InvalidData if text.contains("UTF-8") => "the text is not UTF-8",
        // The number of an error repeats its text.
        _ => text.split(" (os error").next().unwrap_or(&text),
    };
    plain.to_string()
}

/// Replace the names of Rust types in a message of serde by words.
pub(crate) fn in_words(message: &str) -> String {
    const WORDS: [(&[&str], &str); 4] = [
        (&["f32", "f64"], "a number"),
        (
            &["u8", "u16", "u32", "u64", "usize"],
            "a whole number of at least 0",
        ),
        (&["a sequence"], "a list"),
        (&["a map"], "named values"),
    ];
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        return message.to_string();
    };
    let (expected, rest) = match expected.split_once(" at line ") {
        Some((expected, rest)) => (expected, format!(" at line {rest}")),
        None => (expected, String::new()),
    };
    let words = WORDS.iter().find(|(names, _)| names.contains(&expected));
    let expected = match words {
        Some((_, words)) => words,
        None if expected.starts_with("struct ") => "named values",
        None => expected,
    };
    format!("{found}, expected {expected}{rest}")
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for location in self.0.locations.iter().rev() {
            write!(formatter, "{location}: ")?;
        }
        formatter.write_str(&self.0.what)?;
        if let Some(advice) = &self.0.advice {
            write!(formatter, " ({advice})")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_print_from_the_outside_in() {
        let error = Error::new(ErrorKind::Checksum, "checksum mismatch")
            .at("block targets")
            .at("model.bril");
        assert_eq!(
            error.to_string(),
            "model.bril: block targets: checksum mismatch"
        );
    }

    #[test]
    fn failures_of_the_system_are_described_in_plain_words() {
        let missing = std::fs::read("no/such/file").unwrap_err();
        let binary = std::io::read_to_string(&[0xff][..]).unwrap_err();
        let cases = [
            (missing, "a: no such file or folder (check the path)"),
            (
                std::io::ErrorKind::NotFound.into(),
                "a: no such file or folder (check the path)",
            ),
            (
                std::io::ErrorKind::IsADirectory.into(),
                "a: the path is a folder, not a file",
            ),
            (
                binary,
                "a: the text is not UTF-8 (convert the file to UTF-8)",
            ),
        ];
        for (source, text) in cases {
            assert_eq!(Error::io(source, "a").to_string(), text);
        }
    }

    #[test]
    fn types_are_named_in_words() {
        let cases = [
            (
                "invalid type: string \"x\", expected f32 at line 1 column 3",
                "invalid type: string \"x\", expected a number at line 1 column 3",
            ),
            (
                "invalid value: integer `-1`, expected usize",
                "invalid value: integer `-1`, expected a whole number of at least 0",
            ),
            (
                "invalid type: integer `1`, expected struct Train",
                "invalid type: integer `1`, expected named values",
            ),
            (
                "invalid type: string \"a\", expected a sequence",
                "invalid type: string \"a\", expected a list",
            ),
            (
                "unknown variant `up`, expected one of `a`, `b`",
                "unknown variant `up`, expected one of `a`, `b`",
            ),
            ("missing field `name`", "missing field `name`"),
        ];
        for (message, words) in cases {
            assert_eq!(in_words(message), words);
        }
    }

    #[test]
    fn invalid_json_on_a_line_is_reported_with_its_column() {
        let error = serde_json::from_str::<serde_json::Value>("{\"a\" 1}").unwrap_err();
        let error = Error::json_line(error).at("line 7").at("a.jsonl");
        assert_eq!(
            error.to_string(),
            "a.jsonl: line 7: invalid JSON at column 6: expected `:`"
        );
    }

    #[test]
    fn a_full_disk_is_a_resource_error() {
        let error = Error::io(
            std::io::Error::from(std::io::ErrorKind::StorageFull),
            "out.bril",
        );
        assert_eq!(error.kind(), ErrorKind::Resource);
        assert!(error.to_string().contains("files saved before"));
    }
}
