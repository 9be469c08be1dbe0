//! The steps of decoding, one token at a time.
//!
//! The `decoder` of a `tokenizer.json` maps the list of all tokens to text. A stage gives the same text from a stream: it
//! holds back what a later token can change, and no more. (`DecodeStream` of the `tokenizers` crate compares decoded
//! texts instead. It fails where a token changes the text before it, and never returns a U+FFFD that is in the text.)

use std::sync::Arc;

use tokenizers::{Decoder, DecoderWrapper};

use crate::text::bpe::token_bytes;
use crate::text::pipeline::guarded;

/// One step of decoding, with what it holds back.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Joins tokens with spaces: a file without a decoder.
    Join { begun: bool },
    /// A decoder for which only the first token differs (WordPiece, Metaspace), or none (Replace).
    Each {
        decoder: Arc<DecoderWrapper>,
        begun: bool,
    },
    /// A decoder for which the last token differs (a suffix that ends a word).
    Last {
        decoder: Arc<DecoderWrapper>,
        held: Option<String>,
    },
    /// Drops repeated tokens (CTC).
    Distinct {
        decoder: Arc<DecoderWrapper>,
        last: Option<String>,
    },
    /// Byte tokens `<0xE4>`: whether a sequence of them is text is known at its end.
    ByteTokens {
        decoder: Arc<DecoderWrapper>,
        held: Vec<String>,
    },
    /// Bytes, in the byte-level alphabet; everything is one text afterwards.
    Bytes { held: Vec<u8> },
    /// Strips each token, or the start of one text.
    Strip {
        content: char,
        start: usize,
        stop: usize,
        /// Characters that may still be stripped from the start of one text; `None` where each token is stripped.
        left: Option<usize>,
    },
    /// Replaces a string that cannot span two pieces of text.
    Replace { from: String, to: String },
    /// Any other decoder after the tokens became one text: waits for its end.
    Whole {
        decoder: Arc<DecoderWrapper>,
        text: String,
    },
}

/// Make the stages of a tokenizer's decoder.
pub(super) fn stages(decoder: Option<&DecoderWrapper>) -> Vec<Stage> {
    let mut stages = Vec::new();
    match decoder {
        None => stages.push(Stage::Join { begun: false }),
        Some(decoder) => add(decoder, &mut false, &mut stages),
    }
    stages
}

/// Append the stages of a decoder; `whole` says whether earlier ones have joined the tokens into one text.
fn add(wrapper: &DecoderWrapper, whole: &mut bool, stages: &mut Vec<Stage>) {
    let decoder = Arc::new(wrapper.clone());
    let stage = match wrapper {
        DecoderWrapper::Sequence(sequence) => {
            for inner in sequence.get_decoders() {
                add(inner, whole, stages);
            }
            return;
        }
        DecoderWrapper::Fuse(_) => {
            *whole = true;
            return;
        }
        DecoderWrapper::Replace(_) => match pattern(wrapper) {
            Some((from, to)) if !*whole || from.chars().count() == 1 => Stage::Replace { from, to },
            _ if *whole => whole_text(decoder),
            _ => Stage::Each {
                decoder,
                begun: false,
            },
        },
        DecoderWrapper::Strip(strip) if !*whole || strip.stop == 0 => Stage::Strip {
            content: strip.content,
            start: strip.start,
            stop: strip.stop,
            left: whole.then_some(strip.start),
        },
        _ if *whole => whole_text(decoder),
        DecoderWrapper::ByteLevel(_) => {
            *whole = true;
            Stage::Bytes { held: Vec::new() }
        }
        DecoderWrapper::BPE(_) => Stage::Last {
            decoder,
            held: None,
        },
        DecoderWrapper::CTC(_) => Stage::Distinct {
            decoder,
            last: None,
        },
        DecoderWrapper::ByteFallback(_) => Stage::ByteTokens {
            decoder,
            held: Vec::new(),
        },
        DecoderWrapper::WordPiece(_) | DecoderWrapper::Metaspace(_) | DecoderWrapper::Strip(_) => {
            Stage::Each {
                decoder,
                begun: false,
            }
        }
    };
    stages.push(stage);
}

fn whole_text(decoder: Arc<DecoderWrapper>) -> Stage {
    Stage::Whole {
        decoder,
        text: String::new(),
    }
}

/// The string that a Replace decoder replaces, and what by; `None` for a regular expression.
fn pattern(replace: &DecoderWrapper) -> Option<(String, String)> {
    let json = serde_json::to_value(replace).ok()?;
    let text = |value: &serde_json::Value| value.as_str().map(String::from);
    let from = text(&json["pattern"]["String"])?;
    (!from.is_empty()).then_some((from, text(&json["content"])?))
}

