//! Temporary files that become the target by a rename.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::target::folder;

/// End of the names of temporary files.
const ENDING: &str = ".partial";
/// Most characters of the target's name in a temporary name, which systems limit to 255 bytes.
const NAME: usize = 40;

/// A file under a temporary name in the folder of its target. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    target: PathBuf,
    renamed: bool,
}

impl Temporary {
    /// Create a file for `target` with the permissions of the existing file, or those that the umask allows.
    ///
    /// The file is locked while it is open. Files of the same target without a lock are of processes that were killed;
    /// they are removed.
    pub(crate) fn create(target: PathBuf) -> io::Result<(File, Self)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.chars().take(NAME).collect();
        let prefix = format!(".{name}.");
        remove_stale(folder(&target), &prefix);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{prefix}{}-{number}{ENDING}", std::process::id());
            let path = folder(&target).join(name);
            let file = match OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
            {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(in_folder(error, folder(&target))),
            };
            let lock = file.try_lock();
            let mut temporary = Self {
                path,
                target: target.clone(),
                renamed: false,
            };
            // Another process may have taken the new file for a stale one before it was locked.
            if matches!(lock, Err(TryLockError::WouldBlock)) || !temporary.path.exists() {
                temporary.renamed = true;
                continue;
            }
            keep_permissions(&file, &target);
            return Ok((file, temporary));
        }
    }

    /// The temporary name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Give the file the name of its target, and sync the folder.
    pub(crate) fn rename(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)?;
        self.renamed = true;
        // Not every system can open folders; the file is complete in any case.
        #[cfg(unix)]
        drop(File::open(folder(&self.target)).and_then(|folder| folder.sync_all()));
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A temporary file that cannot be removed is removed by the next write of the target.
        if !self.renamed {
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Say which folder refuses a new file.
fn in_folder(error: io::Error, folder: &Path) -> io::Error {
    let what = match error.kind() {
        io::ErrorKind::NotFound => format!("the folder {} does not exist", folder.display()),
        _ => format!(
            "cannot create a file in the folder {}: {error}",
            folder.display()
        ),
    };
    io::Error::new(error.kind(), what)
}

/// Set the owner and the mode of the existing target.
#[cfg(unix)]
fn keep_permissions(file: &File, target: &Path) {
    use std::os::unix::fs::{MetadataExt, fchown};
    let Ok(existing) = fs::metadata(target) else {
        return;
    };
    let owner = (existing.uid(), existing.gid());
    if file
        .metadata()
        .is_ok_and(|new| owner != (new.uid(), new.gid()))
    {
        // Only root may give files away; others become the owner.
        drop(fchown(file, Some(owner.0), Some(owner.1)));
    }
    // Some file systems have no modes.
    drop(file.set_permissions(existing.permissions()));
}

#[cfg(not(unix))]
fn keep_permissions(_: &File, _: &Path) {}

/// Remove temporary files of killed processes: those that nobody has locked.
fn remove_stale(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let numbers = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix)?.strip_suffix(ENDING));
        let ours = numbers.is_some_and(|numbers| {
            !numbers.is_empty() && numbers.chars().all(|c| c.is_ascii_digit() || c == '-')
        });
        let path = entry.path();
        if ours
            && fs::symlink_metadata(&path).is_ok_and(|found| found.is_file())
            && let Ok(file) = OpenOptions::new().write(true).open(&path)
            && file.try_lock().is_ok()
        {
            drop(fs::remove_file(&path));
        }
    }
}
