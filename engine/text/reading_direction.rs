//! Reading direction of a model: a backward model predicts the preceding token.

use serde::{Deserialize, Serialize};

/// Token that marks text read from left to right, for models that read in both directions.
pub const LEFT_TO_RIGHT: &str = "<l2r>";
/// Token that marks text read from right to left.
pub const RIGHT_TO_LEFT: &str = "<r2l>";

/// Direction in which a model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadingDirection {
    /// From the first token to the last.
    #[default]
    Forward,
    /// From the last token to the first; the model extends text to the left.
    Backward,
    /// Both; the first token marks the direction.
    Both,
}

impl ReadingDirection {
    /// Whether it is [`Forward`](Self::Forward).
    pub fn is_forward(&self) -> bool {
        *self == Self::Forward
    }

    /// Whether text can be read from left to right.
    pub fn reads_forward(self) -> bool {
        self != Self::Backward
    }

    /// Whether text can be read from right to left.
    pub fn reads_backward(self) -> bool {
        self != Self::Forward
    }
}
