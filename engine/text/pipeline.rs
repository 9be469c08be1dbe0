//! A tokenizer of the `tokenizers` crate, as a `tokenizer.json` describes it: normalizer, pre-tokenizer, model,
//! post-processor, decoder.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(feature = "transformer")]
use tokenizers::models::bpe::BpeBuilder;
use tokenizers::{AddedToken, Encoding, ModelWrapper, PreTokenizerWrapper, Token};

use crate::text::decoder_stage::{Stage, run, stages};
use crate::text::special::byte_token;
use crate::text::vocabulary::{END, Vocabulary};
use crate::{Error, ErrorKind, Result};

/// Length from which texts are encoded in pieces, in parallel, in bytes.
const PIECE: usize = 1 << 18;
/// Ids below this may have gaps of any size.
const SPARSE: usize = 1 << 18;

/// A loaded tokenizer with the stages of its decoder.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    tokenizer: tokenizers::Tokenizer,
    stages: Vec<Stage>,
}

/// Make an error of kind [`ErrorKind::Vocabulary`].
pub(crate) fn invalid(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Vocabulary, format!("{what}: {error}"))
}

/// Run a function of the `tokenizers` crate, which panics on some files and texts.
pub(super) fn guarded<T>(run: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("the tokenizer is damaged".into()))
}

impl Pipeline {
    /// Read a `tokenizer.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`].
    pub(crate) fn read(json: &[u8]) -> Result<Self> {
        super::character_map::check_json(json)?;
        let tokenizer = guarded(|| tokenizers::Tokenizer::from_bytes(json))
            .map_err(|error| invalid("invalid tokenizer.json", &error))?;
        Self::of(tokenizer)
    }

    /// Build a tokenizer from the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`].
    pub(crate) fn build(json: serde_json::Value) -> Result<Self> {
        let tokenizer = guarded(|| Ok(serde_json::from_value(json)?))
            .map_err(|error| invalid("the tokenizer cannot be built", &error))?;
        Self::of(tokenizer)
    }

    /// Build a tokenizer from the content of a `tokenizer.json`, with another model than that of the JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`].
    #[cfg(feature = "transformer")]
    pub(crate) fn build_with(json: serde_json::Value, model: BpeBuilder) -> Result<Self> {
        let tokenizer = guarded(|| {
            let mut tokenizer: tokenizers::Tokenizer = serde_json::from_value(json)?;
            tokenizer.with_model(model.build()?);
            Ok(tokenizer)
        });
        Self::of(tokenizer.map_err(|error| invalid("the tokenizer cannot be built", &error))?)
    }

    fn of(mut tokenizer: tokenizers::Tokenizer) -> Result<Self> {
        tokenizer.with_padding(None);
        let _ = tokenizer.with_truncation(None);
        check_ids(&tokenizer.get_vocab(false))?;
        Ok(Self {
            stages: stages(tokenizer.get_decoder()),
            tokenizer,
        })
    }

    /// The content of the `tokenizer.json`.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`].
    pub(crate) fn to_json(&self) -> Result<String> {
        self.tokenizer
            .to_string(false)
            .map_err(|error| invalid("the tokenizer cannot be written", &error))
    }

    /// Add tokens after the existing ones; those of the vocabulary keep their ids.
    pub(crate) fn add_tokens(&mut self, tokens: Vec<AddedToken>) -> Result<()> {
        guarded(|| self.tokenizer.add_tokens(tokens))
            .map_err(|error| invalid("the tokens cannot be added", &error))?;
        Ok(())
    }

    /// Whether a token is among the added ones, as special or not.
    pub(crate) fn added(&self, token: &str) -> Option<AddedToken> {
        let added = self.tokenizer.get_added_vocabulary();
        let id = added.get_vocab().get(token)?;
        added.get_added_tokens_decoder().get(id).cloned()
    }

    /// The id of a token.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// Replace the post-processor, by its JSON.
    pub(crate) fn set_post_processor(&mut self, json: serde_json::Value) -> Result<()> {
        let processor: tokenizers::PostProcessorWrapper = serde_json::from_value(json)
            .map_err(|error| invalid("the special tokens cannot be placed", &error))?;
        self.tokenizer.with_post_processor(Some(processor));
        Ok(())
    }

    /// The stages of the decoder, before the first token.
    pub(crate) fn stages(&self) -> Vec<Stage> {
        self.stages.clone()
    }

    /// The text of a token as the decoder gets it; `None` for an unknown id, and for a special token unless `special`.
    pub(crate) fn token(&self, id: u32, special: bool) -> Option<String> {
        let token = self.tokenizer.id_to_token(id)?;
        let skipped = !special
            && self
                .tokenizer
                .get_added_vocabulary()
                .is_special_token(&token);
        (!skipped).then_some(token)
    }

    /// Whether decoded text is the bytes of the tokens, one after another.
    pub(crate) fn is_byte_level(&self) -> bool {
        matches!(self.stages[..], [Stage::Bytes { .. }])
    }

