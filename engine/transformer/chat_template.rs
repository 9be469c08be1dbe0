//! The chat template of a model: a Jinja template that writes a conversation as the prompt of its answer.
//!
//! Templates are written for Jinja 2 in the environment of Hugging Face's `apply_chat_template`: block tags take their
//! line, Python's methods of strings and dictionaries, `raise_exception`, `strftime_now`, `{% generation %}`, and a
//! `tojson` that writes as Python does.

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as TemplateValue};
use minijinja::{Environment, ErrorKind as TemplateErrorKind, UndefinedBehavior};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::text::Message;
use crate::transformer::folder;
use crate::{Error, ErrorKind, Result};

/// File of a folder that holds only the template; it has priority over `tokenizer_config.json`.
pub(super) const FILE: &str = "chat_template.jinja";
/// File of a folder with the special tokens and, in older folders, the template.
pub(super) const SETTINGS: &str = "tokenizer_config.json";
/// Files that may name the special tokens, the first in priority.
const SPECIAL_TOKENS: [&str; 2] = [SETTINGS, "special_tokens_map.json"];
/// Steps that a template may take; each is an instruction or 64 bytes of text. A template comes with a model, and must
/// not be able to occupy the program or its memory.
const STEPS: u64 = 4_000_000;

/// A chat template and the special tokens that it may insert.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatTemplate {
    source: String,
    /// Texts of the special tokens by Hugging Face's keys: `bos_token`, `eos_token`, ….
    tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// Create a template from its source; `tokens` are the texts of special tokens by their keys, such as `bos_token`.
    pub fn new(source: impl Into<String>, tokens: Map<String, Value>) -> Self {
        Self {
            source: source.into(),
            tokens,
        }
    }

    /// Read the template of a folder in Hugging Face's layout: `chat_template.jinja`, or `chat_template` in
    /// `tokenizer_config.json`. `None` where it has neither.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Format`] for a file that is not a JSON object or not UTF-8.
    pub(super) fn open_folder(folder: &Path) -> Result<Option<Self>> {
        let file = folder.join(FILE);
        let source = if file.symlink_metadata().is_ok() {
            Some(crate::text::download::read_text(&file)?)
        } else {
            folder::object(folder, SETTINGS)?.and_then(|(_, map)| listed(map.get("chat_template")?))
        };
        let Some(source) = source else {
            return Ok(None);
        };
        let mut tokens = Map::new();
        for name in SPECIAL_TOKENS {
            let Some((_, map)) = folder::object(folder, name)? else {
                continue;
            };
            for (key, value) in map {
                let text = value.as_str().or_else(|| value["content"].as_str());
                if let Some(text) = text.filter(|_| key.ends_with("_token")) {
                    tokens.entry(key).or_insert(text.into());
                }
            }
        }
        Ok(Some(Self::new(source, tokens)))
    }

    /// Return the source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Return the texts of special tokens by their keys.
    pub fn tokens(&self) -> &Map<String, Value> {
        &self.tokens
    }

    /// Write a conversation as the prompt of the assistant's next message.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] for a template that is not valid; [`ErrorKind::Input`] with the template's own message
    /// where it refuses the conversation; [`ErrorKind::Resource`] where it takes too many steps.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let source = without_generation_tags(&self.source);
        let environment = environment().map_err(invalid)?;
        let template = environment.template_from_str(&source).map_err(invalid)?;
        let context = Serde(Context {
            messages,
            add_generation_prompt: true,
            tools: None,
            documents: None,
            tokens: &self.tokens,
        });
        template.render(context).map_err(invalid)
    }
}

/// What a template can refer to.
#[derive(Serialize)]
struct Context<'a> {
    messages: &'a [Message],
    add_generation_prompt: bool,
    tools: Option<()>,
    documents: Option<()>,
    #[serde(flatten)]
    tokens: &'a Map<String, Value>,
}

/// Choose the default of the templates that `tokenizer_config.json` lists.
fn listed(value: &Value) -> Option<String> {
    let default = |named: &Value| {
        (named["name"] == "default").then(|| named["template"].as_str().map(String::from))?
    };
    match value {
        Value::String(source) => Some(source.clone()),
        Value::Array(templates) => templates.iter().find_map(default),
        Value::Object(templates) => templates["default"].as_str().map(String::from),
        _ => None,
    }
}

