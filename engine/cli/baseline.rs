//! `brillm baseline`: the Kneser-Ney bars on the same tokens.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::measure::{KneserNey, Windows};
use crate::text::read_ids;
use crate::{Error, ErrorKind, Result};

/// Trains interpolated modified Kneser-Ney on token ids and measures it.
#[derive(Args)]
pub(super) struct Arguments {
    /// Token ids to train on, .u16 or .u32.
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Token ids to measure on.
    #[arg(long, value_name = "FILE")]
    test: PathBuf,
    /// The highest order; every order from 2 is reported.
    #[arg(long, default_value_t = 5)]
    order: usize,
    /// Size of the vocabulary; the largest id and one by default.
    #[arg(long)]
    vocabulary: Option<usize>,
    /// Windows LENGTH,COUNT whose context is reset.
    #[arg(long, default_value = "31,400", value_name = "LENGTH,COUNT")]
    windows: Windows,
    /// Lets the context run on across windows.
    #[arg(long)]
    stream: bool,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let train = read_ids(&self.train, self.vocabulary)?;
        let test = read_ids(&self.test, self.vocabulary)?;
        let largest = train.iter().chain(&test).copied().max().unwrap_or(0) as usize;
        let vocabulary = self.vocabulary.unwrap_or(largest + 1);
        if !(2..=5).contains(&self.order) {
            return Err(Error::new(
                ErrorKind::Input,
                "the order must lie between 2 and 5",
            ));
        }
        let mut orders = BTreeMap::new();
        // The lower orders inside the highest model count continuations: slightly other models.
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
