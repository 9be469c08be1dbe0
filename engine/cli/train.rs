//! `brillm train`: train a model from a run file or a text.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use cpu_time::ProcessTime;
use indicatif::{ProgressBar, ProgressStyle};

use super::ranks::RankArguments;
use crate::learn::log::Record;
use crate::learn::recipe::{Kind, Reduction};
use crate::learn::{Outcome, ProgressObserver, keep_changes};
use crate::ranks::{Ranks, leader_first};
use crate::run::shell::quoted;
use crate::run::{PreparedSource, TrainSource, prepare_training_over};
use crate::text::SkippedFiles;
use crate::{Error, ErrorKind, Result};

/// Train a model on texts or from a run file.
///
/// For texts, the settings follow their size and are written as a run file into the --out folder. Ctrl-C writes a
/// checkpoint and exits with code 130; --resume continues from it. Graphs also train over several processes, with the
/// same result on any number: mpirun -n 4 brillm train RUN_FILE (engine/ranks/README.md).
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Texts to train on (files, folders or globs), or a run file (.toml); models/recipes has examples.
    #[arg(value_name = "TEXT|RUN_FILE", required = true)]
    sources: Vec<PathBuf>,
    /// Override a key of the run file, for example train.rate=0.004; may be repeated. Paths are relative to the current
    /// folder for texts, and as in the run file otherwise.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    changes: Vec<String>,
    /// Folder that paths in the run file are relative to [default: the folder of the run file].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder for checkpoints, logs and the model [default: runs/NAME, with the name in the run file].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue from the newest checkpoint in the --out folder with its settings, or start anew if it has none; with --set train.tokens=N, extend a finished run.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    backend: super::backend::BackendArguments,
    /// Print no progress.
    #[arg(long)]
    quiet: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    // Last: its heading is that of all options after it.
    #[command(flatten)]
    ranks: RankArguments,
}

/// Shown below `brillm train --help`.
const EXAMPLES: &str = "\
Examples:
  brillm train my.txt
  brillm train 'texts/*.txt' --set train.tokens=2000000
  brillm train models/recipes/english.toml --data shared/data
  brillm train run.toml --set train.tokens=100000 --out runs/short
  brillm train run.toml --out runs/short --resume
  mpirun -n 4 brillm train run.toml --ranks 4";

/// A progress bar on standard error with loss, tokens/s and the time left.
pub(super) struct Bar {
    bar: ProgressBar,
    quiet: bool,
    loss: f64,
    first: Option<u64>,
}

impl Bar {
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            bar: if quiet {
                ProgressBar::hidden()
            } else {
                ProgressBar::new_spinner()
            },
            quiet,
            loss: 0.0,
            first: None,
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl ProgressObserver for Bar {
    fn note(&mut self, text: &str) {
        self.bar.set_message(text.to_string());
        self.bar.tick();
    }

    fn step(&mut self, step: u64, of: u64, loss: f64, tokens: u64) {
        let first = *self.first.get_or_insert_with(|| {
            let begun = step - 1;
            self.bar.set_style(
                ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} < {eta}  {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            self.bar.set_length(of);
            self.bar.set_position(begun);
            self.bar.reset_eta();
            begun
        });
        self.loss = if self.loss == 0.0 {
            loss
        } else {
            0.98 * self.loss + 0.02 * loss
        };
        self.bar.set_position(step);
        let per_step = tokens / step.max(1);
        let speed =
            (step - first) as f64 * per_step as f64 / self.bar.elapsed().as_secs_f64().max(1e-9);
        self.bar
            .set_message(format!("loss {:.3}  {speed:.0} tokens/s", self.loss));
    }

    fn warn(&mut self, text: &str) {
        self.bar.suspend(|| super::warn(text));
    }

    fn record(&mut self, record: &Record) {
        if let Record::Validation(validation) = record
            && !self.quiet
        {
            let text = format!(
                "step {}: validation perplexity {:.2}",
                validation.step, validation.perplexity
            );
            if self.bar.is_hidden() {
                super::say_error(&text);
            } else {
                self.bar.println(text);
            }
        }
    }
}

impl Arguments {
    /// The command that continues the run, with the changes that its folder keeps.
    fn resume_command(&self, run_file: &Path, folder: &Path) -> String {
        let data = self.data.as_ref();
        let data = data.map_or(String::new(), |data| format!(" --data {}", quoted(data)));
        let (run_file, out) = (quoted(run_file), quoted(folder));
        format!("brillm train {run_file} --out {out}{data} --resume")
    }

    /// Read or write the run file: rank 0 first, then the others, which train with the same file and folder.
    fn source(&self, ranks: &dyn Ranks) -> Result<PreparedSource> {
        let given = TrainSource {
            sources: &self.sources,
            changes: &self.changes,
            data: self.data.as_deref(),
            out: self.out.as_deref(),
            resume: self.resume,
        };
        if ranks.size() == 1 {
            return given.prepare(&mut |line| self.note(line));
        }
        RankArguments::agree(ranks)?;
        let mut first = None;
        leader_first(ranks, "preparation of the run file", || {
            if ranks.rank() == 0 {
                first = Some(given.prepare(&mut |line| self.note(line))?);
            }
            Ok(())
        })?;
        let paths = first
            .as_ref()
            .map(|first| (&first.run_file, &first.folder, &first.changes));
        let sent = serde_json::to_vec(&paths).unwrap_or_default();
        let sent = ranks.gather("run file".into(), &sent)?;
        if let Some(first) = first {
            return Ok(first);
        }
        let (run_file, folder, changes): (PathBuf, PathBuf, Vec<String>) =
            serde_json::from_slice(&sent[0]).map_err(|error| {
                Error::new(ErrorKind::Input, "rank 0 sent no run file").because(error)
            })?;
        TrainSource {
            sources: &[run_file],
            changes: &changes,
            out: Some(&folder),
            ..given
        }
        .prepare(&mut |_| {})
    }

    fn note(&self, line: &str) {
        if !self.quiet {
            super::say_error(line);
        }
    }

    pub(super) fn run(self) -> Result<()> {
        self.backend.check()?;
        let ranks = self.ranks.start()?;
        let leads = ranks.rank() == 0;
        let (cpu, wall) = (ProcessTime::now(), Instant::now());
        #[allow(
            unused_mut,
            reason = "plugins are written into it in builds that have them"
        )]
        let mut source = self.source(&*ranks)?;
        if self.ranks.are_given() && source.recipe.kind == Kind::Graph {
            source.recipe.train.reduction = Reduction::Exact;
        }
        #[cfg(feature = "plugin")]
        super::plugin_options::fill(&mut source.recipe)?;
        let PreparedSource {
            recipe,
            base,
            folder,
            run_file,
            changes,
            opening,
            ..
        } = source;
        super::catch_interrupt()?;
        let hooks = super::plugin_options::hooks()?;
        let mut bar = Bar::new(self.quiet || !leads);
        let mut trainer =
            prepare_training_over(ranks, recipe, &base, &folder, self.resume, &hooks, &mut bar)?;
        if leads {
            keep_changes(&folder, &run_file, &changes)?;
        }
        #[cfg(feature = "gpu")]
        if let Some(device) = self.backend.device()?
            && let Err(error) = trainer.use_device(&device, self.backend.choice().is_forced())
        {
            if self.backend.choice().is_forced() {
                return Err(error);
            }
            if leads {
                super::warn(&crate::run::taken_over(&error));
            }
        }
        bar.note(&trainer.about());
        let skipped = trainer.data().skipped_files;
        let outcome = trainer.run(super::interrupted(), &mut bar)?;
        bar.finish();
        if !leads {
            return Ok(());
        }
        let done = Done {
            outcome,
            skipped,
            run_file,
            cpu: cpu.elapsed().as_secs_f64(),
            wall: wall.elapsed().as_secs_f64(),
        };
        if self.json {
            return done.say_json();
        }
        let resume = self.resume_command(&done.run_file, &folder);
        done.say(&resume, opening.as_deref())
    }
}

