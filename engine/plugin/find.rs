//! Finds plugins by path, or by name in folders of manifests.

use std::path::{Path, PathBuf};

use crate::plugin::manifest::{Described, Manifest};
use crate::{Error, ErrorKind, Result};

/// The folders to search for plugins, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finder {
    folders: Vec<PathBuf>,
}

/// A library and the id of one of its plugins.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub library: PathBuf,
    pub manifest: Option<Manifest>,
    /// Id of the plugin; `None` for the only one in the library.
    pub id: Option<String>,
}

impl Finder {
    /// Search the given folders, then those of `BRILLM_PLUGIN_PATH`, then `plugins` next to the program, where
    /// `brillm plugin build` puts them.
    pub fn standard(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut folders: Vec<PathBuf> = folders.into_iter().collect();
        if let Some(path) = std::env::var_os("BRILLM_PLUGIN_PATH") {
            folders.extend(std::env::split_paths(&path).filter(|path| path.is_absolute()));
        }
        if let Some(folder) = std::env::current_exe()
            .ok()
            .and_then(|program| Some(program.parent()?.join("plugins")))
        {
            folders.push(folder);
        }
        Self { folders }
    }

    /// Return the folders.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Read all manifests. Runs no code of a plugin.
    pub fn manifests(&self) -> Vec<Result<Manifest>> {
        let mut paths = Vec::new();
        for folder in &self.folders {
            let Ok(entries) = std::fs::read_dir(folder) else {
                continue;
            };
            let mut own: Vec<PathBuf> = entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.to_string_lossy().ends_with(Manifest::SUFFIX))
                .collect();
            own.sort();
            paths.append(&mut own);
        }
        paths.iter().map(|path| Manifest::open(path)).collect()
    }

    /// Find a plugin by id, by the last part of its id, or by path.
    pub(crate) fn find(&self, name: &str) -> Result<Found> {
        let path = Path::new(name);
        if path.components().count() > 1 || path.extension().is_some() && path.exists() {
            return Self::at(path);
        }
        let manifests: Vec<Manifest> = self.manifests().into_iter().flatten().collect();
        let matches = |plugin: &Described| plugin.id == name || plugin.short() == name;
        for manifest in &manifests {
            if let Some(plugin) = manifest.plugins.iter().find(|plugin| matches(plugin)) {
                return Ok(Found {
                    library: manifest.library_path(),
                    id: Some(plugin.id.clone()),
                    manifest: Some(manifest.clone()),
                });
            }
        }
        let known: Vec<&str> = manifests
            .iter()
            .flat_map(|manifest| manifest.plugins.iter().map(Described::short))
            .collect();
        let advice = if known.is_empty() {
            "build one with `brillm plugin build`, or give its path or --plugin-path".to_string()
        } else {
            format!(
                "available plugins: {}; `brillm plugin list` describes them",
                known.join(", ")
            )
        };
        Err(Error::new(
            ErrorKind::Configuration,
            format!("no plugin is named {name:?}"),
        )
        .advice(advice))
    }

    /// Find the plugin at the path of a library or manifest.
    fn at(path: &Path) -> Result<Found> {
        if path.to_string_lossy().ends_with(Manifest::SUFFIX) {
            let manifest = Manifest::open(path)?;
            return Ok(Found {
                library: manifest.library_path(),
                manifest: Some(manifest),
                id: None,
            });
        }
        Ok(Found {
            library: path.to_path_buf(),
            manifest: Manifest::beside(path)?,
            id: None,
        })
    }
}
