//! Byte-pair encoding with the `tokenizers` crate: training, loading, and encoding of long texts in parallel.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper, PreTokenizerWrapper, TokenizerBuilder};

use crate::text::vocabulary::{END, Vocabulary};
use crate::{Error, ErrorKind, Result};

/// Length from which texts are encoded in pieces, in parallel, in bytes.
const PIECE: usize = 1 << 18;

fn invalid(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Vocabulary, format!("{what}: {error}"))
}

/// The byte of each character of the byte-level alphabet (Radford et al. 2019): printable bytes map to
/// themselves, the others to 256 and up, in order.
fn byte_of_character() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut moved = 256;
    (0..=255u8)
        .map(|byte| {
            let character = if printable(byte) {
                char::from(byte)
            } else {
                moved += 1;
                char::from_u32(moved - 1).expect("below the surrogates")
            };
            (character, byte)
        })
        .collect()
}

/// The bytes of a byte-level token; tokens outside the alphabet decode to themselves.
pub(crate) fn token_bytes(token: &str) -> Vec<u8> {
    use std::sync::OnceLock;
    static ALPHABET: OnceLock<HashMap<char, u8>> = OnceLock::new();
    let alphabet = ALPHABET.get_or_init(byte_of_character);
    let bytes: Option<Vec<u8>> = token
        .chars()
        .map(|character| alphabet.get(&character).copied())
        .collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// Trains a byte-level BPE of `size` tokens, `<end>` first; all 256 bytes are in it, so any text round-trips.
pub(crate) fn train(
    texts: impl Iterator<Item = String> + Send,
    size: usize,
) -> Result<tokenizers::Tokenizer> {
    if size < 257 {
        return Err(Error::new(
            ErrorKind::Configuration,
            format!("a BPE vocabulary of {size} tokens is too small"),
        )
        .advice("256 bytes and the end token need at least 257"));
    }
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        tokenizers::NormalizerWrapper,
        PreTokenizerWrapper,
        tokenizers::PostProcessorWrapper,
        DecoderWrapper,
    >::new()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(ByteLevel::new(false, false, true).into()))
    .with_decoder(Some(ByteLevel::new(false, false, true).into()))
    .build()
    .map_err(|error| invalid("the tokenizer cannot be created", &error))?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END, true)])
        .build();
    tokenizer
        .train(&mut trainer, texts)
        .map_err(|error| invalid("BPE training failed", &error))?;
    let json = tokenizer
        .to_string(false)
        .map_err(|error| invalid("the tokenizer cannot be written", &error))?;
    load(json.as_bytes())
}

/// Loads a `tokenizer.json`.
pub(crate) fn load(json: &[u8]) -> Result<tokenizers::Tokenizer> {
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(json)
        .map_err(|error| invalid("invalid tokenizer.json", &error))?;
    if !matches!(
        tokenizer.get_model(),
        ModelWrapper::BPE(_) | ModelWrapper::WordPiece(_)
    ) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the tokenizer is neither BPE nor WordPiece",
        ));
    }
    tokenizer.with_padding(None);
    let _ = tokenizer.with_truncation(None);
    Ok(tokenizer)
}

/// Adds special tokens to a tokenizer.
pub(crate) fn with_marks(
    mut tokenizer: tokenizers::Tokenizer,
    marks: &[String],
) -> Result<tokenizers::Tokenizer> {
    let marks: Vec<AddedToken> = marks
        .iter()
        .map(|mark| AddedToken::from(mark.clone(), true))
        .collect();
    let _ = tokenizer.add_special_tokens(marks);
    let json = tokenizer
        .to_string(false)
        .map_err(|error| invalid("the tokenizer cannot be written", &error))?;
    load(json.as_bytes())
}

