//! What a server is told: where to listen, whom to let in, how much to take on.

use std::net::IpAddr;
use std::path::PathBuf;

#[cfg(feature = "plugin")]
use crate::plugin::{Finder, Selection};
use crate::{Error, ErrorKind, Result};

/// How a server is set up.
///
/// ```
/// use brillm::serve::Settings;
/// let settings = Settings::default();
/// assert!(settings.host.is_loopback() && settings.check().is_ok());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The address; this machine alone by default.
    pub host: IpAddr,
    /// The port; 0 takes a free one.
    pub port: u16,
    /// What every request must carry; needed on an address that others reach.
    pub token: Option<String>,
    /// The folder of saved traces; none are kept without one.
    pub library: Option<PathBuf>,
    /// How much is taken on.
    pub limits: Limits,
    /// Where plugins are looked for.
    #[cfg(feature = "plugin")]
    pub finder: Finder,
    /// The plugins of completions.
    #[cfg(feature = "plugin")]
    pub plugins: Vec<Selection>,
}

/// How much a server takes on.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Runs of a model at a time.
    pub parallel: usize,
    /// Runs that wait for a place; one more is refused.
    pub queue: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// New tokens of a run.
    pub tokens: usize,
    /// Candidates listed of a step.
    pub candidates: usize,
    /// Seconds of a run, waiting included.
    pub seconds: f64,
    /// Seconds in which a request must have arrived.
    pub patience: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            parallel: std::thread::available_parallelism().map_or(2, usize::from),
            queue: 64,
            body_bytes: 4 << 20,
            prompt_tokens: 4096,
            tokens: 1024,
            candidates: 512,
            seconds: 120.0,
            patience: 10.0,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 8137,
            token: None,
            library: None,
            limits: Limits::default(),
            #[cfg(feature = "plugin")]
            finder: Finder::standard([]),
            #[cfg(feature = "plugin")]
            plugins: Vec::new(),
        }
    }
}

impl Settings {
    /// Checks that others are let in by a token only, and that limits are limits.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], naming the setting.
    pub fn check(&self) -> Result<()> {
        let api_error = |what: &str, advice: &str| {
            Err(Error::new(ErrorKind::Configuration, what).advice(advice))
        };
        if !self.host.is_loopback() && self.token.is_none() {
            return api_error(
                "others reach this address, and there is no token",
                "give --token, or listen on 127.0.0.1",
            );
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if let Some(token) = &self.token
            && (token.len() < 8 || !token.bytes().all(plain))
        {
            return api_error(
                "the token is too short, or holds what a header cannot",
                "give at least 8 letters, digits or -._~+/=",
            );
        }
        let limits = &self.limits;
        let counts = [
            limits.connections,
            limits.parallel,
            limits.body_bytes,
            limits.prompt_tokens,
            limits.candidates,
        ];
        let spans = [limits.seconds, limits.patience];
        if counts.contains(&0) || !spans.iter().all(|&span| span > 0.0 && span < 1e7) {
            return api_error("a limit is 0", "leave it out, or give more than 0");
        }
        Ok(())
    }
}
