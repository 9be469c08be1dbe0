//! The plugins of a run.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::Result;
use crate::hook::{Call, Hooks};
use crate::plugin::instance::Instance;
use crate::plugin::loader::{Loaded, Loader};
use crate::plugin::{Finder, Selection, adapt};

/// The instances of the plugins of one run, connected to its hooks.
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
    active: Vec<(Arc<Loaded>, Arc<Instance>)>,
    hooks: Hooks,
}

impl Plugins {
    /// Loads plugins in the order given, which is the order of their hook chains, and creates their instances.
    ///
    /// # Errors
    /// As [`Loader::load`] and [`LoadedPlugins::instantiate`](super::LoadedPlugins::instantiate).
    pub fn load(selections: &[Selection], finder: &Finder) -> Result<Self> {
        Loader::new(finder.clone()).load(selections)?.instantiate()
    }

    /// Creates instances of plugins that are part of the program, for fuzzing.
    ///
    /// # Errors
    /// As [`Self::load`].
    ///
    /// # Safety
    /// What `entry` returns keeps the rules of the plugin interface and is never freed.
    #[cfg(fuzzing)]
    pub unsafe fn of_entry(
        entry: unsafe extern "C" fn() -> *const brillm_abi::brl_entry,
    ) -> Result<Self> {
        let mut plugins = Self::default();
        // SAFETY: as the caller promises.
        for code in unsafe { super::library::codes(entry) }? {
            let options = super::loader::configure(&code, &Map::new())?;
            plugins.add(&Arc::new(Loaded {
                code,
                options,
                on_error: super::OnError::Stop,
                sha256: String::new(),
                library: std::path::PathBuf::new(),
            }))?;
        }
        Ok(plugins)
    }

    /// Creates an instance and adds it to the hooks.
    pub(crate) fn add(&mut self, loaded: &Arc<Loaded>) -> Result<()> {
        let instance =
            Instance::create(loaded.code.clone(), loaded.options.clone(), loaded.on_error)?;
        let instance = Arc::new(instance);
        adapt::install(&instance, &mut self.hooks)?;
        self.active.push((loaded.clone(), instance));
        Ok(())
    }

    /// Return the hooks.
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Whether there are no plugins.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Describe the plugins for the records of a run: ids, versions, checksums, effective options.
    pub fn record(&self) -> Value {
        Value::Array(
            self.active
                .iter()
                .map(|(loaded, _)| {
                    let described = &loaded.code.described;
                    json!({
                        "id": described.id,
                        "version": described.version,
                        "hooks": described.hooks,
                        "sha256": loaded.sha256,
                        "library": loaded.library.display().to_string(),
                        "options": loaded.options,
                        "on_error": loaded.on_error,
                    })
                })
                .collect(),
        )
    }

    /// Return selections that load the same plugins again, with checksums, for run files.
    pub fn selections(&self) -> Vec<Selection> {
        self.active
            .iter()
            .map(|(loaded, _)| Selection {
                name: loaded.code.described.id.clone(),
                options: loaded.options.clone(),
                sha256: Some(loaded.sha256.clone()),
                on_error: loaded.on_error,
            })
            .collect()
    }

    /// Collect the reports of the probes by plugin id; null without probes.
    ///
    /// # Errors
    /// A failure of a probe.
    pub fn reports(&self, call: &Call<'_>) -> Result<Value> {
        let mut reports = Map::new();
        for (_, instance) in &self.active {
            let mut own = Hooks::default();
            adapt::install(instance, &mut own)?;
            for probe in &own.probe {
                if let Some(report) = probe.report(call)? {
                    reports.insert(instance.id().to_string(), report);
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
