//! Checkpoints: the complete state of a run in one file, written atomically, from which it resumes bit for bit.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::kernel::element::Element;
use crate::learn::trainable::Trainable;
use crate::model::{Container, Verify, Writer};
use crate::{Error, ErrorKind, Result};

/// The state of a run apart from its parameters and moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps taken; they determine the position in the data and every random stream.
    pub step: u64,
    /// Sum of the losses since the last log record, in nats.
    pub nats: f64,
    /// Tokens that `nats` sums over.
    pub tokens: u64,
    /// The best validation perplexity so far, and its step.
    pub best: Option<(f64, u64)>,
    /// Validations since the best one.
    pub stale: u64,
    /// Further state of the [`Trainable`].
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub notes: serde_json::Value,
}

/// The name of the checkpoint of a step.
fn name(step: u64) -> String {
    format!("step-{step:09}.checkpoint")
}

/// Write a checkpoint and remove all but the `keep` newest.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::Resource`]; the earlier checkpoints are then untouched.
pub fn save(
    folder: &Path,
    progress: &Progress,
    trainable: &mut dyn Trainable,
    keep: usize,
) -> Result<()> {
    let metadata = serde_json::to_value(progress).map_err(|error| {
        Error::new(ErrorKind::Numeric, "the progress has no JSON form").because(error)
    })?;
    let mut writer = Writer::create(&folder.join(name(progress.step)), metadata)?;
    let (parameters, moments) = trainable.state();
    for (parameter, moments) in parameters.iter().zip(moments) {
        let name = &parameter.name;
        let mut block =
            |name: &str, values: &[f32]| writer.values(name, Element::F32, &[values.len()], values);
        block(name, &parameter.value)?;
        block(&format!("{name}.first"), &moments.first)?;
        block(&format!("{name}.second"), &moments.second)?;
    }
    for (name, values) in trainable.buffers() {
        writer.values(&name, Element::F32, &[values.len()], values)?;
    }
    writer.finish()?;
    // Old checkpoints are removed only after the new one is complete on disk.
    let all = list(folder)?;
    for old in all.iter().take(all.len().saturating_sub(keep)) {
        drop(fs::remove_file(old));
    }
    Ok(())
}

/// Load the newest intact checkpoint of a folder into `trainable`; `None` where there is none.
///
/// A damaged checkpoint is skipped in favour of the one before it.
///
/// # Errors
/// [`ErrorKind::Checksum`] or another of [`Container::open`] when every checkpoint is damaged.
pub fn load(folder: &Path, trainable: &mut dyn Trainable) -> Result<Option<Progress>> {
    let mut last = None;
    for path in list(folder)?.iter().rev() {
        match read(path, trainable) {
            Ok(progress) => return Ok(Some(progress)),
            Err(error) => last = Some(error),
        }
    }
    last.map_or(Ok(None), Err)
}

fn read(path: &Path, trainable: &mut dyn Trainable) -> Result<Progress> {
    let container = Container::open(path, Verify::Whole)?;
    restore(&container, trainable).map_err(|error| error.at(path.display()))
}

/// Copy the parameters and moments of a checkpoint into `trainable`.
fn restore(container: &Container, trainable: &mut dyn Trainable) -> Result<Progress> {
    let progress: Progress = serde_json::from_value(container.metadata().clone())
        .map_err(|error| Error::new(ErrorKind::Format, format!("not a checkpoint: {error}")))?;
    let (parameters, moments) = trainable.state();
    for (parameter, moments) in parameters.into_iter().zip(moments) {
        let length = parameter.value.len();
        let values = |name: &str| -> Result<Vec<f32>> {
            let values = container.require(name)?.typed::<f32>()?.to_vec();
            if values.len() != length {
                let what = format!("expected {length} values, found {}", values.len());
                return Err(Error::new(ErrorKind::Format, what)
                    .at(format!("block {name}"))
                    .advice("the run file has changed: resume with the one the run began with"));
            }
            Ok(values)
        };
        let name = &parameter.name;
        let value = values(name)?;
        moments.first = values(&format!("{name}.first"))?;
        moments.second = values(&format!("{name}.second"))?;
        parameter.value = value;
    }
    for (name, values) in trainable.buffers() {
        // Settings of a run may have been added since.
        match container.block(&name) {
            Some(block) => *values = block.typed::<f32>()?.to_vec(),
            None => values.clear(),
        }
    }
    trainable.restore(&progress.notes)?;
    Ok(progress)
}

/// List the checkpoints of a folder, oldest first.
///
/// # Errors
/// [`ErrorKind::Io`].
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(Error::io_at(folder))?
        .map(|entry| {
            entry
                .map(|entry| entry.path())
                .map_err(Error::io_at(folder))
        })
        .collect::<Result<_>>()?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "checkpoint")
    });
    // Names hold the step in nine digits: their order is that of the steps.
    paths.sort();
    Ok(paths)
}
