//! How likely a text is to a model: ln p of every token, and their sum as perplexity.

use std::ffi::c_char;
use std::sync::atomic::Ordering;

use brillm::hook::Hooks;
use brillm::run::score_tokens;

use crate::error::{ApiError, brillm_error};
use crate::ffi::{self, Sized64, sized64};
use crate::layout::*;
use crate::session::{brillm_session, on};

sized64! {
    brillm_score(48) {}
}

/// ln p of every token after those before it; the first, which nothing precedes, is 0.
fn score(session: &brillm_session, ids: &[u32]) -> Result<(Vec<f64>, brillm_score), ApiError> {
    if ids.len() < 2 {
        return Err(ApiError::new(
            BRILLM_ERROR_INPUT,
            format!(
                "{} tokens leave nothing to predict (pass at least two)",
                ids.len()
            ),
        ));
    }
    session.model.check(ids)?;
    session.cancel.store(false, Ordering::Relaxed);
    let model = &session.model;
    let hooks = Hooks::default();
    let scored = score_tokens(model.engine(), ids, 0, &hooks, Some(&session.cancel))?;
    let logarithms: Vec<f64> = scored
        .iter()
        .map(|score| score.ln_probability.unwrap_or(0.0))
        .collect();
    if let Some(index) = logarithms.iter().position(|ln| !ln.is_finite()) {
        return Err(ApiError::new(
            BRILLM_ERROR_NUMERIC,
            format!("token {index}: the probability is not a number above 0"),
        ));
    }
    let vocabulary = model.engine().tokenizer().vocabulary();
    let tokens = (ids.len() - 1) as u64;
    let bytes: usize = ids[1..].iter().map(|&id| vocabulary.bytes(id).len()).sum();
    // A text with codes of images or sounds has no bits per byte: its bytes do not count them.
    let codes = ids[1..].iter().any(|&id| vocabulary.code(id).is_some());
    let nats = -logarithms.iter().sum::<f64>();
    let sum = brillm_score {
        tokens,
        bytes: bytes as u64,
        nats,
        perplexity: (nats / tokens as f64).exp(),
        bits_per_byte: match bytes {
            0 => 0.0,
            _ if codes => 0.0,
            _ => nats / (bytes as f64 * std::f64::consts::LN_2),
        },
        ..brillm_score::defaults()
    };
    Ok((logarithms, sum))
}

/// Scores a sequence of tokens, as `brillm eval --stream` does. The session's own text
/// stays where it is.
///
/// `logarithms`, where not NULL, gets ln p of each of the `count` tokens after those before it; the first is 0.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `ids` has `count` tokens; `logarithms` is NULL or has room for
/// `count`; `sum` is NULL or has its struct_size; `error` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_score(
    session: *mut brillm_session,
    ids: *const u32,
    count: usize,
    logarithms: *mut f64,
    sum: *mut brillm_score,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |session, _| {
            let ids = ffi::slice(ids, count, "ids")?;
            ffi::write(sum, &brillm_score::defaults())?;
            let (found, total) = score(session, ids)?;
            ffi::write(sum, &total)?;
            if !logarithms.is_null() {
                let none = std::ptr::null_mut();
                ffi::give(&found, logarithms, count, none, count)?;
            }
            Ok(BRILLM_OK)
        })
    }
}

/// How likely a text is to the model, as brillm_model_tokenize splits it.
///
/// # Safety
/// `session` is NULL or a session with a reference left; `text` has `length` bytes, or a zero where that is
/// BRILLM_TERMINATED; `sum` is NULL or has its struct_size; `error` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_session_score_text(
    session: *mut brillm_session,
    text: *const c_char,
    length: usize,
    sum: *mut brillm_score,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        on(session, error, |session, _| {
            let text = ffi::text(text, length, "text")?;
            ffi::write(sum, &brillm_score::defaults())?;
            let ids = session.model.engine().encode(text)?;
            ffi::write(sum, &score(session, &ids)?.1)?;
            Ok(BRILLM_OK)
        })
    }
}
