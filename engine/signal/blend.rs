//! The blend of a mechanism: gates from its weights.

use crate::kernel::blend::Gates;
use crate::kernel::position;
use crate::signal::{BlendKind, Mechanism};

/// Return the gates for the next signal that enters the blend; `entered` signals did before it.
///
/// `normaliser` is that of the position softmax, which this advances.
pub(crate) fn gates<'m>(
    mechanism: &'m Mechanism,
    normaliser: &mut f64,
    entered: usize,
) -> Gates<'m, f32, f64> {
    let values = |name| mechanism.weights.values(name);
    match mechanism.profile.blend {
        BlendKind::Position => {
            // Subtracting the largest logit keeps exponentials finite; the factor cancels in λ.
            let logits = values("blend.positions");
            let top = position::largest(logits);
            Gates::Fixed(position::advance(logits, top, entered, normaliser))
        }
        BlendKind::Decay => Gates::Decay(values("blend.decay")),
        BlendKind::Gated => Gates::Gated {
            decay: values("blend.decay"),
            signal: values("blend.gate_signal"),
        },
    }
}

/// Read the gate of a node; empty unless the blend is gated. `[K·D]`
pub(crate) fn node_gate(mechanism: &Mechanism, node: u32) -> Vec<f32> {
    match mechanism.profile.blend {
        BlendKind::Gated => mechanism.weights.row("blend.gate", node as usize),
        BlendKind::Position | BlendKind::Decay => Vec::new(),
    }
}
