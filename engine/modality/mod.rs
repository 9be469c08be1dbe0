//! Images and sounds as tokens: a codebook turns patches of an image and frames of a sound into codes.
//!
//! The codes of a modality, its begin and its end are tokens of the vocabulary, and so nodes of the graph:
//! `<image><image:7><image:0>…</image>`. [`Codecs`] are stored with the vocabulary. Files are PNG, PGM and WAV; reading
//! and writing them needs the feature `modality`.
#![forbid(unsafe_code)]

mod audio;
mod codebook;
mod codecs;
pub(crate) mod files;
mod image;
#[cfg(feature = "modality")]
mod spectrum;

pub use audio::{AudioCodec, AudioSettings, SOUND_CODES, Sound};
pub use codebook::Codebook;
pub use codecs::{Codecs, MediaFile};
pub use image::{Image, ImageCodec, ImageSettings};

use crate::{Error, ErrorKind, Result};

/// A kind of content beside text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Modality {
    /// Grey images, in patches.
    Image,
    /// Sounds, in frames.
    Audio,
}

impl Modality {
    /// All modalities.
    pub const ALL: [Self; 2] = [Self::Image, Self::Audio];

    /// Return the name: `image` or `audio`, as in the fields of a corpus.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Audio => "audio",
        }
    }

    /// Return the token before the codes.
    pub fn begin(self) -> String {
        format!("<{}>", self.name())
    }

    /// Return the token after the codes.
    pub fn end(self) -> String {
        format!("</{}>", self.name())
    }

    /// Return the token of a code.
    pub fn code(self, code: usize) -> String {
        format!("<{}:{code}>", self.name())
    }

    /// Read the name of a token of a code.
    ///
    /// ```
    /// use brillm::modality::Modality;
    /// assert_eq!(Modality::code_of("<audio:12>"), Some((Modality::Audio, 12)));
    /// assert_eq!(Modality::code_of("<audio>"), None);
    /// ```
    pub fn code_of(token: &str) -> Option<(Self, usize)> {
        let (name, code) = token
            .strip_prefix('<')?
            .strip_suffix('>')?
            .split_once(':')?;
        let modality = Self::ALL.into_iter().find(|one| one.name() == name)?;
        // `+7` and `007` are numbers too, but not names of codes.
        let number = code.parse().ok()?;
        (modality.code(number) == token).then_some((modality, number))
    }

    /// Whether a token is a begin, an end or a code of a modality.
    pub(crate) fn is_mark(token: &str) -> bool {
        Self::code_of(token).is_some()
            || Self::ALL
                .into_iter()
                .any(|one| one.begin() == token || one.end() == token)
    }

    /// Cut a text at the names of tokens of modalities: each piece of plain text with the name after it, which is empty
    /// at the end.
    pub(crate) fn pieces(text: &str) -> impl Iterator<Item = (&str, &str)> {
        // No name is longer; one with a number has up to 20 digits.
        const LONGEST: usize = "</audio:>".len() + 20;
        let name_at = move |at: usize| {
            let rest = &text.as_bytes()[at..];
            let length = rest.iter().take(LONGEST).position(|&byte| byte == b'>')?;
            let name = &text[at..=at + length];
            Self::is_mark(name).then_some(name)
        };
        let mut start = Some(0);
        std::iter::from_fn(move || {
            let from = start?;
            let found = text[from..]
                .match_indices('<')
                .find_map(|(at, _)| Some((from + at, name_at(from + at)?)));
            start = found.map(|(at, name)| at + name.len());
            Some(match found {
                Some((at, name)) => (&text[from..at], name),
                None => (&text[from..], ""),
            })
        })
    }

    /// Whether a text contains the begin of a modality.
    pub(crate) fn in_text(text: &str) -> bool {
        Self::ALL.into_iter().any(|one| text.contains(&one.begin()))
    }

    /// The error of a model that was trained without this modality.
    pub(crate) fn missing(self) -> Error {
        let plural = match self {
            Self::Image => "images",
            Self::Audio => "sounds",
        };
        Error::new(
            ErrorKind::Unsupported,
            format!("the model was trained without {plural}"),
        )
        .advice(format!(
            "use a model whose run file has a section [data.{}]",
            self.name()
        ))
    }
}

/// Check that a setting is within a range.
fn check_range(name: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Configuration,
        format!("invalid {name} {value}: expected {least} to {most}"),
    ))
}
