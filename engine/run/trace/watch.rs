//! Watches what the last row of each layer attends to.

use std::sync::{Arc, Mutex, PoisonError};

use super::step::Attention;
use crate::Result;
use crate::transformer::{Probe, Row, Tap};

/// What was seen last, layer by layer.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Vec<Vec<f32>>>>);

impl Seen {
    /// The attention of the last pass.
    pub(super) fn attention(&self) -> Vec<Attention> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let layers = seen.iter().enumerate();
        layers
            .map(|(layer, weights)| Attention {
                layer,
                weights: weights
                    .iter()
                    .map(|&weight| (!weight.is_nan()).then_some(weight))
                    .collect(),
            })
            .collect()
    }
}

/// Looks on beside whoever else does.
pub(super) struct Watch {
    pub(super) seen: Seen,
    pub(super) other: Option<Box<dyn Probe>>,
}

impl Probe for Watch {
    fn wants(&self, tap: Tap) -> bool {
        matches!(tap, Tap::Attention(_)) || self.other.as_ref().is_some_and(|one| one.wants(tap))
    }

    fn see(&mut self, tap: Tap, rows: &[Row], values: &[f32]) -> Result<()> {
        if let Tap::Attention(layer) = tap {
            let mut seen = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.len() <= layer {
                seen.resize(layer + 1, Vec::new());
            }
            seen[layer] = values.to_vec();
        }
        match &mut self.other {
            Some(other) if other.wants(tap) => other.see(tap, rows, values),
            _ => Ok(()),
        }
    }
}