/// Replace `{% generation %}` and its end, which mark the assistant's text for training, by tags without effect.
fn without_generation_tags(source: &str) -> String {
    let replaced = source.split_inclusive("%}").map(|piece| {
        let tag = piece.rsplit_once("{%").map_or("", |(_, tag)| tag);
        let name = tag.trim_matches(|c: char| c.is_whitespace() || "-+%}".contains(c));
        let without_effect = match name {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => return piece.to_string(),
        };
        let before = &piece[..piece.len() - tag.len()];
        before.to_string() + &tag.replace(name, without_effect)
    });
    replaced.collect()
}

/// Describe what is wrong with a template, or why it refuses a conversation.
fn invalid(error: minijinja::Error) -> Error {
    let detail = error.detail().unwrap_or_default();
    if let Some(message) = detail.strip_prefix(REFUSED) {
        let what = format!("the chat template refuses the conversation: {message}");
        return Error::new(ErrorKind::Input, what)
            .advice("check the roles and the order of the messages");
    }
    if error.kind() == TemplateErrorKind::OutOfFuel {
        let what = format!("the chat template takes more than {STEPS} steps");
        return Error::new(ErrorKind::Resource, what).advice("shorten the conversation");
    }
    let line = error
        .line()
        .map_or(String::new(), |line| format!(", line {line}"));
    let kind = error.kind();
    let what = match detail {
        "" => format!("the chat template cannot be rendered: {kind}"),
        detail => format!("the chat template cannot be rendered: {kind}: {detail}"),
    };
    Error::new(ErrorKind::Format, what)
        .at(format!("chat_template{line}"))
        .advice("correct the template, or take the model's own from its publisher")
}

/// Bytes of a separator or an indent of `tojson` at most: each is repeated for every item.
const LONGEST_SEPARATOR: usize = 16;

/// Marks the message of `raise_exception` in an error.
const REFUSED: &str = "raise_exception: ";

/// Create the environment that templates are written for.
fn environment<'a>() -> std::result::Result<Environment<'a>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?,
    );
    environment.set_fuel(Some(STEPS));
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| {
        let detail = format!("{REFUSED}{message}");
        let error = minijinja::Error::new(TemplateErrorKind::InvalidOperation, detail);
        Err::<TemplateValue, _>(error)
    });
    environment.add_function("strftime_now", |format: String| {
        jiff::fmt::strtime::format(&format, &jiff::ZonedDateTime::now()).map_err(|error| {
            minijinja::Error::new(TemplateErrorKind::InvalidOperation, error.to_string())
        })
    });
    Ok(environment)
}

/// Write a value as Python's `json.dumps(value, ensure_ascii=False)` does.
fn to_json(value: TemplateValue, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let failed = |error: &dyn std::fmt::Display| {
        minijinja::Error::new(TemplateErrorKind::BadSerialization, error.to_string())
    };
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sorted: Option<bool> = options.get("sort_keys")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent.min(LONGEST_SEPARATOR));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            write(&value, sorted, &mut bytes, formatter)
        }
        None => {
            let [item, key] = match separators.as_deref() {
                None => [", ", ": "].map(String::from),
                Some([item, key]) if item.len().max(key.len()) <= LONGEST_SEPARATOR => {
                    [item.clone(), key.clone()]
                }
                Some(_) => {
                    let most = LONGEST_SEPARATOR;
                    return Err(failed(&format!(
                        "separators of tojson are two texts of at most {most} bytes"
                    )));
                }
            };
            write(&value, sorted, &mut bytes, Separators { item, key })
        }
    }
    .map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

fn write(
    value: &TemplateValue,
    sorted: Option<bool>,
    bytes: &mut Vec<u8>,
    formatter: impl serde_json::ser::Formatter,
) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(bytes, formatter);
    if sorted == Some(true) {
        return serde_json::to_value(value)?.serialize(&mut serializer);
    }
    value.serialize(&mut serializer)
}

/// JSON on one line with separators between items and after keys.
struct Separators {
    item: String,
    key: String,
}

impl serde_json::ser::Formatter for Separators {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        writer.write_all(if first { b"" } else { self.item.as_bytes() })
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        self.begin_array_value(writer, first)
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }
}
