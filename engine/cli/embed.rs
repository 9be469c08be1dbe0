//! `brillm embed`: vectors of texts.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::Result;
use crate::transformer::Embedder;

/// Texts whose vectors are printed together.
const TOGETHER: usize = 256;

/// Represent texts by vectors: the last layer's rows of a text, pooled as sentence-transformers does.
///
/// Prints one JSON object for each text, with `text` and `embedding`. The model may be an encoder without a language-model head. Pooling
/// follows `1_Pooling/config.json`; without it, it is the mean of all rows, and of causal models the last row.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  models/fetch models minilm
  brillm embed texts.txt --model models/all-MiniLM-L6-v2 > vectors.jsonl")]
pub(super) struct Arguments {
    /// Texts, one per line; `-` reads standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Model folder with config.json, or a GGUF file.
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let text = crate::text::read_text(&self.file)?;
        let embedder = Embedder::open(&self.model)?;
        let texts: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        for texts in texts.chunks(TOGETHER) {
            for (text, vector) in texts.iter().zip(embedder.embed(texts)?) {
                super::say_json_line(&json!({"text": text, "embedding": vector}))?;
            }
        }
        Ok(())
    }
}
