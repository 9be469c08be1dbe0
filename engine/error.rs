//! What went wrong, where, and what to do about it: one opaque error for the whole engine.
//!
//! An [`Error`] has a [`ErrorKind`] for programs and a sentence for people. The sentence says *what*
//! happened, *where* (a file, a block, a line, a node, a step) and, where something can be done, *what
//! to do*. Details may change in any release; the kinds only grow.
#![forbid(unsafe_code)]

use std::error::Error as StdError;
use std::fmt;

/// The result of anything in the engine that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// The class of an [`Error`], for programs that decide by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused: a missing file, a full disk, a closed pipe.
    Io,
    /// Bytes that are not what the format says: wrong magic, impossible length, bad JSON.
    Format,
    /// A checksum does not match: the file is damaged.
    Checksum,
    /// A format or interface version this build does not read.
    Version,
    /// A value the caller gave is out of range or makes no sense together with another.
    Input,
    /// A token or character that the vocabulary does not have.
    Vocabulary,
    /// A run file, recipe or option that cannot be used.
    Configuration,
    /// A value that is not finite appeared where arithmetic needs one.
    Numeric,
    /// Valid, but not something this build or this model can do.
    Unsupported,
    /// A plugin failed, or answered what it may not.
    Plugin,
    /// The caller or the user asked to stop.
    Cancelled,
    /// Memory, disk or another resource is exhausted or too small.
    Resource,
}

#[derive(Debug)]
struct Detail {
    kind: ErrorKind,
    what: String,
    places: Vec<String>,
    advice: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Something that failed: what, where and what to do.
///
/// ```
/// use brillm::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Format, "the file does not begin with the .bril magic")
///     .at("model.bril")
///     .advice("is it a checkpoint of the authors? try `brillm import`");
/// assert_eq!(error.kind(), ErrorKind::Format);
/// assert_eq!(
///     error.to_string(),
///     "model.bril: the file does not begin with the .bril magic \
///      (is it a checkpoint of the authors? try `brillm import`)"
/// );
/// ```
#[derive(Debug)]
pub struct Error(Box<Detail>);

impl Error {
    /// An error of `kind`; `what` is a sentence without a full stop.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self(Box::new(Detail {
            kind,
            what: what.into(),
            places: Vec::new(),
            advice: None,
            source: None,
        }))
    }

    /// Adds where it happened; each caller further out may add its own place, outermost printed first.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.places.push(place.to_string());
        self
    }

    /// Says what the reader can do about it.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.0.advice = Some(advice.into());
        self
    }

    /// Keeps the cause for [`std::error::Error::source`].
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// An input-output failure at `place`, for example a path.
    pub fn io(source: std::io::Error, place: impl fmt::Display) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::OutOfMemory => ErrorKind::Resource,
            _ => ErrorKind::Io,
        };
        let mut error = Self::new(kind, source.to_string()).at(place);
        error.0.advice = match source.kind() {
            std::io::ErrorKind::NotFound => Some("check the path".into()),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                Some("check the permissions of the file and its folder".into())
            }
            std::io::ErrorKind::StorageFull => {
                Some("free some space; nothing that was saved before is lost".into())
            }
            _ => None,
        };
        error.because(source)
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the cause is a pipe whose reader has gone, which a command answers by leaving quietly.
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
        for place in self.0.places.iter().rev() {
            write!(formatter, "{place}: ")?;
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
    fn places_print_from_the_outside_in() {
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
        assert!(error.to_string().contains("nothing that was saved"));
    }
}
