//! The tokenizer in the metadata of a GGUF file: byte pairs (`gpt2`), SentencePiece (`llama`, `t5`), WordPiece (`bert`).

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

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
pub(super) const NORMAL: i64 = 1;
pub(super) const UNKNOWN: i64 = 2;
pub(super) const CONTROL: i64 = 3;
pub(super) const USER_DEFINED: i64 = 4;
pub(super) const UNUSED: i64 = 5;
pub(super) const BYTE: i64 = 6;

/// A name of each way of splitting a text.
pub(super) const SPLITTINGS: [&str; 8] = [
    "gpt-2",
    "smollm",
    "llama-bpe",
    "dbrx",
    "gpt-4o",
    "qwen2",
    "stablelm2",
    "falcon",
];

/// How byte pairs split a text.
struct Splitting {
    normalizer: Value,
    pre_tokenizer: Value,
    /// Whether texts begin with the begin token unless the file says otherwise.
    begin: bool,
    /// Whether a whole word is taken from the vocabulary before it is merged (Llama 3).
    whole_words: bool,
}

/// The vocabulary of a GGUF file, `tokenizer.ggml.*`.
#[derive(Clone, Debug, Default)]
pub(crate) struct GgufVocabulary {
    /// `gpt2`, `llama`, `t5`, `bert`, or `none` for a model of bare ids.
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
    /// A `tokenizer.json`, which is used in the place of all other values but the special tokens.
    pub(crate) huggingface: Option<String>,
}

impl Tokenizer {
    /// Build the tokenizer of a GGUF file for a model of `rows` tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming a kind of tokenizer; [`ErrorKind::Vocabulary`] for an invalid vocabulary.
    pub(crate) fn of_gguf(vocabulary: &GgufVocabulary, rows: usize) -> Result<Self> {
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
        let tokenizer = match vocabulary.model.as_str() {
            _ if vocabulary.huggingface.is_some() => vocabulary.whole(),
            "gpt2" => vocabulary.byte_pairs(),
            "llama" | "t5" => vocabulary.sentence_piece(),
            "bert" => vocabulary.word_pieces(),
            "none" | "no_vocab" => {
                Ok(Self::ids(rows)?.missing("the GGUF file has no tokenizer".into()))
            }
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("tokenizer.ggml.model: {other:?} is not supported"),
            )
            .advice("supported: gpt2, llama, t5, bert, none")),
        };
        Ok(tokenizer?.with_rows(rows))
    }
}

impl GgufVocabulary {
    fn kind(&self, id: usize) -> i64 {
        self.types.get(id).copied().unwrap_or(1)
    }

    /// The texts of the special tokens by Hugging Face's keys.
    fn named_tokens(&self) -> Map<String, Value> {
        let named = self.special.iter().filter_map(|(key, id)| {
            let token = self.tokens.get(*id as usize)?;
            Some((key.to_string(), token.as_str().into()))
        });
        named.collect()
    }

