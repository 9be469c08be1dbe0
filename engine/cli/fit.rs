//! `brillm fit`: constants of charges and recall of a finished model.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use serde_json::json;

use super::held_out::HeldOutArguments;
use crate::Result;
use crate::learn::charges::{self, FittedCharges};
use crate::learn::recall::{self, FittedRecall};
use crate::measure::Windows;

/// Fit charges or recall of a finished model on held-out text, and print or store their constants.
#[derive(Args)]
#[command(group(ArgGroup::new("constants").required(true).multiple(true).args(["charges", "recall"])))]
#[command(after_long_help = "\
Examples:
  brillm fit --model model.bril --recall 2000 held-out.txt
  brillm fit --model model.bril --recall 2000 --ids heldout.u16 --windows 31,400 --first-window 1000 --out model.bril")]
pub(super) struct Arguments {
    /// Model: a .bril file [default: the built-in English model].
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    #[command(flatten)]
    held_out: HeldOutArguments,
    /// Fit on the tokens of COUNT windows of LENGTH tokens, as one stream [default: the whole text].
    #[arg(long, value_name = "LENGTH,COUNT")]
    windows: Option<Windows>,
    /// Index of the first window, from 0.
    #[arg(long, default_value_t = 0, value_name = "W", requires = "windows")]
    first_window: usize,
    /// Fit charges of recent nodes and edges, in up to 40 rounds that each take as long as one or two evaluations.
    #[arg(long)]
    charges: bool,
    /// Fit recall of the last N signals.
    #[arg(long, value_name = "N")]
    recall: Option<usize>,
    /// Write the model with the fitted constants to FILE.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Show that a fit is running.
    fn shown<T>(&self, what: &str, predictions: usize, fit: impl FnOnce() -> T) -> T {
        let text = format!("{{spinner}} fitting {what} to {predictions} predictions, {{elapsed}}");
        let bar = super::progress::bar(self.json, None, &text);
        bar.enable_steady_tick(Duration::from_millis(200));
        let fitted = fit();
        bar.finish_and_clear();
        fitted
    }

    pub(super) fn run(self) -> Result<()> {
        let engine = super::open_engine(self.model.as_deref())?;
        let (tokens, _) = self.held_out.tokens(&engine)?;
        let model = engine.graph()?;
        let tokens = match &self.windows {
            Some(windows) => {
                let windows = windows.starting_at(self.first_window);
                let spans: Vec<_> = windows.spans(tokens.len())?.collect();
                &tokens[spans[0].start..spans[spans.len() - 1].end]
            }
            None => &tokens[..],
        };
        let (mechanism, predictions) = (model.mechanism(), tokens.len().saturating_sub(1));
        let charges = self
            .charges
            .then(|| self.shown("charges", predictions, || charges::fit(mechanism, tokens)));
        let charges = charges.transpose()?;
        let recall = self.recall.map(|window| {
            let fit = || recall::fit(mechanism, tokens, window);
            self.shown("recall", predictions, fit)
        });
        let recall = recall.transpose()?;
        if let Some(path) = &self.out {
            let fitted = model.described(|metadata| {
                metadata.charges = charges.map_or(metadata.charges, |fitted| Some(fitted.settings));
                metadata.recall = recall.map_or(metadata.recall, |fitted| Some(fitted.settings));
            });
            fitted.save(path)?;
        }
        if self.json {
            say_json(tokens.len() - 1, charges, recall)
        } else {
            say(charges, recall)
        }
    }
}

/// Print the fitted constants as JSON.
fn say_json(
    tokens: usize,
    charges: Option<FittedCharges>,
    recall: Option<FittedRecall>,
) -> Result<()> {
    super::say_json(&json!({
        "tokens": tokens,
        "charges": charges.map(|fitted| json!({
            "settings": fitted.settings,
            "nats_per_token_before": fitted.before,
            "nats_per_token": fitted.after,
        })),
        "recall": recall.map(|fitted| json!({
            "settings": fitted.settings,
            "nats_per_token_before": fitted.before,
            "nats_per_token": fitted.after,
            "constant": {"settings": fitted.constant.0, "nats_per_token": fitted.constant.1},
        })),
    }))
}

/// Print the perplexity without and with the fitted constants.
fn say(charges: Option<FittedCharges>, recall: Option<FittedRecall>) -> Result<()> {
    let figure = |name: &str, settings: &dyn std::fmt::Display, nats: f64| {
        super::say(format!(
            "perplexity {:.2} with --{name}={settings}",
            nats.exp()
        ))
    };
    let before = charges.map(|fitted| fitted.before);
    if let Some(before) = before.or(recall.map(|fitted| fitted.before)) {
        super::say(format!("perplexity {:.2} without", before.exp()))?;
    }
    if let Some(fitted) = charges {
        figure("charges", &fitted.settings, fitted.after)?;
    }
    if let Some(fitted) = recall {
        figure("recall", &fitted.constant.0, fitted.constant.1)?;
        figure("recall", &fitted.settings, fitted.after)?;
    }
    Ok(())
}
