//! `brillm probe`: runs a model over many texts for whoever looks on, and prints what was seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::hook::{Call, Hooks};
use crate::path::Sampling;
use crate::run::{Engine, HookedEngine, ProbedModel, SequenceOptions};
use crate::{Error, ErrorKind, Result};

/// Runs a model over texts with plugins that look on or ask, and prints their reports.
///
/// Without texts, plugins that have texts of their own ask the model themselves. A table in a report is printed, and
/// its files are written into a folder of the plugin's name.
///
/// Each text is a sequence of its own, numbered from 0 in the file's order; plugins see its prompt, and as many
/// new tokens as are asked for. A record with a field `answer` is answered by that: its tokens are predicted one by
/// one, from the distribution that plugins leave, and their perplexity is reported, for each `label` too.
#[derive(Args)]
pub(super) struct Arguments {
    /// Texts: JSONL with a field `prompt` or `text`, perhaps `answer`, or one text a line; `-` is standard input.
    #[arg(value_name = "FILE")]
    texts: Option<PathBuf>,
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
    /// Folder for the files that reports bring; without it, one of the plugin's name here.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// No progress bar.
    #[arg(long)]
    quiet: bool,
    /// Report as JSON.
    #[arg(long)]
    json: bool,
}

/// One text.
struct Text {
    prompt: String,
    answer: Option<String>,
    label: Option<String>,
}

/// What was measured of answers: nats and tokens, of all and of each label.
#[derive(Default)]
struct Answers(BTreeMap<String, (f64, u64)>);

impl Answers {
    /// The key of all answers together.
    const ALL: &str = "all";

    fn add(&mut self, label: Option<&str>, nats: f64) {
        for key in [Some(Self::ALL), label].into_iter().flatten() {
            let sum = self.0.entry(key.to_string()).or_default();
            *sum = (sum.0 + nats, sum.1 + 1);
        }
    }

