//! Arguments that name held-out text: files of text, or of token ids.

use std::path::PathBuf;

use clap::Args;

use crate::Result;
use crate::run::{Engine, held_out_tokens};
use crate::text::{Corpus, read_ids};

/// The text that a command measures or fits on.
#[derive(Args)]
pub(super) struct HeldOutArguments {
    /// Held-out texts: files, folders, globs, or - for standard input.
    #[arg(required_unless_present = "ids", conflicts_with = "ids")]
    text: Vec<PathBuf>,
    /// Token ids instead of texts: a .u16 or .u32 file.
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
}

impl HeldOutArguments {
    /// Whether the text comes from standard input.
    pub(super) fn reads_standard_input(&self) -> bool {
        self.text.iter().any(|path| path.as_os_str() == "-")
    }

    /// Open the texts.
    pub(super) fn corpus(&self, engine: &Engine) -> Result<Corpus> {
        engine.tokenizer().corpus(&self.text)
    }

    /// Read the tokens of all texts as one, each text with its end token; also returns the bytes of text, 0 for ids and for texts with
    /// images or sounds.
    pub(super) fn tokens(&self, engine: &Engine) -> Result<(Vec<u32>, usize)> {
        if let Some(path) = &self.ids {
            return Ok((read_ids(path, Some(engine.vocabulary()))?, 0));
        }
        held_out_tokens(engine, &self.text)
    }
}
