//! What [`export!`](crate::export) is made of: instances, the panic guard, and the tables of hooks.
//!
//! Nothing here is for authors.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use brillm_abi as abi;

use crate::{Call, Error, Level, Plugin, Result, call, view};

/// The tables of a plugin type, one constant each.
pub struct Tables<T>(std::marker::PhantomData<T>);

/// An instance as the host holds it.
pub(crate) struct Instance<T> {
    host: abi::brl_host,
    plugin: T,
}

impl<T> Instance<T> {
    pub(crate) fn plugin(&self) -> &T {
        &self.plugin
    }
}

thread_local! {
    /// Where the last panic of this thread happened, for the guard that catches it.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics off standard error: a `cdylib` has a panic hook of its own, and the guard reports instead.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let place = info
                .location()
                .map(|at| format!("{}:{}", at.file(), at.line()));
            PLACE.with_borrow_mut(|eviction| *eviction = place);
        }));
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into());
    match PLACE.with_borrow_mut(Option::take) {
        Some(place) => format!("panicked at {place}: {text}"),
        None => format!("panicked: {text}"),
    }
}

/// What a hook's function returns to the host, and why.
pub(crate) fn finish(
    call: &Call<'_>,
    outcome: std::thread::Result<Result<abi::brl_status>>,
) -> abi::brl_status {
    match outcome {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            call.fail(&error.message);
            error.status
        }
        Err(payload) => {
            let text = message(payload.as_ref());
            call.log(Level::Error, &text);
            call.fail(&text);
            abi::BRL_E_PANIC
        }
    }
}

/// Calls into an instance; no panic leaves.
///
/// # Safety
/// `instance` came from [`create`] with the same `T` and nobody else uses it now; `raw` is the host's call.
pub(crate) unsafe fn enter<T>(
    instance: *mut abi::brl_self,
    raw: *mut abi::brl_call,
    body: impl FnOnce(&mut T, &mut Call<'_>) -> Result<abi::brl_status>,
) -> abi::brl_status {
    // SAFETY: the instance is ours, as the caller promises.
    let Some(instance) = (unsafe { instance.cast::<Instance<T>>().as_mut() }) else {
        return abi::BRL_E_ARG;
    };
    let Instance { host, plugin } = instance;
    let mut call = Call::new(raw, host);
    // A plugin that panicked is never called again, so nobody sees what the panic left half done.
    let outcome = catch_unwind(AssertUnwindSafe(|| body(plugin, &mut call)));
    finish(&call, outcome)
}

/// `brl_plugin.create`.
///
/// # Safety
/// As the C interface says: `host` outlives the program's use of the plugin, `out` can be written.
pub unsafe extern "C" fn create<T: Plugin>(
    host: *const abi::brl_host,
    raw: *mut abi::brl_call,
    config: abi::brl_str,
    out: *mut *mut abi::brl_self,
) -> abi::brl_status {
    quiet_panics();
    // SAFETY: a table of the host, as the interface says.
    let Some(host) = (unsafe { view::read(host) }) else {
        return abi::BRL_E_ARG;
    };
    if out.is_null() {
        return abi::BRL_E_ARG;
    }
    let call = Call::new(raw, &host);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the text holds for this call.
        let text = unsafe { view::text(config) };
        let text = if text.is_empty() { "{}" } else { text };
        let options: T::Options = serde_json::from_str(text)
            .map_err(|error| Error::option(format!("the options cannot be read: {error}")))?;
        let plugin = T::create(options)?;
        let instance = Box::new(Instance { host, plugin });
        // SAFETY: `out` is not null and the host's to be written.
        unsafe { out.write(Box::into_raw(instance).cast()) };
        Ok(abi::BRL_OK)
    }));
    finish(&call, outcome)
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
    let instance = unsafe { Box::from_raw(instance.cast::<Instance<T>>()) };
    let host = instance.host;
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(instance))) {
        call::log(&host, Level::Error, &message(payload.as_ref()));
    }
}

/// Whether a C string names `wanted`.
///
/// # Safety
/// The view holds for this call.
pub unsafe fn is(id: abi::brl_str, wanted: &str) -> bool {
    // SAFETY: as the caller promises.
    unsafe { view::bytes(id) == wanted.as_bytes() }
}

/// A table as `hook` returns it.
pub const fn table<T>(table: &'static T) -> *const c_void {
    std::ptr::from_ref(table).cast()
}

/// A string as the door takes it.
pub const fn lend(text: &'static str) -> abi::brl_str {
    view::lend(text)
}

