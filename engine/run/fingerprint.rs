//! Which model it was: a checksum of everything that was opened.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{Error, Result};

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The sha256 of a model in memory, as 64 hexadecimal digits.
pub fn fingerprint_of_bytes(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

/// The sha256 of a model: of its file; of a folder, over name, size and content of its files (those whose names do
/// not begin with a dot), in the order of their names.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when a file cannot be read.
///
/// # Complexity
/// Reads all of it.
pub fn fingerprint(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    if !path.is_dir() {
        take(path, &mut hash)?;
        return Ok(hexadecimal(hash));
    }
    let entries = std::fs::read_dir(path).map_err(|error| Error::io(error, path.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        let size = std::fs::metadata(&file)
            .map_err(|error| Error::io(error, file.display()))?
            .len();
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(size.to_le_bytes());
        take(&file, &mut hash)?;
    }
    Ok(hexadecimal(hash))
}

fn take(path: &Path, hash: &mut Sha256) -> Result<()> {
    let place = |error| Error::io(error, path.display());
    let mut file = std::fs::File::open(path).map_err(place)?;
    std::io::copy(&mut file, hash).map_err(place)?;
    Ok(())
}
