//! `brillm probe`: run a model over texts and print the reports of probe plugins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::hook::{Call, Hooks};
use crate::path::{Sampling, likeliest};
use crate::run::{Engine, HookedEngine, ProbedModel, SequenceOptions};
use crate::{Error, ErrorKind, Result};

/// Run a model over texts and print the reports of probe plugins.
///
/// Each text is a separate sequence: plugins see the prompt and --tokens new tokens. If a record has the field
/// `answer`, its tokens are predicted instead; their perplexity, and how many answers greedy decoding would give, are reported in
/// total and for each `label`. The field `question` is read after the prompt, token by token: plugins that evict tokens of the
/// prompt have not seen it.
///
/// Without texts, plugins that have their own texts query the model. Tables in reports are printed; files in reports
/// are written to --out.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm probe questions.jsonl --model models/stories260K --plugin quats:questions=questions.jsonl
  brillm probe --plugin semantic-size --out figures --json")]
pub(super) struct Arguments {
    /// Texts: JSONL with the field `prompt` or `text` and optionally `question`, `answer` and `label`, or one text per line; `-`
    /// reads standard input.
    #[arg(value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Model: a .bril or .gguf file, or a folder with config.json [default: the built-in English model].
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Number of new tokens after each text.
    #[arg(long, default_value_t = 1, value_name = "N")]
    tokens: usize,
    /// Sampling temperature, if no plugin sets another; 0 always takes the most probable token.
    #[arg(long, default_value_t = 0.7, value_name = "T")]
    temperature: f32,
    /// Random seed; the same seed gives the same result.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Folder for the files in reports [default: a folder named after the plugin].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print no progress.
    #[arg(long)]
    quiet: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// One text.
struct Text {
    prompt: String,
    question: Option<String>,
    answer: Option<String>,
    label: Option<String>,
}

/// What was measured of answers, of all and of each label.
#[derive(Default)]
struct Answers(BTreeMap<String, Sums>);

/// Sums over answers.
#[derive(Clone, Copy, Default)]
struct Sums {
    nats: f64,
    tokens: u64,
    /// Answers, and those of which every token was the likeliest.
    texts: u64,
    correct: u64,
}

impl Answers {
    /// The key of all answers together.
    const ALL: &str = "all";

    fn add(&mut self, label: Option<&str>, answer: Sums) {
        for key in [Some(Self::ALL), label].into_iter().flatten() {
            let sums = self.0.entry(key.to_string()).or_default();
            sums.nats += answer.nats;
            sums.tokens += answer.tokens;
            sums.texts += answer.texts;
            sums.correct += answer.correct;
        }
    }

