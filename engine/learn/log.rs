//! The record of a run: JSON lines, and the same as CSV and for TensorBoard.
//!
//! `log.jsonl` is the truth; `log.csv` and the TensorBoard event file are made from it, and made anew when
//! a run is resumed, so that all three hold what an uninterrupted run would have written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::learn::tensorboard::EventFile;
use crate::{Error, ErrorKind, Result};

/// One line of the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Steps taken.
    pub step: u64,
    /// Tokens predicted so far.
    pub tokens: u64,
    /// Mean training loss since the last record, in nats per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Norm of the gradient before clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
    /// Perplexity on the validation text, over all V.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_perplexity: Option<f64>,
    /// Wall-clock seconds of this process (not comparable between runs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<f64>,
    /// Tokens per wall-clock second since the last record (not comparable between runs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_tokens_per_second: Option<f64>,
}

const COLUMNS: &str =
    "step,tokens,loss,rate,gradient_norm,validation_perplexity,wall_seconds,wall_tokens_per_second";

/// Appends records to a run folder.
pub struct RunLog {
    json: File,
    csv: File,
    events: EventFile,
    place: PathBuf,
}

impl RunLog {
    /// Opens the log of a folder, dropping every record after `step`, and any torn last line.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Resource`] on a full disk.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join("log.jsonl");
        let kept: Vec<Record> = match path.exists() {
            true => read(&path)?
                .into_iter()
                .filter(|record| record.step <= step)
                .collect(),
            false => Vec::new(),
        };
        let place = |error| Error::io(error, folder.display());
        let partial = folder.join("log.jsonl.partial");
        let mut text = String::new();
        for record in &kept {
            text.push_str(&line(record)?);
        }
        std::fs::write(&partial, text).map_err(place)?;
        std::fs::rename(&partial, &path).map_err(place)?;
        let json = OpenOptions::new().append(true).open(&path).map_err(place)?;
        let mut csv = File::create(folder.join("log.csv")).map_err(place)?;
        writeln!(csv, "{COLUMNS}").map_err(place)?;
        let mut log = Self {
            json,
            csv,
            events: EventFile::create(folder)?,
            place: folder.to_path_buf(),
        };
        for record in &kept {
            log.copy(record)?;
        }
        Ok(log)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], or [`ErrorKind::Resource`] on a full disk.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        let line = line(record)?;
        self.json
            .write_all(line.as_bytes())
            .map_err(|error| Error::io(error, self.place.display()))?;
        self.copy(record)
    }

    fn copy(&mut self, record: &Record) -> Result<()> {
        let cell = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        writeln!(
            self.csv,
            "{},{},{},{},{},{},{},{}",
            record.step,
            record.tokens,
            cell(record.loss),
            cell(record.rate),
            cell(record.gradient_norm),
            cell(record.validation_perplexity),
            cell(record.wall_seconds),
            cell(record.wall_tokens_per_second)
        )
        .map_err(|error| Error::io(error, self.place.display()))?;
        for (tag, value) in [
            ("train/loss", record.loss),
            ("train/rate", record.rate),
            ("train/gradient_norm", record.gradient_norm),
            ("validation/perplexity", record.validation_perplexity),
        ] {
            if let Some(value) = value {
                self.events.scalar(
                    tag,
                    record.step,
                    record.wall_seconds.unwrap_or(0.0),
                    value as f32,
                )?;
            }
        }
        Ok(())
    }
}

fn line(record: &Record) -> Result<String> {
    serde_json::to_string(record)
        .map(|text| text + "\n")
        .map_err(|error| {
            Error::new(ErrorKind::Numeric, "a record cannot be written").because(error)
        })
}

/// Reads the records of a `log.jsonl`; a torn last line is left out.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Format`] with the line of a damaged record.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(error, path.display()))?;
    let count = text.lines().count();
    let mut records = Vec::with_capacity(count);
    for (index, line) in text.lines().enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) if index + 1 == count && !text.ends_with('\n') => {}
            Err(error) => {
                return Err(
                    Error::new(ErrorKind::Format, format!("not a record: {error}")).at(format!(
                        "{} line {}",
                        path.display(),
                        index + 1
                    )),
                );
            }
        }
    }
    Ok(records)
}
