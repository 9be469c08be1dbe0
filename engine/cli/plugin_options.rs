//! Plugin options of all commands, and the record of the plugins used.

use clap::Args;
use serde_json::Value;

use crate::Result;
use crate::hook::Hooks;
use crate::ranks::Ranks;
use crate::run::{Engine, HookedEngine};

#[cfg(feature = "plugin")]
use std::{path::PathBuf, sync::OnceLock, time::Duration};

#[cfg(feature = "plugin")]
pub(super) use crate::plugin::Plugins;
#[cfg(feature = "plugin")]
use crate::plugin::{Finder, Selection};

/// Empty stand-in for builds without plugins.
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

/// Parse an entry of a comparison; a build without plugins takes paths only.
#[cfg(not(feature = "plugin"))]
pub(super) fn entry(text: &str) -> Result<(std::path::PathBuf, Plugins)> {
    Ok((text.into(), Plugins::default()))
}

/// Plugin options.
#[cfg(feature = "plugin")]
#[derive(Args, Clone, Debug)]
pub(super) struct PluginArguments {
    /// Use a plugin, by name or path; may be repeated.
    #[arg(
        long = "plugin",
        global = true,
        value_name = "NAME[:KEY=VALUE,…]",
        help_heading = "Plugins"
    )]
    plugins: Vec<Selection>,
    /// Folder to search for plugins before the default ones; may be repeated.
    #[arg(long, global = true, value_name = "DIR", help_heading = "Plugins")]
    plugin_path: Vec<PathBuf>,
    /// Calibration text for plugins that plan the KV cache; 30 pieces of 64 tokens are run before the command.
    #[cfg(feature = "transformer")]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Plugins")]
    calibration: Option<PathBuf>,
    /// Report a plugin call that takes longer than this, in seconds.
    #[arg(
        long,
        global = true,
        default_value_t = 10.0,
        value_name = "SECONDS",
        help_heading = "Plugins"
    )]
    plugin_timeout: f64,
}

/// Options of a build without plugins: none.
#[cfg(not(feature = "plugin"))]
#[derive(Args, Clone, Debug)]
pub(super) struct PluginArguments {}

#[cfg(feature = "plugin")]
static ACTIVE: OnceLock<Plugins> = OnceLock::new();

#[cfg(feature = "plugin")]
static ARGUMENTS: OnceLock<PluginArguments> = OnceLock::new();

#[cfg(feature = "plugin")]
impl PluginArguments {
    /// Store the options for [`load`]; loads nothing yet.
    pub(super) fn keep(&self) {
        let _ = ARGUMENTS.set(self.clone());
        let patience = self.plugin_timeout.clamp(0.01, 1e6);
        crate::plugin::set_patience(Duration::from_secs_f64(patience));
    }

    /// Return the plugins given with `--plugin`.
    #[cfg(feature = "serve")]
    pub(super) fn selections(&self) -> Vec<Selection> {
        self.plugins.clone()
    }

    /// Return the search path for plugins.
    pub(super) fn finder(&self) -> Finder {
        Finder::standard(self.plugin_path.iter().cloned())
    }
}

#[cfg(not(feature = "plugin"))]
impl PluginArguments {
    pub(super) fn keep(&self) {}
}

