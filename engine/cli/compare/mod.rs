//! `brillm compare`: train or open several models and measure them on the same tokens.

mod row;
#[cfg(feature = "transformer")]
mod task;
#[cfg(all(feature = "plugin", feature = "transformer"))]
mod techniques;
mod training;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use self::row::{Measured, Row};
use self::training::{Source, Trained};
use crate::measure::{KneserNey, Windows};
use crate::text::read_ids;
use crate::{Error, ErrorKind, Result};

/// Train run files, open models, and measure all of them on the same tokens.
///
/// A masked language model is measured on 15 % of the tokens, hidden at the same positions for every model.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm compare graph.toml gpt.toml --cpu-seconds 600 --seeds 1,2,3
  brillm compare a.bril b.bril --ids test.u16 --json
  brillm compare models/stories260K models/stories260K+kv-snap:budget=64 \\
      --continuation 256,64 --text stories.txt")]
pub(super) struct Arguments {
    /// Run files (.toml) to train and models to open; append +PLUGIN:KEY=VALUE,… to use a plugin with one of them.
    #[arg(required = true, value_name = "RUN_FILE|PATH")]
    entries: Vec<String>,
    /// Compare plugins on transformers: measure NEW tokens after each of COUNT prompts of PROMPT tokens, while plugins
    /// manage the KV cache.
    #[cfg(all(feature = "plugin", feature = "transformer"))]
    #[arg(long, value_name = "PROMPT,NEW[,COUNT]")]
    continuation: Option<crate::measure::Continuations>,
    /// With --continuation: text to measure.
    #[cfg(all(feature = "plugin", feature = "transformer"))]
    #[arg(
        long,
        value_name = "FILE",
        requires = "continuation",
        conflicts_with = "ids"
    )]
    text: Option<PathBuf>,
    /// With --continuation: batch sizes to measure the decoding speed at [default: speed is not measured].
    #[cfg(all(feature = "plugin", feature = "transformer"))]
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N,…",
        requires = "continuation"
    )]
    batch: Vec<usize>,
    /// Train every run file with each seed and report means and standard deviations.
    #[arg(long, value_delimiter = ',', value_name = "SEED,…")]
    seeds: Vec<u64>,
    /// Fine-tune every transformer on a task and measure it; FIELDS as in `brillm classify --fields`; may be repeated.
    #[cfg(feature = "transformer")]
    #[arg(long = "task", value_name = "NAME=TRAIN:TEST:FIELDS")]
    tasks: Vec<task::Task>,
    /// With --task: passes over the training texts.
    #[cfg(feature = "transformer")]
    #[arg(long, default_value_t = 3, value_name = "N", requires = "tasks")]
    epochs: usize,
    /// Override a key of every run file, for example train.rate=0.004; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    changes: Vec<String>,
    /// Folder that paths in run files are relative to [default: the folder of each run file].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder for the training runs.
    #[arg(long, default_value = "runs/compare", value_name = "DIR")]
    out: PathBuf,
    /// Train each run file for about this CPU time, in seconds, instead of its number of tokens; estimated from its first
    /// 2 %.
    #[arg(long, value_name = "SECONDS")]
    cpu_seconds: Option<f64>,
    /// Token ids to measure: a .u16 or .u32 file [default: the validation tokens of the first run file].
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Measure COUNT windows of LENGTH tokens, each from a fresh state.
    #[arg(long, default_value = "31,400", value_name = "LENGTH,COUNT")]
    windows: Windows,
    /// Orders of Kneser-Ney models to add, trained on the tokens of the first run file; 0 adds none.
    #[arg(
        long,
        default_value = "2,3,4,5",
        value_delimiter = ',',
        value_name = "N,…"
    )]
    kneser_ney: Vec<usize>,
    /// Time to measure the generation speed of each model, in seconds.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    seconds: f64,
    /// Print no progress, only the result.
    #[arg(long)]
    quiet: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        crate::cli::catch_interrupt()?;
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
                    "the run files train on different tokens",
                )
                .at(source.path.display())
                .advice("use the same [data] in all run files, or override it with --set data.KEY=VALUE"));
            }
            trained.push(runs);
        }
        let first = trained.iter().flatten().next();
        let tokens = match (&self.ids, first) {
            (Some(path), _) => read_ids(path, None)?,
            (None, Some(first)) => first.validation.clone(),
            (None, None) => {
                return Err(
                    Error::new(ErrorKind::Input, "no tokens to measure are given").advice(
                        "pass --ids FILE, or a run file, whose validation tokens are measured",
                    ),
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

    /// Measure Kneser-Ney models on the same tokens.
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
            return crate::cli::say_json(
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
        crate::cli::say(format!(
            "| model | kind | parameters | trained on tokens | CPU-s | perplexity | nats | streaming | \
             KB read/token | state bytes | tokens/s |{columns}\n|---|---|---|---|---|---|---|---|---|---|---|{}",
            "---|".repeat(tasks.len())
        ))?;
        for row in rows {
            crate::cli::say(row.line(&tasks))?;
        }
        Ok(())
    }
}

/// Whether a path names a run file.
pub(super) fn is_recipe(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}
