//! Calls into the engine: without the interpreter's lock, ended by Ctrl-C, errors and panics as exceptions.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use brillm::{Error, ErrorKind};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// How often a long call looks for signals.
const TICK: Duration = Duration::from_millis(30);

/// Why a call failed.
pub(crate) enum Failure {
    /// An error of the engine.
    Engine(Error),
    /// The message of a panic.
    Panic(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl Failure {
    /// Convert to the exception of the kind.
    pub(crate) fn exception(&self, py: Python<'_>) -> PyErr {
        let (kind, what, location, advice, number) = match self {
            Self::Engine(error) => {
                let parts = error.parts();
                (
                    error.kind().name(),
                    parts.what,
                    parts.location,
                    parts.advice,
                    errno(error),
                )
            }
            Self::Panic(message) => {
                let advice = "report it with the call that led here; the model is not damaged";
                ("internal", message.as_str(), None, Some(advice), None)
            }
        };
        let made = py
            .import("brillm._errors")
            .and_then(|errors| errors.getattr("of_parts"))
            .and_then(|make| make.call1((kind, what, location, advice, number)));
        match made {
            Ok(value) => PyErr::from_value(value),
            Err(error) => error,
        }
    }
}

/// Return the number of the operating system's error that caused an error.
fn errno(error: &Error) -> Option<i32> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = cause {
        if let Some(io) = one.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                std::io::ErrorKind::NotFound => Some(2),
                std::io::ErrorKind::PermissionDenied => Some(13),
                // The numbers of Windows are not those of errno.
                _ => io.raw_os_error().filter(|_| cfg!(unix)),
            };
        }
        cause = one.source();
    }
    None
}

/// Convert an error of the engine to an exception.
pub(crate) fn exception(py: Python<'_>, error: Error) -> PyErr {
    Failure::Engine(error).exception(py)
}

/// Run a call and catch its panic.
fn caught<T>(body: impl FnOnce() -> brillm::Result<T>) -> Result<T, Failure> {
    // What a panic leaves behind is dropped, or is behind a mutex whose owner accepts it; see `lock`.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(outcome) => outcome.map_err(Failure::Engine),
        Err(payload) => Err(Failure::Panic(message(&*payload))),
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    format!("the engine panicked: {}", text.unwrap_or("no message"))
}

/// Check that the process is the one that used the engine first. Its threads do not exist in a process that was forked
/// afterwards, which would wait for them without end.
fn check_process(py: Python<'_>) -> PyResult<()> {
    static FIRST: OnceLock<u32> = OnceLock::new();
    let process = std::process::id();
    if *FIRST.get_or_init(|| process) == process {
        return Ok(());
    }
    let what =
        "the process was forked after it had used the engine, whose threads do not exist here";
    let error = Error::new(ErrorKind::Unsupported, what)
        .advice("start processes with multiprocessing.get_context(\"spawn\"), or load the model in the new one only");
    Err(exception(py, error))
}

/// Run a short call without the interpreter's lock.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    body: impl FnOnce() -> brillm::Result<T> + Send,
) -> PyResult<T> {
    check_process(py)?;
    py.detach(|| caught(body))
        .map_err(|failure| failure.exception(py))
}

/// What Ctrl-C does to a long call.
pub(crate) enum Interrupt<'a> {
    /// Leave the call to itself, which may end early where it looks at the flag.
    Leave(Option<&'a Arc<AtomicBool>>),
    /// Set the flag and wait for the end; a second Ctrl-C does not wait.
    Finish(&'a Arc<AtomicBool>),
}

impl Interrupt<'_> {
    /// Set the flag; return whether to wait for the end of the call.
    fn signal(&self) -> bool {
        let (flag, wait) = match self {
            Self::Leave(flag) => (*flag, false),
            Self::Finish(flag) => (Some(*flag), true),
        };
        // A flag that is set was set by the first Ctrl-C.
        let first = flag.is_none_or(|flag| !flag.swap(true, Ordering::Relaxed));
        wait && first
    }
}

/// Run a long call on a thread of its own, while this one waits for its end or for Ctrl-C.
pub(crate) fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    on_interrupt: Interrupt<'_>,
    body: impl FnOnce() -> brillm::Result<T> + Send + 'static,
) -> PyResult<T> {
    check_process(py)?;
    let (sender, mut receiver) = channel();
    let run = move || {
        // Nobody receives it after a second Ctrl-C.
        let _ = sender.send(caught(body));
    };
    std::thread::Builder::new()
        .name("brillm".into())
        .spawn(run)
        .map_err(|error| PyRuntimeError::new_err(format!("no thread can be started: {error}")))?;
    let mut interrupt = None;
    loop {
        let received;
        (receiver, received) = py.detach(move || {
            let received = receiver.recv_timeout(TICK);
            (receiver, received)
        });
        match received {
            Ok(outcome) => {
                return match interrupt {
                    Some(interrupt) => Err(interrupt),
                    None => outcome.map_err(|failure| failure.exception(py)),
                };
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Err(signal) = py.check_signals() {
                    if !on_interrupt.signal() {
                        return Err(signal);
                    }
                    interrupt = Some(signal);
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Panic("the engine's thread ended".into()).exception(py));
            }
        }
    }
}

/// Lock what one call at a time uses. After a panic it is used again: its state is valid, if not that of a whole step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
