//! The error of a plugin: a message and a status.

use std::fmt;

use brillm_abi as abi;

/// The result of a hook.
pub type Result<T> = std::result::Result<T, PluginError>;

/// A failure of a plugin. The engine adds the names of the plugin and the hook, and the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginError {
    pub(crate) status: abi::brl_status,
    pub(crate) message: String,
}

impl PluginError {
    /// Create an error from a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            status: abi::BRL_E_INTERNAL,
            message: message.into(),
        }
    }

    /// Report an invalid option.
    pub fn option(message: impl Into<String>) -> Self {
        Self {
            status: abi::BRL_E_CONFIG,
            message: message.into(),
        }
    }

    /// Stop because the run is cancelled, see [`crate::Host::cancelled`].
    pub fn cancelled() -> Self {
        Self {
            status: abi::BRL_E_CANCELLED,
            message: "cancelled".into(),
        }
    }

    /// Report an invalid saved state.
    pub fn state(message: impl Into<String>) -> Self {
        Self {
            status: abi::BRL_E_STATE,
            message: message.into(),
        }
    }

    /// Convert the status of a host function.
    pub(crate) fn check(status: abi::brl_status, what: &str) -> Result<()> {
        match status {
            abi::BRL_OK => Ok(()),
            abi::BRL_E_CANCELLED => Err(Self::cancelled()),
            status => Err(Self {
                status,
                message: format!("{what}: the engine returned status {status}"),
            }),
        }
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for PluginError {}

impl From<String> for PluginError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

impl From<&str> for PluginError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<std::io::Error> for PluginError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<serde_json::Error> for PluginError {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error.to_string())
    }
}
