//! Shared by the integration tests: paths, tables of cases, running the program, small recipes and models.
#![allow(dead_code, unused_imports)] // Every test target uses a different part.

mod models;
#[cfg(all(feature = "cli", feature = "modality"))]
pub mod pairs;
#[cfg(feature = "cli")]
mod program;
#[cfg(all(feature = "cli", feature = "mpi"))]
pub mod ranks;
#[cfg(feature = "transformer")]
pub mod transformer;

use std::any::Any;
use std::fmt::Debug;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

pub use models::*;
#[cfg(feature = "cli")]
pub use program::*;
use serde_json::Value;

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Create a folder that keeps its files after the tests, for what is built once.
pub fn kept_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Join a folder and a file name, as a command-line argument.
pub fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_string()
}

/// Write token ids as the commands read them (`.u16`).
pub fn write_ids(path: impl AsRef<Path>, ids: &[u16]) {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    std::fs::write(path, bytes).unwrap();
}

/// Compare a text with a file of the repository; with `BRILLM_BLESS=1`, write the file first.
pub fn golden(path: &str, now: &str) {
    let path = root().join(path);
    if std::env::var_os("BRILLM_BLESS").is_some() {
        std::fs::write(&path, now).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == now,
        "{} differs from what the source generates; if the change is intended, BRILLM_BLESS=1 writes the file",
        path.display()
    );
}

/// Read a number of a report.
pub fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

/// Check that a report has every key.
pub fn keys(value: &Value, wanted: &[&str]) {
    for key in wanted {
        assert!(!value[key].is_null(), "no {key} in {value}");
    }
}

/// Compute the arithmetic mean.
pub fn mean(values: &[f64]) -> f64 {
    assert!(!values.is_empty());
    values.iter().sum::<f64>() / values.len() as f64
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".into())
}

/// Run a check on every case of a table; fail with the list of all cases that failed.
pub fn cases<T: Debug>(table: impl IntoIterator<Item = T>, check: impl Fn(&T)) {
    let (mut count, mut failures) = (0, Vec::new());
    for case in table {
        count += 1;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&case))) {
            failures.push(format!("{case:?}: {}", panic_message(&*panic)));
        }
    }
    assert!(count > 0, "the table has no cases");
    assert!(
        failures.is_empty(),
        "{} of {count} cases failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Whether `BRILLM_REQUIRE=all` turns a missing tool into a failure.
pub fn everything_required() -> bool {
    std::env::var("BRILLM_REQUIRE").is_ok_and(|value| value == "all")
}

/// Report that a tool is missing: a failure with `BRILLM_REQUIRE=all`, else a note.
pub fn missing(what: &str) {
    assert!(
        !everything_required(),
        "{what} is missing and BRILLM_REQUIRE=all requires it; tests/run --install installs it"
    );
    // Written directly: the test harness hides what passing tests print.
    let _ = writeln!(std::io::stderr(), "not tested: {what} is missing");
}
