//! The tokenizer in the metadata of a GGUF file: byte pairs (`gpt2`), SentencePiece (`llama`, `t5`), WordPiece (`bert`).

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use super::malformed;
use super::sentencepiece::{self, Spec};
use super::settings::{Settings, Template};
use super::vocabulary_files::{self, BERT, QWEN2};
use crate::text::Tokenizer;
use crate::text::pipeline::Pipeline;
use crate::text::tokenizer::MOST_IDS;
use crate::{Error, ErrorKind, Result};

/// How Llama 3 splits a text.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How GPT-4o splits a text.
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Token types, as GGUF numbers them: those of SentencePiece.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// The vocabulary of a GGUF file, `tokenizer.ggml.*`.
#[derive(Debug, Default)]
pub(crate) struct GgufVocabulary {
    /// `gpt2`, `llama`, `t5` or `bert`.
    pub(crate) model: String,
    /// How byte pairs split a text, by the name of a model.
    pub(crate) pre: String,
    pub(crate) tokens: Vec<String>,
    /// Scores of SentencePiece; may be empty.
    pub(crate) scores: Vec<f64>,
    /// Types of the tokens; may be empty.
    pub(crate) types: Vec<i64>,
    /// `left right`.
    pub(crate) merges: Vec<String>,
    /// SentencePiece's character map; may be empty.
    pub(crate) characters: Vec<u8>,
    /// Ids of special tokens by Hugging Face's keys: `bos_token`.
    pub(crate) special: Vec<(&'static str, u32)>,
    /// Switches by Hugging Face's keys: `add_bos_token`, `add_eos_token`.
    pub(crate) flags: Vec<(&'static str, bool)>,
    /// Whether a space is put before a text.
    pub(crate) space_before: Option<bool>,
}

impl Tokenizer {
    /// Build the tokenizer of a GGUF file.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming a kind of tokenizer; [`ErrorKind::Vocabulary`] for an invalid vocabulary.
    pub(crate) fn of_gguf(vocabulary: &GgufVocabulary) -> Result<Self> {
        let count = vocabulary.tokens.len();
        for (name, length) in [
            ("scores", vocabulary.scores.len()),
            ("token_type", vocabulary.types.len()),
        ] {
            if length != 0 && length != count {
                return Err(malformed(format!(
                    "tokenizer.ggml.{name}: {length} values for {count} tokens"
                )));
            }
        }
        if count > MOST_IDS {
            return Err(malformed(format!(
                "a vocabulary of {count} tokens is too large"
            )));
        }
        match vocabulary.model.as_str() {
            "gpt2" => vocabulary.byte_pairs(),
            "llama" | "t5" => vocabulary.sentence_piece(),
            "bert" => vocabulary.word_pieces(),
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("tokenizer.ggml.model: {other:?} is not supported"),
            )
            .advice("supported: gpt2, llama, t5, bert")),
        }
    }
}

impl GgufVocabulary {
    fn kind(&self, id: usize) -> i64 {
        self.types.get(id).copied().unwrap_or(1)
    }

    /// The settings that a folder has in `tokenizer_config.json`.
    fn settings(&self, class: &str) -> Settings {
        let mut config = Map::new();
        for (key, id) in &self.special {
            if let Some(token) = self.tokens.get(*id as usize) {
                config.insert(key.to_string(), token.as_str().into());
            }
        }
        for (key, value) in &self.flags {
            config.insert(key.to_string(), (*value).into());
        }
        let added = self.tokens.iter().enumerate().filter_map(|(id, token)| {
            let kind = self.kind(id);
            let special = kind == CONTROL;
            (special || kind == USER_DEFINED && self.model == "gpt2")
                .then(|| AddedToken::from(token.as_str(), special).normalized(false))
        });
        Settings::new(config, added.collect(), class)
    }

    fn vocab(tokens: impl Iterator<Item = String>) -> Map<String, Value> {
        let ids = tokens.enumerate();
        ids.map(|(id, token)| (token, id.into())).collect()
    }

