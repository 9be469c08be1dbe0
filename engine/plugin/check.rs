//! The validator: every case in a process of its own, so that a crash is a result.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::plugin::case;
use crate::plugin::manifest::Described;
use crate::{Error, ErrorKind, Result};

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should.
    Passed,
    /// Worth a look, but allowed.
    Warned,
    /// Not as it should.
    Failed,
    /// The process died: a crash, or a write beyond a buffer.
    Crashed,
    /// It did not return in time.
    Hung,
}

impl Verdict {
    /// Whether the plugin may be used as far as this case says.
    pub fn fine(self) -> bool {
        matches!(self, Self::Passed | Self::Warned)
    }
}

/// A case and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseReport {
    /// The plugin's id; empty for cases of the library.
    pub plugin: String,
    /// The case, for example `edge/1 replay`.
    pub case: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// How long its process ran.
    pub milliseconds: u64,
}

/// Checks libraries by running `program plugin check FILE --in-process CASE` for each case.
#[derive(Clone, Debug)]
pub struct Checker {
    /// The program, usually `std::env::current_exe()`.
    pub program: PathBuf,
    /// How long a case may run.
    pub patience: Duration,
    /// Options for the cases that make an instance.
    pub options: Map<String, Value>,
}

impl Checker {
    /// Checks a library. `told` hears of each case as it ends.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a process cannot be started or the library is not there; what is wrong with the
    /// plugin is in the reports.
    pub fn check(
        &self,
        library: &Path,
        told: &mut dyn FnMut(&CaseReport),
    ) -> Result<Vec<CaseReport>> {
        let library = library
            .canonicalize()
            .map_err(|error| Error::io(error, library.display()))?;
        let mut reports = Vec::new();
        let mut one = |plugin: &str, name: &str| -> Result<CaseReport> {
            let report = self.run(&library, plugin, name)?;
            told(&report);
            reports.push(report.clone());
            Ok(report)
        };
        let entry = one("", case::ENTRY)?;
        // The entry's detail is what the library holds: learnt in a process of its own, like everything else.
        let plugins: Vec<Described> = serde_json::from_str(&entry.detail).unwrap_or_default();
        if entry.verdict.fine() {
            one("", case::MANIFEST)?;
        }
        for plugin in &plugins {
            for name in case::names(&plugin.hooks) {
                one(&plugin.id, &name)?;
            }
        }
        Ok(reports)
    }

    fn run(&self, library: &Path, plugin: &str, name: &str) -> Result<CaseReport> {
        let begun = Instant::now();
        let mut command = Command::new(&self.program);
        command
            .args(["plugin", "check"])
            .arg(library)
            .args(["--json", "--in-process", name]);
        if !plugin.is_empty() {
            command.args(["--id", plugin]);
        }
        for (key, value) in &self.options {
            command.arg("--option").arg(format!("{key}={value}"));
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::io(error, self.program.display()))?;
        let streams = [
            child.stdout.take().map(|stream| reader(Box::new(stream))),
            child.stderr.take().map(|stream| reader(Box::new(stream))),
        ];
        let status = loop {
            if let Some(status) = child
                .try_wait()
                .map_err(|error| Error::io(error, "waiting"))?
            {
                break Some(status);
            }
            if begun.elapsed() > self.patience {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let [output, errors] = streams.map(|stream| {
            stream
                .and_then(|stream| stream.join().ok())
                .unwrap_or_default()
        });
        let said: Option<(Verdict, String)> = output
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str::<case::Outcome>(line).ok())
            .map(|outcome| (outcome.verdict, outcome.detail));
        let last: Vec<&str> = errors
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = last.last().copied().unwrap_or("");
        let (verdict, detail) = match (status, said) {
            (None, _) => (
                Verdict::Hung,
                format!("did not return within {:.1} s", self.patience.as_secs_f64()),
            ),
            (Some(status), Some(said)) if status.success() => said,
            (Some(status), _) => (Verdict::Crashed, format!("{status}: {last}")),
        };
        Ok(CaseReport {
            plugin: plugin.to_string(),
            case: name.to_string(),
            verdict,
            detail,
            milliseconds: begun.elapsed().as_millis() as u64,
        })
    }
}

fn reader(mut stream: Box<dyn Read + Send>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs one case in this process, for the debugger and for [`Checker`]; what it prints is one JSON object.
///
/// # Errors
/// [`ErrorKind::Input`] for a case that does not exist.
pub fn in_process(
    library: &Path,
    plugin: Option<&str>,
    name: &str,
    options: &Map<String, Value>,
) -> Result<Value> {
    let outcome = case::run(library, plugin, name, options)?;
    serde_json::to_value(outcome).map_err(|error| Error::new(ErrorKind::Numeric, error.to_string()))
}
