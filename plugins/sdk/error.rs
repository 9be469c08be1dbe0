//! What goes wrong in a plugin: a sentence and the status it crosses the door with.

use std::fmt;

use brillm_abi as abi;

/// The result of a hook.
pub type Result<T> = std::result::Result<T, Error>;

/// Something that failed. The engine adds the plugin, the hook and the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub(crate) status: abi::brl_status,
    pub(crate) message: String,
}

impl Error {
    /// An error that says `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            status: abi::BRL_E_INTERNAL,
            message: message.into(),
        }
    }

    /// An option that makes no sense.
    pub fn option(message: impl Into<String>) -> Self {
        Self {
            status: abi::BRL_E_CONFIG,
            message: message.into(),
        }
    }

    /// The run is to stop, see [`crate::Call::cancelled`].
    pub fn cancelled() -> Self {
        Self {
            status: abi::BRL_E_CANCELLED,
            message: "cancelled".into(),
        }
    }

    /// A saved state that is none of this plugin's.
    pub fn state(message: impl Into<String>) -> Self {
        Self {
            status: abi::BRL_E_STATE,
            message: message.into(),
        }
    }

    pub(crate) fn status(status: abi::brl_status, what: &str) -> Self {
        Self {
            status,
            message: format!("{what}: the engine answered status {status}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for Error {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error.to_string())
    }
}
