//! Traces read back: from their JSON, or from an SVG that carries it.

use super::Trace;
use crate::{Error, ErrorKind, Result};

/// The element around the JSON in an SVG.
pub(super) const BEFORE: &str =
    "<brillm:trace xmlns:brillm=\"https://github.com/brillm/brillm/trace\">";
pub(super) const BEHIND: &str = "</brillm:trace>";

impl Trace {
    /// The document as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when a number in it is none that JSON has.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|error| {
            Error::new(ErrorKind::Numeric, "the trace cannot be written as JSON").because(error)
        })
    }

    /// Read a document: JSON, or an SVG that [`Trace::export`](super::TraceFormat) made.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for text that is neither, or an SVG without a trace; as [`Trace::check`].
    pub fn read(text: &str) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}').trim();
        let json = if text.starts_with('<') {
            unescape(carried(text)?)?
        } else {
            text.to_string()
        };
        let trace: Self = serde_json::from_str(&json).map_err(|error| {
            Error::new(ErrorKind::Format, format!("not a trace: {error}"))
                .advice("pass a file that `brillm trace --export` wrote as .json or .svg")
        })?;
        trace.check()?;
        Ok(trace)
    }

    /// Open a file that [`Self::read`] reads.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; as [`Self::read`].
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let text = crate::text::read_text(path)?;
        Self::read(&text).map_err(|error| error.at(path.display()))
    }
}

/// The escaped JSON in an SVG.
fn carried(svg: &str) -> Result<&str> {
    svg.split_once(BEFORE)
        .and_then(|(_, rest)| rest.split_once(BEHIND))
        .map(|(json, _)| json.trim())
        .ok_or_else(|| {
            Error::new(ErrorKind::Format, "the SVG contains no trace")
                .advice("pass one that `brillm trace --export` wrote")
        })
}

/// XML text without its references.
fn unescape(text: &str) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let end = rest[at..].find(';').map(|end| at + end);
        let character = end.and_then(|end| match &rest[at + 1..end] {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            number => {
                let code = number.strip_prefix('#')?;
                let code = match code.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => code.parse().ok()?,
                };
                char::from_u32(code)
            }
        });
        let (Some(character), Some(end)) = (character, end) else {
            return Err(Error::new(
                ErrorKind::Format,
                "a reference in the SVG cannot be read",
            ));
        };
        out.push(character);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}
