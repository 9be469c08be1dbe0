//! The host side of the door: plugins are found, loaded, checked, and answer the engine's questions.
//!
//! In: names with options ([`Selection`]). Out: [`Plugins`], whose [`Hooks`](crate::hook::Hooks) the rooms below
//! ask without knowing that a library exists. Listing reads manifests and runs no code; nothing is active until
//! it is named.
//!
//! A native plugin has the program's own privileges: load only what you would run. What honest but wrong
//! plugins do is caught: answers are checked before the engine acts on them, panics stop at the door and poison
//! the instance, buffers end in canaries that are checked after each call, and a watchdog names the plugin and
//! hook that do not return. Containment is promised only where a process of its own gives it:
//! [`check`](mod@check) runs each of its cases in one.

mod adapt;
mod build;
mod case;
pub mod check;
mod find;
mod instance;
mod library;
mod loader;
mod manifest;
mod plugins;
mod question;
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

/// The ABI this build speaks, major and minor.
pub const ABI: (u32, u32) = (brillm_abi::BRL_ABI_MAJOR, brillm_abi::BRL_ABI_MINOR);

/// Every hook this build asks.
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

/// The hooks that may have a shader.
pub const SHADER_HOOKS: [&str; 1] = ["edge/1"];
