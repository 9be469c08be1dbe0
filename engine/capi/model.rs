//! A model: opened once, shared by any number of threads and sessions, freed with its last reference.

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use brillm::kernel::bytes::Bytes;
use brillm::model::{Model, Verify};
use brillm::run::{Engine, EngineKind};

use crate::error::{ApiError, brillm_error, c_text};
use crate::ffi::{self, Sized64, cross, pass, sized64};
use crate::layout::*;

/// An opened model, of either kind. It never changes, so all threads may use it at once.
pub struct brillm_model {
    engine: Engine,
    name: CString,
    metadata: CString,
    records: CString,
    info: brillm_model_info,
}

sized64! {
    brillm_open_options(16) {}
    brillm_model_info(64) {}
}

impl brillm_model {
    fn new(engine: Engine) -> Arc<Self> {
        let summary = engine.summary();
        let number = |size: Option<usize>| size.unwrap_or(0) as u64;
        let info = brillm_model_info {
            kind: match summary.kind {
                EngineKind::Graph => BRILLM_KIND_GRAPH,
                EngineKind::Transformer => BRILLM_KIND_TRANSFORMER,
            },
            vocabulary: engine.vocabulary() as u64,
            width: summary.width as u64,
            layers: number(summary.layers),
            edges: number(summary.edges),
            own_edges: number(summary.own_edges),
            context: number(engine.context_limit()),
            order: number(engine.order()),
            ..brillm_model_info::defaults()
        };
        Arc::new(Self {
            name: c_text(engine.name()),
            metadata: c_text(&engine.metadata().to_string()),
            records: c_text(&records(&engine)),
            info,
            engine,
        })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether all of these are tokens of the model.
    pub(crate) fn check(&self, ids: &[u32]) -> Result<(), ApiError> {
        match ids
            .iter()
            .find(|&&id| u64::from(id) >= self.info.vocabulary)
        {
            None => Ok(()),
            Some(id) => Err(ApiError::new(
                BRILLM_ERROR_INPUT,
                format!(
                    "token {id} is outside the vocabulary of {}",
                    self.info.vocabulary
                ),
            )),
        }
    }
}

/// The records of the texts that a model has learned, as JSON.
fn records(engine: &Engine) -> String {
    let records = engine.as_graph().map(|model| model.records());
    let records: Vec<_> = records.into_iter().flatten().collect();
    serde_json::json!(records).to_string()
}

/// The caller's model.
///
/// # Safety
/// `model` is NULL or a model with a reference left.
pub(crate) unsafe fn of<'a>(model: *const brillm_model) -> Result<&'a brillm_model, ApiError> {
    // SAFETY: NULL or alive, as the caller promises.
    unsafe { model.as_ref() }.ok_or_else(|| ApiError::null("model"))
}

/// Another reference to the caller's model.
///
/// # Safety
/// `model` is NULL or a model with a reference left.
pub(crate) unsafe fn share(model: *const brillm_model) -> Result<Arc<brillm_model>, ApiError> {
    if model.is_null() {
        return Err(ApiError::null("model"));
    }
    // SAFETY: it came from `Arc::into_raw`, and a reference is left: a new one is counted before it is taken.
    Ok(unsafe {
        Arc::increment_strong_count(model);
        Arc::from_raw(model)
    })
}

/// Opens what lies at `path` (UTF-8, ended by a zero): a .bril file is a graph, a folder with a config.json a
/// transformer. All sessions share its bytes: a .bril file up to 256 MiB is read into memory, a larger one mapped.
/// `options` may be NULL. The model has one reference.
///
/// # Safety
/// `path` is NULL or ends with a zero; `options` is NULL or has its struct_size; `out` and `error` are NULL or may be
/// written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_open(
    path: *const c_char,
    options: *const brillm_open_options,
    out: *mut *mut brillm_model,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            begin(out)?;
            let path = Path::new(ffi::text(path, BRILLM_TERMINATED, "path")?);
            let options = ffi::read(options)?;
            let verify = match options.verify {
                BRILLM_VERIFY_LAZY => Verify::Lazy,
                BRILLM_VERIFY_TOUCHED => Verify::Touched,
                BRILLM_VERIFY_WHOLE => Verify::Whole,
                other => {
                    return Err(ApiError::new(
                        BRILLM_ERROR_INPUT,
                        format!("invalid verify {other}: expected a BRILLM_VERIFY value"),
                    ));
                }
            };
            let order = (options.order > 0).then_some(options.order as usize);
            end(out, Engine::open(path, verify)?.with_order(order)?)
        })
    }
}

/// Opens a .bril file that lies in memory, for example as a part of the program; the bytes are copied.
///
/// # Safety
/// `bytes` is NULL or points at `size` bytes; `out` and `error` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_open_bytes(
    bytes: *const c_void,
    size: usize,
    out: *mut *mut brillm_model,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            begin(out)?;
            let bytes = ffi::slice(bytes.cast::<u8>(), size, "bytes")?;
            let model = Model::from_bytes(Bytes::copy_of(bytes))?;
            end(out, Engine::from(&model))
        })
    }
}

/// Nothing is at `out` until something is.
///
/// # Safety
/// `out` is NULL or may be written to.
pub(crate) unsafe fn begin(out: *mut *mut brillm_model) -> Result<(), ApiError> {
    if out.is_null() {
        return Err(ApiError::null("out"));
    }
    // SAFETY: not NULL.
    unsafe { out.write(ptr::null_mut()) };
    Ok(())
}

