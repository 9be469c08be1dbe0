//! The plugins of a run.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::hook::{Call, Hooks};
use crate::plugin::instance::Instance;
use crate::plugin::library::{self, Code};
use crate::plugin::manifest::checksum;
use crate::plugin::schema::Schema;
use crate::plugin::{Finder, Selection, adapt};
use crate::{Error, ErrorKind, Result};

/// A plugin of a run.
#[derive(Debug)]
struct Active {
    instance: Arc<Instance>,
    sha256: String,
    shown: String,
}

/// The plugins of a run: loaded, configured, and put into its hooks.
///
/// ```no_run
/// use brillm::plugin::{Finder, Plugins, Selection};
/// # fn main() -> brillm::Result<()> {
/// let finder = Finder::standard([]);
/// let plugins = Plugins::load(&[Selection::named("recent").option("sinks", 4)], &finder)?;
/// let hooks = plugins.hooks().clone();
/// println!("{}", plugins.record());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Plugins {
    active: Vec<Active>,
    hooks: Hooks,
}

impl Plugins {
    /// Loads plugins in the order they are named, which is the order of their chains.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for a name that is not found, options that do not fit, or two plugins that
    /// answer a question only one may; [`ErrorKind::Checksum`], [`ErrorKind::Version`], [`ErrorKind::Plugin`] for
    /// a library that is not what it should be.
    pub fn load(selections: &[Selection], finder: &Finder) -> Result<Self> {
        let mut plugins = Self::default();
        for selection in selections {
            plugins
                .add(selection, finder)
                .map_err(|error| error.at(format!("plugin {}", selection.name)))?;
        }
        Ok(plugins)
    }

    fn add(&mut self, selection: &Selection, finder: &Finder) -> Result<()> {
        let found = finder.find(&selection.name)?;
        let sha256 = match &selection.sha256 {
            Some(sum) => library::verify(&found.library, sum, "the run")?,
            None => checksum(&found.library)?,
        };
        if let Some(manifest) = &found.manifest {
            library::verify(&found.library, &manifest.sha256, "its manifest")?;
        }
        let codes = library::open(&found.library)?;
        if let Some(manifest) = &found.manifest {
            library::compare(manifest, &codes)?;
        }
        let code = choose(codes, found.id.as_deref())?;
        let options = configure(&code, &selection.options)?;
        let instance = Arc::new(Instance::create(code, options, selection.on_error)?);
        adapt::install(&instance, &mut self.hooks)?;
        self.active.push(Active {
            instance,
            sha256,
            shown: found.library.display().to_string(),
        });
        Ok(())
    }

    /// The questions these plugins answer.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// What every record of the run says about its plugins: ids, versions, checksums, effective options.
    pub fn record(&self) -> Value {
        Value::Array(
            self.active
                .iter()
                .map(|active| {
                    let described = &active.instance.code.described;
                    json!({
                        "id": described.id,
                        "version": described.version,
                        "hooks": described.hooks,
                        "sha256": active.sha256,
                        "library": active.shown,
                        "options": active.instance.options,
                        "on-error": active.instance.on_error,
                    })
                })
                .collect(),
        )
    }

    /// Selections that load these very plugins again, checksums included; for run files.
    pub fn selections(&self) -> Vec<Selection> {
        self.active
            .iter()
            .map(|active| Selection {
                name: active.instance.id().to_string(),
                options: active.instance.options.clone(),
                sha256: Some(active.sha256.clone()),
                on_error: active.instance.on_error,
            })
            .collect()
    }

    /// What the probes saw, by plugin id; null without any.
    ///
    /// # Errors
    /// Whatever a probe meets.
    pub fn reports(&self, call: &Call<'_>) -> Result<Value> {
        let mut reports = Map::new();
        for active in &self.active {
            let mut own = Hooks::default();
            if active
                .instance
                .code
                .described
                .hooks
                .iter()
                .all(|hook| hook != "probe/1")
            {
                continue;
            }
            adapt::install(&active.instance, &mut own)?;
            for probe in &own.probe {
                if let Some(report) = probe.report(call)? {
                    reports.insert(active.instance.id().to_string(), report);
                }
            }
        }
        Ok(if reports.is_empty() {
            Value::Null
        } else {
            Value::Object(reports)
        })
    }
}

/// The plugin of a library that is meant.
pub(crate) fn choose(mut codes: Vec<Code>, id: Option<&str>) -> Result<Code> {
    match id {
        Some(id) => codes
            .into_iter()
            .find(|code| code.described.id == id)
            .ok_or_else(|| Error::new(ErrorKind::Plugin, format!("the library holds no {id}"))),
        None if codes.len() == 1 => Ok(codes.remove(0)),
        None => {
            let ids: Vec<&str> = codes
                .iter()
                .map(|code| code.described.id.as_str())
                .collect();
            Err(Error::new(
                ErrorKind::Configuration,
                format!("the library holds several plugins: {}", ids.join(", ")),
            )
            .advice("name one by its id, with --plugin-path for the folder"))
        }
    }
}

/// A plugin's options, checked, defaults filled in.
pub(crate) fn configure(code: &Code, options: &Map<String, Value>) -> Result<Map<String, Value>> {
    Schema::from_value(&code.described.schema)?.fill(options)
}
