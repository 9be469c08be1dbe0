//! `brillm serve`: the visualiser and the HTTP server.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;

use crate::serve::{Limits, ServedModel, Server, Settings};
use crate::{Error, ErrorKind, Result};

/// Start an HTTP server with the visualiser (at /), an OpenAI-compatible API (at /v1) and a trace API (at /api/v1).
///
/// /v1/completions continues text. /v1/chat/completions answers conversations with models that have a chat template; tools,
/// images and audio are refused.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  brillm serve --open
  brillm serve --model models/english.bril --model models/stories260K --port 8080")]
pub(super) struct Arguments {
    /// Model to serve: a .bril or .gguf file, or a folder with config.json; may be repeated, requests use the first unless they name
    /// another [default: the built-in English model].
    ///
    /// The server works on a copy in memory, so that later changes to the files have no effect. A .bril or .gguf file larger
    /// than half of the available memory is copied to an unnamed temporary file instead, in the folder of the file or in TMPDIR.
    #[arg(long, value_name = "PATH")]
    model: Vec<PathBuf>,
    #[command(flatten)]
    order: super::order::OrderArgument,
    /// Port to listen on; 0 chooses a free port.
    #[arg(long, default_value_t = 8137, value_name = "PORT")]
    port: u16,
    /// IP address to listen on; one that other machines can reach requires --token.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
    /// Token that every request must carry, as "Authorization: Bearer TOKEN" or, in a browser, once as /?token=TOKEN.
    #[arg(long, env = "BRILLM_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Origin whose web pages may send requests, such as http://localhost:3000, or * for all; repeat for more.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Folder of saved traces [default: brillm/traces in the user's data folder].
    #[arg(long, value_name = "DIR")]
    library: Option<PathBuf>,
    /// Open the visualiser in the browser.
    #[arg(long)]
    open: bool,
    #[command(flatten)]
    limits: LimitArguments,
}

#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct LimitArguments {
    /// Maximum number of runs at the same time; those of a transformer share forward passes [default: the number of
    /// cores, at least 8].
    #[arg(long, value_name = "N")]
    parallel: Option<usize>,
    /// Maximum number of waiting runs; further requests are refused with status 429.
    #[arg(long, value_name = "N", default_value_t = 64)]
    queue: usize,
    /// Maximum number of open connections.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    connections: usize,
    /// Maximum size of a request body, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    max_body: usize,
    /// Maximum number of tokens in a prompt.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    max_prompt: usize,
    /// Maximum number of new tokens in a run.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    /// Maximum size of the keys and values that finished texts of each transformer leave, in mebibytes: a prompt that begins
    /// with the same tokens is read from there. Its logits may differ by rounding; 0 reads every prompt whole.
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    prefix_cache: usize,
    /// Maximum time of a run, including its time in the queue, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0)]
    max_seconds: f64,
    /// Maximum time for a request to arrive, in seconds.
    #[arg(
        long,
        alias = "patience",
        value_name = "SECONDS",
        default_value_t = 10.0
    )]
    request_timeout: f64,
}

impl LimitArguments {
    fn apply(&self, limits: &mut Limits) {
        limits.parallel = self.parallel.unwrap_or(limits.parallel);
        limits.queue = self.queue;
        limits.connections = self.connections;
        limits.body_bytes = self.max_body;
        limits.prompt_tokens = self.max_prompt;
        limits.tokens = self.max_tokens;
        limits.prefix_bytes = self.prefix_cache.saturating_mul(1 << 20);
        limits.seconds = self.max_seconds;
        limits.request_timeout = self.request_timeout;
    }
}

impl Arguments {
    pub(super) fn run(self, plugins: &super::plugin_options::PluginArguments) -> Result<()> {
        crate::kernel::allocator::return_large_blocks();
        let mut settings = Settings {
            host: self.host,
            port: self.port,
            token: self.token.clone(),
            origins: self.allow_origin.clone(),
            library: self.library.clone().or_else(default_library),
            ..Settings::default()
        };
        self.limits.apply(&mut settings.limits);
        #[cfg(feature = "plugin")]
        {
            settings.finder = plugins.finder();
            settings.plugins = plugins.selections();
        }
        #[cfg(not(feature = "plugin"))]
        let _ = plugins;
        settings.check()?;
        let paths: Vec<Option<PathBuf>> = if self.model.is_empty() {
            vec![None]
        } else {
            self.model.into_iter().map(Some).collect()
        };
        let models = paths
            .iter()
            .map(|path| {
                let (engine, sha256) = match path {
                    Some(path) => crate::serve::open_copy(path)?,
                    None => (super::open_engine(None)?, super::fingerprint(None)?),
                };
                let engine = engine.forward()?.with_order(self.order.order)?;
                Ok(ServedModel {
                    name: engine.name().to_string(),
                    sha256,
                    engine,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        super::catch_interrupt()?;
        let server = Server::bind(settings, models)?;
        let address = format!("http://{}/", server.address());
        super::say(format!("listening on {address}"))?;
        if self.open
            && let Err(error) = browse(&address)
        {
            super::warn(&error.to_string());
        }
        server.run(|| super::interrupted().load(Ordering::Relaxed))
    }
}

/// The default folder of saved traces. Without one that can be written, the server has no library.
fn default_library() -> Option<PathBuf> {
    let data = if cfg!(windows) {
        brillm_file::user_folder("LOCALAPPDATA", "AppData/Local")
    } else if cfg!(target_os = "macos") {
        brillm_file::user_folder("XDG_DATA_HOME", "Library/Application Support")
    } else {
        brillm_file::user_folder("XDG_DATA_HOME", ".local/share")
    };
    let reason = match data.map(|data| data.join("brillm").join("traces")) {
        None => "the home folder is unknown".to_string(),
        Some(folder) => {
            let created = std::fs::create_dir_all(&folder);
            match created.and_then(|()| tempfile::tempfile_in(&folder)) {
                Ok(_) => return Some(folder),
                Err(error) => format!("{}: {error}", folder.display()),
            }
        }
    };
    super::warn(&format!(
        "traces cannot be saved: {reason} (give --library DIR)"
    ));
    None
}

/// Open a page in the user's browser.
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
            Error::new(
                ErrorKind::Io,
                format!("the browser could not be opened: {error}"),
            )
            .advice(format!("open {address} in a browser"))
        })
}
