//! An instance of a plugin, and the lock and checks around every call of it.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use brillm_abi as abi;
use serde_json::{Map, Value};

use crate::hook::Call;
use crate::kernel::random::Random;
use crate::plugin::library::{Code, text};
use crate::plugin::scratch::Scratch;
use crate::plugin::selection::OnError;
use crate::plugin::watchdog::InFlightCall;
use crate::{Error, ErrorKind, Result};

/// Stands for `create` where the index of a hook is expected.
pub(crate) const CREATE: usize = usize::MAX;

/// The host's side of a call; the plugin has a pointer to it, a `brl_call`.
pub(crate) struct Frame<'a> {
    call: Call<'a>,
    purpose: &'a str,
    random: Option<Random>,
    reason: Option<String>,
}

/// The context of `log` and `service`.
struct Context {
    id: String,
}

unsafe extern "C" fn log(ctx: *mut c_void, level: i64, message: abi::brl_str) {
    // SAFETY: `ctx` is the leaked context that the host's table names; the message is valid for this call.
    let (context, message) = unsafe { (&*ctx.cast::<Context>(), text(message)) };
    let plugin = tracing::field::display(&context.id);
    match level {
        abi::BRL_LOG_ERROR => tracing::error!(plugin, "{message}"),
        abi::BRL_LOG_WARN => tracing::warn!(plugin, "{message}"),
        abi::BRL_LOG_INFO => tracing::info!(plugin, "{message}"),
        _ => tracing::debug!(plugin, "{message}"),
    }
}

unsafe extern "C" fn fail(call: *mut abi::brl_call, message: abi::brl_str) {
    // SAFETY: a call is the frame that the host passed, alive until the hook returns.
    if let Some(frame) = unsafe { call.cast::<Frame<'_>>().as_mut() } {
        // SAFETY: the message is valid for this call.
        frame.reason = Some(unsafe { text(message) });
    }
}

