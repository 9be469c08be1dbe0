//! What a folder says about its tokenizer beside the vocabulary: the class, special and added tokens, and which of them
//! enclose a text.

use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use super::malformed;
use crate::Result;
use crate::text::Tokenizer;
use crate::text::pipeline::Pipeline;

/// The keys of special tokens, in the order in which missing ones are added.
const SPECIAL: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
/// The keys of lists of further special tokens.
const FURTHER: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// The settings of a folder's tokenizer.
pub(super) struct Settings {
    /// `tokenizer_config.json`, with the tokens of `special_tokens_map.json`.
    config: Map<String, Value>,
    /// Added tokens in the order of their ids.
    added: Vec<AddedToken>,
    /// The class without `Fast`, or the one that `transformers` takes for the model; may be empty.
    pub(super) class: String,
}

/// What puts special tokens before and after a text.
pub(super) enum Template {
    /// The post-processor of the `tokenizer.json`, which `transformers` 5 prefers to `add_bos_token` and `add_eos_token`.
    File,
    /// The begin token by default or not, and the end token where `add_eos_token` is set.
    Marks { begin: bool },
    /// Fixed names of special tokens before and after a text.
    Fixed(Vec<String>, Vec<String>),
}

/// A value of a JSON file that may be missing.
pub(super) fn object(folder: &Path, name: &str) -> Result<Map<String, Value>> {
    let path = folder.join(name);
    if path.symlink_metadata().is_err() {
        return Ok(Map::new());
    }
    super::at(&path, |bytes| {
        serde_json::from_slice(&bytes)
            .map_err(|error| malformed(format!("expected a JSON object: {error}")))
    })
}

/// Parse a token: a string, or an object with its properties.
fn token(value: &Value, special: bool) -> Option<AddedToken> {
    let flag = |name: &str, default: bool| value[name].as_bool().unwrap_or(default);
    let content = value.as_str().or_else(|| value["content"].as_str())?;
    let special = flag("special", special);
    Some(
        AddedToken::from(content, special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !special)),
    )
}

