//! The C side of [`export!`](crate::export): instances, the panic guard, and the tables of hooks.
//!
//! Not for plugin authors.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use brillm_abi as abi;

use crate::{Answer, Host, LogLevel, Plugin, PluginError, Result, host};

/// The tables of a plugin type, one constant each.
pub struct HookTables<T>(std::marker::PhantomData<T>);

/// An instance as the host holds it.
pub(crate) struct PluginInstance<T> {
    host: abi::brl_host,
    plugin: T,
}

impl<T> PluginInstance<T> {
    pub(crate) fn plugin(&self) -> &T {
        &self.plugin
    }
}

thread_local! {
    /// Location of the last panic of this thread.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keep panic messages off standard error: they are reported to the host instead. A `cdylib` has its own panic hook.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let location = info
                .location()
                .map(|at| format!("{}:{}", at.file(), at.line()));
            LOCATION.with_borrow_mut(|last| *last = location);
        }));
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into());
    match LOCATION.with_borrow_mut(Option::take) {
        Some(location) => format!("panicked at {location}: {text}"),
        None => format!("panicked: {text}"),
    }
}

/// Report a failure to the host and return the status of a call.
fn finish(
    host: &Host<'_>,
    outcome: std::thread::Result<Result<abi::brl_status>>,
) -> abi::brl_status {
    match outcome {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            host.fail(&error.message);
            error.status
        }
        Err(payload) => {
            let text = message(payload.as_ref());
            host.log(LogLevel::Error, &text);
            host.fail(&text);
            abi::BRL_E_PANIC
        }
    }
}

/// Call into an instance; catch panics.
///
/// # Safety
/// `instance` came from [`create`] with the same `T` and is not used by another call; `call` is the host's.
pub(crate) unsafe fn enter<T>(
    instance: *mut abi::brl_self,
    call: *mut abi::brl_call,
    body: impl FnOnce(&mut T, &mut Host<'_>) -> Result<abi::brl_status>,
) -> abi::brl_status {
    // SAFETY: exclusively ours, as the caller promises.
    let Some(instance) = (unsafe { instance.cast::<PluginInstance<T>>().as_mut() }) else {
        return abi::BRL_E_ARG;
    };
    let PluginInstance { host, plugin } = instance;
    let mut host = Host::new(call, host);
    // The host never calls a plugin again after a panic, so a half-updated state is not seen.
    let outcome = catch_unwind(AssertUnwindSafe(|| body(plugin, &mut host)));
    finish(&host, outcome)
}

/// Defines the C functions of hooks: `fn name<T: Hook>(arguments) = |plugin, host| body`.
macro_rules! hook_functions {
    ($(fn $name:ident<T: $hook:ident>($($argument:ident: $type:ty),* $(,)?) = |$plugin:ident, $host:ident| $body:block)*) => {$(
        unsafe extern "C" fn $name<T: $hook>(
            instance: *mut abi::brl_self,
            call: *mut abi::brl_call,
            $($argument: $type),*
        ) -> abi::brl_status {
            let body = |$plugin: &mut T, $host: &mut Host<'_>| -> Result<abi::brl_status> { $body };
            // SAFETY: the host passes what `create` made, one call at a time.
            unsafe { crate::entry::enter(instance, call, body) }
        }
    )*};
}
pub(crate) use hook_functions;

/// Read a table of the host.
///
/// # Safety
/// As [`abi::read`].
pub(crate) unsafe fn table<T: Copy>(table: *const T) -> Result<T> {
    // SAFETY: as the caller promises.
    unsafe { abi::read(table) }.ok_or_else(|| PluginError::new("the host passed a null table"))
}

/// Write a table of the host; return the status of the call.
///
/// # Safety
/// As [`abi::write`].
pub(crate) unsafe fn write<T: Copy>(table: *mut T, value: &T) -> abi::brl_status {
    // SAFETY: as the caller promises.
    if unsafe { abi::write(table, value) } {
        abi::BRL_OK
    } else {
        abi::BRL_E_BUFFER
    }
}

/// Read a text; empty if it is not UTF-8.
///
/// # Safety
/// The view is null or valid for `'a`.
pub(crate) unsafe fn text<'a>(view: abi::brl_str) -> &'a str {
    // SAFETY: as the caller promises.
    std::str::from_utf8(unsafe { view.bytes() }).unwrap_or("")
}

/// Collect the records that a host function writes into a sink.
pub(crate) fn collect(
    what: &str,
    ask: impl FnOnce(*const abi::brl_sink) -> abi::brl_status,
) -> Result<Vec<Vec<u8>>> {
    unsafe extern "C" fn add(ctx: *mut c_void, bytes: abi::brl_str) -> abi::brl_status {
        // SAFETY: the context is the list below, which outlives the sink; the host's view is valid for this call.
        unsafe { (*ctx.cast::<Vec<Vec<u8>>>()).push(bytes.bytes().to_vec()) };
        abi::BRL_OK
    }
    let mut records: Vec<Vec<u8>> = Vec::new();
    let sink = abi::brl_sink {
        ctx: (&raw mut records).cast(),
        write: Some(add),
    };
    PluginError::check(ask(&raw const sink), what).map(|()| records)
}

/// Write one record into a sink of the host.
///
/// # Safety
/// `sink` is null or the host's, valid for this call.
pub(crate) unsafe fn put(sink: *const abi::brl_sink, bytes: &[u8]) -> Result<()> {
    // SAFETY: as the caller promises; the layout of sinks is frozen.
    let Some((ctx, write)) =
        (unsafe { sink.as_ref() }).and_then(|sink| Some((sink.ctx, sink.write?)))
    else {
        return Err(PluginError::new("the sink is null"));
    };
    // SAFETY: the context is the sink's; the bytes are valid until the call returns.
    let status = unsafe { write(ctx, abi::brl_str::from_bytes(bytes)) };
    PluginError::check(status, "the engine did not accept the record")
}

/// `brl_plugin.create`.
///
/// # Safety
/// As the C interface says: `host` outlives the program's use of the plugin, `out` can be written.
pub unsafe extern "C" fn create<T: Plugin>(
    host: *const abi::brl_host,
    call: *mut abi::brl_call,
    config: abi::brl_str,
    out: *mut *mut abi::brl_self,
) -> abi::brl_status {
    quiet_panics();
    // SAFETY: a table of the host, as the interface says.
    let Some(table) = (unsafe { abi::read(host) }) else {
        return abi::BRL_E_ARG;
    };
    if out.is_null() {
        return abi::BRL_E_ARG;
    }
    let host = Host::new(call, &table);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the text is valid for this call.
        let text = unsafe { text(config) };
        let text = if text.is_empty() { "{}" } else { text };
        let options: T::Options = serde_json::from_str(text)
            .map_err(|error| PluginError::option(format!("the options cannot be read: {error}")))?;
        let plugin = T::create(options)?;
        let instance = Box::new(PluginInstance {
            host: table,
            plugin,
        });
        // SAFETY: `out` is not null and the host's to be written.
        unsafe { out.write(Box::into_raw(instance).cast()) };
        Ok(abi::BRL_OK)
    }));
    finish(&host, outcome)
}

