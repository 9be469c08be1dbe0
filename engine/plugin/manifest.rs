//! Plugin manifests: descriptions of plugins that can be read without running them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// The description of a plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// Reverse domain name.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Version.
    pub version: String,
    /// License, an SPDX expression.
    pub license: String,
    /// One-sentence description.
    pub about: String,
    /// Ids of its hooks in the order of [`super::HOOKS`], shaders last.
    pub hooks: Vec<String>,
    /// JSON Schema of its options; null for none.
    pub schema: serde_json::Value,
}

impl Described {
    /// Return the last part of the id.
    pub fn short(&self) -> &str {
        self.id.rsplit('.').next().unwrap_or(&self.id)
    }
}

/// A manifest, `NAME.plugin.json`: a library and its plugins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// File name of the library, in the manifest's folder.
    pub library: String,
    /// SHA-256 of the library, in hexadecimal.
    pub sha256: String,
    /// Version of the interface it was built for, `major.minor`.
    pub abi: String,
    /// Plugins of the library.
    pub plugins: Vec<Described>,
    /// Folder of the manifest.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Manifest {
    /// Suffix of manifest file names.
    pub const SUFFIX: &'static str = ".plugin.json";

    /// Read a manifest. Runs no code of the plugin.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::Format`] for an invalid file.
    pub fn open(path: &Path) -> Result<Self> {
        let text = crate::text::read_text(path)?;
        let mut manifest: Self = serde_json::from_str(&text).map_err(|error| {
            Error::new(
                ErrorKind::Format,
                format!("not a plugin's manifest: {error}"),
            )
            .at(path.display())
            .advice("`brillm plugin build` rewrites it")
        })?;
        let library = Path::new(&manifest.library);
        if library.file_name() != Some(library.as_os_str()) {
            return Err(Error::new(
                ErrorKind::Format,
                format!("the library {:?} is not a file name", manifest.library),
            )
            .at(path.display()));
        }
        manifest.folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(manifest)
    }

    /// Read the manifest in a library's folder, if there is one.
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

    /// Return the path of a library's manifest.
    pub fn path_beside(library: &Path) -> PathBuf {
        let stem = library.file_stem().unwrap_or_default().to_string_lossy();
        let stem = stem
            .strip_prefix(std::env::consts::DLL_PREFIX)
            .unwrap_or(&stem);
        library.with_file_name(format!("{stem}{}", Self::SUFFIX))
    }

    /// Return the path of the library.
    pub fn library_path(&self) -> PathBuf {
        self.folder.join(&self.library)
    }
}