/// Gives a model out, with one reference.
///
/// # Safety
/// `out` may be written to.
pub(crate) unsafe fn end(
    out: *mut *mut brillm_model,
    engine: Engine,
) -> Result<brillm_status, ApiError> {
    let model = Arc::into_raw(brillm_model::new(engine));
    // SAFETY: as the caller promises.
    unsafe { out.write(model.cast_mut()) };
    Ok(BRILLM_OK)
}

/// Adds a reference and returns the model; each needs one brillm_model_release. NULL stays NULL.
///
/// # Safety
/// `model` is NULL or a model with a reference left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_retain(model: *mut brillm_model) -> *mut brillm_model {
    if !model.is_null() {
        // SAFETY: it came from `Arc::into_raw`, and a reference is left.
        unsafe { Arc::increment_strong_count(model.cast_const()) };
    }
    model
}

/// Releases a reference; the last one frees the model. Sessions hold references of their own. NULL is ignored.
///
/// # Safety
/// `model` is NULL or a model, and the caller gives up one reference to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_release(model: *mut brillm_model) {
    if !model.is_null() {
        // SAFETY: it came from `Arc::into_raw`, and the caller's reference ends here.
        pass((), || unsafe {
            Arc::decrement_strong_count(model.cast_const())
        });
    }
}

/// Writes the model's kind and sizes.
///
/// # Safety
/// `model` is NULL or a model with a reference left; `info` is NULL or has its struct_size; `error` is NULL or may be
/// written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_describe(
    model: *const brillm_model,
    info: *mut brillm_model_info,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            let model = of(model)?;
            if info.is_null() {
                return Err(ApiError::null("info"));
            }
            ffi::write(info, &model.info)?;
            Ok(BRILLM_OK)
        })
    }
}

/// The model's name, in UTF-8; the empty text for NULL. Lives as long as the model.
///
/// # Safety
/// `model` is NULL or a model with a reference left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_name(model: *const brillm_model) -> *const c_char {
    // SAFETY: NULL or alive, as the caller promises.
    unsafe { model.as_ref() }.map_or(c"".as_ptr(), |model| model.name.as_ptr())
}

/// What the model says about itself, as a JSON object: license, profile, how it was trained. `"{}"` for NULL. Lives as
/// long as the model.
///
/// # Safety
/// `model` is NULL or a model with a reference left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_metadata(model: *const brillm_model) -> *const c_char {
    // SAFETY: NULL or alive, as the caller promises.
    unsafe { model.as_ref() }.map_or(c"{}".as_ptr(), |model| model.metadata.as_ptr())
}

/// The texts that a graph has learned since its training, in that order, as a JSON array of objects with `name`, `sources`,
/// `tokens`, `weight`, `new_nodes`, `new_edges` and `training`. `"[]"` for NULL. Lives as long as the model.
///
/// # Safety
/// `model` is NULL or a model with a reference left.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_records(model: *const brillm_model) -> *const c_char {
    // SAFETY: NULL or alive, as the caller promises.
    unsafe { model.as_ref() }.map_or(c"[]".as_ptr(), |model| model.records.as_ptr())
}

/// Text to tokens, with the marks that a transformer expects before a text.
///
/// `count` gets the number of tokens. With `ids` NULL and `capacity` 0 only that is asked for; a smaller capacity is
/// BRILLM_ERROR_BUFFER, and nothing is written to `ids`.
///
/// # Safety
/// `model` is NULL or a model with a reference left; `text` has `length` bytes, or a zero where that is
/// BRILLM_TERMINATED; `ids` is NULL or has room for `capacity`; `count` and `error` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_tokenize(
    model: *const brillm_model,
    text: *const c_char,
    length: usize,
    ids: *mut u32,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            let found = of(model)?.engine.encode(ffi::text(text, length, "text")?)?;
            ffi::give(&found, ids, capacity, count, found.len())
        })
    }
}

/// Tokens to text. A token may be a part of a character, so the bytes need not be whole UTF-8.
///
/// `length` gets the number of bytes; the buffer needs one more, for a zero behind them. With `buffer` NULL and
/// `capacity` 0 only that is asked for; a smaller capacity is BRILLM_ERROR_BUFFER, and nothing is written.
///
/// # Safety
/// `model` is NULL or a model with a reference left; `ids` is NULL or has `count` tokens; `buffer` is NULL or has room
/// for `capacity`; `length` and `error` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_detokenize(
    model: *const brillm_model,
    ids: *const u32,
    count: usize,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            let model = of(model)?;
            let ids = ffi::slice(ids, count, "ids")?;
            model.check(ids)?;
            let bytes = model.engine.tokenizer().decode_bytes(ids);
            ffi::give_text(&bytes, buffer, capacity, length)
        })
    }
}

/// Write a token in readable form: spaces and control characters visible, bytes that are not text as `<0xE4>`.
///
/// `length`, `buffer` and `capacity` as in brillm_model_detokenize.
///
/// # Safety
/// As brillm_model_detokenize.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_display(
    model: *const brillm_model,
    id: u32,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            let model = of(model)?;
            model.check(&[id])?;
            let shown = model.engine.tokenizer().vocabulary().display(id);
            ffi::give_text(shown.as_bytes(), buffer, capacity, length)
        })
    }
}