/// A value that holds pointers to constants only.
pub struct Constant<T>(pub T);

// SAFETY: what is inside points at constants and is never written.
unsafe impl<T> Sync for Constant<T> {}

/// The status of an answer in place.
pub(crate) fn answered(answer: crate::Answer) -> abi::brl_status {
    match answer {
        crate::Answer::Given => abi::BRL_OK,
        crate::Answer::Declined => abi::BRL_DECLINED,
    }
}

/// Exports one or several plugins from a `cdylib`: the crate's single symbol, `brl_plugin_entry`.
///
/// Fields in this order: `id` (reverse domain name), `about` (one sentence), `license` (SPDX), `schema` (JSON Schema of
/// the options, `""` for none), `hooks` (the traits that the type implements), and optionally `shaders` (a list
/// of [`Shader`](crate::Shader) constants). Name and version are the crate's.
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
                impl $crate::door::Exported for $plugin {
                    const TABLE: abi::brl_plugin = abi::brl_plugin {
                        struct_size: ::core::mem::size_of::<abi::brl_plugin>() as u64,
                        id: $crate::door::lend($id),
                        name: $crate::door::lend(::core::env!("CARGO_PKG_NAME")),
                        version: $crate::door::lend(::core::env!("CARGO_PKG_VERSION")),
                        license: $crate::door::lend($license),
                        about: $crate::door::lend($about),
                        config_schema: $crate::door::lend($schema),
                        create: ::core::option::Option::Some($crate::door::create::<$plugin>),
                        destroy: ::core::option::Option::Some($crate::door::destroy::<$plugin>),
                        hook: ::core::option::Option::Some(<$plugin as $crate::door::Exported>::hook),
                    };

                    unsafe extern "C" fn hook(id: abi::brl_str) -> *const ::core::ffi::c_void {
                        // SAFETY: the name holds for this call.
                        let named = |wanted: &str| unsafe { $crate::door::is(id, wanted) };
                        $( $crate::__hook!(named, $hook, $plugin); )*
                        $($(
                            {
                                const SHADER: $crate::Shader = $shader;
                                static TABLE: $crate::door::Constant<abi::brl_wgsl> =
                                    $crate::door::Constant(SHADER.table());
                                if named(SHADER.id) {
                                    return $crate::door::table(&TABLE.0);
                                }
                            }
                        )*)?
                        let _ = named;
                        ::core::ptr::null()
                    }
                }
            )+

            static PLUGINS: $crate::door::Constant<&[&abi::brl_plugin]> =
                $crate::door::Constant(&[$(&<$plugin as $crate::door::Exported>::TABLE),+]);
            static ENTRY: $crate::door::Constant<abi::brl_entry> =
                $crate::door::Constant(abi::brl_entry {
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
    ($named:ident, KvPlan, $plugin:ty) => {
        $crate::__table!($named, "kv.plan/1", $plugin, KV_PLAN)
    };
    ($named:ident, KvKeep, $plugin:ty) => {
        $crate::__table!($named, "kv.keep/1", $plugin, KV_KEEP)
    };
    ($named:ident, KvCodec, $plugin:ty) => {
        $crate::__table!($named, "kv.codec/1", $plugin, KV_CODEC)
    };
    ($named:ident, Sample, $plugin:ty) => {
        $crate::__table!($named, "sample/1", $plugin, SAMPLE)
    };
    ($named:ident, Order, $plugin:ty) => {
        $crate::__table!($named, "order/1", $plugin, ORDER)
    };
    ($named:ident, Mask, $plugin:ty) => {
        $crate::__table!($named, "mask/1", $plugin, MASK)
    };
    ($named:ident, Corpus, $plugin:ty) => {
        $crate::__table!($named, "corpus/1", $plugin, CORPUS)
    };
    ($named:ident, Probe, $plugin:ty) => {
        $crate::__table!($named, "probe/1", $plugin, PROBE)
    };
    ($named:ident, Edge, $plugin:ty) => {
        $crate::__table!($named, "edge/1", $plugin, EDGE)
    };
    ($named:ident, Signal, $plugin:ty) => {
        $crate::__table!($named, "signal/1", $plugin, SIGNAL)
    };
    ($named:ident, Path, $plugin:ty) => {
        $crate::__table!($named, "path/1", $plugin, PATH)
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __table {
    ($named:ident, $id:literal, $plugin:ty, $table:ident) => {
        if $named($id) {
            return $crate::door::table(&$crate::door::Tables::<$plugin>::$table);
        }
    };
}
