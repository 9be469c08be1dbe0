//! Checksums that identify a model: of a file, a folder, or bytes in memory.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::model::sha256::{add_file, hexadecimal, sha256};
use crate::{Error, Result};

/// Largest `.bril` file whose checksum is computed, in bytes.
pub const FINGERPRINTED: u64 = 4 << 30;

/// Compute the sha256 of a model in memory, as 64 hexadecimal digits.
pub fn fingerprint_of_bytes(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

/// Compute the sha256 of the first 64 bytes of a `.bril` file. They contain the checksum of its header, which contains those of
/// all its blocks: files with equal heads are equal, unless they are damaged.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when the file cannot be read.
pub fn fingerprint_of_head(path: &Path) -> Result<String> {
    let mut head = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io_at(path))?;
    let read = file.take(64).read_to_end(&mut head);
    read.map_err(Error::io_at(path))?;
    Ok(fingerprint_of_bytes(&head))
}

/// Compute the sha256 of a model: of its file, or of a folder over name, size and content of its files.
///
/// Files of a folder are taken in the order of their names; those whose names begin with a dot are skipped.
///
/// # Errors
/// [`crate::ErrorKind::Io`] when a file cannot be read.
///
/// # Complexity
/// O(bytes).
pub fn fingerprint(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return sha256(path);
    }
    let mut hash = Sha256::new();
    let entries = std::fs::read_dir(path).map_err(Error::io_at(path))?;
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
        let size = std::fs::metadata(&file).map_err(Error::io_at(&file))?.len();
        hash.update(name.as_bytes());
        hash.update([0]);
        hash.update(size.to_le_bytes());
        add_file(&file, &mut hash)?;
    }
    Ok(hexadecimal(hash))
}
