//! Builds a plugin from its source folder: library, manifest and checksum.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::model::sha256::sha256 as checksum;
use crate::plugin::library;
use crate::plugin::manifest::{Described, Manifest};
use crate::{Error, ErrorKind, Result};

/// The header for C plugins, of this program's version of the interface.
const HEADER: &str = include_str!("../../plugins/brillm_plugin.h");

/// A built plugin library.
#[derive(Clone, Debug, Serialize)]
pub struct Built {
    /// Path of the library.
    pub library: PathBuf,
    /// Path of the manifest.
    pub manifest: PathBuf,
    /// SHA-256 of the library.
    pub sha256: String,
    /// Plugins of the library.
    pub plugins: Vec<Described>,
}

/// Build the plugin in `source`, a cargo package with a `cdylib` or a folder of C files, into `out`.
///
/// # Errors
/// [`ErrorKind::Configuration`] for any other folder; [`ErrorKind::Plugin`] when it does not build, or the result is
/// not a plugin.
pub fn build(source: &Path, out: &Path, release: bool) -> Result<Built> {
    let locate = |error: Error| error.at(source.display());
    std::fs::create_dir_all(out).map_err(|error| Error::io(error, out.display()))?;
    let built = if source.join("Cargo.toml").exists() {
        cargo(source, release)
    } else {
        compile(source, out)
    }
    .map_err(locate)?;
    let library = out.join(built.file_name().unwrap_or_default());
    if built != library {
        // Programs that have the old library open keep it intact.
        brillm_file::copy(&built, &library).map_err(Error::io_at(&library))?;
    }
    describe(&library).map_err(locate)
}

/// Write the manifest of a library.
fn describe(library: &Path) -> Result<Built> {
    let codes = library::open(library)?;
    let sha256 = checksum(library)?;
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    let minor = codes.first().map_or(0, |code| code.minor);
    let manifest = Manifest {
        library: name.to_string(),
        sha256: sha256.clone(),
        abi: format!("{}.{minor}", super::ABI.0),
        plugins: codes.into_iter().map(|code| code.described).collect(),
        folder: PathBuf::new(),
    };
    let path = Manifest::path_beside(library);
    let text = serde_json::to_string_pretty(&manifest)
        .map_err(|error| Error::new(ErrorKind::Plugin, error.to_string()))?;
    brillm_file::write(&path, format!("{text}\n")).map_err(Error::io_at(&path))?;
    let sums = library.with_file_name(format!("{name}.sha256"));
    brillm_file::write(&sums, format!("{sha256}  {name}\n")).map_err(Error::io_at(&sums))?;
    Ok(Built {
        library: library.to_path_buf(),
        manifest: path,
        sha256,
        plugins: manifest.plugins,
    })
}

/// Run cargo and return the path of the `cdylib`.
fn cargo(source: &Path, release: bool) -> Result<PathBuf> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .args([
            "build",
            "--message-format=json-render-diagnostics",
            "--manifest-path",
        ])
        .arg(source.join("Cargo.toml"))
        .stderr(Stdio::inherit());
    if release {
        command.arg("--release");
    }
    let output = command.output().map_err(|error| {
        Error::new(ErrorKind::Io, "cargo cannot be run")
            .advice("install Rust from rustup.rs")
            .because(error)
    })?;
    if !output.status.success() {
        return Err(Error::new(
            ErrorKind::Plugin,
            "the build failed: see cargo's messages above",
        ));
    }
    let extension = std::env::consts::DLL_EXTENSION;
    output
        .stdout
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .filter(|message| {
            message["target"]["crate_types"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"))
        })
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|file| file.as_str().map(PathBuf::from))
        .rfind(|file| file.extension().is_some_and(|found| found == extension))
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Configuration,
                "the package builds no dynamic library",
            )
            .advice("add crate-type = [\"cdylib\"] to [lib] of its Cargo.toml")
        })
}

/// Run the C compiler on the files of a folder.
fn compile(source: &Path, out: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(source).map_err(|error| Error::io(error, "source folder"))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::new(
            ErrorKind::Configuration,
            "the folder contains neither a Cargo.toml nor a C file",
        ));
    }
    let include = out.join("include");
    std::fs::create_dir_all(&include).map_err(|error| Error::io(error, include.display()))?;
    let header = include.join("brillm_plugin.h");
    brillm_file::write(&header, HEADER).map_err(Error::io_at(&header))?;
    let full = source
        .canonicalize()
        .map_err(|error| Error::io(error, "opening"))?;
    let name = full
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .replace('-', "_");
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let library = out.join(format!("{prefix}{name}{suffix}"));
    let partial = out.join(format!("{prefix}{name}{suffix}.partial"));
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(&compiler)
        .args(["-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"])
        .args(["-Wall", "-Wextra", "-pedantic", "-I"])
        .arg(&include)
        .arg("-o")
        .arg(&partial)
        .args(&files)
        .arg("-lm")
        .status()
        .map_err(|error| {
            Error::new(
                ErrorKind::Io,
                format!(
                    "the C compiler {} cannot be run",
                    compiler.to_string_lossy()
                ),
            )
            .advice("install one, or name it in CC")
            .because(error)
        })?;
    if !status.success() {
        return Err(Error::new(
            ErrorKind::Plugin,
            "the build failed: see the compiler's messages above",
        ));
    }
    let installed = brillm_file::copy(&partial, &library).map_err(Error::io_at(&library));
    drop(std::fs::remove_file(&partial));
    installed.map(|()| library)
}
