//! Adapters from the tables of a plugin's hooks to the engine's traits, one file per family of hooks.
//!
//! Every answer is checked as a whole before any of it is applied.

mod cache;
mod choice;
mod corpus;
mod graph;
mod learning;
mod probe;

use std::ffi::c_void;
use std::sync::Arc;

use brillm_abi as abi;

use crate::hook::{Answer, Call, Hooks, Shader};
use crate::plugin::instance::{Instance, invalid_answer};
use crate::plugin::scratch::Scratch;
use crate::plugin::{HOOKS, library};
use crate::{Error, ErrorKind, Result};

/// An answer after its check, or what is invalid in it.
type Checked<T> = std::result::Result<T, String>;

/// A hook of a plugin instance.
struct PluginHook<T> {
    instance: Arc<Instance>,
    table: T,
}

// SAFETY: tables hold numbers and `[instance]` functions of a library that stays loaded; the instance admits one call
// at a time.
unsafe impl<T> Send for PluginHook<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for PluginHook<T> {}

/// The C table of a hook.
trait Table: Copy {
    /// Id of the hook.
    const ID: &'static str;
    /// Index of the hook in [`HOOKS`].
    const INDEX: usize = index(Self::ID);

    /// Return what a table lacks, or `None` if it is complete.
    fn lacks(&self) -> Option<&'static str>;

    /// Add a hook to the hooks of a run; return false if the run already has a hook of which only one is allowed.
    fn add(hook: Arc<PluginHook<Self>>, hooks: &mut Hooks) -> bool;
}

/// Implements [`Table`]: table, id, functions that must exist (`all`, or one of `any`), and the field of [`Hooks`], which
/// holds `one` hook or a `chain`.
macro_rules! tables {
    (@add one $field:ident $hook:ident $hooks:ident) => { $hooks.$field.replace($hook).is_none() };
    (@add chain $field:ident $hook:ident $hooks:ident) => {{ $hooks.$field.push($hook); true }};
    (@lacks all $table:ident $($function:ident)*) => {
        [$((stringify!($function), $table.$function.is_none())),*]
            .into_iter()
            .find_map(|(name, missing)| missing.then_some(name))
    };
    (@lacks any $table:ident $($function:ident)*) => {
        (true $(&& $table.$function.is_none())*).then_some(concat!($(stringify!($function), " "),*))
    };
    ($($type:ident $id:literal $mode:ident [$($function:ident)*] $kind:ident $field:ident;)*) => {
        $(impl Table for abi::$type {
            const ID: &'static str = $id;

            fn lacks(&self) -> Option<&'static str> {
                tables!(@lacks $mode self $($function)*)
            }

            fn add(hook: Arc<PluginHook<Self>>, hooks: &mut Hooks) -> bool {
                tables!(@add $kind $field hook hooks)
            }
        })*

        /// Add all hooks of an instance to the hooks of a run.
        fn install_tables(instance: &Arc<Instance>, hooks: &mut Hooks) -> Result<()> {
            $(install_table::<abi::$type>(instance, hooks)?;)*
            Ok(())
        }
    };
}

tables! {
    brl_kv_plan "kv.plan/1" all [plan] one plan;
    brl_kv_keep "kv.keep/1" all [keep] one keep;
    brl_kv_codec "kv.codec/1" all [plan] one codec;
    brl_sample "sample/1" any [prompt step choose] chain sample;
    brl_order "order/1" all [next] one order;
    brl_mask "mask/1" any [ratio weigh] one mask;
    brl_corpus "corpus/1" all [write] one corpus;
    brl_probe "probe/1" all [taps see report] chain probe;
    brl_edge "edge/1" all [resist] chain edge;
    brl_signal "signal/1" all [start] one signal;
    brl_path "path/1" all [hop] chain path;
}

