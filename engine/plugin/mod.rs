//! Dynamic plugins: found, loaded, checked, and connected to the [hooks](crate::hook) of a run.
//!
//! A [`Selection`] names a plugin with options. A [`Loader`] opens each library once; [`LoadedPlugins::instantiate`]
//! creates the instances of a run, a [`Plugins`], whose [`Hooks`](crate::hook::Hooks) the other modules call without
//! knowing about libraries. Listing reads manifests and runs no code; only plugins that are named are loaded.
//!
//! A native plugin has the program's own privileges: load only plugins you trust. The host catches mistakes: it checks
//! answers before it applies them, panics end in an error and disable the instance, guard values around buffers are
//! checked after each call, and a watchdog reports calls that do not return. Only [`check`](mod@check), which runs each
//! case in its own process, contains crashes. Warnings and the plugins' own messages are `tracing` events.

mod adapt;
mod build;
pub mod check;
mod conformance;
mod conformance_input;
#[cfg(all(unix, not(target_vendor = "apple")))]
mod elf;
mod find;
mod instance;
mod library;
mod loader;
mod manifest;
mod plugins;
mod schema;
mod scratch;
mod selection;
#[cfg(feature = "gpu")]
mod shader;
mod template;
mod watchdog;

pub use build::{Built, build};
pub use find::Finder;
pub use loader::{LoadedPlugins, Loader};
pub use manifest::{Described, Manifest};
pub use plugins::Plugins;
pub use schema::Schema;
pub use selection::{OnError, Selection};
#[cfg(feature = "gpu")]
pub use shader::validate as validate_shader;
pub use template::create as create_template;
pub use watchdog::set_patience;

/// Version of the plugin interface, major and minor.
pub const ABI: (u32, u32) = (brillm_abi::BRL_ABI_MAJOR, brillm_abi::BRL_ABI_MINOR);

/// Ids of all hooks.
pub const HOOKS: [&str; 11] = [
    "kv.plan/1",
    "kv.keep/1",
    "kv.codec/1",
    "sample/1",
    "order/1",
    "mask/1",
    "corpus/1",
    "probe/1",
    "edge/1",
    "signal/1",
    "path/1",
];

/// Ids of the hooks that may have a shader.
pub const SHADER_HOOKS: [&str; 1] = ["edge/1"];
