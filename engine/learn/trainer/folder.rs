//! Files of the run folder: the recipe and the models.

use std::path::{Path, PathBuf};

use super::Trainer;
use crate::learn::checkpoint;
use crate::learn::recipe::Recipe;
use crate::{Error, ErrorKind, Result};

impl Trainer {
    /// Write the current model with the record of its training.
    pub(super) fn save(&mut self, path: &Path) -> Result<()> {
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

/// Write the recipe into the run folder; one that is there already must be the same, and `resume` given.
pub(super) fn keep_recipe(recipe: &Recipe, folder: &Path, resume: bool) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io_at(folder))?;
    let stored = folder.join("run.json");
    let own = serde_json::to_string_pretty(recipe).map_err(|error| {
        Error::new(ErrorKind::Configuration, "the recipe has no JSON form").because(error)
    })?;
    if !stored.exists() {
        return checkpoint::write_whole(&stored, own.as_bytes());
    }
    if !resume {
        return Err(Error::new(
            ErrorKind::Configuration,
            "the folder already contains a run",
        )
        .at(folder.display())
        .advice("give --resume to continue it, or another --out"));
    }
    let kept = std::fs::read_to_string(&stored).map_err(Error::io_at(&stored))?;
    if kept != own {
        return Err(Error::new(
            ErrorKind::Configuration,
            "the run began with another recipe",
        )
        .at(stored.display())
        .advice("resume with the run file and the --set options it began with"));
    }
    Ok(())
}

/// Copy a model: a file, or the files of a folder, `config.json` last because it marks the folder as complete.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        let bytes = std::fs::read(from).map_err(Error::io_at(&from))?;
        return checkpoint::write_whole(to, &bytes);
    }
    std::fs::create_dir_all(to).map_err(Error::io_at(to))?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(from)
        .map_err(Error::io_at(to))?
        .map(|entry| entry.map(|entry| entry.path()).map_err(Error::io_at(to)))
        .collect::<Result<_>>()?;
    files.sort_by_key(|path| path.ends_with("config.json"));
    for file in files {
        let bytes = std::fs::read(&file).map_err(Error::io_at(&file))?;
        checkpoint::write_whole(&to.join(file.file_name().unwrap_or_default()), &bytes)?;
    }
    Ok(())
}
