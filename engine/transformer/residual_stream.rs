//! The residual stream of a text, and the same model before training: the activations that probes are trained on.

use std::sync::{Arc, Mutex, PoisonError};

use crate::Result;
use crate::hook::{Activations, Call, Probe, Tap};
use crate::path::Sampling;
use crate::transformer::{Body, SessionOptions, Transformer, TransformerSession, Weights, initial};

/// Records the residual stream after every layer.
struct Recorder(Arc<Mutex<Vec<Vec<f32>>>>);

impl Probe for Recorder {
    fn wants(&self, tap: Tap) -> bool {
        tap == Tap::Hidden
    }

    fn see(&self, _: &Call<'_>, activations: &Activations<'_>) -> Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(activations.values.to_vec());
        Ok(())
    }
}

/// Return the residual stream of `ids` before the first layer and after each layer. `[L + 1][T, D]`
///
/// # Errors
/// As [`TransformerSession::begin_with`]; a recurrent network has no residual stream.
pub fn residual_stream(model: &Transformer, ids: &[u32]) -> Result<Vec<Vec<f32>>> {
    let layers = Arc::new(Mutex::new(Vec::new()));
    let options = SessionOptions {
        probe: Some(Box::new(Recorder(layers.clone()))),
        ..SessionOptions::default()
    };
    TransformerSession::begin_with(model, ids, Sampling::greedy(), options)?;
    let mut layers = layers.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(std::mem::take(&mut *layers))
}

impl Transformer {
    /// Replace the weights by random ones, as at the start of training with `seed`.
    ///
    /// # Errors
    /// As [`Body::new`].
    pub fn untrained(&self, seed: u64) -> Result<Self> {
        let shape = self.configuration().clone();
        let weights = Weights::from_values(&initial::weights(&shape, seed))?;
        Ok(self.with_body(Body::new(shape, &weights)?))
    }
}
