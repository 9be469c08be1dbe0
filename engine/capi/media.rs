//! Images and sounds: files to tokens, and tokens to files.

use std::ffi::c_char;
use std::path::Path;

use brillm::modality::Modality;

use crate::error::{ApiError, brillm_error};
use crate::ffi::{self, cross};
use crate::layout::*;
use crate::model::{brillm_model, of};
use crate::settings;

/// Read a modality that has files.
fn modality(number: u64) -> Result<Modality, ApiError> {
    settings::modality(number)?.ok_or_else(|| {
        ApiError::new(
            BRILLM_ERROR_INPUT,
            "invalid modality 0: expected BRILLM_MODALITY_IMAGE or BRILLM_MODALITY_AUDIO",
        )
    })
}

/// The tokens of a prompt that begins with an image (PNG or PGM) or a sound (WAV), for a model that was trained on them.
///
/// `count`, `ids` and `capacity` as in brillm_model_tokenize. BRILLM_ERROR_UNSUPPORTED for a model without the modality.
///
/// # Safety
/// `model` is NULL or a model with a reference left; `path` is NULL or ends with a zero; `ids` is NULL or has room for
/// `capacity`; `count` and `error` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_tokenize_file(
    model: *const brillm_model,
    modality: u64,
    path: *const c_char,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            let path = Path::new(ffi::text(path, BRILLM_TERMINATED, "path")?);
            let tokenizer = of(model)?.engine().tokenizer();
            let found = tokenizer.prompt_of_file(self::modality(modality)?, path)?;
            ffi::give(&found, ids, capacity, count, found.len())
        })
    }
}

/// Writes the image or the sound whose codes are among tokens to a file: .png, .pgm or .wav.
///
/// # Safety
/// `model` is NULL or a model with a reference left; `ids` is NULL or has `count` tokens; `path` is NULL or ends with a
/// zero; `error` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_write_file(
    model: *const brillm_model,
    modality: u64,
    ids: *const u32,
    count: usize,
    path: *const c_char,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            let model = of(model)?;
            let ids = ffi::slice(ids, count, "ids")?;
            model.check(ids)?;
            let path = Path::new(ffi::text(path, BRILLM_TERMINATED, "path")?);
            let tokenizer = model.engine().tokenizer();
            tokenizer.decode_to_file(self::modality(modality)?, ids, path)?;
            Ok(BRILLM_OK)
        })
    }
}