    fn byte_pairs(&self) -> Result<Tokenizer> {
        let byte_level = |regex: bool| {
            json!({"type": "ByteLevel", "add_prefix_space": self.space_before.unwrap_or(false),
                "trim_offsets": true, "use_regex": regex})
        };
        let split = |pattern: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
                byte_level(false)]})
        };
        let digits = |single: bool| json!({"type": "Digits", "individual_digits": single});
        let mut normalizer = Value::Null;
        let mut begin = false;
        // Llama 3 takes a whole word from its vocabulary before it merges.
        let mut whole_words = false;
        let pre_tokenizer = match self.pre.as_str() {
            "" | "default" | "gpt-2" | "gpt2" | "phi-2" | "mpt" | "olmo" | "roberta-bpe"
            | "jina-en" | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-en" => byte_level(true),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
                json!({"type": "Sequence", "pretokenizers": [digits(true), byte_level(true)]})
            }
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => {
                (begin, whole_words) = (true, true);
                split(LLAMA3)
            }
            "dbrx" | "smaug-bpe" => split(LLAMA3),
            "gpt-4o" | "llama4" => split(GPT4O),
            "qwen2" | "deepseek-r1-qwen" => {
                normalizer = json!({"type": "NFC"});
                split(QWEN2)
            }
            "stablelm2" => split(QWEN2),
            "falcon" => json!({"type": "Sequence", "pretokenizers": [
                {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(true), digits(false),
                {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated",
                    "invert": false}]}),
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("tokenizer.ggml.pre: the splitting {other:?} is not supported"),
                )
                .advice(
                    "supported: default, gpt-2, phi-2, mpt, olmo, roberta-bpe, smollm, starcoder, refact, command-r, \
                     llama-bpe, falcon3, dbrx, smaug-bpe, gpt-4o, qwen2, stablelm2, falcon",
                ));
            }
        };
        let pipeline = Pipeline::build(json!({
            "version": "1.0",
            "added_tokens": [],
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "decoder": byte_level(true),
            "model": {
                "type": "BPE",
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": whole_words,
                "vocab": Self::vocab(self.tokens.iter().cloned()),
                "merges": vocabulary_files::merge_pairs(self.merges.iter().map(String::as_str))?,
            },
        }))?;
        self.settings("")
            .apply(pipeline, &[], Template::Marks { begin })
    }

    fn sentence_piece(&self) -> Result<Tokenizer> {
        let id = |key: &str| {
            let found = self.special.iter().find(|(name, _)| *name == key);
            found.map_or(-1, |(_, id)| i64::from(*id))
        };
        let spec = Spec::of_tokens(
            self.tokens.iter().enumerate().map(|(id, token)| {
                let score = self.scores.get(id).copied().unwrap_or(0.0);
                (token.clone(), score, self.kind(id))
            }),
            self.model == "t5",
            [id("unk_token"), id("bos_token"), id("eos_token")],
            self.characters.clone(),
            self.space_before.unwrap_or(true),
        );
        // T5 ends every text.
        let begin = self.model == "llama";
        sentencepiece::build(
            &spec,
            &self.settings("LlamaTokenizer"),
            Template::Marks { begin },
        )
    }

    fn word_pieces(&self) -> Result<Tokenizer> {
        // GGUF marks the beginning of a word where the vocabulary marks its continuation.
        let original = |(id, token): (usize, &String)| {
            let special =
                token.starts_with('[') && token.ends_with(']') || self.kind(id) == CONTROL;
            match token.strip_prefix('▁') {
                Some(word) => word.to_string(),
                None if special => token.clone(),
                None => format!("##{token}"),
            }
        };
        let tokens: Vec<String> = self.tokens.iter().enumerate().map(original).collect();
        // Whether texts are lower-cased is not recorded.
        let cased = |token: &String| !token.starts_with('[') && token.contains(char::is_uppercase);
        let lower = !tokens.iter().any(cased);
        let mut settings = self.settings("BertTokenizer");
        settings.set("do_lower_case", lower.into());
        for (key, name) in BERT {
            settings.set(key, name.into());
        }
        vocabulary_files::word_pieces(tokens.into_iter(), &settings)
    }
}
