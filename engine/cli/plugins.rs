//! `--plugin` on every command: which plugins a run uses, and what its records say of them.

use clap::Args;
use serde_json::Value;

use crate::Result;
use crate::hook::Hooks;
use crate::run::{Engine, HookedEngine};

#[cfg(feature = "plugin")]
use std::{path::PathBuf, sync::OnceLock, time::Duration};

#[cfg(feature = "plugin")]
pub(super) use crate::plugin::Plugins;
#[cfg(feature = "plugin")]
use crate::plugin::{Finder, Selection};

/// What a build without plugins has in their place: nothing.
#[cfg(not(feature = "plugin"))]
#[derive(Default)]
pub(super) struct Plugins(Hooks);

#[cfg(not(feature = "plugin"))]
impl Plugins {
    pub(super) fn hooks(&self) -> &Hooks {
        &self.0
    }

    pub(super) fn record(&self) -> Value {
        Value::Null
    }
}

/// An entry of a comparison; its plugins are those of a build that has them.
#[cfg(not(feature = "plugin"))]
pub(super) fn entry(text: &str) -> Result<(std::path::PathBuf, Plugins)> {
    Ok((text.into(), Plugins::default()))
}

/// The plugins of a run.
#[cfg(feature = "plugin")]
#[derive(Args, Clone, Debug)]
pub(super) struct PluginArguments {
    /// Uses a plugin, by name or path; may be given several times.
    #[arg(
        long = "plugin",
        global = true,
        value_name = "NAME[:KEY=VALUE,…]",
        help_heading = "Plugins"
    )]
    plugins: Vec<Selection>,
    /// Another folder of plugins to search first; may be given several times.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Plugins")]
    plugin_path: Vec<PathBuf>,
    /// Text on which techniques try a transformer before the run (kv.plan/1): 30 pieces of 64 tokens of it.
    #[cfg(feature = "transformer")]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Plugins")]
    calibration: Option<PathBuf>,
    /// Seconds after which a plugin that does not return is named.
    #[arg(
        long,
        global = true,
        default_value_t = 10.0,
        value_name = "SECONDS",
        help_heading = "Plugins"
    )]
    plugin_patience: f64,
}

/// A build without plugins takes no options for them.
#[cfg(not(feature = "plugin"))]
#[derive(Args, Clone, Debug)]
pub(super) struct PluginArguments {}

#[cfg(feature = "plugin")]
static ACTIVE: OnceLock<Plugins> = OnceLock::new();

#[cfg(feature = "plugin")]
static ARGUMENTS: OnceLock<PluginArguments> = OnceLock::new();

#[cfg(feature = "plugin")]
impl PluginArguments {
    /// Keep the options for whoever asks; loads nothing yet.
    pub(super) fn keep(&self) {
        let _ = ARGUMENTS.set(self.clone());
        let patience = self.plugin_patience.clamp(0.01, 1e6);
        crate::plugin::set_patience(Duration::from_secs_f64(patience));
    }

    /// The plugins that are named.
    #[cfg(feature = "serve")]
    pub(super) fn selections(&self) -> Vec<Selection> {
        self.plugins.clone()
    }

    /// Where plugins are looked for.
    pub(super) fn finder(&self) -> Finder {
        Finder::standard(self.plugin_path.iter().cloned())
    }
}

#[cfg(not(feature = "plugin"))]
impl PluginArguments {
    pub(super) fn keep(&self) {}
}

/// Loads the plugins named on the command line and, after them, those of a run file.
#[cfg(feature = "plugin")]
pub(super) fn load(of_run_file: &[Selection]) -> Result<&'static Plugins> {
    if let Some(active) = ACTIVE.get() {
        return Ok(active);
    }
    let loaded = match ARGUMENTS.get() {
        Some(arguments) => {
            // What the command line names takes the place of the run file's.
            let mut all = arguments.plugins.clone();
            let own = of_run_file
                .iter()
                .filter(|own| all.iter().all(|named| named.name != own.name));
            let own: Vec<Selection> = own.cloned().collect();
            all.splice(0..0, own);
            Plugins::load(&all, &arguments.finder())?
        }
        None => Plugins::default(),
    };
    Ok(ACTIVE.get_or_init(|| loaded))
}

