//! The manifest beside a library: what its plugins are, without running them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// Reverse domain name.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its license.
    pub license: String,
    /// One sentence.
    pub about: String,
    /// What it can be asked, in the order of [`super::HOOKS`], shaders last.
    pub hooks: Vec<String>,
    /// JSON Schema of its options; null for none.
    pub schema: serde_json::Value,
}

impl Described {
    /// The last part of the id, by which people name it.
    pub fn short(&self) -> &str {
        self.id.rsplit('.').next().unwrap_or(&self.id)
    }
}

/// `NAME.plugin.json`: a library and its plugins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// File name of the library, in the manifest's folder.
    pub library: String,
    /// Checksum of the library.
    pub sha256: String,
    /// The ABI it was built for, `major.minor`.
    pub abi: String,
    /// The plugins in it.
    pub plugins: Vec<Described>,
    /// Where the manifest lies.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Manifest {
    /// What the names of manifests end with.
    pub const SUFFIX: &'static str = ".plugin.json";

    /// Reads a manifest; runs no code of the plugin.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Format`] for a file that is none.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(|error| Error::io(error, path.display()))?;
        let mut manifest: Self = serde_json::from_slice(&text).map_err(|error| {
            Error::new(
                ErrorKind::Format,
                format!("not a plugin's manifest: {error}"),
            )
            .at(path.display())
            .advice("`brillm plugin build` writes it anew")
        })?;
        if Path::new(&manifest.library).components().count() != 1 {
            return Err(Error::new(
                ErrorKind::Format,
                format!("the library {:?} is not a file name", manifest.library),
            )
            .at(path.display()));
        }
        manifest.folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(manifest)
    }

    /// The manifest of a library, if it has one beside it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn beside(library: &Path) -> Result<Option<Self>> {
        let path = Self::path_beside(library);
        if path.exists() {
            Self::open(&path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Where the manifest of a library lies.
    pub fn path_beside(library: &Path) -> PathBuf {
        let stem = library.file_stem().unwrap_or_default().to_string_lossy();
        let stem = stem
            .strip_prefix(std::env::consts::DLL_PREFIX)
            .unwrap_or(&stem);
        library.with_file_name(format!("{stem}{}", Self::SUFFIX))
    }

    /// The library's path.
    pub fn library_path(&self) -> PathBuf {
        self.folder.join(&self.library)
    }
}