/// `brl_plugin.destroy`.
///
/// # Safety
/// `instance` came from [`create`] with the same `T` and is not used again.
pub unsafe extern "C" fn destroy<T: Plugin>(instance: *mut abi::brl_self) {
    if instance.is_null() {
        return;
    }
    // SAFETY: it came from `create` and is not used again.
    let instance = unsafe { Box::from_raw(instance.cast::<PluginInstance<T>>()) };
    let table = instance.host;
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(instance))) {
        host::log(&table, LogLevel::Error, &message(payload.as_ref()));
    }
}

/// Whether a C string names `wanted`.
///
/// # Safety
/// The view holds for this call.
pub unsafe fn is(id: abi::brl_str, wanted: &str) -> bool {
    // SAFETY: as the caller promises.
    unsafe { id.bytes() == wanted.as_bytes() }
}

/// Return a table as `hook` does.
pub const fn pointer<T>(table: &'static T) -> *const c_void {
    std::ptr::from_ref(table).cast()
}

/// A value that holds pointers to constants only.
pub struct Constant<T>(pub T);

// SAFETY: what is inside points at constants and is never written.
unsafe impl<T> Sync for Constant<T> {}

/// Convert an answer to a status.
pub(crate) fn status_of(answer: Answer) -> abi::brl_status {
    match answer {
        Answer::Given => abi::BRL_OK,
        Answer::Declined => abi::BRL_DECLINED,
    }
}

