//! A running generation, and what the functions of a session do with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brillm::graph::NodeId;
use brillm::kernel::select::top_k;
use brillm::kernel::softmax;
use brillm::run::Generation;

use crate::error::ApiError;
use crate::layout::*;
use crate::model::brillm_model;
use crate::settings::Settings;

/// The error of a cancelled call.
pub(crate) fn cancelled(what: &str) -> ApiError {
    ApiError::new(BRILLM_ERROR_CANCELLED, format!("{what} was cancelled"))
}

/// Start a generation at a prompt. A graph reads it token by token, checking the flag before each; a transformer
/// reads it at once.
pub(crate) fn begin(
    model: &brillm_model,
    settings: &Settings,
    mut ids: Vec<u32>,
    flag: &Arc<AtomicBool>,
) -> Result<Generation, ApiError> {
    model.check(&ids)?;
    // The begin of an image or a sound follows the whole prompt.
    let at_once = if model.engine().reads_at_once() || settings.modality.is_some() {
        ids.len()
    } else {
        ids.len().min(1)
    };
    let rest = ids.split_off(at_once);
    let request = settings.request(model, ids)?.cancel(flag.clone());
    let mut generation = model.engine().start(request)?;
    for id in rest {
        if flag.load(Ordering::Relaxed) {
            return Err(cancelled("the prompt"));
        }
        generation.session().force(id)?;
    }
    Ok(generation)
}

/// Append given tokens.
pub(crate) fn feed(
    generation: &mut Generation,
    ids: &[u32],
    flag: &AtomicBool,
) -> Result<(), ApiError> {
    for &id in ids {
        if flag.load(Ordering::Relaxed) {
            return Err(cancelled("feeding"));
        }
        let session = generation.session();
        if session.is_full() {
            return Err(ApiError::new(
                BRILLM_ERROR_UNSUPPORTED,
                "the model's context is full (begin a new session with a shorter text)",
            ));
        }
        session.force(id)?;
    }
    Ok(())
}

/// Every token as the next one, likeliest first.
pub(crate) fn candidates(generation: &mut Generation) -> Result<Vec<brillm_candidate>, ApiError> {
    let session = generation.session();
    let (energies, logits) = session.look()?;
    let (energies, logits) = (energies.to_vec(), logits.to_vec());
    let normaliser = softmax::softmax(&mut logits.clone());
    let (mechanism, source) = (session.mechanism(), session.token());
    let fan = mechanism.map(|mechanism| mechanism.graph().fan(NodeId(source)));
    let loops = mechanism.is_none_or(|mechanism| mechanism.profile().self_loops);
    let candidate = |id: u32| {
        let (mut edge, mut count) = (BRILLM_EDGE_NONE, 0);
        if let Some(fan) = &fan {
            edge = BRILLM_EDGE_SHARED;
            if let Some(index) = fan.position(id) {
                count = u64::from(fan.counts[index]);
                edge = match fan.edge_rows[index] {
                    0 => BRILLM_EDGE_SEEN,
                    _ => BRILLM_EDGE_OWN,
                };
            }
        }
        let logit = f64::from(logits[id as usize]);
        brillm_candidate {
            id,
            edge,
            count,
            energy: f64::from(energies[id as usize]),
            logit,
            probability: (logit - normaliser).exp(),
        }
    };
    let order = top_k(&logits, logits.len(), |id| loops || id != source);
    Ok(order.into_iter().map(candidate).collect())
}
