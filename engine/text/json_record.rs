//! Records of JSON corpora: the text of a record, and where a record ends.

use std::borrow::Cow;

use serde_json::Value;

use crate::text::corpus::CorpusOptions;
use crate::{Error, ErrorKind, Result};

/// Fields that contain the text unless one is named.
const FIELDS: [&str; 5] = ["text", "story", "content", "paragraphs", "desc"];

/// Return the text of a JSON record that begins in `line` of the file `location`.
///
/// # Errors
/// [`ErrorKind::Format`] for invalid JSON, and for a record without text; half a surrogate pair is replaced by U+FFFD with
/// `lossy`, else an error too.
pub(super) fn text_of(
    record: &str,
    options: &CorpusOptions,
    location: &str,
    line: u64,
) -> Result<String> {
    let value = match serde_json::from_str(record) {
        Err(_) if options.lossy => serde_json::from_str(&replace_unpaired(record)),
        outcome => outcome,
    };
    let value: Value = value.map_err(|error| {
        let at = format!("{location} line {}", line + error.line() as u64 - 1);
        if matches!(replace_unpaired(record), Cow::Owned(_)) {
            return Error::new(
                ErrorKind::Format,
                "a \\u escape is half of a surrogate pair",
            )
            .at(at)
            .advice("write the file again with valid escapes, or replace them with lossy = true (train --set data.lossy=true)");
        }
        // The position within the record is not that within the file.
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        Error::new(
            ErrorKind::Format,
            format!("invalid JSON at column {}: {what}", error.column()),
        )
        .at(at)
    })?;
    let names: Vec<&str> = match &options.field {
        Some(field) => vec![field],
        None => FIELDS.to_vec(),
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
        .at(format!("{location} line {line}"))
        .advice(
            "name the field that holds the text with `field = \"…\"` (train --set data.field=NAME)",
        )
    })
}

/// Return a string, or the lines of an array of strings.
fn joined(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(lines) => {
            let lines: Option<Vec<&str>> = lines.iter().map(Value::as_str).collect();
            lines.map(|lines| lines.join("\n"))
        }
        _ => None,
    }
}

/// Replace `\u` escapes that are half of a surrogate pair by `\ufffd`.
fn replace_unpaired(json: &str) -> Cow<'_, str> {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
        let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        hex.then(|| u16::from_str_radix(digits, 16).ok())?
    };
    let mut replaced = String::new();
    // Bytes before `copied` are in `replaced`; those before `at` have been looked at.
    let (mut copied, mut at) = (0, 0);
    while let Some(found) = json.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 12,
            (Some(0xd800..=0xdfff), _) => {
                replaced.push_str(&json[copied..at]);
                replaced.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            // An escaped backslash, or another escape.
            _ => at += 1 + json[at + 1..].chars().next().map_or(0, char::len_utf8),
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    replaced.push_str(&json[copied..]);
    Cow::Owned(replaced)
}

/// The position of a byte in JSON: nesting depth, and whether it is within a string.
#[derive(Default)]
pub(super) struct Nesting {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Nesting {
    /// Whether the next byte is outside of every value.
    pub(super) fn is_outside(&self) -> bool {
        self.depth == 0 && !self.quoted
    }

    pub(super) fn advance(&mut self, byte: u8) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_surrogate_pairs_are_replaced() {
        for (json, expected) in [
            (r#""a\ud83d b""#, r#""a\ufffd b""#),
            (
                r#""\udc00\ud83d\ude00\ud83d""#,
                r#""\ufffd\ud83d\ude00\ufffd""#,
            ),
            (r#""\ud83d\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud83d \u00e9 \é""#, r#""\\ud83d \u00e9 \é""#),
            (r#""\ud8"#, r#""\ud8"#),
            ("\\", "\\"),
        ] {
            assert_eq!(replace_unpaired(json), expected, "{json}");
        }
    }
}
