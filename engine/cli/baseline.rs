//! `brillm baseline`: Kneser-Ney perplexity on the same tokens.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::measure::{KneserNey, Windows};
use crate::text::{Corpus, CorpusOptions, Tokenizer, read_ids};
use crate::{Error, ErrorKind, Result};

/// Train and measure Kneser-Ney n-gram models (interpolated, modified) on token ids or words.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm baseline --train train.u16 --test test.u16
  brillm baseline --train train.u16 --test test.u16 --order 3 --stream --json
  brillm baseline --words --train ptb.train.txt --test ptb.test.txt --windows 82430,1")]
pub(super) struct Arguments {
    /// Token ids to train on: a .u16 or .u32 file; with --words a text.
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Token ids to measure: a .u16 or .u32 file; with --words a text.
    #[arg(long, value_name = "FILE")]
    test: PathBuf,
    /// Read texts: each word between spaces is a token, and each line end.
    #[arg(long)]
    words: bool,
    /// Highest order, 2 to 5; every order from 2 to it is reported.
    #[arg(long, default_value_t = 5, value_name = "N")]
    order: usize,
    /// Vocabulary size [default: the largest id + 1, or all words].
    #[arg(long, value_name = "N")]
    vocabulary: Option<usize>,
    /// Measure COUNT windows of LENGTH tokens, each from an empty context.
    #[arg(long, default_value = "31,400", value_name = "LENGTH,COUNT")]
    windows: Windows,
    /// Keep the context from window to window.
    #[arg(long)]
    stream: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Read the training and the test tokens, and the size of their vocabulary.
    fn read(&self) -> Result<(Vec<u32>, Vec<u32>, usize)> {
        if self.words {
            let open = |path| Corpus::open(&[path], CorpusOptions::default());
            let texts: Vec<String> = open(&self.train)?.collect::<Result<_>>()?;
            let size = self.vocabulary.unwrap_or(usize::MAX);
            let tokenizer = Tokenizer::train_words(texts.iter().cloned(), size)?;
            let encode = |texts: Vec<String>| -> Result<Vec<u32>> {
                let ids = texts.iter().map(|text| tokenizer.encode(text));
                Ok(ids.collect::<Result<Vec<_>>>()?.concat())
            };
            let (train, test) = (encode(texts)?, open(&self.test)?.collect::<Result<_>>()?);
            return Ok((train, encode(test)?, tokenizer.vocabulary().len()));
        }
        let train = read_ids(&self.train, self.vocabulary)?;
        let test = read_ids(&self.test, self.vocabulary)?;
        let largest = train.iter().chain(&test).copied().max().unwrap_or(0) as usize;
        Ok((train, test, self.vocabulary.unwrap_or(largest + 1)))
    }

    pub(super) fn run(self) -> Result<()> {
        let (train, test, vocabulary) = self.read()?;
        if !(2..=5).contains(&self.order) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("invalid --order {}: expected 2 to 5", self.order),
            ));
        }
        let mut orders = BTreeMap::new();
        // Inside the highest model the lower orders count continuations, so they differ from models of those orders.
        let mut levels = BTreeMap::new();
        let windows = self.windows.streaming(self.stream);
        for order in 2..=self.order {
            let model = KneserNey::train(&train, vocabulary, order)?;
            orders.insert(
                order.to_string(),
                model.evaluate(&test, &windows, order)?.perplexity(),
            );
            if order == self.order {
                for level in 2..order {
                    let measured = model.evaluate(&test, &windows, level)?;
                    levels.insert(level.to_string(), measured.perplexity());
                }
            }
        }
        if self.json {
            return super::say_json(&json!({
                "orders": orders,
                "levels": levels,
                "train_tokens": train.len(),
                "candidates": vocabulary,
            }));
        }
        for (order, perplexity) in orders {
            super::say(format!("Kneser-Ney {order}: perplexity {perplexity:.2}"))?;
        }
        for (level, perplexity) in levels {
            super::say(format!(
                "order {level} inside Kneser-Ney {}: perplexity {perplexity:.2}",
                self.order
            ))?;
        }
        Ok(())
    }
}