    /// The tokens of the vocabulary, by id. An id without a token is named `#17`.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`] for ids far above the number of tokens.
    pub(crate) fn vocabulary(&self) -> Result<Vocabulary> {
        let map = self.tokenizer.get_vocab(true);
        // An added token has the number of tokens as its id, which a vocabulary with gaps may have too.
        check_ids(&map)?;
        let count = map.values().max().map_or(0, |&id| id as usize + 1);
        if count > SPARSE.max(2 * map.len()) {
            return Err(invalid(
                "the ids have gaps",
                &format!("id {} of {} tokens", count - 1, map.len()),
            ));
        }
        let mut tokens: Vec<String> = (0..count).map(|id| format!("#{id}")).collect();
        let mut bytes = vec![Vec::new(); count];
        for (token, id) in map {
            if let Some(text) = self.token(id, false) {
                bytes[id as usize] = self.token_bytes(text);
            }
            tokens[id as usize] = token;
        }
        let position = |names: &[&str]| names.iter().find_map(|name| self.id(name));
        let unknown = match self.tokenizer.get_model() {
            ModelWrapper::BPE(model) => model.unk_token.as_deref().and_then(|name| self.id(name)),
            ModelWrapper::WordPiece(model) => position(&[model.unk_token.as_str()]),
            ModelWrapper::WordLevel(model) => position(&[model.unk_token.as_str()]),
            ModelWrapper::Unigram(_) => position(&["<unk>"]),
        };
        let stop = position(&[END, "<|endoftext|>", "</s>", "<|end_of_text|>", "[SEP]"]);
        Vocabulary::new(tokens, bytes, unknown, stop)
    }

    /// The bytes that a token adds to a text that precedes and follows it.
    fn token_bytes(&self, token: String) -> Vec<u8> {
        for stage in &self.stages {
            match stage {
                Stage::Bytes { .. } => return super::bpe::token_bytes(&token),
                Stage::ByteTokens { .. } => {
                    if let Some(byte) = byte_token(&token) {
                        return vec![byte];
                    }
                }
                _ => {}
            }
        }
        // Between two words of private-use characters, which no decoder changes.
        const WORDS: [&str; 2] = ["\u{f8fe}", "\u{f8ff}"];
        let decode = |tokens: &[&str]| {
            let tokens = tokens.iter().map(ToString::to_string).collect();
            run(&mut self.stages(), tokens, true)
        };
        let whole = decode(&[WORDS[0], &token, WORDS[1]]);
        let after = decode(&WORDS);
        let own = whole
            .strip_prefix(WORDS[0])
            .and_then(|rest| rest.strip_suffix(after.strip_prefix(WORDS[0])?));
        own.map_or_else(|| token.clone().into_bytes(), |own| own.as_bytes().to_vec())
    }

    /// The ids that the post-processor puts before and after a text.
    pub(crate) fn frame(&self) -> (Vec<u32>, Vec<u32>) {
        const TEXT: u32 = u32::MAX;
        let text = Encoding::from_tokens(vec![Token::new(TEXT, String::new(), (0, 0))], 0);
        let ids = match guarded(|| self.tokenizer.post_process(text, None, true)) {
            Ok(framed) => framed.get_ids().to_vec(),
            Err(_) => Vec::new(),
        };
        match ids.iter().position(|&id| id == TEXT) {
            Some(at) => (ids[..at].to_vec(), ids[at + 1..].to_vec()),
            None => (Vec::new(), Vec::new()),
        }
    }

    /// Encode a text; a long one in pieces, split where the pre-tokenizer splits too.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`].
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let failed = |error: tokenizers::Error| invalid("the text cannot be encoded", &error);
        if text.len() <= PIECE || !self.splits_at_spaces() {
            let encoding = guarded(|| self.tokenizer.encode_fast(text, false)).map_err(failed)?;
            return Ok(encoding.get_ids().to_vec());
        }
        let encodings =
            guarded(|| self.tokenizer.encode_batch_fast(pieces(text), false)).map_err(failed)?;
        Ok(encodings
            .iter()
            .flat_map(|encoding| encoding.get_ids().iter().copied())
            .collect())
    }

    /// Encode a text, the tokens of each word that the pre-tokenizer finds apart.
    ///
    /// # Errors
    /// [`ErrorKind::Vocabulary`].
    pub(super) fn words(&self, text: &str) -> Result<Vec<Vec<u32>>> {
        let encoding = guarded(|| self.tokenizer.encode(text, false))
            .map_err(|error| invalid("the text cannot be encoded", &error))?;
        let tokens: Vec<_> = encoding
            .get_ids()
            .iter()
            .zip(encoding.get_word_ids())
            .collect();
        let words = tokens.chunk_by(|one, next| one.1.is_some() && one.1 == next.1);
        Ok(words
            .map(|word| word.iter().map(|&(&id, _)| id).collect())
            .collect())
    }

    /// Whether each piece of a text that was split before a space is encoded as within the text: GPT-2's
    /// pre-tokenizer, and nothing before it.
    fn splits_at_spaces(&self) -> bool {
        let byte_level = match self.tokenizer.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::ByteLevel(level)) => {
                level.use_regex && !level.add_prefix_space
            }
            _ => false,
        };
        let spaced = |token: &AddedToken| token.content.contains(' ') || token.rstrip;
        byte_level
            && self.tokenizer.get_normalizer().is_none()
            && !self
                .tokenizer
                .get_added_tokens_decoder()
                .values()
                .any(spaced)
    }
}

/// Check that no two tokens of a vocabulary have the same id: only one of them would be written and decoded.
///
/// # Errors
/// [`ErrorKind::Vocabulary`].
fn check_ids(vocabulary: &HashMap<String, u32>) -> Result<()> {
    let mut tokens: Vec<(u32, &str)> = vocabulary
        .iter()
        .map(|(token, &id)| (id, token.as_str()))
        .collect();
    tokens.sort_unstable();
    match tokens.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some([(id, first), (_, second)]) => Err(Error::new(
            ErrorKind::Vocabulary,
            format!("the tokens {first:?} and {second:?} have the same id, {id}"),
        )),
        _ => Ok(()),
    }
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