/// Load the plugins of a run file and of the command line.
#[cfg(feature = "plugin")]
pub(super) fn load(of_run_file: &[Selection]) -> Result<&'static Plugins> {
    if let Some(active) = ACTIVE.get() {
        return Ok(active);
    }
    let loaded = match ARGUMENTS.get() {
        Some(arguments) => {
            // A plugin on the command line replaces the entry of the run file with the same name.
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

/// Load the plugins of a run file and record them in it with checksums and effective options.
#[cfg(feature = "plugin")]
pub(super) fn fill(recipe: &mut crate::learn::Recipe) -> Result<()> {
    let own = crate::run::plugins_of(recipe)?;
    crate::run::record_plugins(recipe, load(&own)?)
}

/// Refuse `--plugin` for a command that uses no plugins.
pub(super) fn refuse() -> Result<()> {
    #[cfg(feature = "plugin")]
    if ARGUMENTS
        .get()
        .is_some_and(|arguments| !arguments.plugins.is_empty())
    {
        let what = "this command uses no plugins";
        return Err(crate::Error::new(crate::ErrorKind::Input, what)
            .at("--plugin")
            .advice("remove it; generate, chat, trace, eval, probe, compare, bench, corpus, train and serve take plugins"));
    }
    Ok(())
}

/// Return the hooks of the run's plugins.
pub(super) fn hooks() -> Result<Hooks> {
    #[cfg(feature = "plugin")]
    return Ok(load(&[])?.hooks().clone());
    #[cfg(not(feature = "plugin"))]
    Ok(Hooks::default())
}

/// Combine an engine with hooks and, if given, the calibration text.
pub(super) fn hooked(engine: &Engine, hooks: &Hooks, seed: u64) -> Result<HookedEngine> {
    #[cfg(all(feature = "plugin", feature = "transformer"))]
    let hooked = HookedEngine::calibrated(engine, hooks, seed, calibration(engine)?.as_ref())?;
    #[cfg(not(all(feature = "plugin", feature = "transformer")))]
    let hooked = HookedEngine::new(engine, hooks, seed)?;
    Ok(hooked.cancel(Some(super::interrupted().clone())))
}

/// Read the `--calibration` text and cut it for a model.
#[cfg(all(feature = "plugin", feature = "transformer"))]
fn calibration(engine: &Engine) -> Result<Option<crate::transformer::CalibrationText>> {
    use crate::transformer::CalibrationText;
    let arguments = ARGUMENTS.get();
    let Some(path) = arguments.and_then(|arguments| arguments.calibration.as_ref()) else {
        return Ok(None);
    };
    let text = crate::text::read_text(path)?;
    let tokens = engine.tokenizer().encode(&text)?;
    CalibrationText::cut(&tokens, CalibrationText::TEXTS, CalibrationText::LENGTH)
        .map(Some)
        .map_err(|error| error.at(path.display()))
}

/// Parse an entry of a comparison, `PATH+PLUGIN:KEY=VALUE,…+PLUGIN…`, and load its plugins.
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

/// Add the plugins with their effective options and the reports of probes to a record.
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

/// Print the reports of probes on standard error, for commands that print text.
pub(super) fn say_reports(seed: u64) -> Result<()> {
    say_reports_over(&crate::ranks::OneProcess, seed)
}

/// Print the reports of the probes of all ranks on the standard error of rank 0.
pub(super) fn say_reports_over(ranks: &dyn Ranks, seed: u64) -> Result<()> {
    for (rank, reports) in reports_over(ranks, seed)?.iter().enumerate() {
        let on = match ranks.size() {
            1 => String::new(),
            size => format!(" on rank {rank} of {size}"),
        };
        let reports = reports.as_object().filter(|_| ranks.rank() == 0);
        for (plugin, report) in reports.into_iter().flatten() {
            super::say_error(format_args!("brillm: plugin {plugin}{on}: {report}"));
        }
    }
    Ok(())
}

/// Return the reports of the probes of each rank, which saw its sequences; none where no rank has a report.
pub(super) fn reports_over(ranks: &dyn Ranks, seed: u64) -> Result<Vec<Value>> {
    let mut record = serde_json::json!({});
    note(&mut record, seed)?;
    let mine = record["probes"].take().to_string();
    let all = ranks.gather("reports of probes".into(), mine.as_bytes())?;
    let all: Vec<Value> = all
        .iter()
        .map(|one| serde_json::from_slice(one).unwrap_or_default())
        .collect();
    let empty = all.iter().all(Value::is_null);
    Ok(if empty { Vec::new() } else { all })
}
