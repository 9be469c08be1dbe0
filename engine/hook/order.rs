//! `order/1`: which position is filled next, and from which side. Serves both paths.

use crate::Result;
use crate::hook::Call;

/// A text that grows: positions are fixed or empty.
#[derive(Clone, Copy, Debug)]
pub struct Canvas<'a> {
    /// Tokens by position; [`Self::EMPTY`] where none is yet.
    pub tokens: &'a [u32],
    /// First filled position of the span that holds the prompt.
    pub left: u64,
    /// One past the last filled position of that span.
    pub right: u64,
    /// −ln p of the best token that could be placed before `left`; not a number where none can.
    pub left_resistance: f64,
    /// −ln p of the best token that could be placed at `right`; not a number where none can.
    pub right_resistance: f64,
}

impl Canvas<'_> {
    /// Stands where no token is yet.
    pub const EMPTY: u32 = u32::MAX;
}

/// From which side a token is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the tokens before it.
    Forward,
    /// From the tokens after it.
    Backward,
}

/// A position to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The position: on the graph `left − 1` or `right`.
    pub position: u64,
    /// From which side.
    pub direction: Direction,
}

/// Chooses where a text grows; at most one in a run.
pub trait Order: Send + Sync {
    /// The next place to fill; `None` fills `right`, forward.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn next(&self, call: &Call<'_>, canvas: &Canvas<'_>) -> Result<Option<Fill>>;
}