/// The tokens of a loaded tokenizer, by id.
pub(crate) fn vocabulary(tokenizer: &tokenizers::Tokenizer) -> Result<Vocabulary> {
    let map = tokenizer.get_vocab(true);
    let mut tokens = vec![None; map.len()];
    for (token, id) in map {
        match tokens.get_mut(id as usize) {
            Some(entry) => *entry = Some(token),
            None => {
                return Err(invalid(
                    "the ids have gaps",
                    &format!("id {id} of {} tokens", tokens.len()),
                ));
            }
        }
    }
    let tokens: Vec<String> = tokens
        .into_iter()
        .enumerate()
        .map(|(id, token)| {
            token.ok_or_else(|| invalid("the ids have gaps", &format!("no token has id {id}")))
        })
        .collect::<Result<_>>()?;
    let special: Vec<u32> = tokenizer
        .get_added_tokens_decoder()
        .into_iter()
        .filter(|(_, token)| token.special)
        .map(|(id, _)| id)
        .collect();
    let bytes = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| {
            if special.contains(&(id as u32)) {
                Vec::new()
            } else {
                piece_bytes(tokenizer.get_model(), token)
            }
        })
        .collect();
    let position = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| tokens.iter().position(|token| token == name))
            .map(|id| id as u32)
    };
    let unknown = match tokenizer.get_model() {
        ModelWrapper::BPE(model) => model
            .unk_token
            .as_deref()
            .and_then(|token| position(&[token])),
        ModelWrapper::WordPiece(model) => position(&[model.unk_token.as_str()]),
        _ => None,
    };
    let stop = position(&[END, "<|endoftext|>", "</s>", "<|end_of_text|>", "[SEP]"]);
    Vocabulary::new(tokens, bytes, unknown, stop)
}

/// The bytes of a token, by the kind of its model.
fn piece_bytes(model: &ModelWrapper, token: &str) -> Vec<u8> {
    match model {
        ModelWrapper::WordPiece(model) => {
            match token.strip_prefix(&model.continuing_subword_prefix) {
                Some(rest) => rest.as_bytes().to_vec(),
                None => format!(" {token}").into_bytes(),
            }
        }
        // SentencePiece's alphabet: ▁ is a space, <0x0A> is a byte.
        ModelWrapper::BPE(model) if model.byte_fallback => token
            .strip_prefix("<0x")
            .and_then(|digits| u8::from_str_radix(digits.strip_suffix('>')?, 16).ok())
            .map_or_else(|| token.replace('▁', " ").into_bytes(), |byte| vec![byte]),
        _ => token_bytes(token),
    }
}

/// Whether encoding puts a space before a text.
pub(crate) fn spaced(tokenizer: &tokenizers::Tokenizer) -> bool {
    match tokenizer.get_model() {
        ModelWrapper::WordPiece(_) => true,
        ModelWrapper::BPE(model) => model.byte_fallback,
        _ => false,
    }
}

/// The ids that the post-processor puts before and after a text.
pub(crate) fn frame(tokenizer: &tokenizers::Tokenizer) -> (Vec<u32>, Vec<u32>) {
    let encode = |text: &str, frame: bool| {
        tokenizer
            .encode_fast(text, frame)
            .map(|encoding| encoding.get_ids().to_vec())
            .unwrap_or_default()
    };
    let (bare, framed) = (encode("a", false), encode("a", true));
    let before = (0..framed.len()).find(|&at| framed[at..].starts_with(&bare));
    match before {
        Some(before) if !bare.is_empty() => (
            framed[..before].to_vec(),
            framed[before + bare.len()..].to_vec(),
        ),
        _ => (Vec::new(), Vec::new()),
    }
}

/// Encodes a text; a long one in pieces, split where the pre-tokenizer splits as well.
pub(crate) fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    let failed = |error: tokenizers::Error| invalid("the text cannot be encoded", &error);
    if text.len() <= PIECE || spaced(tokenizer) {
        return Ok(tokenizer
            .encode_fast(text, false)
            .map_err(failed)?
            .get_ids()
            .to_vec());
    }
    let encodings = tokenizer
        .encode_batch_fast(pieces(text), false)
        .map_err(failed)?;
    Ok(encodings
        .iter()
        .flat_map(|encoding| encoding.get_ids().iter().copied())
        .collect())
}

/// Splits before a single space between two letters, where every byte-level pre-tokenizer splits as well. A text without
/// such a position (no spaces for a megabyte) is split between characters.
fn pieces(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let mut start = 0;
    while bytes.len() - start > PIECE {
        let from = start + PIECE;
        let limit = (start + 4 * PIECE).min(bytes.len() - 1);
        let word = |at: &usize| {
            bytes[*at] == b' '
                && bytes[at - 1].is_ascii_alphabetic()
                && bytes[at + 1].is_ascii_alphabetic()
        };
        let mut end = (from..limit).find(word).unwrap_or(limit);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        pieces.push(&text[start..end]);
        start = end;
    }
    pieces.push(&text[start..]);
    pieces
}
