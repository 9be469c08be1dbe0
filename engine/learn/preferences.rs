//! What a run file says about preferences, and the file of them: `{"prompt", "chosen", "rejected"}` a line.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// `[preferences]`: training prefers the chosen answer to the rejected one (direct preference optimisation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Preferences {
    /// JSONL of `prompt`, `chosen` and `rejected`, relative to the run file.
    pub file: String,
    /// How far answers may move from where they began, β: less is farther.
    #[serde(default = "tenth")]
    pub beta: f64,
    /// Pairs a step.
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
    /// What was asked.
    pub prompt: String,
    /// The better answer.
    pub chosen: String,
    /// The worse one.
    pub rejected: String,
}

impl Preferences {
    /// Whether the numbers make sense.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`].
    pub(super) fn check(&self) -> Result<()> {
        match self.beta > 0.0 && self.beta.is_finite() && (1..=4096).contains(&self.batch) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Configuration,
                "beta is above 0, batch in 1..=4096",
            )
            .at("[preferences]")),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Format`] naming the line; [`ErrorKind::Input`] for a file without any.
    pub fn read(&self, base: &Path) -> Result<Vec<Preference>> {
        let path = base.join(&self.file);
        let text =
            std::fs::read_to_string(&path).map_err(|error| Error::io(error, path.display()))?;
        let pairs = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| {
                serde_json::from_str(line).map_err(|error| {
                    Error::new(ErrorKind::Format, format!("no preference: {error}"))
                        .at(format!("{}, line {}", path.display(), number + 1))
                        .advice("write {\"prompt\": …, \"chosen\": …, \"rejected\": …}")
                })
            })
            .collect::<Result<Vec<Preference>>>()?;
        match pairs.is_empty() {
            false => Ok(pairs),
            true => Err(Error::new(ErrorKind::Input, "holds no preferences").at(path.display())),
        }
    }
}
