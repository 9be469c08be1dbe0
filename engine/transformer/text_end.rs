//! The one position that a causal model can fill: the end of its text.

use crate::hook::{Call, Canvas, Direction, Order};
use crate::kernel::softmax;
use crate::{Error, ErrorKind, Result};

/// Refuse an answer of `order/1` other than the end. `logits [V]` are overwritten.
///
/// # Errors
/// [`ErrorKind::Unsupported`]; those of the hook.
pub(super) fn check(
    order: &dyn Order,
    call: &Call,
    text: &[u32],
    logits: &mut [f32],
) -> Result<()> {
    let best = softmax::highest(logits);
    let normaliser = softmax::softmax(logits);
    let canvas = Canvas {
        tokens: text,
        left: 0,
        right: text.len() as u64,
        left_resistance: f64::NAN,
        right_resistance: normaliser - f64::from(best),
    };
    match order.next(call, &canvas)? {
        None => Ok(()),
        Some(fill) if fill.position == canvas.right && fill.direction == Direction::Forward => {
            Ok(())
        }
        Some(fill) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "position {} cannot be filled: a causal model extends a text at its end only",
                fill.position
            ),
        )
        .at(format!("order/1, step {}", call.step))
        .advice("use a bert, which fills any position, or a graph")),
    }
}
