//! A session: one text on its way through a shared model, used by one thread at a time.

use std::ffi::c_char;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use brillm::path::SessionState;
use brillm::run::{Finish, Generation};

use crate::error::{ApiError, brillm_error};
use crate::ffi::{self, Sized64, cross, pass, sized64};
use crate::generation;
use crate::layout::*;
use crate::model::{self, brillm_model};
use crate::settings::Settings;

/// One text on its way through a model. Any thread may use it, one at a time.
pub struct brillm_session {
    pub(crate) model: Arc<brillm_model>,
    /// Set from any thread; looked at between tokens.
    pub(crate) cancel: Arc<AtomicBool>,
    inner: Mutex<Inner>,
}

/// Threads share both: the compiler sees that they may.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<brillm_session>();
    shared::<brillm_model>();
};

/// What a call on a session changes.
pub(crate) struct Inner {
    settings: Settings,
    generation: Option<Generation>,
    /// New tokens given out since the prompt.
    pub(crate) index: u64,
    /// Why the generation ended: a BRILLM_FINISH value.
    pub(crate) finish: u64,
    /// Text of the last piece, with a zero behind it.
    pub(crate) piece: Vec<u8>,
    /// All new text of brillm_session_generate, with a zero behind it.
    pub(crate) text: Vec<u8>,
    /// Its tokens.
    pub(crate) ids: Vec<u32>,
}

sized64! {
    brillm_piece(40) { text: c"".as_ptr() }
}

fn code(finish: Option<Finish>) -> u64 {
    match finish {
        None => BRILLM_FINISH_NONE,
        Some(Finish::Length) => BRILLM_FINISH_LENGTH,
        Some(Finish::Stop | Finish::StopText) => BRILLM_FINISH_STOP,
        Some(Finish::Cancelled) => BRILLM_FINISH_CANCELLED,
        Some(Finish::Exhausted) => BRILLM_FINISH_EXHAUSTED,
        Some(Finish::Context) => BRILLM_FINISH_CONTEXT,
    }
}

impl brillm_session {
    /// The session for one call.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, Inner>, ApiError> {
        self.inner.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => ApiError::new(
                BRILLM_ERROR_BUSY,
                "another call is running on the session (use one session per thread)",
            ),
            TryLockError::Poisoned(_) => ApiError::new(
                BRILLM_ERROR_PANIC,
                "an earlier call on the session panicked (release it and make a new one)",
            ),
        })
    }
}

impl Inner {
    /// The running generation.
    pub(crate) fn generation(&mut self) -> Result<&mut Generation, ApiError> {
        self.generation.as_mut().ok_or_else(|| {
            ApiError::new(
                BRILLM_ERROR_INPUT,
                "no generation is running (call brillm_session_begin first)",
            )
        })
    }

    pub(crate) fn begin(
        &mut self,
        session: &brillm_session,
        ids: Vec<u32>,
    ) -> Result<(), ApiError> {
        session.cancel.store(false, Ordering::Relaxed);
        (self.index, self.finish) = (0, BRILLM_FINISH_NONE);
        self.generation = None;
        let begun = generation::begin(&session.model, &self.settings, ids, &session.cancel)?;
        self.generation = Some(begun);
        Ok(())
    }

    /// Continue a saved session; on an error the running generation stays.
    pub(crate) fn resume(
        &mut self,
        session: &brillm_session,
        state: SessionState,
    ) -> Result<(), ApiError> {
        session.cancel.store(false, Ordering::Relaxed);
        let request = self.settings.request(&session.model, Vec::new())?;
        let request = request.resume(state);
        let request = request.cancel(session.cancel.clone());
        let generation = session.model.engine().start(request)?;
        (self.index, self.finish) = (0, BRILLM_FINISH_NONE);
        self.generation = Some(generation);
        Ok(())
    }

    /// The next piece, its text kept in `self.piece`.
    pub(crate) fn next(&mut self) -> Result<Option<brillm_piece>, ApiError> {
        let generation = self.generation()?;
        let next = generation.next();
        let finish = generation.finish();
        self.finish = code(finish);
        let Some(piece) = next.transpose()? else {
            return Ok(None);
        };
        let index = self.index;
        self.index += u64::from(!piece.text_only);
        self.piece.clear();
        self.piece.extend_from_slice(piece.text.as_bytes());
        self.piece.push(0);
        Ok(Some(brillm_piece {
            index,
            text: self.piece.as_ptr().cast(),
            length: piece.text.len() as u64,
            id: piece.id,
            flags: if piece.text_only {
                BRILLM_PIECE_TEXT_ONLY
            } else {
                0
            },
            ..brillm_piece::defaults()
        }))
    }
}

/// The caller's session, with a reference for this call: it may be released meanwhile.
///
/// # Safety
/// `session` is NULL or a session with a reference left.
pub(crate) unsafe fn share(
    session: *const brillm_session,
) -> Result<Arc<brillm_session>, ApiError> {
    if session.is_null() {
        return Err(ApiError::null("session"));
    }
    // SAFETY: it came from `Arc::into_raw`, and a reference is left: a new one is counted before it is taken.
    Ok(unsafe {
        Arc::increment_strong_count(session);
        Arc::from_raw(session)
    })
}

