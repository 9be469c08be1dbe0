//! `brillm corpus`: make training records from reference texts with a corpus plugin.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::hook::Generate;
use crate::path::Sampling;
use crate::run::{Speaker, write_records};
use crate::text::{Corpus, CorpusOptions};
use crate::{Error, Result};

/// Create training records from reference texts with a corpus plugin (--plugin).
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm corpus stories.jsonl --plugin refgpt:generator=extract --no-model --out dialogues.jsonl
  brillm corpus articles --plugin refgpt --endpoint http://127.0.0.1:8000/v1 \\
      --out dialogues.jsonl --resume")]
pub(super) struct Arguments {
    /// Reference texts: files, folders, globs, or - for standard input.
    #[arg(required = true)]
    text: Vec<PathBuf>,
    /// Write the records to FILE, one JSON object per line [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Field of JSON records that contains the text [default: the first of text, story, content, paragraphs and desc].
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Keep the records in --out and add the missing ones [default: overwrite the file].
    #[arg(long, requires = "out")]
    resume: bool,
    /// Print no progress.
    #[arg(long)]
    quiet: bool,
    #[cfg(feature = "endpoint")]
    #[command(flatten)]
    endpoint: super::endpoint::EndpointArguments,
    /// Model that answers the plugin's generation requests: a .bril or .gguf file, or a folder with config.json
    /// [default: the built-in English model].
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Run the plugin without a model.
    #[arg(long, conflicts_with = "model")]
    no_model: bool,
    /// Sampling temperature; 0 always takes the most probable token.
    #[arg(long, default_value_t = 0.7, value_name = "T")]
    temperature: f32,
    /// Random seed; the same seed gives the same records.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Print the number of records as JSON; requires --out.
    #[arg(long, requires = "out")]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let hooks = super::plugin_options::hooks()?;
        super::catch_interrupt()?;
        let mut speaker = self.speaker(&hooks)?;
        let options = CorpusOptions {
            field: self.field.clone(),
            ..CorpusOptions::default()
        };
        let count = if self.quiet || self.text.iter().any(|text| text.as_os_str() == "-") {
            0
        } else {
            Corpus::open(&self.text, options.clone())?.count() as u64
        };
        let template = "{pos}/{len} references {wide_bar} {eta} {msg}";
        let bar = super::progress::bar(self.quiet, Some(count), template);
        let mut progress = |records: u64| {
            bar.inc(1);
            bar.set_message(format!("{records} records"));
        };
        let documents = Corpus::open(&self.text, options)?;
        let generate: Option<&mut dyn Generate> = match &mut speaker {
            Some(speaker) => Some(&mut **speaker),
            None => None,
        };
        let cancel = super::interrupted();
        let Some(path) = &self.out else {
            write_records(
                documents,
                &hooks,
                self.seed,
                generate,
                &HashSet::new(),
                cancel,
                &mut |line| super::say(line),
                &mut progress,
            )?;
            bar.finish_and_clear();
            return Ok(());
        };
        let written = if self.resume {
            resume(path)?
        } else {
            HashSet::new()
        };
        let io_error = |error| Error::io(error, path.display());
        let file = if self.resume {
            brillm_file::append(path)
        } else {
            brillm_file::restart_log(path)
        };
        let file = file.map_err(io_error)?;
        let mut out = BufWriter::new(file);
        let outcome = write_records(
            documents,
            &hooks,
            self.seed,
            generate,
            &written,
            cancel,
            // Flush each record before the next one is made, so that an interruption loses none.
            &mut |line| {
                writeln!(out, "{line}")
                    .and_then(|()| out.flush())
                    .map_err(io_error)
            },
            &mut progress,
        );
        bar.finish_and_clear();
        let records = outcome?;
        if self.json {
            let mut report = json!({
                "records": records, "kept": written.len(), "out": path.display().to_string(), "seed": self.seed,
            });
            super::plugin_options::note(&mut report, self.seed)?;
            return super::say_json(&report);
        }
        super::say(format!("{}: {records} records", path.display()))
    }

    /// Open the model that answers generation requests: an endpoint, a local model, or none.
    fn speaker(&self, hooks: &crate::hook::Hooks) -> Result<Option<Box<dyn Generate>>> {
        #[cfg(feature = "endpoint")]
        if let Some(endpoint) = self
            .endpoint
            .open(self.temperature, super::interrupted().clone())
        {
            return Ok(Some(Box::new(endpoint)));
        }
        if self.no_model {
            return Ok(None);
        }
        let sampling = Sampling::default()
            .temperature(self.temperature)
            .seed(self.seed);
        let model = super::open_engine(self.model.as_deref())?;
        let mut speaker = Speaker::new(model, sampling, hooks.clone());
        speaker.cancel = Some(super::interrupted().clone());
        Ok(Some(Box::new(speaker)))
    }
}

/// Read the keys of the records in an output file; cut off an incomplete last line that an interruption left.
fn resume(path: &Path) -> Result<HashSet<String>> {
    let io_error = |error| Error::io(error, path.display());
    let mut bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(io_error(error)),
    };
    let whole = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    if whole < bytes.len() {
        bytes.truncate(whole);
        brillm_file::open_log(path)
            .and_then(|file| file.set_len(whole as u64))
            .map_err(io_error)?;
    }
    bytes
        .split(|&byte| byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .filter_map(|(at, line)| match serde_json::from_slice::<Value>(line) {
            Ok(record) => record["key"].as_str().map(|key| Ok(key.to_string())),
            Err(error) => Some(Err(Error::json_line(error).at(format!(
                "{}: line {}",
                path.display(),
                at + 1
            )))),
        })
        .collect()
}
