//! The fields of a completion request: their types, and what each of them may be.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::serve::api_error::ApiError;

/// The body of `/v1/completions`. Unknown fields are ignored, since clients send many; null means the default.
#[derive(Deserialize)]
pub(in crate::serve) struct CompletionBody {
    pub(super) model: Option<String>,
    pub(super) prompt: Prompts,
    pub(super) max_tokens: Option<usize>,
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_k: Option<usize>,
    pub(super) min_p: Option<f32>,
    pub(super) repetition_penalty: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) logit_bias: Option<BTreeMap<String, f32>>,
    pub(super) n: Option<usize>,
    pub(super) best_of: Option<usize>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) logprobs: Option<usize>,
    pub(super) echo: Option<bool>,
    pub(super) stop: Option<Stops>,
    pub(super) seed: Option<i64>,
    pub(super) suffix: Option<String>,
    pub(super) ignore_eos: Option<bool>,
}

/// What each field of a completion may be.
pub(super) const COMPLETION: [(&str, &str); 21] = [
    (
        "model",
        "the name of a served model (GET /v1/models lists them)",
    ),
    ("prompt", PROMPTS),
    ("max_tokens", "a whole number from 0"),
    ("temperature", "a number from 0"),
    ("top_p", "a number from 0 to 1"),
    ("top_k", "a whole number from 0"),
    ("min_p", "a number from 0 to 1"),
    ("repetition_penalty", "a number above 0"),
    ("presence_penalty", "a number from -2 to 2"),
    ("frequency_penalty", "a number from -2 to 2"),
    (
        "logit_bias",
        "an object of token ids, as strings, with numbers from -100 to 100",
    ),
    ("n", "a whole number from 1 to 256, over all prompts"),
    ("best_of", "a whole number from n to 256, over all prompts"),
    ("stream", "true or false"),
    (
        "stream_options",
        "an object with include_usage, true or false",
    ),
    ("logprobs", "a whole number from 0 to 100"),
    ("echo", "true or false"),
    ("stop", STOPS),
    ("seed", "a whole number of 64 bits"),
    ("suffix", "an empty text"),
    ("ignore_eos", "true or false"),
];

const PROMPTS: &str =
    "a text, a list of texts, a list of token ids, or a list of such lists, none of them empty";
const STOPS: &str = "a text or a list of at most 16 texts";

/// The error of a field whose value, shown as `found`, is not one that it may be.
pub(super) fn invalid(name: &str, found: impl fmt::Display) -> ApiError {
    invalid_in(&COMPLETION, name, found)
}

/// The error of a field; `fields` lists what each of them may be.
pub(super) fn invalid_in(
    fields: &[(&str, &str)],
    name: &str,
    found: impl fmt::Display,
) -> ApiError {
    let expected = fields.iter().find(|(field, _)| *field == name);
    let expected = expected.map_or("another value", |(_, expected)| expected);
    ApiError::field(
        name,
        format!("invalid {name}: {found} (expected {expected})"),
    )
}

/// Say what the field may be in an error of the parser, whose `param` is a path such as `prompt[3]`.
pub(super) fn explain(fields: &[(&str, &str)], error: ApiError) -> ApiError {
    let Some(path) = &error.param else {
        let missing = |name: &str| error.message().contains(&format!("missing field `{name}`"));
        return match fields.iter().find(|(name, _)| missing(name)) {
            Some((name, _)) => invalid_in(fields, name, "it is missing"),
            None => error,
        };
    };
    let name = path.split(['.', '[']).next().unwrap_or_default();
    // `invalid prompt[3]: invalid type: floating point `1.5`, expected a token id at line 1 column 20`
    let text = error.message();
    let found = text
        .strip_prefix(&format!("invalid {path}: "))
        .unwrap_or(text);
    let found = found
        .trim_start_matches("invalid type: ")
        .trim_start_matches("invalid value: ");
    let found = found.split(", expected").next().unwrap_or_default();
    let found = found.split(" at line ").next().unwrap_or_default();
    let inner = &path[name.len()..];
    let at = if inner.is_empty() {
        String::new()
    } else {
        format!(" at {name}{inner}")
    };
    invalid_in(fields, name, format!("{found}{at}"))
}

#[derive(Deserialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: Option<bool>,
}

/// Texts or lists of token ids to be continued.
pub(super) enum Prompts {
    Texts(Vec<String>),
    Ids(Vec<Vec<u32>>),
}

/// An element of a list of prompts.
enum Element {
    Text(String),
    Id(u32),
    Ids(Vec<u32>),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Element;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text, a token id or a list of token ids")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.into()))
            }
            fn visit_u64<E: de::Error>(self, id: u64) -> Result<Element, E> {
                let invalid = || E::invalid_value(de::Unexpected::Unsigned(id), &self);
                u32::try_from(id).map(Element::Id).map_err(|_| invalid())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = list.next_element()? {
                    ids.push(id);
                }
                Ok(Element::Ids(ids))
            }
        }
        deserializer.deserialize_any(Elements)
    }
}

impl<'de> Deserialize<'de> for Prompts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Prompts;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(PROMPTS)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Prompts, E> {
                Ok(Prompts::Texts(vec![text.into()]))
            }
            // Elements are taken apart at once: a list of ids stays as small as its text.
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Prompts, A::Error> {
                let (mut texts, mut ids, mut lists) = (Vec::new(), Vec::new(), Vec::new());
                while let Some(element) = list.next_element()? {
                    match element {
                        Element::Text(text) => texts.push(text),
                        Element::Id(id) => ids.push(id),
                        Element::Ids(ids) => lists.push(ids),
                    }
                }
                match (texts.is_empty(), ids.is_empty(), lists.is_empty()) {
                    (_, true, true) => Ok(Prompts::Texts(texts)),
                    (true, false, true) => Ok(Prompts::Ids(vec![ids])),
                    (true, true, false) => Ok(Prompts::Ids(lists)),
                    _ => Err(de::Error::custom("a list with elements of different kinds")),
                }
            }
        }
        deserializer.deserialize_any(List)
    }
}

/// Texts that end a completion.
pub(super) struct Stops(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Stops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Stops;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(STOPS)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Stops, E> {
                Ok(Stops(vec![text.into()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Stops, A::Error> {
                let mut stops = Vec::new();
                while let Some(stop) = list.next_element()? {
                    stops.push(stop);
                }
                Ok(Stops(stops))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}