/// Loads the plugins of a run file, and writes what was loaded, with checksums and effective options, into it.
#[cfg(feature = "plugin")]
pub(super) fn fill(recipe: &mut crate::learn::Recipe) -> Result<()> {
    let fault = |error: toml::de::Error| {
        crate::Error::new(crate::ErrorKind::Configuration, error.message().to_string())
            .at("[[plugin]]")
    };
    let own: Vec<Selection> = recipe
        .plugin
        .iter()
        .map(|table| table.clone().try_into().map_err(fault))
        .collect::<Result<_>>()?;
    recipe.plugin = load(&own)?
        .selections()
        .iter()
        .map(|selection| {
            toml::Table::try_from(selection).map_err(|error| {
                crate::Error::new(crate::ErrorKind::Configuration, error.to_string())
                    .at("[[plugin]]")
            })
        })
        .collect::<Result<_>>()?;
    Ok(())
}

/// The questions that the run's plugins answer.
pub(super) fn hooks() -> Result<Hooks> {
    #[cfg(feature = "plugin")]
    return Ok(load(&[])?.hooks().clone());
    #[cfg(not(feature = "plugin"))]
    Ok(Hooks::default())
}

/// Combine an engine with hooks, and with the calibration text where one is given.
pub(super) fn hooked(engine: &Engine, hooks: &Hooks, seed: u64) -> Result<HookedEngine> {
    #[cfg(all(feature = "plugin", feature = "transformer"))]
    let hooked = HookedEngine::calibrated(engine, hooks, seed, calibration(engine)?.as_ref())?;
    #[cfg(not(all(feature = "plugin", feature = "transformer")))]
    let hooked = HookedEngine::new(engine, hooks, seed)?;
    Ok(hooked.cancel(Some(super::interrupted().clone())))
}

/// Read the text that `--calibration` names, cut for a model.
#[cfg(all(feature = "plugin", feature = "transformer"))]
fn calibration(engine: &Engine) -> Result<Option<crate::transformer::CalibrationText>> {
    use crate::transformer::CalibrationText;
    let arguments = ARGUMENTS.get();
    let Some(path) = arguments.and_then(|arguments| arguments.calibration.as_ref()) else {
        return Ok(None);
    };
    let text =
        std::fs::read_to_string(path).map_err(|error| crate::Error::io(error, path.display()))?;
    let tokens = engine.tokenizer().encode(&text)?;
    CalibrationText::cut(&tokens, CalibrationText::TEXTS, CalibrationText::LENGTH)
        .map(Some)
        .map_err(|error| error.at(path.display()))
}

/// A model or recipe with the plugins of an entry, `PATH+PLUGIN:KEY=VALUE,…+PLUGIN…`.
#[cfg(feature = "plugin")]
pub(super) fn entry(text: &str) -> Result<(PathBuf, Plugins)> {
    if std::path::Path::new(text).exists() {
        return Ok((text.into(), Plugins::default()));
    }
    let mut parts = text.split('+');
    let path = PathBuf::from(parts.next().unwrap_or_default());
    let selections: Vec<Selection> = parts
        .map(|part| {
            part.parse::<Selection>().map_err(|error| {
                crate::Error::new(crate::ErrorKind::Configuration, format!("{error}")).at(text)
            })
        })
        .collect::<Result<_>>()?;
    let finder = match ARGUMENTS.get() {
        Some(arguments) => arguments.finder(),
        None => Finder::standard([]),
    };
    Ok((path, Plugins::load(&selections, &finder)?))
}

/// Add to a record which plugins made it, with their effective options, and what probes saw.
pub(super) fn note(record: &mut Value, seed: u64) -> Result<()> {
    #[cfg(feature = "plugin")]
    if let Some(active) = ACTIVE.get()
        && !active.is_empty()
        && let Value::Object(fields) = record
    {
        fields.insert("plugins".into(), active.record());
        let reports = active.reports(&crate::hook::Call::new(seed, 0, 0))?;
        if !reports.is_null() {
            fields.insert("probes".into(), reports);
        }
    }
    let _ = (record, seed);
    Ok(())
}

/// What the probes saw, on standard error, for commands that print text.
pub(super) fn say_reports(seed: u64) -> Result<()> {
    let mut record = serde_json::json!({});
    note(&mut record, seed)?;
    if let Some(Value::Object(reports)) = record.get("probes") {
        for (plugin, report) in reports {
            eprintln!("brillm: plugin {plugin}: {report}");
        }
    }
    Ok(())
}
