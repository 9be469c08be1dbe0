//! Records of JSON corpora: the text of a record, and where a record ends.

use std::borrow::Cow;

use serde_json::Value;

use crate::modality::Modality;
use crate::text::corpus::CorpusOptions;
use crate::text::pairs::Pairs;
use crate::{Error, ErrorKind, Result};

/// Fields that contain the text unless one is named.
const FIELDS: [&str; 5] = ["text", "story", "content", "paragraphs", "desc"];

/// A part of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    /// The path of a file, as written in the record.
    File(Modality, String),
    /// A field that names a file of a modality that the corpus is read without.
    LeftOut,
}

/// Return the parts of a JSON record that begins in `line` of the file `location`: its text and, if the record may have
/// `media`, its files, in the order of the record; before them, what is left out.
///
/// # Errors
/// [`ErrorKind::Format`] for invalid JSON, and for a record without parts; half a surrogate pair is replaced by U+FFFD with
/// `lossy`, else an error too.
pub(super) fn parts_of(
    record: &str,
    options: &CorpusOptions,
    media: &[Modality],
    location: &str,
    line: u64,
) -> Result<Vec<Part>> {
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
    let name = names
        .iter()
        .find(|name| value.get(**name).and_then(joined).is_some());
    let text = || match name {
        Some(name) => value.get(*name).and_then(joined),
        None if value.is_object() => None,
        None => joined(&value),
    };
    // Only the order of a record with files matters; the parsed record does not have it.
    let has_files = media
        .iter()
        .any(|one| value.get(one.name()).is_some_and(|path| !path.is_null()));
    let fields = has_files.then(|| serde_json::from_str::<Pairs<Value>>(record).ok());
    let left_out = Modality::ALL.into_iter().filter(|one| {
        let path = value.get(one.name()).and_then(Value::as_str);
        let is_text = name.is_some_and(|name| *name == one.name());
        !media.contains(one) && !is_text && path.is_some_and(|path| !path.is_empty())
    });
    let mut parts: Vec<Part> = left_out.map(|_| Part::LeftOut).collect();
    let Some(fields) = fields.flatten() else {
        let text = text().ok_or_else(|| without_text(&names, location, line))?;
        parts.push(Part::Text(text));
        return Ok(parts);
    };
    for (field, content) in &fields.0 {
        if Some(&field.as_str()) == name {
            parts.extend(joined(content).map(Part::Text));
        } else if !content.is_null()
            && let Some(&modality) = media.iter().find(|one| one.name() == field)
        {
            let path = content.as_str().ok_or_else(|| {
                Error::new(
                    ErrorKind::Format,
                    format!("the field {field:?} is not the path of a file"),
                )
                .at(format!("{location} line {line}"))
            })?;
            parts.push(Part::File(modality, path.into()));
        }
    }
    Ok(parts)
}

fn without_text(names: &[&str], location: &str, line: u64) -> Error {
    Error::new(
        ErrorKind::Format,
        format!("no text in the field {}", names.join(", ")),
    )
    .at(format!("{location} line {line}"))
    .advice("name the field that holds the text with `field = \"…\"` (train --set data.field=NAME)")
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
