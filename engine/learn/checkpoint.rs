//! Checkpoints: the complete state of a run, written atomically, from which it resumes bit for bit. It is one file; what ranks
//! hold in parts is in one more for each rank, written before it (module `shard_file`).

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::kernel::element::Element;
use crate::learn::shard_file::{self, ShardFile};
use crate::learn::trainable::Trainable;
use crate::model::{Container, Verify, Writer};
use crate::ranks::Ranks;
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
    /// The shards of what ranks hold in parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardFile>,
    /// Further state of the [`Trainable`].
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub notes: serde_json::Value,
}

/// Write a checkpoint and remove all but the `keep` newest. All ranks call this together; each writes what it alone holds,
/// and then rank 0 the rest.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::Resource`], the earlier checkpoints are then untouched; those of an exchange.
pub fn save(
    ranks: &dyn Ranks,
    folder: &Path,
    progress: &mut Progress,
    trainable: &mut dyn Trainable,
    keep: usize,
) -> Result<()> {
    let stem = format!("step-{:09}", progress.step);
    progress.shards = match trainable.held() {
        Some(held) => shard_file::write(ranks, folder, &stem, &held)?,
        None => Vec::new(),
    };
    if ranks.rank() > 0 {
        return Ok(());
    }
    let metadata = serde_json::to_value(&*progress).map_err(|error| {
        Error::new(ErrorKind::Numeric, "the progress has no JSON form").because(error)
    })?;
    let mut writer = Writer::create(&folder.join(format!("{stem}.checkpoint")), metadata)?;
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
    let (old, kept) = all.split_at(all.len().saturating_sub(keep));
    for old in old {
        drop(fs::remove_file(old));
    }
    shard_file::remove_orphans(folder, kept, &stem, &progress.shards);
    Ok(())
}

/// Load the newest intact checkpoint of a folder into `trainable`; `None` where there is none. All ranks call this together.
///
/// A checkpoint that is damaged for one of them is skipped in favour of the one before it.
///
/// # Errors
/// [`ErrorKind::Checksum`] or another of [`Container::open`] when every checkpoint is damaged; those of an exchange.
pub fn load(
    ranks: &dyn Ranks,
    folder: &Path,
    trainable: &mut dyn Trainable,
) -> Result<Option<Progress>> {
    // The list of rank 0: a shared folder may show others an older state.
    let mine = serde_json::to_vec(&list(folder)?).unwrap_or_default();
    let all = ranks.gather("list of checkpoints".into(), &mine)?;
    let paths: Vec<PathBuf> = serde_json::from_slice(&all[0]).map_err(|error| {
        Error::new(ErrorKind::Resource, "rank 0 sent no list of checkpoints").because(error)
    })?;
    let mut last = None;
    for path in paths.iter().rev() {
        let outcome = read(path, trainable);
        let mut failed = [i64::from(outcome.is_err())];
        ranks.sum("reading of a checkpoint".into(), &mut failed)?;
        match outcome {
            Ok(progress) if failed == [0] => return Ok(Some(progress)),
            Ok(_) => {
                let what = "another rank cannot read the checkpoint";
                last = Some(Error::new(ErrorKind::Checksum, what).at(path.display()));
            }
            Err(error) => last = Some(error),
        }
    }
    last.map_or(Ok(None), Err)
}

fn read(path: &Path, trainable: &mut dyn Trainable) -> Result<Progress> {
    let container = Container::open(path, Verify::Whole)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    restore(folder, &container, trainable).map_err(|error| error.at(path.display()))
}

/// Copy the parameters and moments of a checkpoint into `trainable`.
fn restore(
    folder: &Path,
    container: &Container,
    trainable: &mut dyn Trainable,
) -> Result<Progress> {
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
    if let Some(mut held) = trainable.held() {
        shard_file::read(folder, &progress.shards, container, &mut held)?;
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
