//! Files of the run folder: the recipe and the models.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Trainer;
use crate::learn::recipe::Recipe;
use crate::text::{RUN_RECORD, is_run_folder};
use crate::{Error, ErrorKind, Result};

impl Trainer {
    /// Write the current model with the record of its training, on rank 0. All ranks call this together.
    pub(super) fn save(&mut self, path: &Path) -> Result<()> {
        if self.ranks.rank() > 0 && self.trainable.held().is_none() {
            return Ok(());
        }
        let training = serde_json::json!({
            "about": self.recipe.about,
            "recipe": self.recipe,
            "sources": self.data.sources,
            "train_tokens": self.data.train().len(),
            "step": self.progress.step,
            "validation": self.progress.best.map(|(perplexity, step)| serde_json::json!({
                "perplexity": perplexity, "step": step, "tokens": self.data.validation().len(),
            })),
            "version": env!("CARGO_PKG_VERSION"),
        });
        self.trainable.save(path, training)
    }
}

/// Keys that may differ when a run is resumed: they change neither the data nor the steps already taken.
const CHANGEABLE: [&str; 10] = [
    "about",
    "license",
    "train.tokens",
    "train.log-every",
    "train.validate-every",
    "train.patience",
    "train.checkpoint-every",
    "train.checkpoints",
    "train.charges",
    "train.recall",
];

/// Whether a run in the folder has begun to train.
pub(super) fn has_begun(folder: &Path) -> bool {
    is_run_folder(folder) && folder.join(crate::learn::log::JSON_FILE).exists()
}

/// Whether a run in the folder has begun with exact sums, for example over ranks: it goes on with them in one process.
pub(super) fn sums_exactly(folder: &Path) -> bool {
    let record = crate::text::read_text(&folder.join(RUN_RECORD)).ok();
    let record: Option<Value> = record.and_then(|text| serde_json::from_str(&text).ok());
    has_begun(folder) && record.is_some_and(|record| record["train"]["reduction"] == "exact")
}

/// Write the recipe into the run folder. With `resume`, a run that is there may have differed in [`CHANGEABLE`] keys;
/// without, it must not have begun. Returns the number of training tokens of the earlier start, whose recipe stays until
/// [`write_recipe`] replaces it.
pub(super) fn keep_recipe(recipe: &Recipe, folder: &Path, resume: bool) -> Result<Option<u64>> {
    std::fs::create_dir_all(folder).map_err(Error::io_at(folder))?;
    let stored = folder.join(RUN_RECORD);
    if !stored.exists() {
        return write_recipe(recipe, folder).map(|()| None);
    }
    if !folder.join(crate::learn::log::JSON_FILE).exists() {
        // An earlier start failed, for example because a source was missing or too short: its tokens may be outdated.
        let tokens = folder.join("tokens.json");
        std::fs::remove_file(&tokens).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(Error::io(error, tokens.display())),
        })?;
        return write_recipe(recipe, folder).map(|()| None);
    }
    if !resume {
        return Err(Error::new(
            ErrorKind::Configuration,
            "the folder already contains a run",
        )
        .at(folder.display())
        .advice("pass --resume to continue it, or another --out"));
    }
    let kept = crate::text::read_text(&stored)?;
    let damaged = |error| {
        let what = Error::new(ErrorKind::Format, "the file is damaged");
        what.at(stored.display()).because(error)
    };
    let before: Value = serde_json::from_str(&kept).map_err(damaged)?;
    let now: Value = serde_json::from_str(&json(recipe)?).map_err(damaged)?;
    let mut changed = Vec::new();
    differences(&before, &now, "", &mut changed);
    changed.retain(|key| !CHANGEABLE.contains(&key.as_str()));
    if changed.is_empty() {
        return Ok(before["train"]["tokens"].as_u64());
    }
    let verb = if changed.len() == 1 {
        "differs"
    } else {
        "differ"
    };
    let what = format!(
        "the run began with a different run file or --set options: {} {verb}",
        changed.join(", ")
    );
    Err(Error::new(ErrorKind::Configuration, what)
        .at(stored.display())
        .advice(format!(
            "resume with the settings it began with; only these may change: {}",
            CHANGEABLE.join(", ")
        )))
}

fn json(recipe: &Recipe) -> Result<String> {
    serde_json::to_string_pretty(recipe).map_err(|error| {
        Error::new(ErrorKind::Configuration, "the recipe has no JSON form").because(error)
    })
}

/// Write the recipe as the record of the run.
pub(super) fn write_recipe(recipe: &Recipe, folder: &Path) -> Result<()> {
    let stored = folder.join(RUN_RECORD);
    brillm_file::write(&stored, json(recipe)?).map_err(Error::io_at(&stored))
}

/// List the dotted keys at which two recipes differ.
fn differences(a: &Value, b: &Value, key: &str, found: &mut Vec<String>) {
    let (Value::Object(one), Value::Object(other)) = (a, b) else {
        if a != b {
            found.push(key.to_string());
        }
        return;
    };
    let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    for name in names {
        let key = if key.is_empty() {
            name.clone()
        } else {
            format!("{key}.{name}")
        };
        differences(&a[name], &b[name], &key, found);
    }
}

/// Copy a model: a file, or the files of a folder, `config.json` last because it marks the folder as complete.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return brillm_file::copy(from, to).map_err(Error::io_at(to));
    }
    std::fs::create_dir_all(to).map_err(Error::io_at(to))?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(from)
        .map_err(Error::io_at(to))?
        .map(|entry| entry.map(|entry| entry.path()).map_err(Error::io_at(to)))
        .collect::<Result<_>>()?;
    files.sort_by_key(|path| path.ends_with("config.json"));
    for file in files {
        let to = to.join(file.file_name().unwrap_or_default());
        brillm_file::copy(&file, &to).map_err(Error::io_at(&to))?;
    }
    Ok(())
}
