//! Tokenizers in plain files: `vocab.json` with `merges.txt` (byte-pair encoding), `vocab.txt` (WordPiece).

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::Merges;

use super::malformed;
use super::settings::{Settings, Template};
use crate::Result;
use crate::text::Tokenizer;
use crate::text::pipeline::Pipeline;

/// How Qwen2 splits a text.
pub(super) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// What CLIP takes from a text.
const CLIP: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The special tokens of RoBERTa's classes.
pub(super) const ROBERTA: [(&str, &str); 7] = [
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("sep_token", "</s>"),
    ("pad_token", "<pad>"),
    ("cls_token", "<s>"),
    ("mask_token", "<mask>"),
];
const GPT2: [(&str, &str); 3] = [
    ("bos_token", "<|endoftext|>"),
    ("eos_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
];
pub(super) const BERT: [(&str, &str); 5] = [
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|error| malformed(format!("byte {} is not UTF-8", error.valid_up_to())))
}

/// List the tokens of a `vocab.txt`: one in each line, in the order of ids.
pub(super) fn lines(vocabulary: &[u8]) -> Result<impl Iterator<Item = String>> {
    Ok(text(vocabulary)?.lines().map(str::to_string))
}

/// Build a WordPiece tokenizer from its tokens in the order of ids.
pub(super) fn word_pieces(
    tokens: impl Iterator<Item = String>,
    settings: &Settings,
) -> Result<Tokenizer> {
    let ids = tokens.enumerate();
    let vocab: Map<String, Value> = ids.map(|(id, token)| (token, id.into())).collect();
    let name = |key| settings.name(key, &BERT).unwrap_or_default();
    let pipeline = Pipeline::build(json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": settings.flag("tokenize_chinese_chars").unwrap_or(true),
            "strip_accents": settings.flag("strip_accents"),
            "lowercase": settings.flag("do_lower_case").unwrap_or(true),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece",
            "unk_token": name("unk_token"),
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }))?;
    let template = Template::Fixed(vec![name("cls_token")], vec![name("sep_token")]);
    settings.apply(pipeline, &BERT, template)
}

/// Build the tokenizer of a `vocab.json` (`{token: id}`) and a `merges.txt` (one pair in each line).
pub(super) fn byte_pairs(vocab: &[u8], merges: &[u8], settings: &Settings) -> Result<Tokenizer> {
    let vocab: Map<String, Value> = serde_json::from_slice(vocab)
        .map_err(|error| malformed(format!("expected {{token: id}}: {error}")))?;
    let merges = merge_pairs(text(merges)?.lines())?;
    let any = |test: fn(&str) -> bool| vocab.keys().any(|token| test(token));
    let class = match settings.class.as_str() {
        class @ ("RobertaTokenizer"
        | "BartTokenizer"
        | "LongformerTokenizer"
        | "Qwen2Tokenizer"
        | "CLIPTokenizer"
        | "OpenAIGPTTokenizer") => class,
        // Without one of these classes, the tokens show the kind.
        _ if any(|token| token.contains('Ġ')) => "GPT2Tokenizer",
        _ if any(|token| token.ends_with("</w>")) => "OpenAIGPTTokenizer",
        _ if any(|token| token.starts_with('▁')) => "LlamaTokenizer",
        _ => "GPT2Tokenizer",
    };
    let prefix = settings.flag("add_prefix_space").unwrap_or(false);
    let byte_level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex});
    let split = |pattern: &str, behavior: &str, invert: bool| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert});
    let mut model = json!({"type": "BPE", "fuse_unk": false, "byte_fallback": false});
    let mut normalizer = Value::Null;
    let mut pre_tokenizer = byte_level(true);
    let mut decoder = byte_level(true);
    let mut defaults = &GPT2[..];
    let mut template = Template::Marks { begin: false };
    match class {
        "RobertaTokenizer" | "BartTokenizer" | "LongformerTokenizer" => {
            defaults = &ROBERTA;
            let name = |key| settings.name(key, defaults).into_iter().collect();
            template = Template::Fixed(name("cls_token"), name("sep_token"));
        }
        "Qwen2Tokenizer" => {
            normalizer = json!({"type": "NFC"});
            pre_tokenizer = json!({"type": "Sequence",
                "pretokenizers": [split(QWEN2, "Isolated", false), byte_level(false)]});
            defaults = &GPT2[1..2];
        }
        "CLIPTokenizer" => {
            normalizer = json!({"type": "Sequence", "normalizers": [{"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}, {"type": "Lowercase"}]});
            pre_tokenizer = json!({"type": "Sequence",
                "pretokenizers": [split(CLIP, "Removed", true), byte_level(true)]});
            decoder = json!({"type": "Sequence", "decoders": [byte_level(true),
                {"type": "Replace", "pattern": {"String": "</w>"}, "content": " "},
                {"type": "Strip", "content": " ", "start": 0, "stop": 1}]});
            model["end_of_word_suffix"] = "</w>".into();
            model["unk_token"] = "<|endoftext|>".into();
            defaults = &[
                ("bos_token", "<|startoftext|>"),
                ("eos_token", "<|endoftext|>"),
            ];
            template =
                Template::Fixed(vec!["<|startoftext|>".into()], vec!["<|endoftext|>".into()]);
        }
        "OpenAIGPTTokenizer" => {
            normalizer = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true});
            pre_tokenizer = json!({"type": "BertPreTokenizer"});
            decoder = json!({"type": "BPEDecoder", "suffix": "</w>"});
            model["end_of_word_suffix"] = "</w>".into();
            defaults = &ROBERTA[2..3];
        }
        "LlamaTokenizer" => {
            normalizer = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
            pre_tokenizer = Value::Null;
            decoder = super::sentencepiece::decoder(true, true);
            model["fuse_unk"] = true.into();
            model["byte_fallback"] = vocab.contains_key("<0x00>").into();
            defaults = &ROBERTA[..3];
            template = Template::Marks {
                begin: settings.is_llama(),
            };
        }
        _ => {}
    }
    if let Some(unknown) = settings.name("unk_token", defaults)
        && model["unk_token"].is_null()
        && defaults.contains(&("unk_token", "<unk>"))
        && vocab.contains_key(&unknown)
        && pre_tokenizer["type"] != "ByteLevel"
    {
        model["unk_token"] = unknown.into();
    }
    model["vocab"] = vocab.into();
    model["merges"] = json!(merges);
    let pipeline = Pipeline::build(json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "decoder": decoder,
        "model": model,
    }))?;
    settings.apply(pipeline, defaults, template)
}

/// Parse the lines of a `merges.txt`; the first may state a version.
pub(super) fn merge_pairs<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Merges> {
    lines
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("#version"))
        .map(
            |(index, line)| match line.split(' ').collect::<Vec<&str>>()[..] {
                [left, right] => Ok((left.to_string(), right.to_string())),
                _ => Err(malformed(format!(
                    "merges.txt, line {}: expected two tokens and a space between them",
                    index + 1
                ))),
            },
        )
        .collect()
}
