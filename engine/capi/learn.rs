//! Continual learning: a graph learns a text and becomes a new model, forgets it again, and is saved.

use std::ffi::{c_char, c_void};
use std::path::Path;

use brillm::learn::{ContinualProgress, ContinualSettings, NewText, learn_text};
use brillm::model::Model;

use crate::error::{ApiError, brillm_error};
use crate::ffi::{self, Sized64, cross, sized64};
use crate::layout::*;
use crate::model::{begin, brillm_model, end, of};
use crate::settings::whole;

sized64! {
    brillm_learn_options(96) {}
    brillm_progress(32) {}
    brillm_lesson(56) {}
    brillm_forgotten(48) {}
}

/// The graph of a model.
fn graph(model: &brillm_model) -> Result<Model, ApiError> {
    Ok(model.engine().clone().graph()?)
}

/// The caller's number, or the default where it is 0.
fn or(name: &str, number: u64, default: u32) -> Result<u32, ApiError> {
    match u32::try_from(number) {
        Ok(0) => Ok(default),
        Ok(number) => Ok(number),
        Err(_) => Err(ApiError::new(
            BRILLM_ERROR_INPUT,
            format!(
                "invalid {name} {number}: expected a number of at most {}",
                u32::MAX
            ),
        )),
    }
}

/// Read how a text is learned.
fn settings(options: &brillm_learn_options) -> Result<ContinualSettings, ApiError> {
    let default = ContinualSettings::default();
    Ok(ContinualSettings {
        weight: or("weight", options.weight, default.weight)?,
        passes: match options.counts_only {
            0 => or("passes", options.passes, default.passes)?,
            _ => 0,
        },
        rate: match options.rate {
            0.0 => default.rate,
            rate => rate,
        },
        new_nodes: whole(options.new_nodes),
        seed: options.seed,
    })
}

/// Read the caller's texts, and the name of their record.
///
/// # Safety
/// `texts` is NULL or has `count` texts; the pointers of the options are as their numbers say.
unsafe fn new_text(
    model: &brillm_model,
    graph: &Model,
    texts: *const *const c_char,
    count: usize,
    options: &brillm_learn_options,
) -> Result<NewText, ApiError> {
    let owned = |texts: Vec<&str>| texts.into_iter().map(String::from).collect();
    // SAFETY: as the caller promises.
    unsafe {
        let ids = ffi::slice(options.ids, whole(options.id_count), "ids")?;
        model.check(ids)?;
        Ok(NewText {
            name: match options.name.is_null() {
                true => graph.record_name("text"),
                false => ffi::text(options.name, BRILLM_TERMINATED, "name")?.to_string(),
            },
            documents: owned(ffi::texts(texts, count, "texts")?),
            ids: ids.to_vec(),
            replay: owned(ffi::texts(
                options.replay,
                whole(options.replay_count),
                "replay",
            )?),
            ..NewText::default()
        })
    }
}

