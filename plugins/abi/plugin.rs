//! What the host lends, what a plugin is, and where it is found.

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
/// Worth knowing.
pub const BRL_LOG_INFO: i64 = 3;
/// For whoever looks for a fault.
pub const BRL_LOG_DEBUG: i64 = 4;

/// What the host lends a plugin, for as long as the program runs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_host {
    /// Bytes of this table that the host knows.
    pub struct_size: u64,
    /// The host's version: major in the upper half, minor in the lower.
    pub abi: u64,
    /// The host's, for `log` and `service`.
    pub ctx: *mut c_void,
    /// Writes a line to the run's log. [shared]
    pub log: Option<unsafe extern "C" fn(ctx: *mut c_void, level: i64, message: brl_str)>,
    /// Says why this call is about to return a negative status; the host copies the text. [instance]
    pub fail: Option<unsafe extern "C" fn(call: *mut brl_call, message: brl_str)>,
    /// Not 0 when the run is to stop: return [`crate::BRL_E_CANCELLED`] soon. [instance]
    pub cancelled: Option<unsafe extern "C" fn(call: *mut brl_call) -> i64>,
    /// 64 random bits that replay with the run's seed: the only source a plugin may use. [instance]
    pub random: Option<unsafe extern "C" fn(call: *mut brl_call) -> u64>,
    /// An extension of the host by name, null where there is none. [shared]
    pub service: Option<unsafe extern "C" fn(ctx: *mut c_void, id: brl_str) -> *const c_void>,
}

/// A plugin: who it is and what it can be asked.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_plugin {
    /// Bytes of this table that the plugin knows.
    pub struct_size: u64,
    /// Reverse domain name, for example `org.example.recent`.
    pub id: brl_str,
    /// Name for people.
    pub name: brl_str,
    /// Its own version, for example `1.2.0`.
    pub version: brl_str,
    /// Its license, an SPDX expression.
    pub license: brl_str,
    /// One sentence.
    pub about: brl_str,
    /// JSON Schema of its options, an object; empty for no options.
    pub config_schema: brl_str,
    /// Makes an instance. `config_json` holds every option of the schema, checked, defaults filled in. [static]
    pub create: Option<
        unsafe extern "C" fn(
            host: *const brl_host,
            call: *mut brl_call,
            config_json: brl_str,
            out: *mut *mut brl_self,
        ) -> brl_status,
    >,
    /// Frees an instance. Not called on one that panicked. [instance]
    pub destroy: Option<unsafe extern "C" fn(instance: *mut brl_self)>,
    /// The table of a hook, for example `kv.keep/1`; null where the plugin does not answer it. [static]
    pub hook: Option<unsafe extern "C" fn(id: brl_str) -> *const c_void>,
}

/// What a library holds. The first 16 bytes are the same in every major version.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_entry {
    /// [`BRL_MAGIC`].
    pub magic: u32,
    /// [`BRL_ABI_MAJOR`] it was built for.
    pub abi_major: u32,
    /// [`BRL_ABI_MINOR`] it was built for.
    pub abi_minor: u32,
    /// Plugins in the library.
    pub plugin_count: u32,
    /// The plugins. `[plugin_count]`
    pub plugins: *const *const brl_plugin,
}

/// The one symbol that a library exports, `brl_plugin_entry`: pure, and done at once. [static]
pub type brl_entry_fn = Option<unsafe extern "C" fn() -> *const brl_entry>;