/// The index of a hook in [`HOOKS`].
const fn index(hook: &str) -> usize {
    let mut index = 0;
    while index < HOOKS.len() {
        if same(HOOKS[index], hook) {
            return index;
        }
        index += 1;
    }
    panic!("unknown hook")
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

fn install_table<T: Table>(instance: &Arc<Instance>, hooks: &mut Hooks) -> Result<()> {
    let Some(table) = instance.code.table_of::<T>(T::ID) else {
        return Ok(());
    };
    let fail =
        |kind, what: String| Err(Error::new(kind, what).at(format!("plugin {}", instance.id())));
    if let Some(function) = table.lacks() {
        let what = format!(
            "its table of {} has no function {}",
            T::ID,
            function.trim_end()
        );
        return fail(ErrorKind::Plugin, what);
    }
    let hook = Arc::new(PluginHook {
        instance: instance.clone(),
        table,
    });
    if !T::add(hook, hooks) {
        let what = format!("another plugin implements {} already; only one may", T::ID);
        return fail(ErrorKind::Configuration, what);
    }
    Ok(())
}

/// Connect an instance to the hooks of a run.
///
/// # Errors
/// [`ErrorKind::Configuration`] when two plugins implement a hook that only one may; [`ErrorKind::Plugin`] for a
/// table without its function or an invalid shader.
pub(crate) fn install(instance: &Arc<Instance>, hooks: &mut Hooks) -> Result<()> {
    install_tables(instance, hooks)?;
    learning::check(instance)?;
    for hook in super::SHADER_HOOKS {
        let id = format!("wgsl/1:{hook}");
        let Some(table) = instance.code.table_of::<abi::brl_wgsl>(&id) else {
            continue;
        };
        // SAFETY: the strings are constants of a library that stays loaded.
        let (source, entry_point) = unsafe {
            (
                library::text(table.source),
                library::text(table.entry_point),
            )
        };
        let shader = Shader {
            hook: hook.to_string(),
            source,
            entry_point,
            workgroup: u32::try_from(table.workgroup).unwrap_or(0),
        };
        #[cfg(feature = "gpu")]
        super::shader::validate(&shader)
            .map_err(|error| error.at(format!("plugin {}", instance.id())))?;
        if instance.code.table_of::<abi::brl_edge>(hook).is_none() {
            return Err(Error::new(
                ErrorKind::Plugin,
                format!("it has a shader for {hook} but does not implement {hook}"),
            )
            .at(format!("plugin {}", instance.id())));
        }
        hooks.shaders.push(shader);
    }
    Ok(())
}

impl<T: Table> PluginHook<T> {
    /// Call a function that returns no data.
    fn call(
        &self,
        call: &Call<'_>,
        body: impl FnOnce(*mut abi::brl_self, *mut abi::brl_call) -> abi::brl_status,
    ) -> Result<Option<()>> {
        self.instance.ask(
            T::INDEX,
            call,
            |instance, frame, _| body(instance, frame),
            |_| Ok(()),
        )
    }

    /// Call a function that writes an answer and, optionally, buffers. `read` checks and converts them.
    fn answer<A: Copy, R>(
        &self,
        call: &Call<'_>,
        initial: A,
        body: impl FnOnce(
            *mut abi::brl_self,
            *mut abi::brl_call,
            *mut A,
            &mut Scratch,
        ) -> abi::brl_status,
        read: impl FnOnce(A, &Scratch) -> Checked<R>,
    ) -> Result<Option<R>> {
        let mut answer = initial;
        let pointer = &raw mut answer;
        self.instance.ask(
            T::INDEX,
            call,
            |instance, frame, scratch| body(instance, frame, pointer, scratch),
            // SAFETY: the call has returned, so the answer is accessible again.
            |scratch| read(unsafe { pointer.read() }, scratch).map_err(invalid_answer),
        )
    }

    /// Call a function that rewrites numbers in place, and writes an answer. `valid` is tested for every number; `what`
    /// describes one in errors.
    fn rewrite<A: Copy, R>(
        &self,
        call: &Call<'_>,
        values: &mut [f32],
        (valid, what): (fn(f32) -> bool, &str),
        initial: A,
        body: impl FnOnce(
            *mut abi::brl_self,
            *mut abi::brl_call,
            abi::brl_f32s,
            *mut A,
        ) -> abi::brl_status,
        read: impl FnOnce(A) -> Checked<R>,
    ) -> Result<Option<R>> {
        let given: &[f32] = values;
        let answer = self.answer(
            call,
            initial,
            |instance, frame, answer, scratch| {
                let buffer = abi::brl_f32s::new(scratch.floats.load(given), given.len());
                body(instance, frame, buffer, answer)
            },
            |answer, scratch| {
                let values = scratch.floats.values();
                match values.iter().position(|&value| !valid(value)) {
                    Some(index) => Err(format!("{what} {index} is {}", values[index])),
                    None => Ok((values.to_vec(), read(answer)?)),
                }
            },
        )?;
        Ok(answer.map(|(rewritten, answer)| {
            values.copy_from_slice(&rewritten);
            answer
        }))
    }
}

/// Convert the outcome of a function that answers in place.
fn given(answer: Option<()>) -> Answer {
    answer.map_or(Answer::Declined, |()| Answer::Given)
}

/// Host data lent to a plugin for one call, and the first error that occurred in using it.
struct Lent<'a, T> {
    value: T,
    instance: &'a Instance,
    error: Option<Error>,
}