/// Exports one or several plugins from a `cdylib`: the crate's single symbol, `brl_plugin_entry`.
///
/// Fields in this order: `id` (reverse domain name), `about` (one sentence), `license` (SPDX), `schema` (JSON Schema of
/// the options, `""` for none), `hooks` (the traits that the type implements), and optionally `shaders` (a list
/// of [`ShaderSource`](crate::ShaderSource) constants). Name and version are the crate's.
#[macro_export]
macro_rules! export {
    ($($plugin:ident {
        id: $id:expr,
        about: $about:expr,
        license: $license:expr,
        schema: $schema:expr,
        hooks: [$($hook:ident),* $(,)?]
        $(, shaders: [$($shader:expr),* $(,)?])?
        $(,)?
    })+) => {
        const _: () = {
            use $crate::abi;
            $(
                impl $crate::entry::Exported for $plugin {
                    const TABLE: abi::brl_plugin = abi::brl_plugin {
                        struct_size: ::core::mem::size_of::<abi::brl_plugin>() as u64,
                        id: abi::brl_str::new($id),
                        name: abi::brl_str::new(::core::env!("CARGO_PKG_NAME")),
                        version: abi::brl_str::new(::core::env!("CARGO_PKG_VERSION")),
                        license: abi::brl_str::new($license),
                        about: abi::brl_str::new($about),
                        config_schema: abi::brl_str::new($schema),
                        create: ::core::option::Option::Some($crate::entry::create::<$plugin>),
                        destroy: ::core::option::Option::Some($crate::entry::destroy::<$plugin>),
                        hook: ::core::option::Option::Some(<$plugin as $crate::entry::Exported>::hook),
                    };

                    unsafe extern "C" fn hook(id: abi::brl_str) -> *const ::core::ffi::c_void {
                        // SAFETY: the name holds for this call.
                        let named = |wanted: &str| unsafe { $crate::entry::is(id, wanted) };
                        $( $crate::__hook!(named, $hook, $plugin); )*
                        $($(
                            {
                                const SHADER: $crate::ShaderSource = $shader;
                                static TABLE: $crate::entry::Constant<abi::brl_wgsl> =
                                    $crate::entry::Constant(SHADER.table());
                                if named(SHADER.id) {
                                    return $crate::entry::pointer(&TABLE.0);
                                }
                            }
                        )*)?
                        let _ = named;
                        ::core::ptr::null()
                    }
                }
            )+

            static PLUGINS: $crate::entry::Constant<&[&abi::brl_plugin]> =
                $crate::entry::Constant(&[$(&<$plugin as $crate::entry::Exported>::TABLE),+]);
            static ENTRY: $crate::entry::Constant<abi::brl_entry> =
                $crate::entry::Constant(abi::brl_entry {
                    magic: abi::BRL_MAGIC,
                    abi_major: abi::BRL_ABI_MAJOR,
                    abi_minor: abi::BRL_ABI_MINOR,
                    plugin_count: PLUGINS.0.len() as u32,
                    plugins: PLUGINS.0.as_ptr().cast(),
                });

            // In the browser plugins are linked into the program, where one symbol would be defined twice.
            #[cfg_attr(not(target_family = "wasm"), unsafe(no_mangle))]
            pub extern "C" fn brl_plugin_entry() -> *const abi::brl_entry {
                &ENTRY.0
            }
        };
    };
}

/// What [`export!`](crate::export) implements.
pub trait Exported {
    /// The plugin's table.
    const TABLE: abi::brl_plugin;
    /// `brl_plugin.hook`.
    ///
    /// # Safety
    /// The view holds for this call.
    unsafe extern "C" fn hook(id: abi::brl_str) -> *const c_void;
}

#[doc(hidden)]
#[macro_export]
macro_rules! __hook {
    ($named:ident, PlanHook, $plugin:ty) => {
        $crate::__table!($named, "kv.plan/1", $plugin, PLAN)
    };
    ($named:ident, KeepHook, $plugin:ty) => {
        $crate::__table!($named, "kv.keep/1", $plugin, KEEP)
    };
    ($named:ident, CodecHook, $plugin:ty) => {
        $crate::__table!($named, "kv.codec/1", $plugin, CODEC)
    };
    ($named:ident, SampleHook, $plugin:ty) => {
        $crate::__table!($named, "sample/1", $plugin, SAMPLE)
    };
    ($named:ident, OrderHook, $plugin:ty) => {
        $crate::__table!($named, "order/1", $plugin, ORDER)
    };
    ($named:ident, MaskHook, $plugin:ty) => {
        $crate::__table!($named, "mask/1", $plugin, MASK)
    };
    ($named:ident, CorpusHook, $plugin:ty) => {
        $crate::__table!($named, "corpus/1", $plugin, CORPUS)
    };
    ($named:ident, ProbeHook, $plugin:ty) => {
        $crate::__table!($named, "probe/1", $plugin, PROBE)
    };
    ($named:ident, EdgeHook, $plugin:ty) => {
        $crate::__table!($named, "edge/1", $plugin, EDGE)
    };
    ($named:ident, SignalHook, $plugin:ty) => {
        $crate::__table!($named, "signal/1", $plugin, SIGNAL)
    };
    ($named:ident, PathHook, $plugin:ty) => {
        $crate::__table!($named, "path/1", $plugin, PATH)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __table {
    ($named:ident, $id:literal, $plugin:ty, $table:ident) => {
        if $named($id) {
            return $crate::entry::pointer(&$crate::entry::HookTables::<$plugin>::$table);
        }
    };
}
