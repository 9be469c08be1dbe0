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
        let mut error = Self::new(kind, source.to_string()).at(location);
        error.0.advice = match source.kind() {
            std::io::ErrorKind::NotFound => Some("check the path".into()),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Some("check the permissions of the file and its folder".into())
            }
            std::io::ErrorKind::StorageFull => {
                Some("free some space; files saved before are complete".into())
            }
            _ => None,
        };
        error.because(source)
    }

    /// Return a conversion of input-output failures at `path`, for [`Result::map_err`](std::result::Result::map_err).
    pub fn io_at(path: &(impl AsRef<std::path::Path> + ?Sized)) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::io(error, path.as_ref().display())
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
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
    fn a_full_disk_is_a_resource_error() {
        let error = Error::io(
            std::io::Error::from(std::io::ErrorKind::StorageFull),
            "out.bril",
        );
        assert_eq!(error.kind(), ErrorKind::Resource);
        assert!(error.to_string().contains("files saved before"));
    }
}
