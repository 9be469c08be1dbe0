//! `brillm plugin`: list, info, check, build, new.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::plugin_options::PluginArguments;
use crate::plugin::check::{Checker, Verdict, in_process};
use crate::plugin::{Described, Manifest, build, create_template};
use crate::run::shell::quoted;
use crate::{Error, ErrorKind, Result};

/// List, check and build plugins.
///
/// Plugins run with your privileges: load only plugins you trust.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm plugin build kv-snap
  brillm plugin list
  brillm plugin check kv-snap
  brillm plugin new my-plugin")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the installed plugins; reads manifests only, loads no library.
    List {
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the hooks and options of a plugin; reads its manifest only, loads no library.
    Info {
        /// Plugin: its id, the last part of its id, or the path of its library.
        name: String,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a plugin: run each test case in its own process and report failures, crashes and hangs.
    Check {
        /// Plugin: its id, the last part of its id, or the path of its library.
        name: String,
        /// Time limit of a case, in seconds.
        #[arg(long, default_value_t = 20.0, value_name = "SECONDS")]
        timeout: f64,
        /// Option for the plugin instances under test; may be repeated.
        #[arg(long = "option", value_name = "KEY=VALUE")]
        options: Vec<String>,
        /// Run one case in this process, for a debugger.
        #[arg(long, value_name = "CASE")]
        in_process: Option<String>,
        /// With --in-process: id of the plugin, if the library has several.
        #[arg(long, value_name = "ID", requires = "in_process")]
        id: Option<String>,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Build plugins with cargo or the C compiler; writes a library and a manifest for each.
    Build {
        /// Source folders, or names of folders under plugins/ [default: all under plugins/].
        #[arg(value_name = "NAME")]
        names: Vec<PathBuf>,
        /// Output folder [default: plugins next to the program; it is searched without --plugin-path].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Build with optimisations [default: only if brillm itself is a release build].
        #[arg(long)]
        release: bool,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Create the source of a new plugin that builds and passes `brillm plugin check`.
    New {
        /// Plugin name: lowercase letters, digits and hyphens.
        name: String,
        /// Folder to create the plugin in.
        #[arg(long, default_value = ".", value_name = "DIR")]
        out: PathBuf,
        /// Folder of the crate brillm-plugin [default: plugins/sdk if it exists, otherwise the package registry].
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
    },
}

impl Arguments {
    pub(super) fn run(self, plugins: &PluginArguments) -> Result<()> {
        match self.action {
            Action::List { json } => list(plugins, json),
            Action::Info { name, json } => info(plugins, &name, json),
            Action::Check {
                name,
                timeout,
                options,
                in_process,
                id,
                json,
            } => {
                let library = library(plugins, &name)?;
                let options = parse(&options)?;
                match in_process {
                    Some(case) => one(&library, id.as_deref(), &case, &options),
                    None => check(&library, timeout, options, json),
                }
            }
            Action::Build {
                names,
                out,
                release,
                json,
            } => build_all(names, out, release, json),
            Action::New { name, out, sdk } => {
                let near = Path::new("plugins/sdk");
                let sdk =
                    sdk.or_else(|| near.join("Cargo.toml").exists().then(|| near.to_path_buf()));
                let folder = create_template(&name, &out, sdk.as_deref())?;
                super::say(format!(
                    "{}\n  brillm plugin build {}\n  brillm plugin check {name}\n  brillm generate … --plugin {name}",
                    folder.display(),
                    quoted(&folder)
                ))
            }
        }
    }
}

fn list(plugins: &PluginArguments, json: bool) -> Result<()> {
    let finder = plugins.finder();
    let (mut rows, mut broken) = (Vec::new(), Vec::new());
    for manifest in finder.manifests() {
        match manifest {
            Ok(manifest) => rows.extend(
                manifest
                    .plugins
                    .clone()
                    .into_iter()
                    .map(|plugin| (plugin, manifest.clone())),
            ),
            Err(error) => broken.push(error.to_string()),
        }
    }
    if json {
        let all: Vec<Value> = rows
            .iter()
            .map(|(plugin, manifest)| row(plugin, manifest))
            .collect();
        return super::say_json(
            &json!({"plugins": all, "unreadable": broken, "searched": finder.folders()}),
        );
    }
    for (plugin, _) in &rows {
        super::say(format!(
            "{:14} {:8} {:24} {}",
            plugin.short(),
            plugin.version,
            plugin.hooks.join(" "),
            plugin.about
        ))?;
    }
    for error in &broken {
        super::say_error(format_args!("brillm: {error}"));
    }
    if rows.is_empty() {
        let folders: Vec<String> = finder
            .folders()
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        super::say_error(format_args!(
            "brillm: no plugins found in {} (build those in plugins/ with `brillm plugin build`, or pass --plugin-path)",
            folders.join(", ")
        ));
    }
    Ok(())
}

fn row(plugin: &Described, manifest: &Manifest) -> Value {
    let mut row = json!({
        "abi": manifest.abi,
        "library": manifest.library_path(),
        "sha256": manifest.sha256,
    });
    if let (Value::Object(row), Ok(Value::Object(own))) = (&mut row, serde_json::to_value(plugin)) {
        row.extend(own);
    }
    row
}

fn find(plugins: &PluginArguments, name: &str) -> Result<(Described, Manifest)> {
    let path = Path::new(name);
    let manifests: Vec<Manifest> = if path.exists() && path.is_file() {
        let manifest = if name.ends_with(Manifest::SUFFIX) {
            Some(Manifest::open(path)?)
        } else {
            Manifest::beside(path)?
        };
        vec![manifest.ok_or_else(|| {
            Error::new(ErrorKind::Configuration, "the library has no manifest")
                .at(name)
                .advice("`brillm plugin build` writes one; `brillm plugin check` reads the library itself")
        })?]
    } else {
        plugins.finder().manifests().into_iter().flatten().collect()
    };
    let whole = path.is_file();
    manifests
        .into_iter()
        .find_map(|manifest| {
            let own = manifest.plugins.iter();
            let plugin = own
                .clone()
                .find(|plugin| whole || plugin.id == name || plugin.short() == name)?;
            Some((plugin.clone(), manifest.clone()))
        })
        .ok_or_else(|| {
            Error::new(ErrorKind::Configuration, format!("unknown plugin {name:?}"))
                .advice("`brillm plugin list` shows the plugins found")
        })
}

fn info(plugins: &PluginArguments, name: &str, json: bool) -> Result<()> {
    let (plugin, manifest) = find(plugins, name)?;
    if json {
        return super::say_json(&row(&plugin, &manifest));
    }
    super::say(format!(
        "{} {}\n{}\n\nid       {}\nlicense  {}\nhooks    {}\nlibrary  {}\nsha256   {}\nabi      {}",
        plugin.name,
        plugin.version,
        plugin.about,
        plugin.id,
        plugin.license,
        plugin.hooks.join(" "),
        manifest.library_path().display(),
        manifest.sha256,
        manifest.abi
    ))?;
    if let Some(properties) = plugin.schema["properties"].as_object() {
        super::say("options")?;
        for (key, property) in properties {
            let default = property
                .get("default")
                .map_or("required".into(), |value| format!("default {value}"));
            let kind = property["type"].as_str().unwrap_or("choice");
            let about = property["description"].as_str().unwrap_or("");
            super::say(format!("  {key:20} {kind}, {default}  {about}"))?;
        }
    }
    Ok(())
}

/// Find the library of a name or path without loading it.
fn library(plugins: &PluginArguments, name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    if path.is_file() && !name.ends_with(Manifest::SUFFIX) {
        return Ok(path.to_path_buf());
    }
    find(plugins, name).map(|(_, manifest)| manifest.library_path())
}

fn parse(options: &[String]) -> Result<Map<String, Value>> {
    options
        .iter()
        .map(|option| {
            let (key, value) = option.split_once('=').ok_or_else(|| {
                Error::new(
                    ErrorKind::Configuration,
                    format!("invalid option {option:?}: expected KEY=VALUE"),
                )
            })?;
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
            Ok((key.to_string(), value))
        })
        .collect()
}

fn one(library: &Path, id: Option<&str>, case: &str, options: &Map<String, Value>) -> Result<()> {
    let outcome = in_process(library, id, case, options)?;
    super::say(outcome)
}

fn check(library: &Path, timeout: f64, options: Map<String, Value>, json: bool) -> Result<()> {
    let (program, arguments) = super::program()?;
    let checker = Checker {
        program,
        arguments: arguments.to_vec(),
        patience: Duration::from_secs_f64(timeout.clamp(0.1, 1e6)),
        options,
    };
    let mut printed = Ok(());
    let reports = checker.check(library, &mut |report| {
        if json || printed.is_err() {
            return;
        }
        let word = match report.verdict {
            Verdict::Passed => "passed",
            Verdict::Warned => "warned",
            Verdict::Failed => "FAILED",
            Verdict::Crashed => "CRASHED",
            Verdict::Hung => "HUNG",
        };
        let detail = if report.case == "entry" && report.verdict.fine() {
            ""
        } else {
            &report.detail
        };
        printed = super::say(format!("{word:8} {:28} {detail}", report.case));
    })?;
    printed?;
    let bad = reports
        .iter()
        .filter(|report| !report.verdict.fine())
        .count();
    if json {
        super::say_json(&json!({"library": library, "passed": bad == 0, "cases": reports}))?;
    }
    if bad > 0 {
        return Err(Error::new(
            ErrorKind::Plugin,
            format!("{bad} of {} cases failed", reports.len()),
        )
        .at(library.display()));
    }
    if !json {
        super::say(format!("all {} cases passed", reports.len()))?;
    }
    Ok(())
}

fn build_all(names: Vec<PathBuf>, out: Option<PathBuf>, release: bool, json: bool) -> Result<()> {
    let out = match out {
        Some(out) => out,
        None => std::env::current_exe()
            .ok()
            .and_then(|program| Some(program.parent()?.join("plugins")))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Input,
                    "the folder of the program is unknown: pass --out DIR",
                )
            })?,
    };
    let sources: Vec<PathBuf> = if names.is_empty() {
        all_sources()?
    } else {
        names.into_iter().map(source).collect()
    };
    let mut all = Vec::new();
    for folder in sources {
        let built = build(&folder, &out, release || !cfg!(debug_assertions))?;
        if !json {
            super::say(format!("{}  {}", built.library.display(), built.sha256))?;
        }
        all.push(built);
    }
    if json {
        super::say_json(&json!({"built": all}))?;
    }
    Ok(())
}

fn source(name: PathBuf) -> PathBuf {
    let near = Path::new("plugins").join(&name);
    if !name.exists() && near.exists() {
        near
    } else {
        name
    }
}

/// List the plugins under plugins/: folders with a C file or a package.
fn all_sources() -> Result<Vec<PathBuf>> {
    let folder = Path::new("plugins");
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io(error, folder.display()))?;
    let mut sources: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let c = |entry: std::fs::DirEntry| {
                entry.path().extension().is_some_and(|found| found == "c")
            };
            // Packages of other kinds, such as the SDK, are not plugins.
            std::fs::read_to_string(path.join("Cargo.toml"))
                .is_ok_and(|manifest| manifest.contains("cdylib"))
                || std::fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(c))
        })
        .collect();
    sources.sort();
    Ok(sources)
}
