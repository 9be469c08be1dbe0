//! `brillm compare`: several models trained or opened on the same tokens, in one table.

use std::path::{Path, PathBuf};

use clap::Args;
use cpu_time::ProcessTime;
use serde_json::{Value, json};

use super::train::Bar;
use crate::hook::Hooks;
use crate::learn::{Recipe, Watcher};
use crate::measure::{KneserNey, Windows};
use crate::run::{Engine, Evaluation, evaluate_stream, evaluate_windows, prepare_training};
use crate::text::read_ids;
use crate::{Error, ErrorKind, Result};

/// Trains recipes or opens models, and measures all of them on the same tokens.
#[derive(Args)]
pub(super) struct Arguments {
    /// Recipes (.toml) to train, and models to open; with --continuation MODEL+PLUGIN:KEY=VALUE,… for a technique.
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
    /// Changes one key of every recipe; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    changes: Vec<String>,
    /// Folder that the recipes' sources are relative to; each recipe's own folder by default.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Folder of the runs.
    #[arg(long, default_value = "runs/compare", value_name = "FOLDER")]
    out: PathBuf,
    /// Trains each recipe for this many CPU-seconds, by its pace over the first of them, instead of its tokens.
    #[arg(long, value_name = "N")]
    cpu_seconds: Option<f64>,
    /// Token ids to measure on; the first recipe's validation tokens by default.
    #[arg(long, value_name = "FILE")]
    pub(super) ids: Option<PathBuf>,
    /// Windows LENGTH,COUNT whose context is reset.
    #[arg(long, default_value = "31,400", value_name = "LENGTH,COUNT")]
    windows: Windows,
    /// Orders of Kneser-Ney to measure beside them, trained on the first recipe's tokens.
    #[arg(
        long,
        default_value = "2,3,4,5",
        value_delimiter = ',',
        value_name = "N,…"
    )]
    kneser_ney: Vec<usize>,
    /// Seconds of generating for each model's speed.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
    /// Report as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// One row of the table.
struct Entry {
    name: String,
    kind: String,
    parameters: Option<usize>,
    train_tokens: Option<u64>,
    cpu_seconds: Option<f64>,
    perplexity: f64,
    streaming: Option<f64>,
    bytes_per_token: Option<usize>,
    state_bytes: Option<usize>,
    tokens_per_second: Option<f64>,
}

/// A trained recipe.
struct Trained {
    model: PathBuf,
    tokens: u64,
    cpu_seconds: f64,
    train: Vec<u32>,
    validation: Vec<u32>,
    vocabulary: usize,
}

