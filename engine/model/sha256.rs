//! SHA-256 checksums in hexadecimal.

use std::fs::File;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// Compute the sha256 of a file as 64 hexadecimal digits.
///
/// # Errors
/// [`ErrorKind::Io`](crate::ErrorKind::Io) when it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    add_file(path, &mut hash)?;
    Ok(hexadecimal(hash))
}

/// Compute the sha256 of bytes as 64 hexadecimal digits.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

/// Update `hash` with the contents of a file.
pub(crate) fn add_file(path: &Path, hash: &mut Sha256) -> Result<()> {
    let copied = File::open(path).and_then(|mut file| std::io::copy(&mut file, hash));
    copied.map(drop).map_err(Error::io_at(path))
}

/// The digest as 64 hexadecimal digits.
pub(crate) fn hexadecimal(hash: Sha256) -> String {
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
