//! A whole generation in one call: streamed to a callback, or kept to be fetched.

use std::ffi::{c_char, c_void};
use std::ptr;

use crate::error::{ApiError, brillm_error};
use crate::ffi::{self, Sized64, sized64};
use crate::layout::*;
use crate::session::{Inner, brillm_session, on};

sized64! {
    brillm_outcome(32) {}
}

impl Inner {
    /// All pieces, until the end or until the callback wants no more. What a callback takes is kept nowhere: memory does
    /// not grow with an endless text.
    fn generate(&mut self, on_piece: brillm_on_piece, user: *mut c_void) -> Result<(), ApiError> {
        while let Some(piece) = self.next()? {
            let Some(on_piece) = on_piece else {
                self.text.pop();
                self.text.extend_from_slice(&self.piece);
                if piece.flags & BRILLM_PIECE_TEXT_ONLY == 0 {
                    self.ids.push(piece.id);
                }
                continue;
            };
            // SAFETY: the caller promises a function that takes these; the piece lives until it returns.
            if unsafe { on_piece(user, &piece) } != BRILLM_GO_ON {
                self.finish = BRILLM_FINISH_CALLBACK;
                break;
            }
        }
        Ok(())
    }
}

/// Continues a text: begins, and gives each piece to `on_piece` until the end. Without a callback (NULL) the text is
/// kept, and fetched afterwards with brillm_session_text.
///
/// `outcome` may be NULL. Cancellation is no error: the outcome's finish says so.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `text` has `length` bytes, or a zero where that is
/// BRILLM_TERMINATED; `on_piece` is NULL or takes `user`; `outcome` is NULL or has its struct_size; `error` is NULL or
/// may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_generate(
    session: *mut brillm_session,
    text: *const c_char,
    length: usize,
    on_piece: brillm_on_piece,
    user: *mut c_void,
    outcome: *mut brillm_outcome,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |session, inner| {
            let ids = session
                .model
                .engine()
                .encode(ffi::text(text, length, "text")?)?;
            inner.text.clear();
            inner.text.push(0);
            inner.ids.clear();
            let prompt = ids.len() as u64;
            // The caller's struct is looked at before the work, not only after it.
            ffi::write(outcome, &brillm_outcome::defaults())?;
            match inner.begin(session, ids) {
                Err(api_error) if api_error.status == BRILLM_ERROR_CANCELLED => {
                    inner.finish = BRILLM_FINISH_CANCELLED;
                }
                begun => {
                    begun?;
                    inner.generate(on_piece, user)?;
                }
            }
            let told = brillm_outcome {
                prompt_tokens: prompt,
                tokens: inner.index,
                finish: inner.finish,
                ..brillm_outcome::defaults()
            };
            ffi::write(outcome, &told)?;
            Ok(BRILLM_OK)
        })
    }
}

/// All new text of the last brillm_session_generate without a callback, in UTF-8 and ended by a zero. `length`, where not NULL, gets its
/// bytes. Borrowed until the next call on the session. NULL when the session is NULL or busy.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `length` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_text(
    session: *const brillm_session,
    length: *mut usize,
) -> *const c_char {
    let (mut place, mut bytes) = (ptr::null(), 0);
    // SAFETY: as the caller promises.
    unsafe {
        on(session, ptr::null_mut(), |_, inner| {
            (place, bytes) = (inner.text.as_ptr().cast(), inner.text.len() - 1);
            Ok(BRILLM_OK)
        });
        if !length.is_null() {
            length.write(bytes);
        }
    }
    place
}

/// The new tokens of the last brillm_session_generate without a callback; `count`, where not NULL, gets their number. Borrowed until the
/// next call on the session. NULL when the session is NULL or busy.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `count` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_tokens(
    session: *const brillm_session,
    count: *mut usize,
) -> *const u32 {
    let (mut place, mut number) = (ptr::null(), 0);
    // SAFETY: as the caller promises.
    unsafe {
        on(session, ptr::null_mut(), |_, inner| {
            (place, number) = (inner.ids.as_ptr(), inner.ids.len());
            Ok(BRILLM_OK)
        });
        if !count.is_null() {
            count.write(number);
        }
    }
    place
}