impl Settings {
    /// Read the settings of a folder; each file may be missing.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::Format`] for a file that is not a JSON object.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut config = object(folder, "tokenizer_config.json")?;
        let listed = config
            .get("added_tokens_decoder")
            .and_then(Value::as_object);
        let by_id = |token: AddedToken, id: Option<u64>| Some((id?, token));
        let mut added: Vec<(u64, AddedToken)> = match listed {
            Some(listed) => listed
                .iter()
                .filter_map(|(id, value)| by_id(token(value, false)?, id.parse().ok()))
                .collect(),
            None => {
                for (key, value) in object(folder, "special_tokens_map.json")? {
                    config.insert(key, value);
                }
                let named: Vec<&str> = config
                    .values()
                    .filter_map(|value| value.as_str().or_else(|| value["content"].as_str()))
                    .collect();
                object(folder, "added_tokens.json")?
                    .into_iter()
                    .filter_map(|(name, id)| {
                        let special = named.contains(&name.as_str());
                        by_id(token(&Value::String(name), special)?, id.as_u64())
                    })
                    .collect()
            }
        };
        added.sort_by_key(|(id, _)| *id);
        let class = match config.get("tokenizer_class").and_then(Value::as_str) {
            Some(class) => class.strip_suffix("Fast").unwrap_or(class).to_string(),
            None => class_of_model(&object(folder, "config.json")?).to_string(),
        };
        Ok(Self {
            added: added.into_iter().map(|(_, token)| token).collect(),
            config,
            class,
        })
    }

    /// Create settings of a class from the values of `tokenizer_config.json` and added tokens.
    #[cfg(feature = "transformer")]
    pub(super) fn new(config: Map<String, Value>, added: Vec<AddedToken>, class: &str) -> Self {
        let class = class.to_string();
        Self {
            config,
            added,
            class,
        }
    }

    /// Set a value of `tokenizer_config.json`.
    #[cfg(feature = "transformer")]
    pub(super) fn set(&mut self, key: &str, value: Value) {
        self.config.insert(key.into(), value);
    }

    /// A switch, if it is set.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.config.get(name).and_then(Value::as_bool)
    }

    /// A number, if it is set.
    pub(super) fn count(&self, name: &str) -> Option<usize> {
        let count = self.config.get(name).and_then(Value::as_u64)?;
        usize::try_from(count).ok()
    }

    /// The special token of a key, by default that of the class; `None` where it is null.
    fn special(&self, key: &str, defaults: &[(&str, &str)]) -> Option<AddedToken> {
        match self.config.get(key) {
            Some(value) => token(value, true),
            None => defaults
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, content)| AddedToken::from(*content, true)),
        }
    }

    /// The text of the special token of a key.
    pub(super) fn name(&self, key: &str, defaults: &[(&str, &str)]) -> Option<String> {
        self.special(key, defaults).map(|token| token.content)
    }

    /// Add the special and added tokens to a pipeline and let it enclose texts. `defaults` are the class's special tokens
    /// by key.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Vocabulary`].
    pub(super) fn apply(
        &self,
        mut pipeline: Pipeline,
        defaults: &[(&str, &str)],
        template: Template,
    ) -> Result<Tokenizer> {
        let mut tokens = self.added.clone();
        let further = FURTHER
            .iter()
            .filter_map(|key| self.config.get(*key)?.as_array())
            .flatten()
            .filter_map(|value| token(value, true));
        let special = SPECIAL.iter().filter_map(|key| self.special(key, defaults));
        for special in special.chain(further) {
            let known = match tokens
                .iter_mut()
                .find(|token| token.content == special.content)
            {
                Some(token) => {
                    token.special = true;
                    continue;
                }
                None => pipeline.added(&special.content),
            };
            match known {
                Some(known) if known.special => {}
                Some(known) => tokens.push(known.special(true)),
                None => tokens.push(AddedToken {
                    special: true,
                    ..special
                }),
            }
        }
        pipeline.add_tokens(tokens)?;
        self.enclose(&mut pipeline, defaults, template)?;
        Ok(self.end(Tokenizer::of_pipeline(pipeline)?, defaults))
    }

    /// Let the end token end a text, if the tokenizer has it. `defaults` are as in [`Self::apply`].
    pub(super) fn end(&self, mut tokenizer: Tokenizer, defaults: &[(&str, &str)]) -> Tokenizer {
        let name = self.name("eos_token", defaults);
        if let Some(stop) = name.and_then(|name| tokenizer.vocabulary().id(&name)) {
            tokenizer.set_stop(stop);
        }
        tokenizer
    }

    /// Set the post-processor.
    fn enclose(
        &self,
        pipeline: &mut Pipeline,
        defaults: &[(&str, &str)],
        template: Template,
    ) -> Result<()> {
        let (before, after) = match template {
            Template::Fixed(before, after) => (before, after),
            Template::File => return Ok(()),
            Template::Marks { begin: default } => {
                let mark = |wanted: bool, key: &str| {
                    let name = self.name(key, defaults).filter(|_| wanted);
                    name.into_iter().collect::<Vec<String>>()
                };
                (
                    mark(self.flag("add_bos_token").unwrap_or(default), "bos_token"),
                    mark(self.flag("add_eos_token").unwrap_or(false), "eos_token"),
                )
            }
        };
        if before.is_empty() && after.is_empty() {
            return Ok(());
        }
        let mut special = Map::new();
        for name in before.iter().chain(&after) {
            let id = pipeline
                .id(name)
                .ok_or_else(|| malformed(format!("the vocabulary has no token {name:?}")))?;
            special.insert(
                name.clone(),
                json!({"id": name, "ids": [id], "tokens": [name]}),
            );
        }
        let mark = |name: &String| json!({"SpecialToken": {"id": name, "type_id": 0}});
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        let enclosed = |id: &str| -> Vec<Value> {
            let before = before.iter().map(mark);
            let rest = std::iter::once(text(id)).chain(after.iter().map(mark));
            before.chain(rest).collect()
        };
        let pair = [enclosed("A"), enclosed("B")].concat();
        pipeline.set_post_processor(json!({
            "type": "TemplateProcessing",
            "single": enclosed("A"),
            "pair": pair,
            "special_tokens": special,
        }))
    }

    /// Whether texts begin with the begin token unless the settings say otherwise.
    pub(super) fn is_llama(&self) -> bool {
        matches!(
            self.class.as_str(),
            "LlamaTokenizer" | "CodeLlamaTokenizer" | "GemmaTokenizer"
        )
    }
}

/// The tokenizer's class of a model's `config.json`.
fn class_of_model(config: &Map<String, Value>) -> &'static str {
    match config.get("model_type").and_then(Value::as_str) {
        Some("llama" | "mistral" | "mixtral") => "LlamaTokenizer",
        Some("gemma" | "gemma2") => "GemmaTokenizer",
        Some("gpt2") => "GPT2Tokenizer",
        Some("qwen2") => "Qwen2Tokenizer",
        Some("bert") => "BertTokenizer",
        Some("roberta") => "RobertaTokenizer",
        Some("xlm-roberta") => "XLMRobertaTokenizer",
        Some("t5" | "mt5") => "T5Tokenizer",
        Some("openai-gpt") => "OpenAIGPTTokenizer",
        Some("clip") => "CLIPTokenizer",
        _ => "",
    }
}
