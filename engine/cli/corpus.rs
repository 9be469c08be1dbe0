//! `brillm corpus`: reference texts become records, by a plugin that answers `corpus/1`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::path::Sampling;
use crate::run::{Speaker, write_records};
use crate::text::{Corpus, CorpusOptions};
use crate::{Error, Result};

/// Makes training records of reference texts: name the plugin that makes them with --plugin.
#[derive(Args)]
pub(super) struct Arguments {
    /// Reference texts: files, folders, globs, or -.
    #[arg(required = true)]
    text: Vec<String>,
    /// Writes the records here, one JSON object a line; standard output without it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Lets this model speak where the plugin asks; the English one in the program by default.
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Gives the plugin no model.
    #[arg(long, conflicts_with = "model")]
    no_model: bool,
    /// 0 takes the node of most energy; above 0 samples.
    #[arg(long, default_value_t = 0.7, value_name = "T")]
    temperature: f32,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Reports how many records there are as JSON; needs --out.
    #[arg(long, requires = "out")]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let hooks = super::plugins::hooks()?;
        super::catch_interrupt()?;
        let speaker = if self.no_model {
            None
        } else {
            let sampling = Sampling::default()
                .temperature(self.temperature)
                .seed(self.seed);
            let model = super::open_model(self.model.as_deref())?;
            let mut speaker = Speaker::new(model, sampling, hooks.clone());
            speaker.cancel = Some(super::interrupted().clone());
            Some(speaker)
        };
        let documents = Corpus::open(&self.text, CorpusOptions::default())?;
        let Some(path) = &self.out else {
            write_records(documents, &hooks, self.seed, speaker, &mut |line| {
                super::say(line)
            })?;
            return Ok(());
        };
        let file = std::fs::File::create(path).map_err(|error| Error::io(error, path.display()))?;
        let mut out = BufWriter::new(file);
        let records = write_records(documents, &hooks, self.seed, speaker, &mut |line| {
            writeln!(out, "{line}").map_err(|error| Error::io(error, path.display()))
        })?;
        out.flush()
            .map_err(|error| Error::io(error, path.display()))?;
        if self.json {
            let mut report = json!({"records": records, "out": path, "seed": self.seed});
            super::plugins::note(&mut report, self.seed)?;
            return super::say_json(&report);
        }
        super::say(format!("{}: {records} records", path.display()))
    }
}