impl<'a, T> Lent<'a, T> {
    fn new(value: T, instance: &'a Instance) -> Self {
        Self {
            value,
            instance,
            error: None,
        }
    }

    fn pointer(&mut self) -> *mut c_void {
        (&raw mut *self).cast()
    }

    /// Run a host function on lent data; keep its error.
    ///
    /// # Safety
    /// `context` is null or the pointer of a `Lent<T>` that is alive and not otherwise in use.
    unsafe fn run(
        context: *mut c_void,
        body: impl FnOnce(&mut T) -> Result<abi::brl_status>,
    ) -> abi::brl_status {
        // SAFETY: as the caller promises.
        let Some(lent) = (unsafe { context.cast::<Self>().as_mut() }) else {
            return abi::BRL_E_ARG;
        };
        let outcome = body(&mut lent.value);
        lent.instance.beat();
        outcome.unwrap_or_else(|error| {
            let status = match error.kind() {
                ErrorKind::Cancelled => abi::BRL_E_CANCELLED,
                ErrorKind::Plugin => abi::BRL_E_ARG,
                _ => abi::BRL_E_INTERNAL,
            };
            lent.error.get_or_insert(error);
            status
        })
    }

    /// Return the host's error, which explains more than the plugin's.
    fn failure(self, hook: &str) -> Option<Error> {
        let id = self.instance.id();
        self.error
            .map(|error| error.at(hook).at(format!("plugin {id}")))
    }
}

/// A sink that collects records into `records`, valid as long as they are.
fn collector(records: &mut Vec<Vec<u8>>) -> abi::brl_sink {
    unsafe extern "C" fn collect(ctx: *mut c_void, record: abi::brl_str) -> abi::brl_status {
        // SAFETY: the context is the list that the sink was made of, alive until the call returns.
        let Some(records) = (unsafe { ctx.cast::<Vec<Vec<u8>>>().as_mut() }) else {
            return abi::BRL_E_ARG;
        };
        // SAFETY: the plugin's bytes are valid for this call.
        records.push(unsafe { record.bytes() }.to_vec());
        abi::BRL_OK
    }
    abi::brl_sink {
        ctx: (&raw mut *records).cast(),
        write: Some(collect),
    }
}

/// Write a record into a sink of the plugin.
///
/// # Safety
/// `sink` is null or the plugin's, valid for this call.
unsafe fn put(sink: *const abi::brl_sink, record: abi::brl_str) -> Result<abi::brl_status> {
    let fail = |what: String| Error::new(ErrorKind::Plugin, what);
    // SAFETY: as the caller promises.
    let sink = unsafe { sink.as_ref() }.ok_or_else(|| fail("its sink is null".into()))?;
    let write = sink
        .write
        .ok_or_else(|| fail("its sink has no function".into()))?;
    // SAFETY: the sink's own context; the record is valid until the call returns.
    match unsafe { write(sink.ctx, record) } {
        abi::BRL_OK => Ok(abi::BRL_OK),
        status => Err(fail(format!("its sink returned status {status}"))),
    }
}
