//! The log of a run, in three forms: `log.jsonl`, `log.csv` and a TensorBoard event file.
//!
//! The JSON lines are the log; the other two have the same records in other formats and are rebuilt from it when a run
//! resumes, so that the three agree. Each record is written with one call: a process that is killed loses none, and at
//! worst cuts the last line, which resuming removes.

use super::tensorboard;
use crate::error::{Error, ErrorKind, Result};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use brillm_file::OutputFile;

pub use super::record::{Record, Training, Validation, wall_time};

/// File of the records as JSON lines.
pub const JSON_FILE: &str = "log.jsonl";
/// File of the records as comma-separated values, with a header.
pub const CSV_FILE: &str = "log.csv";
/// File of the records for TensorBoard, which recognises `tfevents` in the name.
pub const EVENT_FILE: &str = "events.out.tfevents.brillm";

/// Writer of the log in a run folder.
///
/// Add the record of a step before its checkpoint is saved: the log of a resumed run then equals that of an
/// uninterrupted one, except for the `wall_` fields.
#[derive(Debug)]
pub struct RunLog {
    json: Appender,
    csv: Appender,
    events: Appender,
    /// Step of the last record, or the step resumed from; later records must not be earlier.
    step: u64,
}

impl RunLog {
    /// Create the log of a new run, and its folder.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] if the folder already has a log; an input-output error if it cannot be written.
    pub fn create(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(Error::io_at(&folder))?;
        let path = folder.join(JSON_FILE);
        brillm_file::create_log(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::new(
                ErrorKind::Input,
                "the folder contains the log of another run",
            )
            .at(path.display())
            .advice("resume that run, or choose another folder"),
            _ => Error::io(error, path.display()),
        })?;
        Self::resume(folder, 0)
    }

    /// Continue the log of a run that resumes after `step` optimiser steps.
    ///
    /// Records of later steps and an incomplete last line are removed from all three files. Without a log, a new one is
    /// created.
    ///
    /// # Errors
    /// [`ErrorKind::Format`], with the line, if the log is damaged before its last line; an input-output error
    /// if it cannot be read or written, in which case `log.jsonl` is unchanged.
    ///
    /// # Complexity
    /// O(records).
    pub fn resume(folder: impl AsRef<Path>, step: u64) -> Result<Self> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(Error::io_at(&folder))?;
        let mut json = Appender::open(folder.join(JSON_FILE))?;
        let mut csv = Replacement::new(folder.join(CSV_FILE))?;
        let mut events = Replacement::new(folder.join(EVENT_FILE))?;

        csv.write(format!("{}\n", Record::COLUMNS).as_bytes())?;
        let mut kept = 0;
        let mut begun = false;
        each_record(&json.path, |record, end| {
            if record.step() > step {
                return Ok(false);
            }
            if !begun {
                events.write(&tensorboard::file_version(record.wall_time()))?;
                begun = true;
            }
            csv.write(csv_line(&record).as_bytes())?;
            events.write(&event(&record))?;
            kept = end;
            Ok(true)
        })?;
        if !begun {
            events.write(&tensorboard::file_version(wall_time()))?;
        }
        let (csv, events) = (csv.finish()?, events.finish()?);
        // Last, so that the call can be repeated after an error in the others.
        json.cut(kept)?;
        Ok(Self {
            json,
            csv,
            events,
            step,
        })
    }

    /// Add a record to all three files.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a record of an earlier step than the last; an input-output error if it cannot
    /// be written: the log then ends with the last whole record.
    pub fn add(&mut self, record: &Record) -> Result<()> {
        if record.step() < self.step {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "the record of step {} follows one of step {}",
                    record.step(),
                    self.step
                ),
            )
            .at(self.json.path.display())
            .advice("add records in the order of their steps"));
        }
        let mut line = serde_json::to_vec(record).map_err(|error| {
            Error::new(ErrorKind::Format, "the record has no JSON form")
                .at(self.json.path.display())
                .because(error)
        })?;
        line.push(b'\n');
        self.json.append(&line)?;
        self.csv.append(csv_line(record).as_bytes())?;
        self.events.append(&event(record))?;
        self.step = record.step();
        Ok(())
    }

    /// Wait until all records are on disk.
    ///
    /// # Errors
    /// An input-output error of the operating system.
    pub fn sync(&self) -> Result<()> {
        for file in [&self.json, &self.csv, &self.events] {
            file.file
                .sync_data()
                .map_err(|error| Error::io(error, file.path.display()))?;
        }
        Ok(())
    }

    /// Read the records of a run folder, without an incomplete last line; the run may still be active.
    ///
    /// # Errors
    /// As [`resume`](Self::resume), and an input-output error if there is no log.
    pub fn read(folder: impl AsRef<Path>) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        each_record(&folder.as_ref().join(JSON_FILE), |record, _| {
            records.push(record);
            Ok(true)
        })?;
        Ok(records)
    }
}

/// Pass each complete record and the offset of its end to `show`, until that returns `false`.
fn each_record(path: &Path, mut show: impl FnMut(Record, u64) -> Result<bool>) -> Result<()> {
    let mut reader = BufReader::new(File::open(path).map_err(Error::io_at(path))?);
    let mut line = Vec::new();
    let mut end = 0;
    for number in 1.. {
        line.clear();
        end += reader
            .read_until(b'\n', &mut line)
            .map_err(Error::io_at(path))? as u64;
        // Every record ends its line: a last line without an end is incomplete.
        if line.last() != Some(&b'\n') {
            break;
        }
        let record = serde_json::from_slice(&line).map_err(|error| {
            Error::new(ErrorKind::Format, "invalid record")
                .at(format!("line {number}"))
                .at(path.display())
                .advice("remove the damaged line")
                .because(error)
        })?;
        if !show(record, end)? {
            break;
        }
    }
    Ok(())
}

fn csv_line(record: &Record) -> String {
    format!("{}\n", record.row())
}

fn event(record: &Record) -> Vec<u8> {
    tensorboard::scalars(record.step(), record.wall_time(), &record.scalars())
}

/// A file that records are appended to.
#[derive(Debug)]
struct Appender {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Appender {
    fn open(path: PathBuf) -> Result<Self> {
        let open = || {
            let mut file = brillm_file::open_log(&path)?;
            let length = file.stream_position()?;
            Ok((file, length))
        };
        match open() {
            Ok((file, length)) => Ok(Self { file, path, length }),
            Err(error) => Err(Error::io(error, path.display())),
        }
    }

    fn append(&mut self, record: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(record) {
            // Remove an incomplete record, so that the next one begins a new line. If that fails too, resuming
            // removes it.
            let _ = self.cut(self.length);
            return Err(Error::io(error, self.path.display()));
        }
        self.length += record.len() as u64;
        Ok(())
    }

    fn cut(&mut self, length: u64) -> Result<()> {
        self.file
            .set_len(length)
            .and_then(|()| self.file.seek(SeekFrom::Start(length)))
            .map_err(Error::io_at(&self.path))?;
        self.length = length;
        Ok(())
    }
}

/// A new version of a file, which replaces the old one when complete.
struct Replacement {
    file: OutputFile,
    path: PathBuf,
}

impl Replacement {
    fn new(path: PathBuf) -> Result<Self> {
        let file = OutputFile::create(&path).map_err(Error::io_at(&path))?;
        Ok(Self { file, path })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io_at(&self.path))
    }

    fn finish(self) -> Result<Appender> {
        self.file.finish().map_err(Error::io_at(&self.path))?;
        Appender::open(self.path)
    }
}