fn is_recipe(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        super::catch_interrupt()?;
        #[cfg(all(feature = "plugin", feature = "transformer"))]
        if let Some(texts) = &self.continuation {
            return self.techniques(texts);
        }
        let mut trained: Vec<(usize, Trained)> = Vec::new();
        for (index, path) in self.entries.iter().map(Path::new).enumerate() {
            if is_recipe(path) {
                let one = self.train(path)?;
                if let Some((_, first)) = trained.first()
                    && (first.train != one.train || first.vocabulary != one.vocabulary)
                {
                    return Err(Error::new(
                        ErrorKind::Configuration,
                        "the recipes are trained on different tokens",
                    )
                    .at(path.display())
                    .advice("give them the same [data], or use --set data.…"));
                }
                trained.push((index, one));
            }
        }
        let first = trained.first().map(|(_, first)| first);
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
        let mut entries = Vec::new();
        for (index, path) in self.entries.iter().map(Path::new).enumerate() {
            let run = trained
                .iter()
                .find(|(at, _)| *at == index)
                .map(|(_, run)| run);
            entries.push(self.measure(path, run, &tokens)?);
        }
        if let Some(first) = first {
            for &order in &self.kneser_ney {
                let model = KneserNey::train(&first.train, first.vocabulary, order)?;
                let measured = |stream| {
                    model
                        .evaluate(&tokens, &self.windows.streaming(stream), order)
                        .map(|measured| measured.perplexity())
                };
                entries.push(Entry {
                    name: format!("Kneser-Ney {order}"),
                    kind: "n-gram".into(),
                    parameters: Some((1..=order).map(|order| model.grams(order)).sum()),
                    train_tokens: Some(first.train.len() as u64),
                    cpu_seconds: None,
                    perplexity: measured(false)?,
                    streaming: Some(measured(true)?),
                    bytes_per_token: None,
                    state_bytes: None,
                    tokens_per_second: None,
                });
            }
        }
        self.report(&entries)
    }

    /// Trains a recipe in its own folder of the comparison.
    fn train(&self, path: &Path) -> Result<Trained> {
        let mut recipe = Recipe::open(path, &self.changes)?;
        let own = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let base = self.data.clone().unwrap_or(own);
        let folder = self.out.join(&recipe.name);
        let mut bar = Bar::new(self.quiet);
        let hooks = super::plugins::hooks()?;
        bar.note(&recipe.name);
        if let Some(budget) = self.cpu_seconds {
            let scratch = self.out.join(format!("{}-pace", recipe.name));
            let mut trainer =
                prepare_training(recipe.clone(), &base, &scratch, true, &hooks, &mut bar)?;
            let begun = ProcessTime::now();
            let mut tokens = 0;
            // The first steps touch fresh memory: they are taken, but not counted.
            trainer.pace(2)?;
            let first = begun.elapsed().as_secs_f64();
            while begun.elapsed().as_secs_f64() - first < budget * 0.02 {
                tokens += trainer.pace(2)?;
            }
            let spent = begun.elapsed().as_secs_f64() - first;
            let per_step = (recipe.train.batch * recipe.train.steps) as f64;
            let steps = (budget * tokens as f64 / spent.max(1e-9) / per_step)
                .floor()
                .max(1.0);
            recipe.train.tokens = (steps * per_step) as u64;
            // A handful of validations: their time is not training's.
            recipe.train.validate_every = (steps as u64 / 8).max(1);
            drop(trainer);
            drop(std::fs::remove_dir_all(&scratch));
        }
        let mut trainer = prepare_training(
            recipe.clone(),
            &base,
            &folder,
            folder.exists(),
            &hooks,
            &mut bar,
        )?;
        let begun = ProcessTime::now();
        let outcome = trainer.run(super::interrupted(), &mut bar)?;
        let cpu_seconds = begun.elapsed().as_secs_f64();
        bar.finish();
        if outcome.cancelled {
            return Err(Error::new(ErrorKind::Cancelled, "stopped").at(&recipe.name));
        }
        let data = trainer.data();
        Ok(Trained {
            model: outcome.model,
            tokens: outcome.steps * (recipe.train.batch * recipe.train.steps) as u64,
            cpu_seconds,
            train: data.train().to_vec(),
            validation: data.validation().to_vec(),
            vocabulary: data.tokenizer.vocabulary().len(),
        })
    }

    fn measure(&self, path: &Path, run: Option<&Trained>, tokens: &[u32]) -> Result<Entry> {
        let engine = Engine::open(run.map_or(path, |run| &run.model), Default::default())?;
        let windows = &self.windows;
        let end = (windows.count * (windows.length - 1) + 1).min(tokens.len());
        let (kind, measured, streaming): (String, Evaluation, Option<Evaluation>) = match &engine {
            Engine::Graph(model) => (
                "graph".into(),
                evaluate_windows(
                    model.mechanism(),
                    tokens,
                    windows.length,
                    0..windows.count,
                    &Hooks::default(),
                )?,
                Some(evaluate_stream(
                    model.mechanism(),
                    &tokens[..end],
                    1,
                    None,
                    &Hooks::default(),
                )?),
            ),
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                use crate::transformer;
                let kind = model.configuration().json["model_type"]
                    .as_str()
                    .unwrap_or("?");
                // A transformer that was trained on windows knows no position beyond them.
                let context = model.configuration().context;
                let stream = context == 0 || context >= windows.length;
                (
                    kind.to_string(),
                    transformer::evaluate_windows(model, tokens, windows.length, 0..windows.count)?
                        .into(),
                    match stream {
                        true => {
                            Some(transformer::evaluate_stream(model, &tokens[..end], 1)?.into())
                        }
                        false => None,
                    },
                )
            }
        };
        let speed = match kind.as_str() {
            "bert" => None,
            _ => Some(engine.flow_speed(&tokens[..windows.length.min(8)], self.seconds)?),
        };
        Ok(Entry {
            name: engine.name().to_string(),
            kind,
            parameters: Some(engine.parameters()),
            train_tokens: run.map(|run| run.tokens),
            cpu_seconds: run.map(|run| run.cpu_seconds),
            perplexity: measured.perplexity,
            streaming: streaming.map(|streaming| streaming.perplexity),
            bytes_per_token: speed.map(|speed| speed.bytes_per_token),
            state_bytes: speed.map(|speed| speed.state_bytes),
            tokens_per_second: speed.map(|speed| speed.tokens_per_second),
        })
    }

    fn report(&self, entries: &[Entry]) -> Result<()> {
        if self.json {
            let rows: Vec<Value> = entries
                .iter()
                .map(|entry| {
                    json!({
                        "model": entry.name,
                        "kind": entry.kind,
                        "parameters": entry.parameters,
                        "train_tokens": entry.train_tokens,
                        "train_cpu_seconds": entry.cpu_seconds,
                        "perplexity": entry.perplexity,
                        "streaming_perplexity": entry.streaming,
                        "bytes_per_token": entry.bytes_per_token,
                        "state_bytes": entry.state_bytes,
                        "tokens_per_second": entry.tokens_per_second,
                    })
                })
                .collect();
            return super::say_json(&json!({"windows": self.windows.to_string(), "models": rows}));
        }
        super::say(
            "| model | kind | parameters | trained on tokens | CPU-s | perplexity | streaming | KB read/token \
             | state bytes | tokens/s |\n|---|---|---|---|---|---|---|---|---|---|",
        )?;
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".into());
        for entry in entries {
            super::say(format!(
                "| {} | {} | {} | {} | {} | {:.2} | {} | {} | {} | {} |",
                entry.name,
                entry.kind,
                or_dash(entry.parameters.map(|n| n.to_string())),
                or_dash(entry.train_tokens.map(|n| n.to_string())),
                or_dash(entry.cpu_seconds.map(|s| format!("{s:.0}"))),
                entry.perplexity,
                or_dash(entry.streaming.map(|p| format!("{p:.2}"))),
                or_dash(
                    entry
                        .bytes_per_token
                        .map(|b| format!("{:.0}", b as f64 / 1e3))
                ),
                or_dash(entry.state_bytes.map(|b| b.to_string())),
                or_dash(entry.tokens_per_second.map(|t| format!("{t:.0}"))),
            ))?;
        }
        Ok(())
    }
}
