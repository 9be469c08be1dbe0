//! The plugins of a run and their options: `NAME[:key=value,…]` on the command line, `[[plugin]]` in a run file.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Result};

/// What the run does when a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The run stops.
    #[default]
    Stop,
    /// The run continues as if the plugin had declined; the first error is reported.
    Skip,
}

/// A plugin to use in a run.
///
/// ```
/// use brillm::plugin::Selection;
/// let plugin: Selection = "recent:sinks=4,window=128".parse().unwrap();
/// assert_eq!(plugin.name, "recent");
/// assert_eq!(plugin.options["window"], 128);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Selection {
    /// Id, last part of the id, or path.
    pub name: String,
    /// Options, as named in the plugin's schema.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// Required SHA-256 of the library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What the run does when the plugin fails.
    #[serde(default)]
    pub on_error: OnError,
}

impl Selection {
    /// Select a plugin with default options.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            options: Map::new(),
            sha256: None,
            on_error: OnError::Stop,
        }
    }

    /// Set an option.
    #[must_use]
    pub fn option(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.options.insert(key.into(), value.into());
        self
    }
}

impl FromStr for Selection {
    type Err = Error;

    /// Parse `NAME[:key=value,…]`. A value is JSON, otherwise a string. The keys `on-error` and `sha256` are read by
    /// the engine.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |what: String| {
            Error::new(ErrorKind::Configuration, what)
                .at(format!("--plugin {text}"))
                .advice("write NAME, or NAME:KEY=VALUE,KEY=VALUE")
        };
        // A path may contain colons; the options follow the first colon with a `key=` after it.
        let split = text.match_indices(':').find(|(at, _)| {
            text[at + 1..].contains('=') && !text[at + 1..].starts_with(['\\', '/'])
        });
        let (name, options) = match split {
            Some((at, _)) => (&text[..at], &text[at + 1..]),
            None => (text.trim_end_matches(':'), ""),
        };
        // One letter before a colon is a drive.
        if let Some((begin, option)) = name.split_once(':')
            && begin.len() > 1
            && !name.contains(['/', '\\'])
        {
            return Err(invalid(format!(
                "invalid option {option:?}: expected KEY=VALUE"
            )));
        }
        if name.is_empty() {
            return Err(invalid("the plugin has no name".into()));
        }
        let mut selection = Self::named(name);
        for option in split_options(options) {
            let (key, value) = option
                .split_once('=')
                .ok_or_else(|| invalid(format!("invalid option {option:?}: expected KEY=VALUE")))?;
            let (key, value) = (key.trim(), value.trim());
            match key {
                "on-error" => {
                    selection.on_error = serde_json::from_value(Value::from(value))
                        .map_err(|_| invalid("invalid on-error: expected stop or skip".into()))?;
                }
                "sha256" => selection.sha256 = Some(value.to_string()),
                _ => {
                    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
                    if selection.options.insert(key.to_string(), value).is_some() {
                        return Err(invalid(format!("{key} is given twice")));
                    }
                }
            }
        }
        Ok(selection)
    }
}

/// Split at commas outside brackets and quotes.
fn split_options(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth, mut quoted) = (Vec::new(), 0, 0_usize, false);
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if begin < text.len() {
        parts.push(&text[begin..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_selections_are_parsed() {
        let read: Selection = "a.b:x=1,list=[1,2],word=so,on-error=skip,flag=true"
            .parse()
            .unwrap();
        assert_eq!(read.name, "a.b");
        assert_eq!(read.on_error, OnError::Skip);
        assert_eq!(
            Value::from(read.options),
            serde_json::json!({"x": 1, "list": [1, 2], "word": "so", "flag": true})
        );
        assert_eq!(
            "plain".parse::<Selection>().unwrap(),
            Selection::named("plain")
        );
        for broken in ["", ":x=1", "a:x=1,y", "a:x=1,x=2", "a:on-error=maybe=1"] {
            assert!(broken.parse::<Selection>().is_err(), "{broken}");
        }
    }
}
