//! Shards of a checkpoint: one file for each rank, with the rows that it alone holds.
//!
//! A shard is a container: `rows` has the ranges of rows in the whole block, and each array is written in parts, one for each
//! range, so that a rank which resumes reads and verifies what it holds now. The checkpoint names its shards, and is written
//! when all of them are complete: shards that no checkpoint names are not part of one.

use std::fs;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::kernel::element::Element;
use crate::learn::trainable::HeldRows;
use crate::model::{Container, Verify, Writer};
use crate::ranks::Ranks;
use crate::{Error, ErrorKind, Result};

/// A shard, as its checkpoint names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardFile {
    /// Name in the folder of the checkpoint.
    name: String,
    /// Length in bytes.
    bytes: u64,
    /// XXH3-64 of the first 64 bytes, which depend on all others through the checksums of blocks and header.
    checksum: u64,
}

/// Bytes before the first block of a container.
const PROLOGUE: usize = 64;

/// The part of a shard's name that its checkpoint has too.
fn stem(name: &str) -> Option<&str> {
    Some(name.split_once(".shard-")?.0)
}

/// Write the shard of each rank for the checkpoint of the given stem; returns those of all ranks.
///
/// # Errors
/// [`ErrorKind::Io`] or [`ErrorKind::Resource`]; those of an exchange.
pub(super) fn write(
    ranks: &dyn Ranks,
    folder: &Path,
    stem: &str,
    held: &HeldRows<'_>,
) -> Result<Vec<ShardFile>> {
    let (rank, size) = (ranks.rank(), ranks.size());
    let name = format!("{stem}.shard-{rank:03}-of-{size:03}");
    let path = folder.join(&name);
    let metadata = serde_json::json!({"rank": rank, "ranks": size});
    let mut writer = Writer::create(&path, metadata)?;
    let ends = held.rows.iter().flat_map(|rows| [rows.start, rows.end]);
    let ends: Vec<u64> = ends.map(|row| row as u64).collect();
    writer.values("rows", Element::U64, &[held.rows.len(), 2], &ends)?;
    let mut boundaries = vec![0];
    for rows in &held.rows {
        let last = boundaries[boundaries.len() - 1];
        boundaries.push(last + (rows.len() * held.columns * 4) as u64);
    }
    let rows = held.rows.iter().map(ExactSizeIterator::len).sum();
    for (suffix, values) in held.arrays.iter().filter(|(_, values)| !values.is_empty()) {
        let name = format!("{}{suffix}", held.name);
        let shape = [rows, held.columns];
        let bytes: &[u8] = bytemuck::cast_slice(values);
        writer.block_in_parts(&name, Element::F32, &shape, &boundaries, |put| {
            bytes.chunks(1 << 20).try_for_each(put)
        })?;
    }
    writer.finish()?;
    let (bytes, checksum) = measure(&path)?;
    let mine = ShardFile {
        name,
        bytes,
        checksum,
    };
    let mine = serde_json::to_vec(&mine).unwrap_or_default();
    let all = ranks.gather("shards of a checkpoint".into(), &mine)?;
    let parse = |bytes: &Vec<u8>| {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::new(ErrorKind::Resource, "a rank sent no shard").because(error))
    };
    all.iter().map(parse).collect()
}

/// Return the length of a shard and the checksum of its beginning.
fn measure(path: &Path) -> Result<(u64, u64)> {
    let failed = Error::io_at(path);
    let mut file = fs::File::open(path).map_err(&failed)?;
    let mut prologue = [0; PROLOGUE];
    file.read_exact(&mut prologue).map_err(&failed)?;
    let length = file.metadata().map_err(&failed)?.len();
    Ok((length, xxh3_64(&prologue)))
}

/// A range of rows in a file.
struct Stored {
    rows: Range<usize>,
    /// Index of the file, and of the range in it.
    file: usize,
    part: usize,
    /// Rows of the file before the range.
    before: usize,
}

