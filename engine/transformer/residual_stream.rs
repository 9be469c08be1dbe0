//! The hidden stream of a whole text, and the same model before any training: what a probe compares.

use std::sync::{Arc, Mutex, PoisonError};

use crate::Result;
use crate::path::Sampling;
use crate::transformer::{
    Body, Probe, Row, SessionOptions, Tap, Transformer, TransformerSession, Weights, initial,
};

/// Keeps every layer that passes.
struct Recorder(Arc<Mutex<Vec<Vec<f32>>>>);

impl Probe for Recorder {
    fn wants(&self, tap: Tap) -> bool {
        matches!(tap, Tap::Embedding | Tap::Hidden(_))
    }

    fn see(&mut self, _: Tap, _: &[Row], values: &[f32]) -> Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(values.to_vec());
        Ok(())
    }
}

/// The hidden stream of `ids` as it enters the first layer and as each layer leaves it. `[L + 1][T, D]`
///
/// # Errors
/// As [`TransformerSession::begin_with`]; a recurrent net has no such stream.
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
    /// The model with the weights that training by `seed` would begin with.
    ///
    /// # Errors
    /// As [`Body::new`].
    pub fn untrained(&self, seed: u64) -> Result<Self> {
        let shape = self.configuration().clone();
        let weights = Weights::from_values(&initial::weights(&shape, seed))?;
        Ok(self.with_body(Body::new(shape, &weights)?))
    }
}
