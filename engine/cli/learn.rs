//! `brillm learn`: a finished model takes in a text.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;
use serde_json::json;

use crate::learn::{ContinualSettings, Lesson, NewText, learn_text};
use crate::text::{Tokenizer, read_ids};
use crate::{Error, ErrorKind, Result};

/// Teach a finished graph a text: add its counts to the edges and train the nodes and edges that it touches.
///
/// All other nodes and edges, and the weights that all nodes share, keep their bytes. The new model keeps a record of the
/// text (`brillm inspect` lists records), with the text's tokens and the old values of the rows that were trained, so that
/// `brillm forget` can take the text back. Transformers have no edges to add counts to: train them with `brillm train`.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm learn models/english.bril notes.txt --out taught.bril
  brillm learn model.bril chapter-*.txt --new-nodes 50 --name book --out taught.bril
  brillm learn model.bril new.txt --replay old.txt --out taught.bril
  brillm forget taught.bril --record book")]
pub(super) struct Arguments {
    /// Model: a .bril file.
    model: PathBuf,
    /// Texts to learn: files, folders, globs, or - for standard input.
    #[arg(required_unless_present = "ids", conflicts_with = "ids")]
    text: Vec<PathBuf>,
    /// Token ids instead of texts: a .u16 or .u32 file.
    #[arg(long, value_name = "FILE", conflicts_with = "new_nodes")]
    ids: Option<PathBuf>,
    /// Model to write: a .bril file.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Name of the record [default: the name of the first text, numbered if there is a record of that name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Add up to N nodes for words that occur at least twice and are several tokens (characters: that are bytes). A word of k
    /// tokens takes k - 1 nodes. Not for models with byte pairs and codes of images or sounds.
    #[arg(long, default_value_t = 0, value_name = "N")]
    new_nodes: usize,
    /// How often each transition of the text counts.
    #[arg(long, default_value_t = ContinualSettings::default().weight, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    weight: u32,
    /// Passes of training over the text; 0 adds the counts alone.
    #[arg(long, default_value_t = ContinualSettings::default().passes, value_name = "N",
        value_parser = clap::value_parser!(u32).range(0..=1000))]
    passes: u32,
    /// Highest learning rate, at most 1.
    #[arg(long, default_value_t = ContinualSettings::default().rate, value_name = "X")]
    rate: f64,
    /// Texts the model knows already, trained on in a tenth of the steps against forgetting; their counts are not added.
    #[arg(long, value_name = "PATH")]
    replay: Vec<PathBuf>,
    /// Random seed of the order of batches.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Print no progress.
    #[arg(long)]
    quiet: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Return an error after Ctrl-C.
fn check_interrupted() -> Result<()> {
    match super::interrupted().load(Ordering::Relaxed) {
        true => Err(Error::new(ErrorKind::Cancelled, "learning was interrupted")),
        false => Ok(()),
    }
}

/// Read documents; the number of images and sounds that the model has no codes for is a warning.
fn documents(tokenizer: &Tokenizer, paths: &[PathBuf]) -> Result<Vec<String>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let mut corpus = tokenizer.corpus(paths)?;
    let go_on = |_: &Result<String>| !super::interrupted().load(Ordering::Relaxed);
    let documents = corpus.by_ref().take_while(go_on).collect::<Result<_>>()?;
    check_interrupted()?;
    if corpus.left_out() > 0 {
        super::warn(&crate::text::describe_left_out(corpus.left_out()));
    }
    Ok(documents)
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let started = cpu_time::ProcessTime::now();
        super::catch_interrupt()?;
        super::check_folder(&self.out)?;
        let engine = super::open_whole(&self.model)?;
        let model = engine.graph().map_err(|_| {
            let what = "transformers and recurrent networks cannot learn texts by counts";
            Error::new(ErrorKind::Unsupported, what)
                .at(self.model.display())
                .advice(
                    "pass a .bril file, or train with `brillm train` and `initial` in the run file",
                )
        })?;
        let name = self.name.clone().unwrap_or_else(|| {
            let stem = self
                .text
                .first()
                .or(self.ids.as_ref())
                .and_then(|path| path.file_stem());
            let stem = stem.map_or("text".into(), |stem| stem.to_string_lossy());
            model.record_name(&stem)
        });
        let sources = self.text.iter().chain(&self.ids);
        let text = NewText {
            name,
            sources: sources.map(|path| path.display().to_string()).collect(),
            documents: documents(model.tokenizer(), &self.text)?,
            ids: match &self.ids {
                Some(path) => read_ids(path, Some(model.mechanism().nodes()))?,
                None => Vec::new(),
            },
            replay: documents(model.tokenizer(), &self.replay)?,
        };
        let settings = ContinualSettings {
            weight: self.weight,
            passes: self.passes,
            rate: self.rate,
            new_nodes: self.new_nodes,
            seed: self.seed,
        };
        check_interrupted()?;
        let bar = super::progress::bar(
            self.quiet,
            None,
            "{bar:30} {pos}/{len} steps {elapsed}  {msg}",
        );
        let lesson = learn_text(&model, &text, &settings, &mut |progress| {
            bar.set_length(progress.steps);
            bar.set_position(progress.step);
            bar.set_message(format!("loss {:.3}", progress.nats));
            !super::interrupted().load(Ordering::Relaxed)
        });
        bar.finish_and_clear();
        let lesson = lesson?;
        check_interrupted()?;
        lesson.model.save(&self.out)?;
        self.report(&lesson, started.elapsed().as_secs_f64())
    }

    fn report(&self, lesson: &Lesson, cpu_seconds: f64) -> Result<()> {
        let record = &lesson.record;
        if self.json {
            return super::say_json(&json!({
                "model": self.out.display().to_string(),
                "record": record,
                "new_nodes": lesson.new_nodes.iter().map(|node| &node.text).collect::<Vec<_>>(),
                "trained_rows": lesson.trained_rows,
                "perplexity_first_pass": lesson.nats.map(|[first, _]| first.exp()),
                "perplexity_last_pass": lesson.nats.map(|[_, last]| last.exp()),
                "cpu_seconds": cpu_seconds,
            }));
        }
        super::say(format!(
            "{}: learned {:?}: {} tokens, {} new edges, {} new nodes, {} rows trained, {cpu_seconds:.1} CPU-seconds",
            self.out.display(),
            record.name,
            record.tokens,
            record.new_edges,
            record.new_nodes,
            lesson.trained_rows,
        ))?;
        if !lesson.new_nodes.is_empty() {
            let words: Vec<&str> = lesson.new_nodes.iter().map(|node| &*node.text).collect();
            super::say(format!("new nodes: {}", words.join(" ")))?;
        }
        match lesson.nats {
            Some([first, _]) if self.passes == 1 => super::say(format!(
                "perplexity of the text, before each part was trained on: {:.2}",
                first.exp()
            )),
            Some([first, last]) => super::say(format!(
                "perplexity of the text: {:.2} in the first pass, {:.2} in the last",
                first.exp(),
                last.exp()
            )),
            None => Ok(()),
        }
    }
}