    /// The settings that a folder has in `tokenizer_config.json`.
    fn settings(&self, class: &str) -> Settings {
        let mut config = self.named_tokens();
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

    /// Read the `tokenizer.json`.
    fn whole(&self) -> Result<Tokenizer> {
        let json = self.huggingface.as_deref().unwrap_or_default();
        let settings = Settings::new(self.named_tokens(), Vec::new(), "");
        settings.apply(Pipeline::read(json.as_bytes())?, &[], Template::File)
    }

    fn byte_pairs(&self) -> Result<Tokenizer> {
        let prefix = self.space_before.unwrap_or(false);
        let splitting = Splitting::named(&self.pre, prefix).ok_or_else(|| {
            let pre = &self.pre;
            let what = format!("tokenizer.ggml.pre: the splitting {pre:?} is not supported");
            Error::new(ErrorKind::Unsupported, what).advice(
                "supported: default, gpt-2, phi-2, mpt, olmo, roberta-bpe, smollm, starcoder, refact, command-r, \
                 llama-bpe, falcon3, dbrx, smaug-bpe, gpt-4o, qwen2, stablelm2, falcon",
            )
        })?;
        let begin = splitting.begin;
        let merges = vocabulary_files::merge_pairs(self.merges.iter().map(String::as_str))?;
        let ids = self.tokens.iter().zip(0..);
        let vocab = ids.map(|(token, id)| (token.clone(), id)).collect();
        let pipeline = splitting.pipeline(vocab, merges, prefix)?;
        self.settings("")
            .apply(pipeline, &[], Template::Marks { begin })
    }

    /// Return the parts of a `tokenizer.json` that split as a name says, and whether whole words are taken first.
    pub(super) fn named(pre: &str) -> Option<(Value, bool)> {
        let splitting = Splitting::named(pre, false)?;
        let whole_words = splitting.whole_words;
        let pipeline = splitting
            .pipeline(Vocab::default(), Vec::new(), false)
            .ok()?;
        let json = serde_json::from_str(&pipeline.to_json().ok()?).ok()?;
        Some((json, whole_words))
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
            match token.strip_prefix('▁').filter(|word| !word.is_empty()) {
                Some(word) => word.to_string(),
                None if special => token.clone(),
                None => format!("##{token}"),
            }
        };
        let tokens: Vec<String> = self.tokens.iter().enumerate().map(original).collect();
        // Whether texts are lower-cased is not recorded.
        let cased = |token: &String| !token.starts_with('[') && token.to_lowercase() != *token;
        let lower = !tokens.iter().any(cased);
        let mut settings = self.settings("BertTokenizer");
        settings.set("do_lower_case", lower.into());
        for (key, name) in BERT {
            settings.set(key, name.into());
        }
        vocabulary_files::word_pieces(tokens.into_iter(), &settings)
    }
}

fn byte_level(regex: bool, prefix: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex})
}

impl Splitting {
    /// Find a way of splitting by the name of a model; `prefix` puts a space before a text.
    fn named(pre: &str, prefix: bool) -> Option<Self> {
        let split = |pattern: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
                byte_level(false, prefix)]})
        };
        let digits = |single: bool| json!({"type": "Digits", "individual_digits": single});
        let plain = |pre_tokenizer| Self {
            normalizer: Value::Null,
            pre_tokenizer,
            begin: false,
            whole_words: false,
        };
        Some(match pre {
            "" | "default" | "gpt-2" | "gpt2" | "phi-2" | "mpt" | "olmo" | "roberta-bpe"
            | "jina-en" | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-en" => {
                plain(byte_level(true, prefix))
            }
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
                let steps = [digits(true), byte_level(true, prefix)];
                plain(json!({"type": "Sequence", "pretokenizers": steps}))
            }
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => Self {
                begin: true,
                whole_words: true,
                ..plain(split(LLAMA3))
            },
            "dbrx" | "smaug-bpe" => plain(split(LLAMA3)),
            "gpt-4o" | "llama4" => plain(split(GPT4O)),
            "qwen2" | "deepseek-r1-qwen" => Self {
                normalizer: json!({"type": "NFC"}),
                ..plain(split(QWEN2))
            },
            "stablelm2" => plain(split(QWEN2)),
            "falcon" => plain(json!({"type": "Sequence", "pretokenizers": [
                {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(true, prefix),
                digits(false),
                {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated",
                    "invert": false}]})),
            _ => return None,
        })
    }

    /// Build the tokenizer. The vocabulary is not written as JSON, which would take several times its memory.
    fn pipeline(self, vocab: Vocab, merges: Merges, prefix: bool) -> Result<Pipeline> {
        let json = json!({
            "version": "1.0",
            "added_tokens": [],
            "normalizer": self.normalizer,
            "pre_tokenizer": self.pre_tokenizer,
            "decoder": byte_level(true, prefix),
            "model": {"type": "BPE", "vocab": {}, "merges": []},
        });
        let model = BPE::builder()
            .ignore_merges(self.whole_words)
            .vocab_and_merges(vocab, merges);
        Pipeline::build_with(json, model)
    }
}
