//! Files of token ids: little-endian u16 (`.u16`) or u32 (`.u32`), one after another.

use std::path::Path;

use crate::{Error, ErrorKind, Result};

fn width(path: &Path) -> Result<usize> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("u16") => Ok(2),
        Some("u32") => Ok(4),
        _ => Err(Error::new(ErrorKind::Format, "unknown format of token ids")
            .at(path.display())
            .advice("pass a .u16 or .u32 file")),
    }
}

/// Read a file of ids; with `vocabulary`, each id must be below it.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Format`] for a length that is not a multiple of the id size;
/// [`ErrorKind::Vocabulary`] with the index of the first id that is too large.
pub fn read_ids(path: &Path, vocabulary: Option<usize>) -> Result<Vec<u32>> {
    let width = width(path)?;
    let bytes = std::fs::read(path).map_err(Error::io_at(&path))?;
    if bytes.len() % width != 0 {
        return Err(Error::new(
            ErrorKind::Format,
            format!("{} bytes are not a multiple of {width}", bytes.len()),
        )
        .at(path.display()));
    }
    let ids: Vec<u32> = match width {
        2 => bytes
            .chunks_exact(2)
            .map(|b| u32::from(u16::from_le_bytes([b[0], b[1]])))
            .collect(),
        _ => bytes
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect(),
    };
    if let Some(size) = vocabulary
        && let Some(index) = ids.iter().position(|&id| id as usize >= size)
    {
        return Err(Error::new(
            ErrorKind::Vocabulary,
            format!(
                "id {} at index {index} is outside the vocabulary of {size}",
                ids[index]
            ),
        )
        .at(path.display()));
    }
    Ok(ids)
}

/// Write ids in the format of the file's extension.
///
/// # Errors
/// [`ErrorKind::Io`]; [`ErrorKind::Vocabulary`] for an id that does not fit u16.
pub fn write_ids(path: &Path, ids: &[u32]) -> Result<()> {
    let mut bytes = Vec::with_capacity(ids.len() * 4);
    if width(path)? == 2 {
        for &id in ids {
            let narrow = u16::try_from(id).map_err(|_| {
                Error::new(ErrorKind::Vocabulary, format!("id {id} does not fit u16"))
                    .at(path.display())
            })?;
            bytes.extend_from_slice(&narrow.to_le_bytes());
        }
    } else {
        bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    }
    brillm_file::write(path, bytes).map_err(Error::io_at(path))
}