/// Pass tokens through all stages, and at the `end` also what they hold back. Returns the text.
pub(super) fn run(stages: &mut [Stage], mut tokens: Vec<String>, end: bool) -> String {
    for stage in stages {
        let mut out = Vec::with_capacity(tokens.len());
        for token in tokens {
            stage.push(token, &mut out);
        }
        if end {
            stage.finish(&mut out);
        }
        tokens = out;
    }
    tokens.concat()
}

/// Run a decoder of the `tokenizers` crate on a few tokens. Where it fails (a regular expression that gives up), the
/// tokens stay as they are.
fn chain(decoder: &DecoderWrapper, tokens: &[&str]) -> Vec<String> {
    let tokens: Vec<String> = tokens.iter().map(ToString::to_string).collect();
    guarded(|| decoder.decode_chain(tokens.clone())).unwrap_or(tokens)
}

impl Stage {
    fn push(&mut self, token: String, out: &mut Vec<String>) {
        match self {
            Self::Join { begun } => {
                let space = if std::mem::replace(begun, true) {
                    " "
                } else {
                    ""
                };
                out.push(format!("{space}{token}"));
            }
            Self::Each { decoder, begun } if *begun => {
                out.extend(chain(decoder, &["", &token]).into_iter().skip(1));
            }
            Self::Each { decoder, begun } => {
                *begun = true;
                out.extend(chain(decoder, &[&token]));
            }
            Self::Last { decoder, held } => {
                if let Some(before) = held.replace(token) {
                    out.extend(chain(decoder, &[&before, ""]).into_iter().take(1));
                }
            }
            Self::Distinct { decoder, last } => {
                if last.as_ref() != Some(&token) {
                    out.extend(chain(decoder, &[&token]));
                }
                *last = Some(token);
            }
            Self::ByteTokens { decoder, held } => {
                if chain(decoder, &[&token]) == [token.as_str()] {
                    finish_bytes(decoder, held, out);
                    out.push(token);
                } else {
                    held.push(token);
                }
            }
            Self::Bytes { held } => {
                held.extend(token_bytes(&token));
                out.push(take_complete(held));
            }
            Self::Strip {
                content,
                start,
                stop,
                left,
            } => out.push(match left {
                Some(left) => strip_start(token, *content, left),
                None => strip_token(&token, *content, *start, *stop),
            }),
            Self::Replace { from, to } => out.push(token.replace(from.as_str(), to)),
            Self::Whole { text, .. } => text.push_str(&token),
        }
    }

    fn finish(&mut self, out: &mut Vec<String>) {
        match self {
            Self::Last { decoder, held } => {
                if let Some(token) = held.take() {
                    out.extend(chain(decoder, &[&token]));
                }
            }
            Self::ByteTokens { decoder, held } => finish_bytes(decoder, held, out),
            Self::Bytes { held } => {
                out.push(String::from_utf8_lossy(&std::mem::take(held)).into_owned());
            }
            Self::Whole { decoder, text } => out.extend(chain(decoder, &[&std::mem::take(text)])),
            _ => {}
        }
    }
}

fn finish_bytes(decoder: &DecoderWrapper, held: &mut Vec<String>, out: &mut Vec<String>) {
    if !held.is_empty() {
        let held: Vec<String> = std::mem::take(held);
        out.extend(guarded(|| decoder.decode_chain(held)).unwrap_or_default());
    }
}

/// Remove the complete characters from the start of `held` and return them; invalid bytes become U+FFFD.
pub(super) fn take_complete(held: &mut Vec<u8>) -> String {
    let mut text = String::new();
    loop {
        match std::str::from_utf8(held) {
            Ok(complete) => {
                text.push_str(complete);
                held.clear();
                return text;
            }
            Err(error) => {
                let valid = error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&held[..valid]));
                match error.error_len() {
                    // An incomplete character at the end: wait for its other bytes.
                    None => {
                        held.drain(..valid);
                        return text;
                    }
                    Some(wrong) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        held.drain(..valid + wrong);
                    }
                }
            }
        }
    }
}

/// Strip up to `left` characters from the start of a text that arrives in pieces.
fn strip_start(mut piece: String, content: char, left: &mut usize) -> String {
    let found = piece
        .chars()
        .take(*left)
        .take_while(|&c| c == content)
        .count();
    let rest = piece.split_off(found * content.len_utf8());
    *left = if rest.is_empty() { *left - found } else { 0 };
    rest
}

/// Strip one token at both ends.
fn strip_token(token: &str, content: char, start: usize, stop: usize) -> String {
    let ends = |count: usize| count * content.len_utf8();
    let before = token.chars().take(start).take_while(|&c| c == content);
    let rest = &token[ends(before.count())..];
    let after = rest.chars().rev().take(stop).take_while(|&c| c == content);
    rest[..rest.len() - ends(after.count())].to_string()
}
