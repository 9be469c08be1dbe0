//! Looking at a step, and steering it: candidates, resistance, given tokens, injected energy, saved states.

use std::ffi::c_void;

use brillm::path::SessionState;

use crate::error::{ApiError, brillm_error};
use crate::ffi;
use crate::generation;
use crate::layout::*;
use crate::session::{brillm_session, on};

/// The candidates of the next step, the likeliest first, with energies and probabilities: what a trace of a path is
/// made of. Nothing is chosen; looking twice shows the same.
///
/// `total` gets the number of candidates there are; the likeliest `capacity` of them are written.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `candidates` is NULL or has room for `capacity`; `total` and
/// `error` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_candidates(
    session: *mut brillm_session,
    candidates: *mut brillm_candidate,
    capacity: usize,
    total: *mut usize,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |_, inner| {
            let found = generation::candidates(inner.generation()?)?;
            if !total.is_null() {
                total.write(found.len());
            }
            let shown = &found[..capacity.min(found.len())];
            if capacity == 0 {
                return Ok(BRILLM_OK);
            }
            ffi::give(
                shown,
                candidates,
                capacity,
                std::ptr::null_mut(),
                shown.len(),
            )
        })
    }
}

/// Resistance -ln p of a token as the next one, over all tokens.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `nats` and `error` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_resistance(
    session: *mut brillm_session,
    id: u32,
    nats: *mut f64,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |session, inner| {
            session.model.check(&[id])?;
            if nats.is_null() {
                return Err(ApiError::null("nats"));
            }
            nats.write(inner.generation()?.session().resistance(id)?);
            Ok(BRILLM_OK)
        })
    }
}

/// Appends given tokens, as a prompt does; they are not part of the output and do not count as new ones.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `ids` has `count` tokens; `error` is NULL or may be written
/// to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_feed(
    session: *mut brillm_session,
    ids: *const u32,
    count: usize,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |session, inner| {
            let ids = ffi::slice(ids, count, "ids")?;
            session.model.check(ids)?;
            generation::feed(inner.generation()?, ids, &session.cancel)?;
            Ok(BRILLM_OK)
        })
    }
}

/// Adds energy at a token, for the next choice only.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `error` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_inject(
    session: *mut brillm_session,
    id: u32,
    energy: f64,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |session, inner| {
            session.model.check(&[id])?;
            inner.generation()?.session().inject(id, energy as f32)?;
            Ok(BRILLM_OK)
        })
    }
}

/// Saves where a graph's session is, as bytes that brillm_session_restore goes on from, in any process that has the
/// model. They do not grow with the text.
///
/// `length` gets the number of bytes. With `buffer` NULL and `capacity` 0 only that is asked for; a smaller capacity is
/// BRILLM_ERROR_BUFFER, and nothing is written.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `buffer` is NULL or has room for `capacity` bytes; `length` and
/// `error` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_save(
    session: *mut brillm_session,
    buffer: *mut c_void,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |_, inner| {
            let Some(state) = inner.generation()?.session().snapshot() else {
                return Err(ApiError::new(
                    BRILLM_ERROR_UNSUPPORTED,
                    "a transformer's session cannot be saved (keep its tokens and begin a new session with them)",
                ));
            };
            let bytes = state.to_bytes()?;
            ffi::give(&bytes, buffer.cast(), capacity, length, bytes.len())
        })
    }
}

/// Continues a saved session as if it had not stopped, with the session's own parameters.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `bytes` has `size` bytes; `error` is NULL or may be written
/// to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_restore(
    session: *mut brillm_session,
    bytes: *const c_void,
    size: usize,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |session, inner| {
            let bytes = ffi::slice(bytes.cast::<u8>(), size, "bytes")?;
            inner.resume(session, SessionState::from_bytes(bytes)?)?;
            Ok(BRILLM_OK)
        })
    }
}