/// Read the rows that are held now from the shards of a checkpoint, or, where it has none, from itself.
///
/// # Errors
/// [`ErrorKind::Checksum`] or another of [`Container::open`] for a damaged shard; [`ErrorKind::Format`] for one that is not
/// of this checkpoint.
pub(super) fn read(
    folder: &Path,
    shards: &[ShardFile],
    checkpoint: &Container,
    held: &mut HeldRows<'_>,
) -> Result<()> {
    let (mut files, mut stored) = (Vec::new(), Vec::new());
    for shard in shards {
        let path = folder.join(&shard.name);
        let container = open(&path, shard).map_err(|error| error.at(path.display()))?;
        let ends = container.require("rows")?.typed::<u64>()?;
        let mut before = 0;
        for (part, ends) in ends.as_chunks::<2>().0.iter().enumerate() {
            let rows = ends[0] as usize..ends[1] as usize;
            let length = rows.len();
            stored.push(Stored {
                rows,
                file: files.len(),
                part,
                before,
            });
            before += length;
        }
        files.push(container);
    }
    if shards.is_empty() {
        let rows = checkpoint.require(held.name)?.bytes().len() / (held.columns * 4);
        stored.push(Stored {
            rows: 0..rows,
            file: 0,
            part: 0,
            before: 0,
        });
        files.push(checkpoint.clone());
    }
    // Ranks have the shared rows all: the first of several equal ranges serves.
    stored.sort_by_key(|stored| (stored.rows.start, stored.file));
    stored.dedup_by_key(|stored| stored.rows.start);
    let (name, columns) = (held.name, held.columns);
    for (suffix, values) in &mut held.arrays {
        let name = format!("{name}{suffix}");
        if files.iter().all(|file| file.block(&name).is_none()) {
            // Settings of a run may have been added since.
            values.clear();
            continue;
        }
        let rows: usize = held.rows.iter().map(ExactSizeIterator::len).sum();
        values.resize(rows * columns, 0.0);
        let mut rest = &mut values[..];
        for rows in &held.rows {
            let (to, after) = rest.split_at_mut(rows.len() * columns);
            rest = after;
            copy(&files, &stored, &name, rows.clone(), columns, to)?;
        }
    }
    Ok(())
}

/// Open a shard, and check that it is the one that its checkpoint names.
fn open(path: &Path, shard: &ShardFile) -> Result<Container> {
    if measure(path)? != (shard.bytes, shard.checksum) {
        let what = "the shard is not the one that its checkpoint names";
        return Err(Error::new(ErrorKind::Checksum, what));
    }
    Container::open(path, Verify::Touched)
}

/// Copy some rows of a block from the files that have them.
fn copy(
    files: &[Container],
    stored: &[Stored],
    name: &str,
    mut rows: Range<usize>,
    columns: usize,
    mut to: &mut [f32],
) -> Result<()> {
    while !rows.is_empty() {
        let index = stored.partition_point(|stored| stored.rows.start <= rows.start);
        let found = stored[..index].last();
        let Some(found) = found.filter(|found| found.rows.contains(&rows.start)) else {
            let what = format!("the checkpoint lacks row {}", rows.start);
            return Err(Error::new(ErrorKind::Format, what).at(format!("block {name}")));
        };
        let block = files[found.file].require(name)?;
        if let Some(parts) = block.parts() {
            parts.verify(found.part)?;
        }
        let count = (found.rows.end - rows.start).min(rows.len());
        let first = (found.before + rows.start - found.rows.start) * columns;
        let from = block.typed::<f32>()?.get(first..first + count * columns);
        let from = from.ok_or_else(|| {
            Error::new(ErrorKind::Format, "the block is too short")
                .at(format!("block {name}"))
                .advice("the run file has changed: resume with the one the run began with")
        })?;
        let (begin, after) = to.split_at_mut(from.len());
        begin.copy_from_slice(from);
        to = after;
        rows.start += count;
    }
    Ok(())
}

/// Remove shards of checkpoints that are gone, or that a run which was killed never completed. Of the checkpoint `current`,
/// which may have replaced one of the same step, only `shards` stay.
pub(super) fn remove_orphans(
    folder: &Path,
    checkpoints: &[PathBuf],
    current: &str,
    shards: &[ShardFile],
) {
    let stems = checkpoints
        .iter()
        .filter_map(|path| path.file_stem()?.to_str());
    let stems: Vec<&str> = stems.collect();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let Some((name, stem)) = file.to_str().and_then(|name| Some((name, stem(name)?))) else {
            continue;
        };
        let kept = match stem == current {
            true => shards.iter().any(|shard| shard.name == name),
            false => stems.contains(&stem),
        };
        if !kept {
            drop(fs::remove_file(entry.path()));
        }
    }
}
