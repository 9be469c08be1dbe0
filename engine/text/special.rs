//! Special tokens, which decode to nothing, and byte tokens.

use crate::modality::Modality;

/// Whether a token is special (a name in brackets such as `[PAD]`, `<unk>` or `<end>`, a token of a modality) or a byte
/// token.
pub(super) fn special(token: &str) -> bool {
    let enclosed =
        |open, close| token.len() > 2 && token.starts_with(open) && token.ends_with(close);
    (enclosed('[', ']')
        && token[1..token.len() - 1]
            .chars()
            .all(|c| c.is_ascii_uppercase()))
        || (enclosed('<', '>')
            && token[1..token.len() - 1]
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '2'))
        || byte_token(token).is_some()
        || Modality::is_mark(token)
}

/// The byte of a byte token such as `<0xE4>`.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// The bytes that a token of a character or piece vocabulary decodes to.
pub(super) fn plain_bytes(token: &str) -> Vec<u8> {
    match byte_token(token) {
        Some(byte) => vec![byte],
        None if special(token) => Vec::new(),
        None => token.as_bytes().to_vec(),
    }
}
