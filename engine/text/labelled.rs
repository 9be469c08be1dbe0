//! Labelled texts or pairs of texts, from JSONL or tab-separated columns.

use std::path::Path;
use std::str::FromStr;

use serde_json::Value;

use crate::text::input::read_text;
use crate::{Error, ErrorKind, Result};

/// A text, or a pair of texts, with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledText {
    /// The only or first text.
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    /// The label as written in the file.
    pub label: String,
}

/// Fields of a record, in the form `LABEL,TEXT[,TEXT]`: names, or column numbers from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledFields {
    label: String,
    text: String,
    pair: Option<String>,
}

impl Default for LabelledFields {
    fn default() -> Self {
        Self {
            label: "label".into(),
            text: "text".into(),
            pair: None,
        }
    }
}

impl FromStr for LabelledFields {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(',').map(|part| part.trim().to_string());
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(label), Some(first), pair, None)
                if !label.is_empty() && !first.is_empty() && pair.as_deref() != Some("") =>
            {
                Ok(Self {
                    label,
                    text: first,
                    pair,
                })
            }
            _ => Err(
                Error::new(ErrorKind::Configuration, format!("invalid fields {text:?}"))
                    .advice("write LABEL,TEXT or LABEL,TEXT,TEXT: names, or column numbers from 1"),
            ),
        }
    }
}

impl LabelledFields {
    fn all(&self) -> impl Iterator<Item = &String> {
        [&self.label, &self.text].into_iter().chain(&self.pair)
    }

    fn record(&self, mut value: impl FnMut(&str) -> Result<String>) -> Result<LabelledText> {
        Ok(LabelledText {
            label: value(&self.label)?,
            text: value(&self.text)?,
            pair: self.pair.as_deref().map(&mut value).transpose()?,
        })
    }
}

/// Read labelled texts: `.jsonl` by field names, other files as tab-separated columns without quoting. Unless all
/// fields are numbers, the first line contains the names of the columns.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Format`] with the line and the missing field.
pub fn read_labelled(path: &Path, fields: &LabelledFields) -> Result<Vec<LabelledText>> {
    let text = read_text(path)?;
    let location = |line: usize| format!("{}: line {}", path.display(), line + 1);
    let invalid =
        |line: usize, what: String| Error::new(ErrorKind::Format, what).at(location(line));
    let lines = || {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
    };
    if path
        .extension()
        .is_some_and(|end| end == "jsonl" || end == "json")
    {
        return lines()
            .map(|(line, text)| {
                let json: Value = serde_json::from_str(text)
                    .map_err(|error| Error::json_line(error).at(location(line)))?;
                fields.record(|name| {
                    json_field(&json, name).ok_or_else(|| {
                        invalid(line, format!("the record has no field {name:?}"))
                            .advice("name its fields: LABEL,TEXT or LABEL,TEXT,TEXT")
                    })
                })
            })
            .collect();
    }
    let numbers: Option<Vec<usize>> = fields
        .all()
        .map(|field| field.parse().ok().filter(|&number| number > 0))
        .collect();
    let header: Vec<&str> = match numbers {
        Some(_) => Vec::new(),
        None => lines().next().map_or(Vec::new(), |(_, line)| {
            line.split('\t').map(str::trim).collect()
        }),
    };
    if numbers.is_none()
        && let Some(name) = fields.all().find(|name| !header.contains(&name.as_str()))
    {
        return Err(invalid(0, format!("no column is named {name:?}"))
            .advice(format!("the columns are: {}", header.join(", "))));
    }
    lines()
        .skip(usize::from(numbers.is_none()))
        .map(|(line, text)| {
            let columns: Vec<&str> = text.split('\t').collect();
            fields.record(|name| {
                let column = match numbers {
                    Some(_) => name.parse().ok().map(|number: usize| number - 1),
                    None => header.iter().position(|column| *column == name),
                };
                column
                    .and_then(|column| columns.get(column))
                    .map(|text| text.trim().to_string())
                    .ok_or_else(|| invalid(line, format!("the line has no column {name}")))
            })
        })
        .collect()
}

/// Read a field of a JSON record as text: strings, numbers and booleans.
fn json_field(record: &Value, name: &str) -> Option<String> {
    match &record[name] {
        Value::String(text) => Some(text.clone()),
        value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str, fields: &str) -> Result<Vec<LabelledText>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_labelled(&path, &fields.parse()?)
    }

    #[test]
    fn columns_are_found_by_number_and_by_name() {
        let bare = read("a.tsv", "x\t1\t\tHe went.\nx\t0\t*\tHim go.\n", "2,4").unwrap();
        assert_eq!(
            (bare[1].label.as_str(), bare[1].text.as_str()),
            ("0", "Him go.")
        );
        let named = "\u{feff}Quality\t#1 String\t#2 String\r\n1\tone\ttwo\r\n";
        let pair = read("b.txt", named, "Quality,#1 String,#2 String").unwrap();
        assert_eq!(pair[0].pair.as_deref(), Some("two"));
    }

    #[test]
    fn records_are_read_and_errors_name_their_line() {
        let text = "{\"p\":\"a\",\"h\":\"b\",\"l\":true}\n{\"p\":\"a\",\"l\":3}\n";
        let error = read("c.jsonl", text, "l,p,h").unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("\"h\""),
            "{error}"
        );
        assert_eq!(read("c.jsonl", text, "l,p").unwrap()[0].label, "true");
        assert!(read("d.tsv", "a\tb\n", "1,3").is_err());
        assert!(read("d.tsv", "a\tb\n", "label,text").is_err());
        assert!("1".parse::<LabelledFields>().is_err());
    }
}
