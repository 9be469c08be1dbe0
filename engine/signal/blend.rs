//! What a flow keeps of its path: one arrival enters the running sums.

use crate::kernel::vector;
use crate::signal::{BlendKind, Flow, Mechanism};

/// λ of every bank for the arrival of `flow.signal` at `flow.node`. `[K·D]`
///
/// `arrival` counts the arrivals that were blended before this one (position blend).
pub(crate) fn gates(mechanism: &Mechanism, flow: &Flow, arrival: usize) -> (Vec<f64>, f64) {
    let weights = &mechanism.weights;
    match mechanism.profile.blend {
        BlendKind::Position => {
            let logits = weights.values("blend.positions");
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weight = f64::from(logits[arrival.min(logits.len() - 1)] - top).exp();
            let total = flow.normaliser + weight;
            (vec![flow.normaliser / total; flow.banks.len()], total)
        }
        BlendKind::Decay | BlendKind::Gated => {
            let mut gate = weights.values("blend.decay").to_vec();
            if mechanism.profile.blend == BlendKind::Gated {
                let mut row = vec![0.0; gate.len()];
                weights
                    .table("blend.gate")
                    .read_row(flow.node as usize, &mut row);
                vector::add_scaled(1.0, &row, &mut gate);
                let rows = weights.values("blend.gate_signal").chunks_exact(gate.len());
                for (&c, row) in flow.signal.iter().zip(rows) {
                    vector::add_scaled(c, row, &mut gate);
                }
            }
            (
                gate.into_iter()
                    .map(|value| 1.0 / (1.0 + f64::from(-value).exp()))
                    .collect(),
                0.0,
            )
        }
    }
}

/// `m ← λ m + (1 − λ) c`, in f64.
pub(crate) fn advance(mechanism: &Mechanism, flow: &mut Flow, arrival: usize) {
    let (lambda, normaliser) = gates(mechanism, flow, arrival);
    flow.normaliser = normaliser;
    let width = flow.signal.len();
    for (index, (bank, &l)) in flow.banks.iter_mut().zip(&lambda).enumerate() {
        let c = f64::from(flow.signal[index % width]);
        *bank = l * (*bank - c) + c;
    }
}
