//! The validator: runs every conformance case in its own process, so that a crash is a result.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::plugin::conformance;
use crate::plugin::manifest::Described;
use crate::{Error, ErrorKind, Result};

/// The verdict on a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The expected behaviour.
    Passed,
    /// Allowed, but unusual.
    Warned,
    /// Wrong behaviour.
    Failed,
    /// The process crashed or wrote beyond a buffer.
    Crashed,
    /// It did not return in time.
    Hung,
}

impl Verdict {
    /// Whether the plugin may be used.
    pub fn fine(self) -> bool {
        matches!(self, Self::Passed | Self::Warned)
    }
}

/// A case and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseReport {
    /// The plugin's id; empty for cases of the library.
    pub plugin: String,
    /// The case, for example `edge/1 replay`.
    pub case: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Details.
    pub detail: String,
    /// Duration of the process.
    pub milliseconds: u64,
}

/// Checks libraries by running `program plugin check FILE --in-process CASE` for each case.
#[derive(Clone, Debug)]
pub struct Checker {
    /// The program, usually `std::env::current_exe()`.
    pub program: PathBuf,
    /// Arguments of the program before `plugin check`.
    pub arguments: Vec<OsString>,
    /// Maximum duration of a case.
    pub patience: Duration,
    /// Options for the cases that create an instance.
    pub options: Map<String, Value>,
}

impl Checker {
    /// Check a library. `observer` receives each report as its case ends.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a process cannot be started or the library does not exist. Errors of the plugin are
    /// in the reports.
    pub fn check(
        &self,
        library: &Path,
        observer: &mut dyn FnMut(&CaseReport),
    ) -> Result<Vec<CaseReport>> {
        let library = library
            .canonicalize()
            .map_err(|error| Error::io(error, library.display()))?;
        let mut reports = Vec::new();
        let mut one = |plugin: &str, name: &str| -> Result<CaseReport> {
            let report = self.run(&library, plugin, name)?;
            observer(&report);
            reports.push(report.clone());
            Ok(report)
        };
        let entry = one("", conformance::ENTRY)?;
        // The detail of the entry lists the plugins of the library, so that this process need not load it.
        let plugins: Vec<Described> = serde_json::from_str(&entry.detail).unwrap_or_default();
        if entry.verdict.fine() {
            one("", conformance::MANIFEST)?;
        }
        for plugin in &plugins {
            for name in conformance::names(&plugin.hooks) {
                one(&plugin.id, &name)?;
            }
        }
        Ok(reports)
    }

    fn run(&self, library: &Path, plugin: &str, name: &str) -> Result<CaseReport> {
        let start = Instant::now();
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
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
            if start.elapsed() > self.patience {
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
        let printed: Option<(Verdict, String)> = output
            .lines()
            .rev()
            .find_map(|line| serde_json::from_str::<conformance::Outcome>(line).ok())
            .map(|outcome| (outcome.verdict, outcome.detail));
        let last: Vec<&str> = errors
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let last = last.last().copied().unwrap_or("");
        let (verdict, detail) = match (status, printed) {
            (None, _) => (
                Verdict::Hung,
                format!("did not return within {:.1} s", self.patience.as_secs_f64()),
            ),
            (Some(status), Some(printed)) if status.success() => printed,
            (Some(status), _) => (Verdict::Crashed, format!("{status}: {last}")),
        };
        Ok(CaseReport {
            plugin: plugin.to_string(),
            case: name.to_string(),
            verdict,
            detail,
            milliseconds: start.elapsed().as_millis() as u64,
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

/// Run one case in this process, for debuggers and for [`Checker`]. Returns a JSON object to print.
///
/// # Errors
/// [`ErrorKind::Input`] for an unknown case.
pub fn in_process(
    library: &Path,
    plugin: Option<&str>,
    name: &str,
    options: &Map<String, Value>,
) -> Result<Value> {
    let outcome = conformance::run(library, plugin, name, options)?;
    serde_json::to_value(outcome).map_err(|error| Error::new(ErrorKind::Numeric, error.to_string()))
}