    fn report(&self) -> Value {
        self.0
            .iter()
            .map(|(label, (nats, tokens))| {
                let mean = nats / *tokens as f64;
                let figures =
                    json!({"tokens": tokens, "nats_per_token": mean, "perplexity": mean.exp()});
                (label.clone(), figures)
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let engine = super::open_engine(self.model.as_deref())?.forward()?;
        let hooks = super::plugins::hooks()?;
        super::catch_interrupt()?;
        let Some(path) = &self.texts else {
            return self.ask(engine, &hooks);
        };
        let texts = read(path)?;
        if hooks.is_empty() && texts.iter().all(|text| text.answer.is_none()) {
            return Err(
                Error::new(ErrorKind::Configuration, "nobody looks on").advice(
                    "name a plugin with --plugin (`brillm plugin list` shows which there are), or give answers to predict",
                ),
            );
        }
        let bar = match self.quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(texts.len() as u64),
        };
        if let Ok(style) = ProgressStyle::with_template("{pos}/{len} texts {wide_bar} {eta}") {
            bar.set_style(style);
        }
        let mut answers = Answers::default();
        let hooked = super::plugins::hooked(&engine, &hooks, self.seed)?;
        let mut seen = 0;
        // Plugins keep state: texts come one after another, in an order that replays.
        for (index, text) in texts.iter().enumerate() {
            if super::interrupted().load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            self.observe(&hooked, index as u64, text, &mut answers)
                .map_err(|error| error.at(format!("text {index}")))?;
            bar.inc(1);
            seen += 1;
        }
        bar.finish_and_clear();
        let mut report = json!({"model": engine.name(), "texts": seen, "seed": self.seed});
        if !answers.0.is_empty() {
            report["answers"] = answers.report();
        }
        super::plugins::note(&mut report, self.seed)?;
        self.say(report, &format!("{seen} texts"))
    }

    /// Plugins ask the model themselves.
    fn ask(&self, engine: Engine, hooks: &Hooks) -> Result<()> {
        let asking: Vec<_> = hooks.probe.iter().filter(|probe| probe.asks()).collect();
        if asking.is_empty() {
            return Err(Error::new(
                ErrorKind::Configuration,
                "there are no texts, and no plugin has its own",
            )
            .advice(
                "give a file of texts, or name a plugin that asks the model itself with --plugin",
            ));
        }
        let bar = match self.quiet {
            true => ProgressBar::hidden(),
            false => ProgressBar::new_spinner(),
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} questions {elapsed} {msg}")
        {
            bar.set_style(style);
        }
        let name = engine.name().to_string();
        let ticking = bar.clone();
        let cancel = Some(super::interrupted().clone());
        let mut subject = ProbedModel::new(engine, cancel, move || ticking.inc(1))?;
        for (place, probe) in asking.into_iter().enumerate() {
            let call = Call::new(self.seed, place as u64, 0).cancel(super::interrupted());
            probe.ask(&call, &mut subject)?;
        }
        bar.finish_and_clear();
        let mut report = json!({"model": name, "questions": bar.position(), "seed": self.seed});
        super::plugins::note(&mut report, self.seed)?;
        let questions = format!("{} questions", bar.position());
        self.say(report, &questions)
    }

    /// Writes the files of the reports, and says the rest.
    fn say(&self, mut report: Value, what: &str) -> Result<()> {
        if let Some(Value::Object(reports)) = report.get_mut("probes") {
            for (plugin, report) in reports {
                let folder = self.folder(plugin);
                if let Some(files) = report.get_mut("files") {
                    *files = json!(write(&folder, files)?);
                }
            }
        }
        if self.json {
            return super::say_json(&report);
        }
        if let Some(Value::Object(answers)) = report.get("answers") {
            for (label, figures) in answers {
                super::say(format!(
                    "answers, {label}: perplexity {:.3} over {} tokens",
                    figures["perplexity"].as_f64().unwrap_or(f64::NAN),
                    figures["tokens"]
                ))?;
            }
        }
        let Some(Value::Object(reports)) = report.get("probes") else {
            return super::say(format!("{what}; no plugin has anything to say"));
        };
        for (plugin, report) in reports {
            match report["table"].as_str() {
                Some(table) => super::say(table.trim_end())?,
                None => {
                    super::say(format!("{plugin}:"))?;
                    super::say_json(report)?;
                }
            }
            for file in report["files"].as_array().into_iter().flatten() {
                super::say(format!("wrote {}", file.as_str().unwrap_or_default()))?;
            }
        }
        Ok(())
    }

    fn folder(&self, plugin: &str) -> PathBuf {
        match &self.out {
            Some(folder) => folder.clone(),
            None => PathBuf::from(plugin.rsplit('.').next().unwrap_or(plugin)),
        }
    }

    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            seed: self.seed,
            ..Sampling::default()
        }
    }

    /// Runs one text: predicts its answer, or generates new tokens.
    fn observe(
        &self,
        hooked: &HookedEngine,
        sequence: u64,
        text: &Text,
        answers: &mut Answers,
    ) -> Result<()> {
        let engine = hooked.engine();
        let mut ids = engine.encode(&text.prompt)?;
        let answer = text.answer.as_deref();
        let answer = answer.map(|answer| engine.tokenizer().encode(answer));
        let mut answer = answer.transpose()?;
        if let Some(limit) = engine.context_limit() {
            if let Some(answer) = &mut answer {
                answer.truncate(limit / 2);
            }
            let new = answer.as_ref().map_or(self.tokens, Vec::len);
            ids.truncate(limit.saturating_sub(new).max(1));
        }
        let options = SequenceOptions {
            sequence,
            sampling: self.sampling(),
            ..SequenceOptions::default()
        };
        let mut session = hooked.session(&ids, &options)?;
        for &token in answer.iter().flatten() {
            answers.add(text.label.as_deref(), session.resistance(token)?);
            if session.is_full() {
                return Ok(());
            }
            session.force(token)?;
        }
        let new = if answer.is_some() { 0 } else { self.tokens };
        for _ in 0..new {
            if session.is_full() || session.step()?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// Reads the texts of a file.
fn read(path: &Path) -> Result<Vec<Text>> {
    let place = path.display().to_string();
    let all = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(path),
    }
    .map_err(|error| Error::io(error, &place))?;
    let records = path
        .extension()
        .is_some_and(|end| end == "jsonl" || end == "json");
    all.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            if !records {
                return Ok(Text {
                    prompt: line.to_string(),
                    answer: None,
                    label: None,
                });
            }
            let fault = |what: String| {
                Error::new(ErrorKind::Format, what).at(format!("{place}, line {}", index + 1))
            };
            let record: Value =
                serde_json::from_str(line).map_err(|error| fault(format!("not JSON: {error}")))?;
            let field = |name: &str| record[name].as_str().map(str::to_string);
            Ok(Text {
                prompt: field("prompt").or(field("text")).ok_or_else(|| {
                    fault("a record without a text".into())
                        .advice("write the fields prompt or text")
                })?,
                answer: field("answer"),
                label: field("label"),
            })
        })
        .collect()
}

/// Writes the files of a report, name to text; answers where they are.
fn write(folder: &Path, files: &Value) -> Result<Vec<String>> {
    let place = |error| Error::io(error, folder.display());
    let mut written = Vec::new();
    for (name, text) in files.as_object().into_iter().flatten() {
        // A report names files, not places.
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(Error::new(
                ErrorKind::Plugin,
                format!("{name:?} is no plain name of a file"),
            )
            .at("files of the report"));
        }
        std::fs::create_dir_all(folder).map_err(place)?;
        let path = folder.join(name);
        crate::learn::checkpoint::write_whole(&path, text.as_str().unwrap_or_default().as_bytes())?;
        written.push(path.display().to_string());
    }
    Ok(written)
}