/// Run a call on a session.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `error` is NULL or may be written to.
pub(crate) unsafe fn on(
    session: *const brillm_session,
    error: *mut *mut brillm_error,
    body: impl FnOnce(&brillm_session, &mut Inner) -> Result<brillm_status, ApiError>,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            let session = share(session)?;
            let mut inner = session.lock()?;
            body(&session, &mut inner)
        })
    }
}

/// A session over a model, of which it keeps a reference. `parameters` may be NULL. The session has one reference.
///
/// # Safety
/// `model` is NULL or a model with a reference left; `parameters` is NULL or has its struct_size and what it points at;
/// `out` and `error` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_new(
    model: *const brillm_model,
    parameters: *const brillm_parameters,
    out: *mut *mut brillm_session,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            if out.is_null() {
                return Err(ApiError::null("out"));
            }
            out.write(ptr::null_mut());
            let model = model::share(model)?;
            let inner = Inner {
                settings: Settings::read(&model, parameters)?,
                generation: None,
                index: 0,
                finish: BRILLM_FINISH_NONE,
                piece: vec![0],
                text: vec![0],
                ids: Vec::new(),
            };
            let session = Arc::new(brillm_session {
                model,
                cancel: Arc::default(),
                inner: Mutex::new(inner),
            });
            out.write(Arc::into_raw(session).cast_mut());
            Ok(BRILLM_OK)
        })
    }
}

/// Adds a reference and returns the session, for a thread that may want to cancel it. NULL stays NULL.
///
/// # Safety
/// `session` is NULL or a session with a reference left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_retain(
    session: *mut brillm_session,
) -> *mut brillm_session {
    if !session.is_null() {
        // SAFETY: it came from `Arc::into_raw`, and a reference is left.
        unsafe { Arc::increment_strong_count(session.cast_const()) };
    }
    session
}

/// Takes a reference away; the last one frees the session, a call that still runs on it ends first. NULL is nothing.
///
/// # Safety
/// `session` is NULL or a session, and the caller gives up one reference to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_release(session: *mut brillm_session) {
    if !session.is_null() {
        // SAFETY: it came from `Arc::into_raw`, and the caller's reference ends here.
        pass((), || unsafe {
            Arc::decrement_strong_count(session.cast_const())
        });
    }
}

/// Sets other parameters, which apply from the next begin on. NULL for the defaults.
///
/// # Safety
/// As brillm_session_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_configure(
    session: *mut brillm_session,
    parameters: *const brillm_parameters,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |session, inner| {
            inner.settings = Settings::read(&session.model, parameters)?;
            Ok(BRILLM_OK)
        })
    }
}

/// Ends the call that is running on the session, or the generation that is under way, before its next token. From any
/// thread, from a callback, from a signal handler; it sets one flag. What begins afterwards is not affected: call it
/// again if what you want to end had not begun yet. A transformer takes its prompt as a whole and looks at the flag
/// behind it.
///
/// # Safety
/// `session` is NULL or a session with a reference left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_cancel(session: *const brillm_session) {
    // SAFETY: NULL or alive, as the caller promises; the flag may be set while others use the session.
    if let Some(session) = unsafe { session.as_ref() } {
        session.cancel.store(true, Ordering::Relaxed);
    }
}

/// Begins at a prompt of tokens, at least one; brillm_session_next then gives one new token at a time.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `ids` has `count` tokens; `error` is NULL or may be written
/// to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_begin(
    session: *mut brillm_session,
    ids: *const u32,
    count: usize,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |session, inner| {
            let ids = ffi::slice(ids, count, "ids")?.to_vec();
            inner.begin(session, ids)?;
            Ok(BRILLM_OK)
        })
    }
}

/// Begins at a text.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `text` has `length` bytes, or a zero where that is
/// BRILLM_TERMINATED; `error` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_begin_text(
    session: *mut brillm_session,
    text: *const c_char,
    length: usize,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |session, inner| {
            let text = ffi::text(text, length, "text")?;
            inner.begin(session, session.model.engine().encode(text)?)?;
            Ok(BRILLM_OK)
        })
    }
}

/// Chooses the next token and appends it. BRILLM_END when the generation has ended; brillm_session_finish says why.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `piece` is NULL or has its struct_size; `error` is NULL or may
/// be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_next(
    session: *mut brillm_session,
    piece: *mut brillm_piece,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |_, inner| {
            // A struct of no size is found before a token is spent on it.
            ffi::write(piece, &brillm_piece::defaults())?;
            match inner.next()? {
                None => Ok(BRILLM_END),
                Some(next) => {
                    ffi::write(piece, &next)?;
                    Ok(BRILLM_OK)
                }
            }
        })
    }
}

/// Why the last generation ended: a BRILLM_FINISH value; BRILLM_FINISH_NONE while it runs.
///
/// # Safety
/// `session` is NULL or a session with a reference left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_finish(session: *const brillm_session) -> u64 {
    let mut finish = BRILLM_FINISH_NONE;
    // SAFETY: as the caller promises.
    unsafe {
        on(session, ptr::null_mut(), |_, inner| {
            finish = inner.finish;
            Ok(BRILLM_OK)
        });
    }
    finish
}
