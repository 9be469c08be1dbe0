//! What a path refers to: a regular file to replace, or a special file to write to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Most symbolic links that are followed, as in Linux.
const LINKS: usize = 40;

/// What an output path refers to.
#[derive(Debug)]
pub(crate) enum Target {
    /// A device, a pipe or an open descriptor, opened for writing.
    Special(File),
    /// A regular file, or a name that does not exist yet; no symbolic link.
    Regular(PathBuf),
}

impl Target {
    /// Resolve the links of `path` and check what is there.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let mut path = path.to_path_buf();
        for _ in 0..LINKS {
            if let Some(file) = descriptor(&path) {
                return file.map(Self::Special);
            }
            match fs::read_link(&path) {
                // A relative link starts at the folder of the link.
                Ok(to) => path = folder(&path).join(to),
                Err(_) => return Self::at(path),
            }
        }
        Err(io::Error::other("too many levels of symbolic links"))
    }

    fn at(path: PathBuf) -> io::Result<Self> {
        let slash = path.as_os_str().as_encoded_bytes().last() == Some(&b'/');
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Err(is_folder()),
            Ok(found) if !found.is_file() => OpenOptions::new()
                .write(true)
                .open(&path)
                .map(Self::Special),
            // A rename would replace a file that its owner has protected.
            Ok(_) => match OpenOptions::new().write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    Err(io::Error::new(
                        error.kind(),
                        format!("the file is write-protected: {error}"),
                    ))
                }
                _ => Ok(Self::Regular(path)),
            },
            Err(_) if path.file_name().is_none() || slash => Err(is_folder()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Regular(path)),
            Err(error) => Err(error),
        }
    }
}

fn is_folder() -> io::Error {
    io::Error::new(
        io::ErrorKind::IsADirectory,
        "expected the path of a file, found a folder",
    )
}

/// The folder of a file, `.` for a bare name.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Open `/dev/fd/N` or `/proc/PID/fd/N`; `None` for other paths.
///
/// The links in these folders must not be resolved: their text may name no file (`pipe:[123]`), and a descriptor of a
/// regular file has a position that a new file would not share.
#[cfg(unix)]
fn descriptor(path: &Path) -> Option<io::Result<File>> {
    use std::os::fd::AsFd;
    let number: u32 = path.file_name()?.to_str()?.parse().ok()?;
    let folder = fs::canonicalize(folder(path)).ok()?;
    let process = folder.strip_prefix("/proc").ok().and_then(|rest| {
        let mut parts = rest.iter().map(|part| part.to_str());
        match (parts.next(), parts.next(), parts.next()) {
            (Some(process), Some(Some("fd")), None) => process,
            _ => None,
        }
    });
    let own = process.is_some_and(|process| process == std::process::id().to_string());
    if process.is_none() && folder != Path::new("/dev/fd") {
        return None;
    }
    let stdout = io::stdout();
    let stderr = io::stderr();
    let standard = match number {
        1 => Some(stdout.as_fd()),
        2 => Some(stderr.as_fd()),
        _ => None,
    };
    Some(match standard {
        // A copy of the descriptor shares its position; opening it again would start at 0.
        Some(standard) if own || process.is_none() => stdout
            .lock()
            .flush()
            .and_then(|()| standard.try_clone_to_owned())
            .map(File::from),
        _ => OpenOptions::new().append(true).open(path),
    })
}

#[cfg(not(unix))]
fn descriptor(_: &Path) -> Option<io::Result<File>> {
    None
}
