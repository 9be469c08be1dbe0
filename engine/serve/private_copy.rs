//! Private copies of model files: a server answers from what it opened, whatever happens to the files.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::kernel::bytes::Bytes;
use crate::model::{self, Model, Verify};
use crate::run::{Engine, FINGERPRINTED, fingerprint, fingerprint_of_bytes};
use crate::{Error, ErrorKind, Result};

/// Memory that is assumed where the system does not report it.
const ASSUMED: u64 = 8 << 30;

/// Open the model at `path`, so that later changes of its files have no effect, with the checksum of what was opened;
/// see [`fingerprint`].
///
/// A mapped file that another process cuts short would end the program with a signal, and one that is overwritten would
/// change the model. The weights and tokenizers of folders are always read into memory. A `.bril` or GGUF file is read into
/// memory where it is smaller than half of the available memory; a larger one is copied to a temporary file without a name, in its own
/// folder (on some file systems without taking space) or in the folder for temporary files.
///
/// # Errors
/// As [`Engine::open`]; [`ErrorKind::Resource`] if a copy does not fit; [`ErrorKind::Input`] if the files of a folder
/// change while they are read.
pub fn open_copy(path: &Path) -> Result<(Engine, Option<String>)> {
    #[cfg(feature = "transformer")]
    if crate::transformer::gguf_model::is_gguf(path) {
        let bytes = copy(path, memory() / 2)?;
        let sum = (bytes.len() as u64 <= FINGERPRINTED).then(|| fingerprint_of_bytes(&bytes));
        let model = crate::transformer::Transformer::of_bytes(path, &bytes)?;
        return Ok((Engine::from(&model), sum));
    }
    if Engine::is_transformer(path) {
        // The files of a folder are opened by several readers: the same checksum before and after means that they read
        // the files that it names.
        let before = fingerprint(path)?;
        let engine = Engine::open(path, Verify::Lazy)?;
        if fingerprint(path)? != before {
            return Err(
                Error::new(ErrorKind::Input, "the model changed while it was opened")
                    .at(path.display())
                    .advice("start again when nothing writes to it"),
            );
        }
        return Ok((engine, Some(before)));
    }
    let bytes = copy(path, memory() / 2)?;
    let sum = (bytes.len() as u64 <= FINGERPRINTED).then(|| fingerprint_of_bytes(&bytes));
    let model = Model::from_bytes(bytes).map_err(|error| error.at(path.display()))?;
    Ok((Engine::from(&model), sum))
}

/// Copy a file into memory if it has up to `most` bytes, else to a file without a name.
fn copy(path: &Path, most: u64) -> Result<Bytes> {
    let (mut file, length) = model::open_file(path)?;
    if length <= most {
        return Bytes::read(file, length as usize).map_err(|error| error.at(path.display()));
    }
    let own = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let own = if own.as_os_str().is_empty() {
        ".".into()
    } else {
        own
    };
    let mut failures = Vec::new();
    for folder in [own, std::env::temp_dir()] {
        match unnamed_copy(&mut file, length, &folder) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => failures.push(format!("{}: {error}", folder.display())),
        }
    }
    let mib = length >> 20;
    Err(Error::new(
        ErrorKind::Resource,
        format!("the model cannot be copied: {}", failures.join("; ")),
    )
    .at(path.display())
    .advice(format!(
        "free {mib} MiB there, or set TMPDIR to a folder with {mib} MiB; the copy protects the server from changes of the file"
    )))
}

/// Copy a file to one without a name in `folder`, and map it.
fn unnamed_copy(file: &mut File, length: u64, folder: &Path) -> std::io::Result<Bytes> {
    use std::io::{Error, ErrorKind, Seek};
    let mut copy = tempfile::tempfile_in(folder)?;
    file.rewind()?;
    // Shares the blocks of both files where the file system can.
    if std::io::copy(file, &mut copy)? != length {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "the file is being changed",
        ));
    }
    model::map(&copy, length)
}

/// The memory that the process may use, in bytes: what is available, or the limit of its control group.
fn memory() -> u64 {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let available = read(Path::new("/proc/meminfo")).lines().find_map(|line| {
        let kib = line
            .strip_prefix("MemAvailable:")?
            .trim()
            .strip_suffix(" kB")?;
        Some(kib.parse::<u64>().ok()? << 10)
    });
    let mut least = available.unwrap_or(ASSUMED);
    // A limit of any of the groups that contain the process's group counts.
    let groups = read(Path::new("/proc/self/cgroup"));
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let root = PathBuf::from("/sys/fs/cgroup");
    let folder = root.join(group.unwrap_or_default());
    for folder in folder
        .ancestors()
        .take_while(|folder| folder.starts_with(&root))
    {
        if let Ok(limit) = read(&folder.join("memory.max")).trim().parse() {
            least = least.min(limit);
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_change_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let content: Vec<u8> = (0..100_000u32).map(|index| index as u8).collect();
        // In memory, and in a file without a name.
        for most in [u64::MAX, 10] {
            std::fs::write(&path, &content).unwrap();
            let bytes = copy(&path, most).unwrap();
            File::create(&path).unwrap();
            assert!(*bytes == content[..], "{most}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(memory() > 0);
    }

    #[cfg(feature = "transformer")]
    #[test]
    fn a_gguf_model_does_not_change_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(root.join("tests/golden/gguf/tiny.gguf"), &path).unwrap();
        let expected = fingerprint(&path).unwrap();
        let (engine, sum) = open_copy(&path).unwrap();
        assert_eq!(sum, Some(expected));
        File::create(&path).unwrap();
        let mut session = engine.session(&[1, 2], Default::default()).unwrap();
        assert!(
            session
                .look()
                .unwrap()
                .1
                .iter()
                .all(|logit| logit.is_finite())
        );
    }

    #[test]
    fn the_checksum_of_a_copy_is_that_of_its_model() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        for name in ["english.bril", "stories260K"] {
            let path = models.join(name);
            let (_, sum) = open_copy(&path).unwrap();
            assert_eq!(sum, Some(fingerprint(&path).unwrap()), "{name}");
        }
    }
}
