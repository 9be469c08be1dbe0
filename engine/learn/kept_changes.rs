//! The changes of `--set` that a run was started or resumed with, kept in its folder: a later resume continues with them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::learn::recipe::key_and_value;
use crate::{Error, ErrorKind, Result};

/// Name of the file in the folder of a run.
const FILE: &str = "changes.json";

/// A change, with what it replaced.
#[derive(Serialize, Deserialize)]
struct KeptChange {
    /// `key=value`.
    change: String,
    /// Value of the key in the run file, where it has one.
    replaced: Option<String>,
}

/// Value of a dotted key in a run file.
fn value_at(run_file: &toml::Table, key: &str) -> Option<String> {
    let mut names = key.split('.');
    let first = run_file.get(names.next()?)?;
    let value = names.try_fold(first, |value, name| value.get(name))?;
    Some(value.to_string())
}

fn read_table(run_file: &Path) -> Result<toml::Table> {
    // A mistake is reported when the recipe is read from it.
    let text = crate::text::read_text(run_file)?;
    Ok(text.parse().unwrap_or_default())
}

/// Return the changes that `folder` keeps for `run_file`, without those of keys whose value in the run file has been edited
/// since: there the run file is right.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Format`] for a damaged file.
pub fn kept_changes(folder: &Path, run_file: &Path) -> Result<Vec<String>> {
    let file = folder.join(FILE);
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text = crate::text::read_text(&file)?;
    let kept: Vec<KeptChange> = serde_json::from_str(&text).map_err(|error| {
        let what = Error::new(ErrorKind::Format, "the file is damaged").at(file.display());
        let what = what.because(error);
        what.advice("delete it, and resume with --set for each key that differs from the run file")
    })?;
    let table = read_table(run_file)?;
    let applies = |kept: &KeptChange| {
        let key = kept.change.split('=').next().unwrap_or_default();
        value_at(&table, key) == kept.replaced
    };
    let kept = kept.into_iter().filter(applies);
    Ok(kept.map(|kept| kept.change).collect())
}

/// Keep the changes of a run in `folder`; of several changes of a key, the last.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Configuration`] for a change that is not `key=value`.
pub fn keep_changes(folder: &Path, run_file: &Path, changes: &[String]) -> Result<()> {
    let file = folder.join(FILE);
    if changes.is_empty() && !file.exists() {
        return Ok(());
    }
    let table = read_table(run_file)?;
    let mut kept: Vec<KeptChange> = Vec::new();
    for change in changes {
        let (key, value) = key_and_value(change)?;
        let start = format!("{key}=");
        kept.retain(|kept| !kept.change.starts_with(&start));
        kept.push(KeptChange {
            change: format!("{start}{value}"),
            replaced: value_at(&table, key),
        });
    }
    let text = serde_json::to_string_pretty(&kept).map_err(|error| {
        Error::new(ErrorKind::Configuration, "the changes have no JSON form").because(error)
    })?;
    brillm_file::write(&file, text).map_err(Error::io_at(&file))
}
