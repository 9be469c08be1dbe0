//! Preferences: the section of a run file, and its JSONL file of `prompt`, `chosen` and `rejected`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// `[preferences]`: direct preference optimisation (Rafailov et al. 2023).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Preferences {
    /// JSONL of `prompt`, `chosen` and `rejected`, relative to the run file.
    pub file: String,
    /// β: weight of the distance from the initial model; lower values allow larger changes.
    #[serde(default = "tenth")]
    pub beta: f64,
    /// Pairs per step.
    #[serde(default = "eight")]
    pub batch: usize,
}

fn tenth() -> f64 {
    0.1
}

fn eight() -> usize {
    8
}

/// One preference.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preference {
    /// Prompt.
    pub prompt: String,
    /// Preferred answer.
    pub chosen: String,
    /// Rejected answer.
    pub rejected: String,
}

impl Preferences {
    /// Check the ranges of the numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`].
    pub(super) fn check(&self) -> Result<()> {
        let error =
            |what: &str| Err(Error::new(ErrorKind::Configuration, what).at("[preferences]"));
        if !(self.beta > 0.0 && self.beta.is_finite()) {
            return error("invalid beta: expected a number above 0");
        }
        if !(1..=4096).contains(&self.batch) {
            return error("invalid batch: expected 1 to 4096");
        }
        Ok(())
    }

    /// Read the file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Format`] naming the line; [`ErrorKind::Input`] for a file without any.
    pub fn read(&self, base: &Path) -> Result<Vec<Preference>> {
        let path = base.join(&self.file);
        let text = crate::text::read_text(&path)?;
        let pairs = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| {
                serde_json::from_str(line).map_err(|error| {
                    Error::json_line(error)
                        .at(format!("{}: line {}", path.display(), number + 1))
                        .advice("write {\"prompt\": …, \"chosen\": …, \"rejected\": …}")
                })
            })
            .collect::<Result<Vec<Preference>>>()?;
        if pairs.is_empty() {
            return Err(
                Error::new(ErrorKind::Input, "the file has no preferences").at(path.display())
            );
        }
        Ok(pairs)
    }
}
