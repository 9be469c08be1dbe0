//! `brillm compare`: several models trained or opened on the same tokens, in one table.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::compare_row::{Measured, Row};
use super::compare_training::{Source, Trained};
use crate::measure::{KneserNey, Windows};
use crate::text::read_ids;
use crate::{Error, ErrorKind, Result};

/// Trains recipes or opens models, and measures all of them on the same tokens.
///
/// A masked network is measured on the tokens that are hidden, 15 % of them, the same for every model.
#[derive(Args)]
pub(super) struct Arguments {
    /// Recipes (.toml) to train, and models to open; either with +PLUGIN:KEY=VALUE,… for a technique.
    #[arg(required = true, value_name = "RECIPE|MODEL")]
    pub(super) entries: Vec<String>,
    /// Compares techniques on transformers: NEW tokens after each PROMPT, with the cache as plugins leave it.
    #[cfg(all(feature = "plugin", feature = "transformer"))]
    #[arg(long, value_name = "PROMPT,NEW[,COUNT]")]
    continuation: Option<crate::measure::Continuations>,
    /// Text to measure techniques on.
    #[cfg(all(feature = "plugin", feature = "transformer"))]
    #[arg(
        long,
        value_name = "FILE",
        requires = "continuation",
        conflicts_with = "ids"
    )]
    pub(super) text: Option<PathBuf>,
    /// Sequences at once for the speed of techniques; none for no speed.
    #[cfg(all(feature = "plugin", feature = "transformer"))]
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "B,…",
        requires = "continuation"
    )]
    pub(super) batch: Vec<usize>,
    /// Trains every recipe once with each seed, and prints means and standard deviations.
    #[arg(long, value_delimiter = ',', value_name = "SEED,…")]
    pub(super) seeds: Vec<u64>,
    /// Fine-tunes every transformer on a task and measures it there; may be given several times. FIELDS are those
    /// of `brillm classify`.
    #[cfg(feature = "transformer")]
    #[arg(long = "task", value_name = "NAME=TRAIN:TEST:FIELDS")]
    pub(super) tasks: Vec<super::compare_task::Task>,
    /// Passes over each task's training texts.
    #[cfg(feature = "transformer")]
    #[arg(long, default_value_t = 3, value_name = "N", requires = "tasks")]
    pub(super) epochs: usize,
    /// Changes one key of every recipe; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) changes: Vec<String>,
    /// Folder that the recipes' sources are relative to; each recipe's own folder by default.
    #[arg(long, value_name = "FOLDER")]
    pub(super) data: Option<PathBuf>,
    /// Folder of the runs.
    #[arg(long, default_value = "runs/compare", value_name = "FOLDER")]
    pub(super) out: PathBuf,
    /// Trains each recipe for this many CPU-seconds, by its pace over the first of them, instead of its tokens.
    #[arg(long, value_name = "N")]
    pub(super) cpu_seconds: Option<f64>,
    /// Token ids to measure on; the first recipe's validation tokens by default.
    #[arg(long, value_name = "FILE")]
    pub(super) ids: Option<PathBuf>,
    /// Windows LENGTH,COUNT whose context is reset.
    #[arg(long, default_value = "31,400", value_name = "LENGTH,COUNT")]
    pub(super) windows: Windows,
    /// Orders of Kneser-Ney to measure beside them, trained on the first recipe's tokens; 0 for none.
    #[arg(
        long,
        default_value = "2,3,4,5",
        value_delimiter = ',',
        value_name = "N,…"
    )]
    kneser_ney: Vec<usize>,
    /// Seconds of generating for each model's speed.
    #[arg(long, default_value_t = 2.0)]
    pub(super) seconds: f64,
    /// No progress bar.
    #[arg(long)]
    pub(super) quiet: bool,
    /// Report as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        super::catch_interrupt()?;
        #[cfg(all(feature = "plugin", feature = "transformer"))]
        if let Some(texts) = &self.continuation {
            return self.techniques(texts);
        }
        let sources = self
            .entries
            .iter()
            .map(|entry| Source::new(entry))
            .collect::<Result<Vec<_>>>()?;
        let mut trained: Vec<Vec<Trained>> = Vec::new();
        for source in &sources {
            let runs = self.train_all(source)?;
            let first = trained.iter().flatten().next();
            if let (Some(first), Some(one)) = (first, runs.first())
                && (first.train != one.train || first.vocabulary != one.vocabulary)
            {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    "the recipes are trained on different tokens",
                )
                .at(source.path.display())
                .advice("give them the same [data], or use --set data.…"));
            }
            trained.push(runs);
        }
        let first = trained.iter().flatten().next();
        let tokens = match (&self.ids, first) {
            (Some(path), _) => read_ids(path, None)?,
            (None, Some(first)) => first.validation.clone(),
            (None, None) => {
                return Err(
                    Error::new(ErrorKind::Input, "there is nothing to measure on")
                        .advice("give --ids FILE"),
                );
            }
        };
        let mut rows = Vec::new();
        for (source, runs) in sources.iter().zip(&trained) {
            rows.push(self.measure_all(source, runs, &tokens)?);
        }
        if let Some(first) = first {
            rows.extend(self.grams(first, &tokens)?);
        }
        self.report(&rows)
    }

    /// Kneser-Ney models of the same tokens.
    fn grams(&self, first: &Trained, tokens: &[u32]) -> Result<Vec<Row>> {
        let grams = |&order: &usize| {
            let model = KneserNey::train(&first.train, first.vocabulary, order)?;
            let measured = |stream| {
                model
                    .evaluate(tokens, &self.windows.streaming(stream), order)
                    .map(|measured| measured.perplexity())
            };
            Ok(Row {
                name: format!("Kneser-Ney {order}"),
                kind: "n-gram".into(),
                plugins: Value::Null,
                runs: vec![Measured {
                    parameters: Some((1..=order).map(|order| model.grams(order)).sum()),
                    train_tokens: Some(first.train.len() as u64),
                    perplexity: measured(false)?,
                    streaming: Some(measured(true)?),
                    ..Measured::default()
                }],
            })
        };
        self.kneser_ney
            .iter()
            .filter(|&&order| order > 0)
            .map(grams)
            .collect()
    }

    fn report(&self, rows: &[Row]) -> Result<()> {
        if self.json {
            let models: Vec<Value> = rows.iter().map(Row::json).collect();
            return super::say_json(
                &json!({"windows": self.windows.to_string(), "models": models}),
            );
        }
        let tasks = rows.iter().flat_map(|row| &row.runs).map(|run| &run.tasks);
        let tasks: Vec<&str> = tasks
            .max_by_key(|tasks| tasks.len())
            .map_or(Vec::new(), |tasks| {
                tasks.iter().map(|(name, _)| name.as_str()).collect()
            });
        let columns: String = tasks
            .iter()
            .map(|name| format!(" {name}: accuracy (Matthews) |"))
            .collect();
        super::say(format!(
            "| model | kind | parameters | trained on tokens | CPU-s | perplexity | nats | streaming | \
             KB read/token | state bytes | tokens/s |{columns}\n|---|---|---|---|---|---|---|---|---|---|---|{}",
            "---|".repeat(tasks.len())
        ))?;
        for row in rows {
            super::say(row.line(&tasks))?;
        }
        Ok(())
    }
}

/// Whether a path names a recipe.
pub(super) fn is_recipe(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}