/// Teaches a graph texts, in seconds, and gives the new model with one reference; `model` stays as it is.
///
/// The counts of the texts are added to the edges, and the nodes and edges that they touch are trained; everything else
/// keeps its bytes. The new model has a record of the texts (brillm_model_records), which brillm_model_forget takes back.
/// `texts` are `count` texts, each ended by a zero byte, and may be NULL where the options have ids. `options` and `lesson`
/// may be NULL. `on_step`, where not NULL, is called after each step of training, on this thread; where it answers
/// BRILLM_STOP the call ends with BRILLM_ERROR_CANCELLED and no model. BRILLM_ERROR_UNSUPPORTED for a transformer.
///
/// # Safety
/// `model` is NULL or a model with a reference left; `texts` is NULL or has `count` texts that end with a zero; `options`
/// is NULL or has its struct_size and what it points at; `on_step` is NULL or takes `user`; `lesson` is NULL or has its
/// struct_size; `out` and `error` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_learn(
    model: *const brillm_model,
    texts: *const *const c_char,
    count: usize,
    options: *const brillm_learn_options,
    on_step: brillm_on_step,
    user: *mut c_void,
    out: *mut *mut brillm_model,
    lesson: *mut brillm_lesson,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            begin(out)?;
            let model = of(model)?;
            let options = ffi::read(options)?;
            // The caller's struct is looked at before the work, not only after it.
            ffi::write(lesson, &brillm_lesson::defaults())?;
            let graph = graph(model)?;
            let settings = settings(&options)?;
            let text = new_text(model, &graph, texts, count, &options)?;
            let mut observe = |progress: ContinualProgress| {
                let progress = brillm_progress {
                    step: progress.step,
                    steps: progress.steps,
                    nats: progress.nats,
                    ..brillm_progress::defaults()
                };
                // SAFETY: the caller promises a function that takes these; the struct lives until it returns.
                on_step.is_none_or(|on_step| on_step(user, &progress) == BRILLM_GO_ON)
            };
            let learned = learn_text(&graph, &text, &settings, &mut observe)?;
            let perplexity = |nats: f64| nats.exp();
            let [first_perplexity, last_perplexity] =
                learned.nats.map_or([0.0; 2], |nats| nats.map(perplexity));
            let told = brillm_lesson {
                tokens: learned.record.tokens as u64,
                new_edges: learned.record.new_edges as u64,
                new_nodes: learned.record.new_nodes as u64,
                trained_rows: learned.trained_rows as u64,
                first_perplexity,
                last_perplexity,
                ..brillm_lesson::defaults()
            };
            ffi::write(lesson, &told)?;
            end(out, (&learned.model).into())
        })
    }
}

/// Takes back texts that a graph has learned, and gives the new model with one reference; `model` stays as it is. Counts and
/// edges are then those of a model that never learned them, and a model that has forgotten all has the bytes that it had
/// before the first.
///
/// `record` is the name of a record of brillm_model_records or its number, from 1, as a text ended by a zero byte.
/// `forgotten` may be NULL.
///
/// # Safety
/// `model` is NULL or a model with a reference left; `record` is NULL or ends with a zero; `forgotten` is NULL or has its
/// struct_size; `out` and `error` are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_forget(
    model: *const brillm_model,
    record: *const c_char,
    out: *mut *mut brillm_model,
    forgotten: *mut brillm_forgotten,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            begin(out)?;
            let graph = graph(of(model)?)?;
            let record = ffi::text(record, BRILLM_TERMINATED, "record")?;
            ffi::write(forgotten, &brillm_forgotten::defaults())?;
            let (left, found) = graph.forget(graph.record_index(record)?)?;
            let told = brillm_forgotten {
                restored_rows: found.restored as u64,
                subtracted_rows: found.subtracted as u64,
                removed_edges: found.removed_edges as u64,
                removed_nodes: found.removed_nodes as u64,
                kept_nodes: found.kept_nodes as u64,
                ..brillm_forgotten::defaults()
            };
            ffi::write(forgotten, &told)?;
            end(out, (&left).into())
        })
    }
}

/// Writes a graph to a .bril file at `path` (UTF-8, ended by a zero). Equal models give equal bytes. A file that is there is
/// replaced as a whole, or stays as it is on an error. BRILLM_ERROR_UNSUPPORTED for a transformer.
///
/// # Safety
/// `model` is NULL or a model with a reference left; `path` is NULL or ends with a zero; `error` is NULL or may be written
/// to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn brillm_model_save(
    model: *const brillm_model,
    path: *const c_char,
    error: *mut *mut brillm_error,
) -> brillm_status {
    // SAFETY: as the caller promises.
    unsafe {
        cross(error, || {
            let model = of(model)?;
            let path = Path::new(ffi::text(path, BRILLM_TERMINATED, "path")?);
            graph(model)?.save(path)?;
            Ok(BRILLM_OK)
        })
    }
}