    fn report(&self) -> Value {
        self.0
            .iter()
            .map(|(label, sums)| {
                let mean = sums.nats / sums.tokens as f64;
                let figures = json!({
                    "texts": sums.texts,
                    "correct": sums.correct,
                    "tokens": sums.tokens,
                    "nats_per_token": mean,
                    "perplexity": mean.exp(),
                });
                (label.clone(), figures)
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let engine = super::open_engine(self.model.as_deref())?.forward()?;
        let hooks = super::plugin_options::hooks()?;
        super::catch_interrupt()?;
        let Some(path) = &self.texts else {
            return self.ask(engine, &hooks);
        };
        let texts = read(path)?;
        if hooks.is_empty() && texts.iter().all(|text| text.answer.is_none()) {
            return Err(Error::new(
                ErrorKind::Configuration,
                "no plugin probes the model, and no text has an answer",
            )
            .advice(
                "pass --plugin, or add the field `answer`; `brillm plugin list` shows the plugins",
            ));
        }
        let length = Some(texts.len() as u64);
        let bar = super::progress::bar(self.quiet, length, "{pos}/{len} texts {wide_bar} {eta}");
        let mut answers = Answers::default();
        let hooked = super::plugin_options::hooked(&engine, &hooks, self.seed)?;
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
        super::plugin_options::note(&mut report, self.seed)?;
        self.say(report, &format!("{seen} texts"))
    }

    /// Plugins ask the model themselves.
    fn ask(&self, engine: Engine, hooks: &Hooks) -> Result<()> {
        let asking: Vec<_> = hooks.probe.iter().filter(|probe| probe.asks()).collect();
        if asking.is_empty() {
            return Err(Error::new(
                ErrorKind::Configuration,
                "no texts are given, and no plugin has its own",
            )
            .advice(
                "pass a file of texts, or a plugin with its own texts such as --plugin semantic-size",
            ));
        }
        let template = "{spinner} {pos} queries {elapsed} {msg}";
        let bar = super::progress::bar(self.quiet, None, template);
        let name = engine.name().to_string();
        let ticking = bar.clone();
        let cancel = Some(super::interrupted().clone());
        let mut subject = ProbedModel::new(engine, cancel, move || ticking.inc(1))?;
        for (index, probe) in asking.into_iter().enumerate() {
            let call = Call::new(self.seed, index as u64, 0).cancel(super::interrupted());
            probe.ask(&call, &mut subject)?;
        }
        bar.finish_and_clear();
        let mut report = json!({"model": name, "queries": bar.position(), "seed": self.seed});
        super::plugin_options::note(&mut report, self.seed)?;
        let queries = format!("{} queries", bar.position());
        self.say(report, &queries)
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
                    "answers, {label}: perplexity {:.3} over {} tokens, {} of {} greedy answers correct",
                    figures["perplexity"].as_f64().unwrap_or(f64::NAN),
                    figures["tokens"],
                    figures["correct"],
                    figures["texts"]
                ))?;
            }
        }
        let Some(Value::Object(reports)) = report.get("probes") else {
            return super::say(format!("{what}; no plugin reports"));
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
        let encode = |text: &str| engine.tokenizer().encode(text);
        let mut answer = text.answer.as_deref().map(encode).transpose()?;
        let question = text.question.as_deref().map(encode).transpose()?;
        let question = question.unwrap_or_default();
        if let Some(limit) = engine.context_limit() {
            if let Some(answer) = &mut answer {
                answer.truncate(limit / 2);
            }
            let new = question.len() + answer.as_ref().map_or(self.tokens, Vec::len);
            ids.truncate(limit.saturating_sub(new).max(1));
        }
        let options = SequenceOptions {
            sequence,
            sampling: self.sampling(),
            ..SequenceOptions::default()
        };
        let mut session = hooked.session(&ids, &options)?;
        for &token in &question {
            session.force(token)?;
        }
        if let Some(answer) = answer {
            let mut sums = Sums {
                texts: 1,
                ..Sums::default()
            };
            let mut correct = true;
            for (index, &token) in answer.iter().enumerate() {
                sums.nats += session.resistance(token)?;
                sums.tokens += 1;
                correct &= likeliest(session.look()?.1) == Some(token);
                // The last token is not fed: nothing is predicted after it.
                if index + 1 == answer.len() || session.is_full() {
                    break;
                }
                session.force(token)?;
            }
            sums.correct = u64::from(correct && sums.tokens == answer.len() as u64);
            answers.add(text.label.as_deref(), sums);
            return Ok(());
        }
        for _ in 0..self.tokens {
            if session.is_full() || session.step()?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// Read the texts of a file.
fn read(path: &Path) -> Result<Vec<Text>> {
    let location = path.display().to_string();
    let all = crate::text::read_text(path)?;
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
                    question: None,
                    answer: None,
                    label: None,
                });
            }
            let invalid = |what: String| {
                Error::new(ErrorKind::Format, what).at(format!("{location}: line {}", index + 1))
            };
            let record: Value = serde_json::from_str(line).map_err(|error| {
                Error::json_line(error).at(format!("{location}: line {}", index + 1))
            })?;
            let field = |name: &str| record[name].as_str().map(str::to_string);
            Ok(Text {
                prompt: field("prompt").or(field("text")).ok_or_else(|| {
                    invalid("the record has no text".into())
                        .advice("add the field `prompt` or `text`")
                })?,
                question: field("question"),
                answer: field("answer"),
                label: field("label"),
            })
        })
        .collect()
}

/// Write the files of a report (name to text); return their paths.
fn write(folder: &Path, files: &Value) -> Result<Vec<String>> {
    let io_error = |error| Error::io(error, folder.display());
    let mut written = Vec::new();
    for (name, text) in files.as_object().into_iter().flatten() {
        // A plugin must not write outside of the folder.
        if name.contains(['/', '\\']) || name.starts_with('.') {
            return Err(Error::new(
                ErrorKind::Plugin,
                format!("invalid file name {name:?}: expected a name without folders"),
            )
            .at("files of the report"));
        }
        std::fs::create_dir_all(folder).map_err(io_error)?;
        let path = folder.join(name);
        brillm_file::write(&path, text.as_str().unwrap_or_default()).map_err(io_error)?;
        written.push(path.display().to_string());
    }
    Ok(written)
}
