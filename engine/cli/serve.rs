//! `brillm serve`: the visualiser and the HTTP interface.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;

use crate::serve::{ServedModel, Server, Settings};
use crate::{Error, ErrorKind, Result};

/// Serves models: the visualiser at /, completions at /v1.
#[derive(Args)]
pub(super) struct Arguments {
    /// A model: a .bril file, or a folder with a config.json; may be given several times, the first is the default.
    /// The English one in the program without any.
    #[arg(long, value_name = "PATH")]
    model: Vec<PathBuf>,
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 8137)]
    port: u16,
    /// The address; another than this machine's own needs --token.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
    /// What every request must carry, as Authorization: Bearer, or once as /?token=.
    #[arg(long, env = "BRILLM_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The folder of saved traces; brillm/traces among the user's data by default.
    #[arg(long, value_name = "DIR")]
    library: Option<PathBuf>,
    /// Opens the visualiser in the browser.
    #[arg(long)]
    open: bool,
    /// Runs of models at a time; all cores by default.
    #[arg(long, value_name = "N", help_heading = "Limits")]
    parallel: Option<usize>,
    /// Runs that wait; one more is refused with 429.
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Limits")]
    queue: usize,
    /// Connections at a time.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1024,
        help_heading = "Limits"
    )]
    connections: usize,
    /// Bytes of a request's body.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, help_heading = "Limits")]
    max_body: usize,
    /// Tokens of a prompt.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 4096,
        help_heading = "Limits"
    )]
    max_prompt: usize,
    /// New tokens of a run.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1024,
        help_heading = "Limits"
    )]
    max_tokens: usize,
    /// Seconds of a run.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 120.0,
        help_heading = "Limits"
    )]
    max_seconds: f64,
    /// Seconds in which a request must have arrived.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10.0,
        help_heading = "Limits"
    )]
    patience: f64,
}

impl Arguments {
    pub(super) fn run(self, plugins: &super::plugins::PluginArguments) -> Result<()> {
        let mut settings = Settings {
            host: self.host,
            port: self.port,
            token: self.token.clone(),
            library: self.library.clone().or_else(data_folder),
            ..Settings::default()
        };
        let limits = &mut settings.limits;
        limits.parallel = self.parallel.unwrap_or(limits.parallel);
        limits.queue = self.queue;
        limits.connections = self.connections;
        limits.body_bytes = self.max_body;
        limits.prompt_tokens = self.max_prompt;
        limits.tokens = self.max_tokens;
        limits.seconds = self.max_seconds;
        limits.patience = self.patience;
        #[cfg(feature = "plugin")]
        {
            settings.finder = plugins.finder();
            settings.plugins = plugins.selections();
        }
        #[cfg(not(feature = "plugin"))]
        let _ = plugins;
        settings.check()?;
        let paths: Vec<Option<PathBuf>> = match self.model.is_empty() {
            true => vec![None],
            false => self.model.into_iter().map(Some).collect(),
        };
        let models = paths
            .iter()
            .map(|path| {
                let engine = super::open_engine(path.as_deref())?.forward()?;
                Ok(ServedModel {
                    name: engine.name().to_string(),
                    sha256: super::fingerprint(path.as_deref())?,
                    engine,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        super::catch_interrupt()?;
        let server = Server::bind(settings, models)?;
        let address = format!("http://{}/", server.address());
        super::say(format!("brillm serves on {address}"))?;
        if self.open
            && let Err(error) = browse(&address)
        {
            super::warn(&error.to_string());
        }
        server.run(|| super::interrupted().load(Ordering::Relaxed))
    }
}

/// The user's folder for saved traces.
fn data_folder() -> Option<PathBuf> {
    let set = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let data = if cfg!(windows) {
        set("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        set("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")))
    };
    data.map(|data| data.join("brillm").join("traces"))
}

/// Opens a page in the user's browser.
fn browse(address: &str) -> Result<()> {
    use std::process::{Command, Stdio};
    let (program, arguments): (&str, &[&str]) = if cfg!(windows) {
        ("cmd", &["/C", "start", ""])
    } else if cfg!(target_os = "macos") {
        ("open", &[])
    } else {
        ("xdg-open", &[])
    };
    Command::new(program)
        .args(arguments)
        .arg(address)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(|_| ())
        .map_err(|error| {
            Error::new(ErrorKind::Io, format!("no browser was opened: {error}"))
                .advice(format!("open {address} yourself"))
        })
}