/// A run that has ended, and what it took.
struct Done {
    outcome: Outcome,
    skipped: SkippedFiles,
    run_file: PathBuf,
    /// Seconds of all threads, and by the clock.
    cpu: f64,
    wall: f64,
}

impl Done {
    fn say_json(self) -> Result<()> {
        let (outcome, skipped) = (self.outcome, self.skipped);
        let mut report = serde_json::json!({
            "model": outcome.model.display().to_string(),
            "steps": outcome.steps,
            "validation_perplexity": outcome.validation_perplexity,
            "exchanged_bytes_a_token": outcome.exchanged_bytes_a_token,
            "cancelled": outcome.cancelled,
            "parameters": outcome.parameters,
            "run_file": self.run_file.display().to_string(),
            "skipped_files": skipped.total(),
            "skipped_files_of_runs": skipped.of_runs,
            "charges": outcome.charges.map(|charges| serde_json::json!({
                "settings": charges.settings,
                "nats_per_token_before": charges.before,
                "nats_per_token": charges.after,
            })),
            "recall": outcome.recall.map(|recall| serde_json::json!({
                "settings": recall.settings,
                "nats_per_token_before": recall.before,
                "nats_per_token": recall.after,
            })),
            "cpu_seconds": self.cpu,
            "wall_seconds": self.wall,
        });
        super::plugin_options::note(&mut report, 0)?;
        super::say_json(&report)
    }

    /// Print the result, with the command that continues a stopped run or uses the model.
    fn say(self, resume: &str, opening: Option<&str>) -> Result<()> {
        let (outcome, skipped, cpu) = (self.outcome, self.skipped, self.cpu);
        if let Some(charges) = outcome.charges {
            super::say(format!(
                "charges: streaming validation perplexity {:.2} without charges, {:.2} with charges",
                charges.before.exp(),
                charges.after.exp()
            ))?;
        }
        if let Some(recall) = outcome.recall {
            super::say(format!(
                "recall: streaming validation perplexity {:.2} without recall, {:.2} with recall",
                recall.before.exp(),
                recall.after.exp()
            ))?;
        }
        let perplexity = outcome
            .validation_perplexity
            .map_or(String::new(), |perplexity| {
                format!(", validation perplexity {perplexity:.2}")
            });
        if outcome.cancelled {
            super::say(format!(
                "stopped after {} steps; continue with: {}",
                outcome.steps, resume
            ))
        } else {
            let model = outcome.model.display();
            let skipped = match skipped.total() {
                0 => String::new(),
                _ => format!(", skipped {skipped}"),
            };
            super::say(format!(
                "{model} ({} steps{perplexity}, {} parameters, {cpu:.0} CPU-seconds{skipped})",
                outcome.steps, outcome.parameters
            ))?;
            match opening {
                Some(opening) => super::say(format!(
                    "use it with: brillm generate {0} --model {1}, or brillm serve --open --model {1}",
                    quoted(opening),
                    quoted(&outcome.model)
                )),
                None => Ok(()),
            }
        }
    }
}
