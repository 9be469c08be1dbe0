//! Held-out texts as the tokens that an evaluation predicts.

use std::path::Path;

use crate::Result;
use crate::run::Engine;
use crate::text::{Corpus, CorpusOptions};

/// Encode texts (files, folders, globs, or `-` for standard input) as one stream: the initial special tokens, then each
/// text with its end token. Also returns the bytes of text.
///
/// # Errors
/// As [`Corpus::open`]; those of the texts and of the tokenizer.
pub fn held_out_tokens(engine: &Engine, texts: &[impl AsRef<Path>]) -> Result<(Vec<u32>, usize)> {
    let mut bytes = 0;
    let mut tokens = engine.tokenizer().frame().0;
    let end = engine.tokenizer().vocabulary().stop();
    let end = end.or_else(|| engine.stop_tokens().first().copied());
    let codecs = engine.tokenizer().codecs().cloned().unwrap_or_default();
    for document in Corpus::open(texts, CorpusOptions::default())?.with_codecs(&codecs) {
        let document = document?;
        bytes += document.len();
        tokens.extend(engine.tokenizer().encode(&document)?);
        tokens.extend(end);
    }
    Ok((tokens, bytes))
}
