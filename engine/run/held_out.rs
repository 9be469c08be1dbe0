//! Held-out texts as the tokens that an evaluation predicts.

use std::path::Path;

use crate::Result;
use crate::run::Engine;

/// Encode texts (files, folders, globs, or `-` for standard input) as one stream: the initial special tokens, then each
/// text with its end token. Also returns the bytes of text, 0 for texts with images or sounds, whose codes the bytes do not
/// count.
///
/// # Errors
/// As [`Tokenizer::corpus`](crate::text::Tokenizer::corpus); those of the texts and of the tokenizer.
pub fn held_out_tokens(engine: &Engine, texts: &[impl AsRef<Path>]) -> Result<(Vec<u32>, usize)> {
    let (mut bytes, mut codes) = (0, false);
    let mut tokens = engine.tokenizer().frame().0;
    let end = engine.tokenizer().vocabulary().stop();
    let end = end.or_else(|| engine.stop_tokens().first().copied());
    for document in engine.tokenizer().corpus(texts)? {
        let document = document?;
        let of_text = engine.tokenizer().text_bytes(&document);
        bytes += of_text;
        codes |= of_text < document.len();
        tokens.extend(engine.tokenizer().encode(&document)?);
        tokens.extend(end);
    }
    Ok((tokens, if codes { 0 } else { bytes }))
}
