//! Checkpoints: everything a run needs to go on bit for bit, in one file, written atomically.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::kernel::element::Element;
use crate::learn::edge_trainer::Trainable;
use crate::model::{Container, Verify, Writer};
use crate::{Error, ErrorKind, Result};

/// Where a run is, besides its parameters and moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps taken; the data's position and every random stream follow from it.
    pub step: u64,
    /// Nats and tokens since the last log record.
    pub nats: f64,
    /// See `nats`.
    pub tokens: u64,
    /// The best validation perplexity so far, and the step it was reached at.
    pub best: Option<(f64, u64)>,
    /// Validations since then.
    pub stale: u64,
    /// What the trained thing has to remember besides its parameters.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub notes: serde_json::Value,
}

/// The name of the checkpoint of a step.
fn name(step: u64) -> String {
    format!("step-{step:09}.checkpoint")
}

/// Writes a checkpoint and removes all but the `keep` newest.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::Resource`]; the earlier checkpoints are then untouched.
pub fn save(
    folder: &Path,
    progress: &Progress,
    edge_trainer: &mut dyn Trainable,
    keep: usize,
) -> Result<()> {
    let metadata = serde_json::to_value(progress).map_err(|error| {
        Error::new(ErrorKind::Numeric, "the progress cannot be written").because(error)
    })?;
    let mut writer = Writer::create(&folder.join(name(progress.step)), metadata)?;
    let (parameters, moments) = edge_trainer.state();
    for (parameter, moments) in parameters.iter().zip(moments) {
        let (name, length) = (&parameter.name, parameter.value.len());
        writer.values(name, Element::F32, &[length], &parameter.value)?;
        writer.values(
            &format!("{name}.first"),
            Element::F32,
            &[length],
            &moments.first,
        )?;
        writer.values(
            &format!("{name}.second"),
            Element::F32,
            &[length],
            &moments.second,
        )?;
    }
    writer.finish()?;
    let all = list(folder)?;
    for old in all.iter().take(all.len().saturating_sub(keep)) {
        drop(fs::remove_file(old));
    }
    Ok(())
}

/// The newest checkpoint of a folder that is whole, loaded into `edge_trainer`; `None` where there is none.
///
/// A damaged newest checkpoint is passed over for the one before it.
///
/// # Errors
/// [`ErrorKind::Checksum`] or another of [`Container::open`] when every checkpoint is damaged.
pub fn load(folder: &Path, edge_trainer: &mut dyn Trainable) -> Result<Option<Progress>> {
    let mut last = None;
    for path in list(folder)?.iter().rev() {
        match read(path, edge_trainer) {
            Ok(progress) => return Ok(Some(progress)),
            Err(error) => last = Some(error),
        }
    }
    last.map_or(Ok(None), Err)
}

fn read(path: &Path, edge_trainer: &mut dyn Trainable) -> Result<Progress> {
    let container = Container::open(path, Verify::Whole)?;
    let place = |error: Error| error.at(path.display());
    let progress: Progress =
        serde_json::from_value(container.metadata().clone()).map_err(|error| {
            place(Error::new(
                ErrorKind::Format,
                format!("not a checkpoint: {error}"),
            ))
        })?;
    let (parameters, moments) = edge_trainer.state();
    for (parameter, moments) in parameters.into_iter().zip(moments) {
        let (name, length) = (&parameter.name, parameter.value.len());
        let values = |suffix: &str| -> Result<Vec<f32>> {
            let block = container.require(&format!("{name}{suffix}"))?;
            let values = block.typed::<f32>()?.to_vec();
            if values.len() != length {
                return Err(Error::new(
                    ErrorKind::Format,
                    format!("{} values instead of {length}", values.len()),
                )
                .at(format!("block {name}{suffix}"))
                .advice("the run file has changed: resume with the one the run began with"));
            }
            Ok(values)
        };
        let (value, first, second) = (
            values("").map_err(place)?,
            values(".first").map_err(place)?,
            values(".second").map_err(place)?,
        );
        parameter.value = value;
        moments.first = first;
        moments.second = second;
    }
    edge_trainer.restore(&progress.notes).map_err(place)?;
    Ok(progress)
}

/// The checkpoints of a folder, oldest first.
///
/// # Errors
/// [`ErrorKind::Io`].
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let place = |error| Error::io(error, folder.display());
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(place)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(place))
        .collect::<Result<_>>()?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "checkpoint")
    });
    paths.sort();
    Ok(paths)
}

/// Writes a small file so that it is there whole or not at all.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::Resource`].
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let place = |error| Error::io(error, path.display());
    fs::write(&partial, bytes).map_err(place)?;
    fs::File::open(&partial)
        .and_then(|file| file.sync_all())
        .map_err(place)?;
    fs::rename(&partial, path).map_err(place)
}
