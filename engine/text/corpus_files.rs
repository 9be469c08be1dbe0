//! The files of a corpus: found in folders and by patterns, without hidden files and the folders of runs.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::text::input::read_text;
use crate::{Error, ErrorKind, Result};

/// Record of a run in its folder.
pub(crate) const RUN_RECORD: &str = "run.json";

/// Return whether a text is the record of a run, and not other JSON.
pub(crate) fn is_run_record(text: &str) -> bool {
    let record = serde_json::from_str::<serde_json::Value>(text).ok();
    record.is_some_and(|record| record["data"]["train"].is_array())
}

/// Return whether a folder contains a run, whose files are not a corpus.
pub(crate) fn is_run_folder(folder: &Path) -> bool {
    read_text(&folder.join(RUN_RECORD)).is_ok_and(|text| is_run_record(&text))
}

/// Number of files that a corpus skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedFiles {
    /// Hidden files and folders, and editors' backups.
    pub hidden: usize,
    /// Files in the folders of runs: models, logs and records.
    pub of_runs: usize,
}

impl SkippedFiles {
    /// Number of all of them.
    pub fn total(self) -> usize {
        self.hidden + self.of_runs
    }
}

impl std::ops::AddAssign for SkippedFiles {
    fn add_assign(&mut self, other: Self) {
        self.hidden += other.hidden;
        self.of_runs += other.of_runs;
    }
}

impl fmt::Display for SkippedFiles {
    /// Write for example `1 hidden file and 12 files of runs`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let hidden = format!("{} hidden file{}", self.hidden, plural(self.hidden));
        let of_runs = format!("{} file{} of runs", self.of_runs, plural(self.of_runs));
        formatter.write_str(&match (self.hidden, self.of_runs) {
            (_, 0) => hidden,
            (0, _) => of_runs,
            _ => format!("{hidden} and {of_runs}"),
        })
    }
}

/// What was skipped in folders and among the matches of patterns.
#[derive(Default)]
pub(super) struct Skipped {
    hidden: usize,
    /// Number of files, by the folder of their run.
    runs: BTreeMap<PathBuf, usize>,
}

impl Skipped {
    pub(super) fn count(&self, own: Option<&Path>) -> SkippedFiles {
        let own = own.and_then(|own| own.canonicalize().ok());
        let others = self
            .runs
            .iter()
            .filter(|(folder, _)| own.is_none() || folder.canonicalize().ok() != own);
        SkippedFiles {
            hidden: self.hidden,
            of_runs: others.map(|(_, files)| files).sum(),
        }
    }
}

/// Files of the sources, in order.
#[derive(Default)]
pub(super) struct CorpusFiles {
    pub(super) files: VecDeque<PathBuf>,
    pub(super) skipped: Skipped,
}

impl CorpusFiles {
    pub(super) fn add(&mut self, source: &Path) -> Result<()> {
        let pattern = source
            .to_str()
            .filter(|text| text.contains(['*', '?', '[']));
        let (before, skipped) = (self.files.len(), self.skipped.count(None));
        let kind = if source.is_dir() {
            self.add_folder(source)?;
            "the folder contains no files to read"
        } else if source.as_os_str() == "-" || source.exists() {
            self.files.push_back(source.to_path_buf());
            return Ok(());
        } else if let Some(pattern) = pattern {
            self.add_matches(pattern)?;
            "no file matches the pattern"
        } else {
            source.metadata().map_err(Error::io_at(source))?;
            "the source is neither a file nor a folder"
        };
        if self.files.len() > before {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Input, kind).at(source.display());
        let found = self.skipped.count(None);
        let skipped = SkippedFiles {
            hidden: found.hidden - skipped.hidden,
            of_runs: found.of_runs - skipped.of_runs,
        };
        Err(match skipped.total() {
            0 => error,
            _ => error.advice(format!("skipped: {skipped}")),
        })
    }

    fn add_folder(&mut self, folder: &Path) -> Result<()> {
        let entries = std::fs::read_dir(folder).map_err(Error::io_at(folder))?;
        let mut entries: Vec<PathBuf> = entries
            .map(|entry| {
                entry
                    .map(|entry| entry.path())
                    .map_err(Error::io_at(folder))
            })
            .collect::<Result<_>>()?;
        entries.sort();
        for entry in entries {
            if entry.file_name().is_some_and(is_hidden) {
                self.skipped.hidden += 1;
            } else if entry.is_dir() {
                // Links to folders are not followed, because they could form a cycle. The folder of a run contains no corpus,
                // but may be in the folder of its corpus.
                if entry.is_symlink() {
                } else if is_run_folder(&entry) {
                    let files = count_files(&entry);
                    self.skipped.runs.insert(entry, files);
                } else {
                    self.add_folder(&entry)?;
                }
            } else if entry.is_file() {
                self.files.push_back(entry);
            }
        }
        Ok(())
    }

    fn add_matches(&mut self, pattern: &str) -> Result<()> {
        let matches = glob::glob(pattern).map_err(|error| {
            Error::new(ErrorKind::Input, format!("invalid pattern: {error}")).at(pattern)
        })?;
        // Hidden names that the pattern itself contains are asked for.
        let asked: Vec<&OsStr> = Path::new(pattern)
            .iter()
            .filter(|&name| is_hidden(name))
            .collect();
        let wild = asked
            .iter()
            .any(|name| name.to_string_lossy().contains(['*', '?', '[']));
        let skipped = |name: &OsStr| is_hidden(name) && !wild && !asked.contains(&name);
        // A run that the pattern itself names is asked for too.
        let wildcard = |part: &&OsStr| part.to_string_lossy().contains(['*', '?', '[']);
        let base: PathBuf = Path::new(pattern)
            .iter()
            .take_while(|part| !wildcard(part))
            .collect();
        let mut runs: BTreeMap<PathBuf, bool> = BTreeMap::new();
        let mut run_of = |path: &Path| {
            let folders = path
                .ancestors()
                .skip(1)
                .take_while(|folder| **folder != base);
            let mut folders = folders.filter(|folder| !folder.as_os_str().is_empty());
            let run = folders.find(|folder| {
                let is_run = runs.entry(folder.to_path_buf());
                *is_run.or_insert_with(|| is_run_folder(folder))
            });
            run.map(Path::to_path_buf)
        };
        for path in matches {
            let path =
                path.map_err(|error| Error::new(ErrorKind::Io, error.to_string()).at(pattern))?;
            if path.iter().any(skipped) {
                self.skipped.hidden += 1;
            } else if path.is_file() {
                match run_of(&path) {
                    Some(run) => *self.skipped.runs.entry(run).or_default() += 1,
                    None => self.files.push_back(path),
                }
            }
        }
        Ok(())
    }
}

/// Count the files in a folder and in those below it. Links are not followed.
fn count_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let count = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => count_files(&entry.path()),
        _ => 1,
    });
    count.sum()
}

/// Whether a file or folder is hidden, a backup of an editor, or made by a file manager.
fn is_hidden(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name != b"." && name != b".."
        || name.ends_with(b"~")
        || name.starts_with(b"#") && name.ends_with(b"#")
        || [&b"Thumbs.db"[..], b"desktop.ini", b"__MACOSX"].contains(&name)
}
