//! Loads plugin libraries once and creates their instances for each run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::plugin::library::{self, Code, LibraryFile};
use crate::plugin::schema::Schema;
use crate::plugin::selection::OnError;
use crate::plugin::{Finder, Plugins, Selection};
use crate::{Error, ErrorKind, Result};

/// Opens and verifies each plugin library once, however many runs use it.
///
/// A program that runs once calls [`Plugins::load`]. A server keeps a loader, resolves the plugins of a request with
/// [`Self::load`] and creates instances with [`LoadedPlugins::instantiate`] for each run.
#[derive(Debug, Default)]
pub struct Loader {
    finder: Finder,
    /// Whether libraries are loaded from copies in memory.
    private: bool,
    /// By canonical path.
    libraries: Mutex<BTreeMap<PathBuf, Arc<Library>>>,
}

/// An open library.
#[derive(Debug)]
struct Library {
    sha256: String,
    plugins: Vec<Code>,
}

/// Plugins whose libraries are open and whose options are checked, in the order of their hook chains.
#[derive(Clone, Debug, Default)]
pub struct LoadedPlugins(Vec<Arc<Loaded>>);

/// A plugin that is ready to be instantiated.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub code: Code,
    pub options: Map<String, Value>,
    pub on_error: OnError,
    pub sha256: String,
    pub library: PathBuf,
}

impl Loader {
    /// Creates a loader that searches the folders of `finder`.
    pub fn new(finder: Finder) -> Self {
        Self {
            finder,
            private: false,
            libraries: Mutex::default(),
        }
    }

    /// Load libraries from copies in memory, where the system can (Linux): a library file that is changed while it is
    /// loaded then does not change the running code, or end the program.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// The folders that are searched.
    pub fn finder(&self) -> &Finder {
        &self.finder
    }

    /// Loads plugins in the order given, which is the order of their hook chains.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for an unknown name or options that do not match the schema;
    /// [`ErrorKind::Checksum`], [`ErrorKind::Version`] or [`ErrorKind::Plugin`] for an invalid library.
    pub fn load(&self, selections: &[Selection]) -> Result<LoadedPlugins> {
        let load = |selection: &Selection| {
            self.load_one(selection).map(Arc::new).map_err(|error| {
                // Errors of a library that is given by its path name it already.
                let path = selection.name.contains(['/', '\\']);
                if path && error.to_string().contains(&*selection.name) {
                    error
                } else {
                    error.at(format!("plugin {}", selection.name))
                }
            })
        };
        selections
            .iter()
            .map(load)
            .collect::<Result<_>>()
            .map(LoadedPlugins)
    }

    fn load_one(&self, selection: &Selection) -> Result<Loaded> {
        let found = self.finder.find(&selection.name)?;
        let manifest = found.manifest.as_ref();
        let expected = [
            selection.sha256.as_deref().map(|sum| (sum, "the run")),
            manifest.map(|manifest| (manifest.sha256.as_str(), "its manifest")),
        ];
        let library = self.open(&found.library, &expected)?;
        if let Some(manifest) = manifest {
            library::compare(manifest, &library.plugins)?;
        }
        let code = choose(&library.plugins, found.id.as_deref())?;
        Ok(Loaded {
            code: code.clone(),
            options: configure(code, &selection.options)?,
            on_error: selection.on_error,
            sha256: library.sha256.clone(),
            library: found.library,
        })
    }

    /// Opens a library unless it is open, after comparing its checksum with the `expected` ones (sum, origin).
    fn open(&self, path: &Path, expected: &[Option<(&str, &str)>]) -> Result<Arc<Library>> {
        let canonical = path
            .canonicalize()
            .map_err(|error| Error::io(error, path.display()))?;
        // Held while the library loads, so that two requests do not load it twice.
        let mut libraries = self
            .libraries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let open = libraries.get(&canonical).cloned();
        let verify = |sha256: &str| {
            let mut expected = expected.iter().flatten();
            expected.try_for_each(|(sum, origin)| library::verify(path, sha256, sum, origin))
        };
        if let Some(library) = open {
            verify(&library.sha256)?;
            return Ok(library);
        }
        let file = LibraryFile::open(path, self.private)?;
        verify(&file.sha256)?;
        let sha256 = file.sha256.clone();
        let plugins = library::plugins(file)?;
        let library = Arc::new(Library { sha256, plugins });
        libraries.insert(canonical, library.clone());
        Ok(library)
    }
}

impl LoadedPlugins {
    /// Creates an instance of each plugin, for one run.
    ///
    /// # Errors
    /// What a plugin reports when it is created; [`ErrorKind::Configuration`] when two plugins implement a hook
    /// that only one may.
    pub fn instantiate(&self) -> Result<Plugins> {
        let mut plugins = Plugins::default();
        for loaded in &self.0 {
            plugins.add(loaded)?;
        }
        Ok(plugins)
    }

    /// Whether no plugin was selected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Finds the plugin with an id in a library, or the only one.
pub(crate) fn choose<'a>(plugins: &'a [Code], id: Option<&str>) -> Result<&'a Code> {
    match (id, plugins) {
        (Some(id), _) => plugins
            .iter()
            .find(|code| code.described.id == id)
            .ok_or_else(|| {
                Error::new(ErrorKind::Plugin, format!("the library has no plugin {id}"))
            }),
        (None, [only]) => Ok(only),
        (None, _) => {
            let ids: Vec<&str> = plugins
                .iter()
                .map(|code| code.described.id.as_str())
                .collect();
            Err(Error::new(
                ErrorKind::Configuration,
                format!("the library has several plugins: {}", ids.join(", ")),
            )
            .advice("select one by its id, with --plugin-path for the folder"))
        }
    }
}

/// Checks a plugin's options against its schema and fills in the defaults.
pub(crate) fn configure(code: &Code, options: &Map<String, Value>) -> Result<Map<String, Value>> {
    Schema::from_value(&code.described.schema)?.fill(options)
}
