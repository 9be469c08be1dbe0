//! `brillm probe`: runs a model over many texts for whoever looks on, and prints what was seen.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::hook::Hooks;
use crate::path::{Asking, Sampling, Walk};
use crate::run::Engine;
use crate::{Error, ErrorKind, Result};

/// Runs a model over texts with plugins that look on or ask, and prints their reports.
///
/// Each text is a sequence of its own, numbered from 0 in the file's order; plugins see its prompt, and as many
/// new tokens as are asked for.
#[derive(Args)]
pub(super) struct Arguments {
    /// Texts: JSONL with a field `prompt` or `text`, or one text a line; `-` is standard input.
    #[arg(value_name = "FILE")]
    texts: PathBuf,
    /// The model: a .bril file, or a folder with a config.json; the English one in the program by default.
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// New tokens after each text.
    #[arg(long, default_value_t = 1, value_name = "N")]
    tokens: usize,
    /// Temperature of the new tokens, where no plugin sets another.
    #[arg(long, default_value_t = 0.7, value_name = "T")]
    temperature: f32,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let engine = super::open_engine(self.model.as_deref())?;
        let hooks = super::plugins::hooks()?;
        if hooks.is_empty() {
            return Err(
                Error::new(ErrorKind::Configuration, "nobody looks on").advice(
                    "name a plugin with --plugin; `brillm plugin list` shows which there are",
                ),
            );
        }
        super::catch_interrupt()?;
        let texts = self.read()?;
        let bar = match self.quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(texts.len() as u64),
        };
        if let Ok(style) = ProgressStyle::with_template("{pos}/{len} texts {wide_bar} {eta}") {
            bar.set_style(style);
        }
        let seen = match &engine {
            Engine::Graph(model) => self.graph(model, &texts, &hooks, &bar)?,
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => self.transformer(model, &texts, &hooks, &bar)?,
        };
        bar.finish_and_clear();
        let mut report = json!({"model": engine.name(), "texts": seen, "seed": self.seed});
        super::plugins::note(&mut report, self.seed)?;
        if self.json {
            return super::say_json(&report);
        }
        match report.get("probes") {
            Some(Value::Object(reports)) => {
                for (plugin, report) in reports {
                    super::say(format!("{plugin}:"))?;
                    super::say_json(report)?;
                }
                Ok(())
            }
            _ => super::say(format!("{seen} texts; no plugin has anything to say")),
        }
    }

    fn read(&self) -> Result<Vec<String>> {
        let place = self.texts.display().to_string();
        let all = match self.texts.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()),
            false => std::fs::read_to_string(&self.texts),
        }
        .map_err(|error| Error::io(error, &place))?;
        let records = self
            .texts
            .extension()
            .is_some_and(|end| end == "jsonl" || end == "json");
        all.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| {
                if !records {
                    return Ok(line.to_string());
                }
                let fault = |what: String| {
                    Error::new(ErrorKind::Format, what).at(format!("{place}, line {}", index + 1))
                };
                let record: Value = serde_json::from_str(line)
                    .map_err(|error| fault(format!("not JSON: {error}")))?;
                record["prompt"]
                    .as_str()
                    .or(record["text"].as_str())
                    .map(str::to_string)
                    .ok_or_else(|| {
                        fault("a record without a text".into())
                            .advice("write the fields prompt or text")
                    })
            })
            .collect()
    }

    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            seed: self.seed,
            ..Sampling::default()
        }
    }

    fn graph(
        &self,
        model: &crate::Model,
        texts: &[String],
        hooks: &Hooks,
        bar: &ProgressBar,
    ) -> Result<usize> {
        let start = crate::signal::Start::Profile;
        self.each(texts, bar, &|index, text| {
            let ids = model.tokenizer().encode(text)?;
            let session = crate::path::Session::begin_asking(
                model.mechanism().clone(),
                &ids,
                &start,
                self.sampling(),
                Asking::new(hooks, index as u64),
            )?;
            self.walk(session)
        })
    }

    #[cfg(feature = "transformer")]
    fn transformer(
        &self,
        model: &crate::transformer::Transformer,
        texts: &[String],
        hooks: &Hooks,
        bar: &ProgressBar,
    ) -> Result<usize> {
        let asked = super::plugins::asked(model, hooks, self.seed)?;
        let shape = model.configuration();
        self.each(texts, bar, &|index, text| {
            let mut ids = model.encode(text)?;
            if let Some(context) = shape.hard_context() {
                ids.truncate(context.saturating_sub(self.tokens).max(1));
            }
            let options = asked.options(shape, index as u64, ids.len())?;
            let sampling = self.sampling();
            self.walk(crate::transformer::Session::begin_with(
                model, &ids, sampling, options,
            )?)
        })
    }

    fn walk(&self, mut walk: impl Walk) -> Result<()> {
        for _ in 0..self.tokens {
            if walk.is_full() || walk.step()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Plugins keep state: texts come one after another, in an order that replays.
    fn each(
        &self,
        texts: &[String],
        bar: &ProgressBar,
        one: &dyn Fn(usize, &str) -> Result<()>,
    ) -> Result<usize> {
        for (index, text) in texts.iter().enumerate() {
            if super::interrupted().load(std::sync::atomic::Ordering::Relaxed) {
                return Ok(index);
            }
            one(index, text).map_err(|error| error.at(format!("text {index}")))?;
            bar.inc(1);
        }
        Ok(texts.len())
    }
}
