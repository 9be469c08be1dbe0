//! Which way a text is read: a model that reads backward predicts what came before.

use serde::{Deserialize, Serialize};

/// The token before text that is read from left to right, for models that read both ways.
pub const LEFT_TO_RIGHT: &str = "<l2r>";
/// The token before text that is read from right to left.
pub const RIGHT_TO_LEFT: &str = "<r2l>";

/// The way a model reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadingDirection {
    /// From the first token to the last.
    #[default]
    Forward,
    /// From the last token to the first: such a model extends text to the left.
    Backward,
    /// Either way; the first token says which.
    Both,
}

impl ReadingDirection {
    /// Whether it is the usual way.
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
