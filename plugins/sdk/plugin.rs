//! What every plugin is.

use serde::de::DeserializeOwned;

use crate::Result;

/// A plugin; one value is one instance, and serves one run.
pub trait Plugin: Send + Sized + 'static {
    /// Its options; `serde::de::IgnoredAny` for none.
    type Options: DeserializeOwned;

    /// Makes an instance.
    ///
    /// # Errors
    /// Options that make no sense together, a file that cannot be read.
    fn create(options: Self::Options) -> Result<Self>;
}
