//! Encoding by a vocabulary alone: character by character, or the longest pieces first.

use std::collections::HashMap;

use crate::text::bpe;
use crate::text::special::special;
use crate::text::vocabulary::Vocabulary;
use crate::{Error, ErrorKind, Result};

/// Encode each character of a text: as its token, as its bytes, or as unknown.
///
/// # Errors
/// [`ErrorKind::Vocabulary`] for a character outside a vocabulary that has neither bytes nor an unknown token.
pub(super) fn characters(
    vocabulary: &Vocabulary,
    bytes: Option<&[u32; 256]>,
    text: &str,
) -> Result<Vec<u32>> {
    let mut ids = Vec::with_capacity(text.len() / 2);
    let mut buffer = [0; 4];
    for (offset, character) in text.char_indices() {
        let written: &str = character.encode_utf8(&mut buffer);
        match (vocabulary.id(written), bytes, vocabulary.unknown()) {
            (Some(id), ..) => ids.push(id),
            (None, Some(bytes), _) => ids.extend(written.bytes().map(|byte| bytes[byte as usize])),
            (None, None, Some(unknown)) => ids.push(unknown),
            (None, None, None) => return Err(outside(character, offset)),
        }
    }
    Ok(ids)
}

/// Encode a text by the longest piece at each position, of at most `longest` bytes.
///
/// # Errors
/// [`ErrorKind::Vocabulary`] for a character that no piece covers, in a vocabulary without an unknown token.
pub(super) fn pieces(vocabulary: &Vocabulary, longest: usize, text: &str) -> Result<Vec<u32>> {
    let pieces: HashMap<&[u8], u32> = (0..vocabulary.len() as u32)
        .map(|id| (vocabulary.bytes(id), id))
        .filter(|(bytes, _)| !bytes.is_empty())
        .collect();
    let bytes = text.as_bytes();
    let mut ids = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let reach = longest.min(bytes.len() - at);
        let found = (1..=reach)
            .rev()
            .find_map(|n| pieces.get(&bytes[at..at + n]).map(|&id| (n, id)));
        match (found, vocabulary.unknown()) {
            (Some((n, id)), _) => {
                ids.push(id);
                at += n;
            }
            (None, Some(unknown)) => {
                ids.push(unknown);
                at += 1;
                while !text.is_char_boundary(at) {
                    at += 1;
                }
            }
            (None, None) => {
                // A piece may end within a character.
                let start = (0..=at)
                    .rev()
                    .find(|&at| text.is_char_boundary(at))
                    .unwrap_or(0);
                return Err(outside(text[start..].chars().next().unwrap_or(' '), start));
            }
        }
    }
    Ok(ids)
}

/// The bytes of a piece; none for a special token.
pub(super) fn piece_bytes(token: &str) -> Vec<u8> {
    if special(token) {
        Vec::new()
    } else {
        bpe::token_bytes(token)
    }
}

fn outside(character: char, offset: usize) -> Error {
    Error::new(
        ErrorKind::Vocabulary,
        format!(
            "the vocabulary has no token for {character:?} (U+{:04X}), at byte {offset}",
            character as u32
        ),
    )
    .advice("leave it out, or use a model whose vocabulary has bytes")
}
