//! The host, plugins, and the entry of a library.

use core::ffi::c_void;

use crate::value::{brl_call, brl_self, brl_status, brl_str};

/// First field of [`brl_entry`]: "BRL1" as bytes.
pub const BRL_MAGIC: u32 = 0x314C_5242;
/// The host loads plugins of this major version only.
pub const BRL_ABI_MAJOR: u32 = 1;
/// Grows when a table or hook is added; never a reason to refuse.
pub const BRL_ABI_MINOR: u32 = 0;

/// Levels of `log`: an error.
pub const BRL_LOG_ERROR: i64 = 1;
/// A warning.
pub const BRL_LOG_WARN: i64 = 2;
/// Information.
pub const BRL_LOG_INFO: i64 = 3;
/// Details for debugging.
pub const BRL_LOG_DEBUG: i64 = 4;

/// The functions of the host, valid as long as the program runs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_host {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The host's version: major in the upper half, minor in the lower.
    pub abi: u64,
    /// Context of `log` and `service`.
    pub ctx: *mut c_void,
    /// Write a line to the run's log. [shared]
    pub log: Option<unsafe extern "C" fn(ctx: *mut c_void, level: i64, message: brl_str)>,
    /// Set the message of the negative status that this call will return; the host copies the text. [instance]
    pub fail: Option<unsafe extern "C" fn(call: *mut brl_call, message: brl_str)>,
    /// Return a value other than 0 if the run is being cancelled: then return [`crate::BRL_E_CANCELLED`] soon. [instance]
    pub cancelled: Option<unsafe extern "C" fn(call: *mut brl_call) -> i64>,
    /// Return 64 random bits that replay with the run's seed: the only source a plugin may use. [instance]
    pub random: Option<unsafe extern "C" fn(call: *mut brl_call) -> u64>,
    /// Return an extension of the host by name, or null. [shared]
    pub service: Option<unsafe extern "C" fn(ctx: *mut c_void, id: brl_str) -> *const c_void>,
}

/// A plugin: its description and hooks.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_plugin {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// Reverse domain name, for example `org.example.recent`.
    pub id: brl_str,
    /// Display name.
    pub name: brl_str,
    /// Version, for example `1.2.0`.
    pub version: brl_str,
    /// License, an SPDX expression.
    pub license: brl_str,
    /// One-sentence description.
    pub about: brl_str,
    /// JSON Schema of the options, an object; empty for no options.
    pub config_schema: brl_str,
    /// Create an instance. `config_json` contains every option of the schema, checked, with defaults. [static]
    pub create: Option<
        unsafe extern "C" fn(
            host: *const brl_host,
            call: *mut brl_call,
            config_json: brl_str,
            out: *mut *mut brl_self,
        ) -> brl_status,
    >,
    /// Destroy an instance. Not called after a panic. [instance]
    pub destroy: Option<unsafe extern "C" fn(instance: *mut brl_self)>,
    /// Return the table of a hook, for example `kv.keep/1`, or null if the plugin does not implement it. [static]
    pub hook: Option<unsafe extern "C" fn(id: brl_str) -> *const c_void>,
}

/// The entry of a library. The first 16 bytes are the same in every major version.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_entry {
    /// [`BRL_MAGIC`].
    pub magic: u32,
    /// [`BRL_ABI_MAJOR`] it was built for.
    pub abi_major: u32,
    /// [`BRL_ABI_MINOR`] it was built for.
    pub abi_minor: u32,
    /// Number of plugins in the library.
    pub plugin_count: u32,
    /// The plugins. `[plugin_count]`
    pub plugins: *const *const brl_plugin,
}

/// The one symbol that a library exports, `brl_plugin_entry`: pure and fast. [static]
pub type brl_entry_fn = Option<unsafe extern "C" fn() -> *const brl_entry>;
