//! Output files. The engine and its plugins open every file that they write through this crate.
//!
//! There are two kinds:
//!
//! * **Whole files** ([`write`], [`copy`], [`OutputFile`]): models, checkpoints, exports, manifests. The bytes go to a
//!   temporary file `.NAME.PID-N.partial` in the folder of the target, which is synced and renamed. After an error, on
//!   a full disk or in a killed process the target has its former contents.
//! * **Logs** ([`append`], [`open_log`], [`restart_log`], [`create_log`]): files that grow record by record and are read
//!   while they grow. A record is written with one call; readers discard an incomplete last line.
//!
//! Both follow symbolic links, and both write through devices, pipes and open descriptors (`/dev/stdout`,
//! `/dev/fd/N`) instead of replacing them.
#![forbid(unsafe_code)]

mod target;
mod temporary;
mod user_folder;

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use target::Target;
use temporary::Temporary;
pub use user_folder::user_folder;

/// Size of the write buffer, in bytes.
const BUFFER: usize = 1 << 18;

/// Write `bytes` as the whole contents of the file at `path`.
///
/// # Errors
/// Those of [`OutputFile::create`] and [`OutputFile::finish`]; the file then has its former contents.
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let mut file = OutputFile::create(path)?;
    file.write_all(bytes.as_ref())?;
    file.finish()
}

/// Copy the contents of a file, however large.
///
/// # Errors
/// As [`write`], and those of reading `from`.
pub fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut file = OutputFile::create(to)?;
    io::copy(&mut source, &mut file)?;
    file.finish()
}

/// A file that replaces the one at its path when it is complete.
///
/// Dropping it without [`finish`](Self::finish) removes the temporary file and leaves the target unchanged.
///
/// ```
/// # let folder = std::env::temp_dir().join(format!("brillm-file-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// use std::io::Write;
/// let path = folder.join("report.txt");
/// let mut file = brillm_file::OutputFile::create(&path)?;
/// writeln!(file, "42 tokens")?;
/// assert!(!path.exists());
/// file.finish()?;
/// assert_eq!(std::fs::read_to_string(&path)?, "42 tokens\n");
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct OutputFile {
    writer: BufWriter<File>,
    destination: Destination,
}

/// What happens to the written bytes when the file is finished.
#[derive(Debug)]
enum Destination {
    /// The temporary file is renamed.
    Rename(Temporary),
    /// The temporary file is copied to a special file.
    Copy(Temporary, File),
    /// They have been written to a special file.
    Written,
}

impl OutputFile {
    /// Open a file to be written at `path`.
    ///
    /// # Errors
    /// When the folder does not exist or is not writable, when the file is write-protected, and when `path` is a
    /// folder or a loop of links.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        let (file, destination) = match Target::of(path.as_ref())? {
            Target::Special(file) => (file, Destination::Written),
            Target::Regular(target) => {
                let (file, temporary) = Temporary::create(target)?;
                (file, Destination::Rename(temporary))
            }
        };
        Ok(Self::new(file, destination))
    }

    /// Open a file to be written at `path` in any order: what goes to a special file is collected in the system's
    /// temporary folder and copied by [`finish`](Self::finish), because a pipe has no positions.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_seekable(path: impl AsRef<Path>) -> io::Result<Self> {
        let (file, destination) = match Target::of(path.as_ref())? {
            Target::Special(special) => {
                let (file, temporary) = Temporary::create(std::env::temp_dir().join("brillm"))?;
                (file, Destination::Copy(temporary, special))
            }
            Target::Regular(target) => {
                let (file, temporary) = Temporary::create(target)?;
                (file, Destination::Rename(temporary))
            }
        };
        Ok(Self::new(file, destination))
    }

    fn new(file: File, destination: Destination) -> Self {
        Self {
            writer: BufWriter::with_capacity(BUFFER, file),
            destination,
        }
    }

    /// The temporary file, into which other processes may write bytes too ([`open_part`]) until this one finishes it; `None`
    /// for a special file. Windows lets no other process write into it.
    pub fn temporary_path(&self) -> Option<&Path> {
        match &self.destination {
            Destination::Rename(temporary) => Some(temporary.path()),
            Destination::Copy(..) | Destination::Written => None,
        }
    }

    /// Flush and sync the bytes, give the file its name, and sync the folder.
    ///
    /// # Errors
    /// Those of writing, for example of a full disk; the target then has its former contents.
    pub fn finish(self) -> io::Result<()> {
        let Self {
            writer,
            destination,
        } = self;
        let mut file = writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        match destination {
            Destination::Rename(temporary) => {
                sync(&file)?;
                // The file stays open, and with it its lock, until it has its name.
                temporary.rename()
            }
            Destination::Copy(_temporary, mut special) => {
                file.seek(SeekFrom::Start(0))?;
                io::copy(&mut file, &mut special)?;
                sync(&special)
            }
            Destination::Written => sync(&file),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Positions exist in files made by [`OutputFile::create_seekable`] and in regular files.
impl Seek for OutputFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.writer.seek(to)
    }
}

/// Wait until a file is on disk. Pipes, terminals and some file systems have nothing to sync.
fn sync(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Open the [temporary file](OutputFile::temporary_path) of an [`OutputFile`], which this process or another one writes, to
/// read it and to write a part of it.
///
/// # Errors
/// Those of the operating system, for example where the file is on the disk of another machine.
pub fn open_part(path: impl AsRef<Path>) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Wait until the bytes that were written to `file` are on disk.
///
/// # Errors
/// Those of the operating system.
pub fn sync_part(file: &File) -> io::Result<()> {
    sync(file)
}

/// Open a log, created if it does not exist, whose records are appended in the order in which several processes write
/// them.
///
/// # Errors
/// Those of the operating system.
pub fn append(path: impl AsRef<Path>) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Open a log, created if it does not exist, positioned at its end. It can also be cut ([`File::set_len`]), which
/// some systems refuse for files opened by [`append`].
///
/// # Errors
/// Those of the operating system.
pub fn open_log(path: impl AsRef<Path>) -> io::Result<File> {
    let mut file = match Target::of(path.as_ref())? {
        Target::Special(file) => return Ok(file),
        Target::Regular(path) => OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?,
    };
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

/// Open a log without the records that it has.
///
/// # Errors
/// Those of the operating system.
pub fn restart_log(path: impl AsRef<Path>) -> io::Result<File> {
    match Target::of(path.as_ref())? {
        Target::Special(file) => Ok(file),
        Target::Regular(path) => File::create(path),
    }
}

/// Create a log.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when there is a file; those of the operating system.
pub fn create_log(path: impl AsRef<Path>) -> io::Result<File> {
    File::create_new(path)
}
