//! Files in memory, for functions that take a path.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folder of this process. `tests/fuzz/run` sets the temporary folder to one in memory.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("brillm-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for files");
        folder
    })
}

/// Write a file of a name in this process's folder.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("a file in memory");
    path
}

/// Write parts of an input as files of a folder; an empty part is a missing file.
pub fn write_parts<const N: usize>(folder: &Path, names: &[&str; N], parts: [&[u8]; N]) {
    std::fs::create_dir_all(folder).expect("a folder in memory");
    for (name, part) in names.iter().zip(parts) {
        let path = folder.join(name);
        if part.is_empty() {
            let _ = std::fs::remove_file(&path);
        } else {
            std::fs::write(&path, part).expect("a file in memory");
        }
    }
}