unsafe extern "C" fn cancelled(call: *mut abi::brl_call) -> i64 {
    // SAFETY: as above.
    unsafe { call.cast::<Frame<'_>>().as_ref() }
        .map_or(0, |frame| i64::from(frame.call.cancelled()))
}

unsafe extern "C" fn random(call: *mut abi::brl_call) -> u64 {
    // SAFETY: as above.
    let Some(frame) = (unsafe { call.cast::<Frame<'_>>().as_mut() }) else {
        return 0;
    };
    let (call, purpose) = (frame.call, frame.purpose);
    frame
        .random
        .get_or_insert_with(|| call.random(purpose))
        .bits()
}

unsafe extern "C" fn service(_ctx: *mut c_void, _id: abi::brl_str) -> *const c_void {
    std::ptr::null()
}

/// A host table that a plugin may keep for the life of the program.
struct HostTable(&'static abi::brl_host);

// SAFETY: the table and its context are never written after they are made.
unsafe impl Send for HostTable {}

/// The table lent to the instances of a plugin. It lives as long as the program: one per plugin, however many
/// instances there are.
pub(crate) fn host(id: &str) -> &'static abi::brl_host {
    static TABLES: Mutex<BTreeMap<String, HostTable>> = Mutex::new(BTreeMap::new());
    let mut tables = TABLES
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let table = tables.entry(id.to_string()).or_insert_with(|| {
        let context = Box::leak(Box::new(Context { id: id.to_string() }));
        HostTable(Box::leak(Box::new(host_table((&raw mut *context).cast()))))
    });
    table.0
}

pub(crate) fn host_table(ctx: *mut c_void) -> abi::brl_host {
    abi::brl_host {
        struct_size: size_of::<abi::brl_host>() as u64,
        abi: u64::from(abi::BRL_ABI_MAJOR) << 32 | u64::from(abi::BRL_ABI_MINOR),
        ctx,
        log: Some(log),
        fail: Some(fail),
        cancelled: Some(cancelled),
        random: Some(random),
        service: Some(service),
    }
}

struct State {
    raw: *mut abi::brl_self,
    scratch: Scratch,
    /// Why the instance must not be called again.
    poisoned: Option<String>,
}

// SAFETY: an instance may change its thread between calls, as the interface requires; the lock around the state admits
// one thread at a time.
unsafe impl Send for State {}

/// An instance of a plugin.
pub(crate) struct Instance {
    pub code: Code,
    pub options: Map<String, Value>,
    pub on_error: OnError,
    state: Mutex<State>,
    /// The thread that is inside a call, or 0.
    owner: AtomicUsize,
    call: Arc<InFlightCall>,
    /// Whether a skipped error was reported.
    reported: AtomicBool,
}

/// Return a number that identifies this thread while it lives.
fn this_thread() -> usize {
    thread_local!(static MARKER: u8 = const { 0 });
    MARKER.with(|marker| std::ptr::from_ref(marker).addr())
}

/// Clears the owner of an instance when a call ends.
struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Instance")
            .field("plugin", &self.code.described.id)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Instance {
    /// Create an instance with complete, checked options.
    ///
    /// # Errors
    /// [`ErrorKind::Plugin`] or [`ErrorKind::Configuration`] with the plugin's message.
    pub fn create(code: Code, options: Map<String, Value>, on_error: OnError) -> Result<Self> {
        let host = host(&code.described.id);
        Self::create_with(code, options, on_error, host)
    }

    /// Create an instance with another host table, for conformance cases.
    pub fn create_with(
        code: Code,
        options: Map<String, Value>,
        on_error: OnError,
        host: *const abi::brl_host,
    ) -> Result<Self> {
        let id = code.described.id.clone();
        let call = InFlightCall::new(&id);
        let mut frame = Frame {
            call: Call::new(0, 0, 0),
            purpose: "create",
            random: None,
            reason: None,
        };
        let config = Value::from(options.clone()).to_string();
        let mut raw: *mut abi::brl_self = std::ptr::null_mut();
        let Some(create) = code.table.create else {
            return Err(Error::new(ErrorKind::Plugin, "it has no function create")
                .at(format!("plugin {id}")));
        };
        call.enter(CREATE, 0);
        // SAFETY: a `[static]` function; the host's table lives as long as the program, the frame, the text and
        // the pointer to write live until it returns.
        let status = unsafe {
            create(
                host,
                (&raw mut frame).cast(),
                abi::brl_str::new(&config),
                &raw mut raw,
            )
        };
        call.leave();
        if status != abi::BRL_OK || raw.is_null() {
            let kind = match status {
                abi::BRL_E_CONFIG | abi::BRL_E_ARG => ErrorKind::Configuration,
                _ => ErrorKind::Plugin,
            };
            let why = frame
                .reason
                .unwrap_or_else(|| format!("status {status} and no message"));
            return Err(Error::new(kind, why)
                .at("create")
                .at(format!("plugin {id}")));
        }
        Ok(Self {
            code,
            options,
            on_error,
            state: Mutex::new(State {
                raw,
                scratch: Scratch::default(),
                poisoned: None,
            }),
            owner: AtomicUsize::new(0),
            call,
            reported: AtomicBool::new(false),
        })
    }

    /// Return the plugin's id.
    pub fn id(&self) -> &str {
        &self.code.described.id
    }

    /// Call a hook function.
    ///
    /// `body` fills the buffers and calls the function; `read` checks and converts the answer while the buffers are
    /// locked. Returns `None` if the plugin declined, or failed and errors are skipped. A plugin that has the engine run
    /// a model (`kv.plan/1`, `corpus/1`) is not called by that run, so this returns `None` then as well.
    ///
    /// # Errors
    /// [`ErrorKind::Plugin`] naming plugin, hook and step, if errors stop the run.
    pub fn ask<T>(
        &self,
        hook: usize,
        call: &Call<'_>,
        body: impl FnOnce(*mut abi::brl_self, *mut abi::brl_call, &mut Scratch) -> abi::brl_status,
        read: impl FnOnce(&Scratch) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.try_ask(hook, call, body, read) {
            Err(error)
                if self.on_error == OnError::Skip && error.kind() != ErrorKind::Cancelled =>
            {
                if !self.reported.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "{error}; the run continues without it; further errors are not reported"
                    );
                }
                Ok(None)
            }
            outcome => outcome,
        }
    }

    fn try_ask<T>(
        &self,
        hook: usize,
        call: &Call<'_>,
        body: impl FnOnce(*mut abi::brl_self, *mut abi::brl_call, &mut Scratch) -> abi::brl_status,
        read: impl FnOnce(&Scratch) -> Result<T>,
    ) -> Result<Option<T>> {
        let name = super::HOOKS[hook];
        let locate = |error: Error| {
            error
                .at(format!("step {}", call.step))
                .at(name)
                .at(format!("plugin {}", self.id()))
        };
        if self.owner.load(Ordering::Relaxed) == this_thread() {
            return Ok(None);
        }
        // A poisoned lock means a panic in the host, not in the plugin: the state is valid.
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        self.owner.store(this_thread(), Ordering::Relaxed);
        let _leave = Leave(&self.owner);
        let State {
            raw,
            scratch,
            poisoned,
        } = &mut *state;
        if let Some(why) = poisoned {
            return Err(locate(Error::new(
                ErrorKind::Plugin,
                format!("it is not called any more since it {why}"),
            )));
        }
        let mut frame = Frame {
            call: *call,
            purpose: self.id(),
            random: None,
            reason: None,
        };
        self.call.enter(hook, call.step);
        let status = body(*raw, (&raw mut frame).cast(), scratch);
        self.call.leave();
        if !scratch.intact() {
            // The write may have changed any data of the program, so continuing could give wrong results.
            tracing::error!(
                plugin = %self.id(),
                "{name}: step {}: wrote beyond its buffer; memory may be corrupt: aborting",
                call.step
            );
            std::process::abort();
        }
        match status {
            abi::BRL_OK => match read(scratch) {
                Ok(answer) => Ok(Some(answer)),
                Err(error) => Err(locate(error)),
            },
            abi::BRL_DECLINED => Ok(None),
            abi::BRL_E_CANCELLED => Err(locate(Error::new(ErrorKind::Cancelled, "cancelled"))),
            status if status < 0 => {
                let why = frame
                    .reason
                    .unwrap_or_else(|| format!("failed with status {status} and no message"));
                if status == abi::BRL_E_PANIC {
                    *poisoned = Some(why.clone());
                }
                Err(locate(Error::new(ErrorKind::Plugin, why)))
            }
            status => Err(locate(Error::new(
                ErrorKind::Plugin,
                format!("returned the unknown status {status}"),
            ))),
        }
    }

    /// Note that the plugin called the host: it has not hung.
    pub fn beat(&self) {
        self.call.beat();
    }

    /// Call an `[instance]` function that does not use the host.
    pub fn look<T: Default>(&self, body: impl FnOnce(*mut abi::brl_self) -> T) -> T {
        if self.owner.load(Ordering::Relaxed) == this_thread() {
            return T::default();
        }
        let state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        body(state.raw)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let state = self
            .state
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // An instance that panicked may be broken: it is leaked instead of destroyed.
        if state.poisoned.is_none()
            && let Some(destroy) = self.code.table.destroy
        {
            // SAFETY: `create` made it, and it is not used again.
            unsafe { destroy(state.raw) }
        }
    }
}

/// Create the error for an answer that cannot be applied.
pub(crate) fn invalid_answer(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Plugin, format!("invalid answer: {what}"))
}

/// Call `create` with any text as options and return its status.
pub(crate) fn create_from(code: &Code, config: &str) -> abi::brl_status {
    let Some(create) = code.table.create else {
        return abi::BRL_E_INTERNAL;
    };
    let mut frame = Frame {
        call: Call::new(0, 0, 0),
        purpose: "create",
        random: None,
        reason: None,
    };
    let mut raw: *mut abi::brl_self = std::ptr::null_mut();
    let host = host(&code.described.id);
    // SAFETY: as in `create_with`.
    let status = unsafe {
        create(
            host,
            (&raw mut frame).cast(),
            abi::brl_str::new(config),
            &raw mut raw,
        )
    };
    if status == abi::BRL_OK
        && let Some(destroy) = code.table.destroy
    {
        // SAFETY: `create` made it, and it is not used again.
        unsafe { destroy(raw) }
    }
    status
}
