//! The options of a plugin: a subset of JSON Schema with types, ranges and defaults.

use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Result};

/// Keywords that are evaluated.
const MEANING: [&str; 11] = [
    "type",
    "properties",
    "additionalProperties",
    "required",
    "default",
    "enum",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "items",
];
/// Keywords that document.
const TEXT: [&str; 5] = ["$schema", "$id", "title", "description", "examples"];

/// A checked schema of an object.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    properties: Map<String, Value>,
    required: Vec<String>,
}

impl Schema {
    /// Parse a schema; an empty text means no options.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for anything but an object schema with supported keywords, and for a default that does
    /// not match its property.
    pub fn parse(text: &str) -> Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let value = serde_json::from_str(text).map_err(|error| {
            Error::new(
                ErrorKind::Format,
                format!("the schema is not JSON: {error}"),
            )
        })?;
        Self::from_value(&value)
    }

    /// Read a schema from JSON; null means no options.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_value(value: &Value) -> Result<Self> {
        let invalid =
            |what: String| Err(Error::new(ErrorKind::Format, what).at("the schema of the options"));
        let object = match value {
            Value::Null => return Ok(Self::default()),
            Value::Object(object) if object.get("type") == Some(&Value::from("object")) => object,
            _ => return invalid("it must be of type object".into()),
        };
        if let Some(key) = unknown(object) {
            return invalid(format!("the keyword {key:?} is not supported"));
        }
        let properties = match object.get("properties") {
            None => Map::new(),
            Some(Value::Object(properties)) => properties.clone(),
            Some(_) => return invalid("properties must be an object".into()),
        };
        for (name, property) in &properties {
            let Value::Object(keys) = property else {
                return invalid(format!("the property {name} must be an object"));
            };
            if let Some(key) = unknown(keys) {
                return invalid(format!("the keyword {key:?} of {name} is not supported"));
            }
            if let Some(default) = keys.get("default")
                && let Err(what) = fits(property, default)
            {
                return invalid(format!("the default of {name} {what}"));
            }
        }
        let required = match object.get("required") {
            None => Vec::new(),
            Some(list) => match serde_json::from_value(list.clone()) {
                Ok(list) => list,
                Err(_) => return invalid("required must be a list of names".into()),
            },
        };
        Ok(Self {
            properties,
            required,
        })
    }

    /// Check options and fill in defaults.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], naming the option and its allowed values.
    pub fn fill(&self, options: &Map<String, Value>) -> Result<Map<String, Value>> {
        let invalid = |what: String| Err(Error::new(ErrorKind::Configuration, what));
        for (key, value) in options {
            let Some(property) = self.properties.get(key) else {
                let known: Vec<&str> = self.properties.keys().map(String::as_str).collect();
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!("there is no option {key}"),
                )
                .advice(if known.is_empty() {
                    "it has no options".to_string()
                } else {
                    format!("its options are {}", known.join(", "))
                }));
            };
            if let Err(what) = fits(property, value) {
                return invalid(format!("the option {key} {what}"));
            }
        }
        let mut filled = options.clone();
        for (key, property) in &self.properties {
            if let Some(default) = property.get("default") {
                filled.entry(key.clone()).or_insert_with(|| default.clone());
            }
        }
        match self.required.iter().find(|key| !filled.contains_key(*key)) {
            Some(key) => invalid(format!("the option {key} must be given")),
            None => Ok(filled),
        }
    }
}

fn unknown(keys: &Map<String, Value>) -> Option<&String> {
    keys.keys()
        .find(|key| !MEANING.contains(&key.as_str()) && !TEXT.contains(&key.as_str()))
}

/// Check a value against a property; an error describes the mismatch.
fn fits(property: &Value, value: &Value) -> std::result::Result<(), String> {
    let right = match property.get("type").and_then(Value::as_str) {
        None => true,
        Some("number") => value.is_number(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => return Err(format!("has the unknown type {other}")),
    };
    if !right {
        return Err(format!(
            "is {value}, but must be of type {}",
            property["type"]
        ));
    }
    if let Some(Value::Array(choices)) = property.get("enum")
        && !choices.contains(value)
    {
        return Err(format!(
            "is {value}, but must be one of {}",
            property["enum"]
        ));
    }
    if let Some(number) = value.as_f64() {
        let bound = |key: &str| property.get(key).and_then(Value::as_f64);
        let bounds = [
            ("at least", bound("minimum").filter(|&bound| number < bound)),
            ("at most", bound("maximum").filter(|&bound| number > bound)),
            (
                "above",
                bound("exclusiveMinimum").filter(|&bound| number <= bound),
            ),
            (
                "below",
                bound("exclusiveMaximum").filter(|&bound| number >= bound),
            ),
        ];
        if let Some((word, bound)) = bounds
            .iter()
            .find_map(|(word, bound)| Some((word, (*bound)?)))
        {
            return Err(format!("is {value}, but must be {word} {bound}"));
        }
    }
    if let (Some(items), Some(list)) = (property.get("items"), value.as_array()) {
        for item in list {
            fits(items, item)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_are_checked_and_filled() {
        let schema = Schema::from_value(&json!({
            "type": "object",
            "properties": {
                "window": {"type": "integer", "minimum": 1, "default": 64},
                "mode": {"enum": ["a", "b"], "default": "a"},
                "ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            },
            "required": ["ratio"],
        }))
        .unwrap();
        let of = |value: Value| schema.fill(value.as_object().unwrap());
        assert_eq!(
            Value::from(of(json!({"ratio": 0.5})).unwrap()),
            json!({"ratio": 0.5, "window": 64, "mode": "a"})
        );
        for (broken, says) in [
            (json!({}), "ratio must be given"),
            (json!({"ratio": 0}), "above 0"),
            (json!({"ratio": "half"}), "type \"number\""),
            (json!({"ratio": 1, "window": 0}), "at least 1"),
            (json!({"ratio": 1, "mode": "c"}), "one of"),
            (json!({"ratio": 1, "widow": 3}), "no option widow"),
        ] {
            let error = of(broken).unwrap_err().to_string();
            assert!(error.contains(says), "{error} / {says}");
        }
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for broken in [
            "[]",
            "{",
            r#"{"type": "array"}"#,
            r#"{"type": "object", "oneOf": []}"#,
            r#"{"type": "object", "properties": {"a": {"type": "integer", "default": 1.5}}}"#,
        ] {
            assert!(Schema::parse(broken).is_err(), "{broken}");
        }
        assert!(Schema::parse("").is_ok());
    }
}
