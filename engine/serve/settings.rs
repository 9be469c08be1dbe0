//! Settings of a server: its address, who may use it, and its limits.

use std::net::IpAddr;
use std::path::PathBuf;

#[cfg(feature = "plugin")]
use crate::plugin::{Finder, Selection};
use crate::{Error, ErrorKind, Result};

/// Settings of a server.
///
/// ```
/// use brillm::serve::Settings;
/// let settings = Settings::default();
/// assert!(settings.host.is_loopback() && settings.check().is_ok());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// IP address to listen on; the loopback address by default.
    pub host: IpAddr,
    /// Port; 0 chooses a free one.
    pub port: u16,
    /// Token that every request must carry; required on an address that other machines reach.
    pub token: Option<String>,
    /// Origins, such as `https://example.org`, whose pages may send requests; `*` for all.
    pub origins: Vec<String>,
    /// Folder of saved traces; without one the library is off.
    pub library: Option<PathBuf>,
    /// Limits of requests and runs.
    pub limits: Limits,
    /// Folders that are searched for plugins.
    #[cfg(feature = "plugin")]
    pub finder: Finder,
    /// Plugins of all completions.
    #[cfg(feature = "plugin")]
    pub plugins: Vec<Selection>,
}

/// Limits of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Simultaneous runs of models.
    pub parallel: usize,
    /// Waiting runs; one more is refused with 429.
    pub queue: usize,
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// New tokens of a run.
    pub tokens: usize,
    /// Bytes of keys and values that finished runs of each transformer leave for prompts that begin alike; 0 for none.
    pub prefix_bytes: usize,
    /// Candidates listed for a step.
    pub candidates: usize,
    /// Seconds of a run, including the time in the queue.
    pub seconds: f64,
    /// Seconds within which a request must have arrived.
    pub request_timeout: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            // At least 8: the runs of a transformer share forward passes.
            parallel: std::thread::available_parallelism().map_or(8, |cores| cores.get().max(8)),
            queue: 64,
            body_bytes: 4 << 20,
            prompt_tokens: 4096,
            tokens: 1024,
            prefix_bytes: 256 << 20,
            candidates: 512,
            seconds: 120.0,
            request_timeout: 10.0,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 8137,
            token: None,
            origins: Vec::new(),
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
    /// Check that an address which other machines reach has a token, that origins are valid, and that limits are
    /// above 0.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`], naming the setting.
    pub fn check(&self) -> Result<()> {
        let invalid = |what: &str, advice: &str| {
            Err(Error::new(ErrorKind::Configuration, what).advice(advice))
        };
        if !self.host.is_loopback() && self.token.is_none() {
            return invalid(
                "an address that other machines can reach requires a token",
                "pass --token, or listen on 127.0.0.1",
            );
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if let Some(token) = &self.token
            && (token.len() < 8 || !token.bytes().all(plain))
        {
            return invalid(
                "the token is too short or has characters that a header cannot carry",
                "pass at least 8 letters, digits or -._~+/= as --token",
            );
        }
        if let Some(origin) = self.origins.iter().find(|origin| !is_origin(origin)) {
            return invalid(
                &format!("invalid origin {origin:?}"),
                "give the scheme, host and port of a page without a path, such as http://localhost:3000, or *",
            );
        }
        let limits = &self.limits;
        let values = [
            ("connections", limits.connections as f64),
            ("parallel", limits.parallel as f64),
            ("max-body", limits.body_bytes as f64),
            ("max-prompt", limits.prompt_tokens as f64),
            ("candidates", limits.candidates as f64),
            ("max-seconds", limits.seconds),
            ("request-timeout", limits.request_timeout),
        ];
        for (name, value) in values {
            if value.is_nan() || value <= 0.0 || value.is_infinite() {
                return invalid(
                    &format!("invalid limit {name} {value}: expected a number above 0"),
                    "remove it to use the default",
                );
            }
        }
        if limits.connections.max(limits.parallel) > 1 << 20 {
            return invalid(
                "connections and parallel must be at most 1048576",
                "pass a smaller number",
            );
        }
        if limits.seconds.max(limits.request_timeout) >= 1e7 {
            return invalid(
                "a time limit must be below 10,000,000 s",
                "pass fewer seconds",
            );
        }
        Ok(())
    }
}

/// Whether a text is an origin as browsers send it, or `*`.
fn is_origin(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/?#@*\\".contains(&byte);
    text == "*"
        || text.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty()
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
                && !host.is_empty()
                && host.bytes().all(plain)
        })
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn origins_have_a_scheme_and_a_host_and_no_path() {
        for origin in [
            "*",
            "http://localhost:3000",
            "https://example.org",
            "http://[::1]:8",
            "app://x",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for origin in [
            "",
            "null",
            "example.org",
            "https://",
            "https://a/",
            "https://a/b",
            "://a",
            "https://*.a",
            "a b://c",
        ] {
            assert!(!is_origin(origin), "{origin}");
        }
    }
}
