//! What makes a path token by token, whichever way it scores them.

use crate::Result;

/// A flow that chooses its next token by itself.
pub trait Walk {
    /// Chooses the next token and goes there. `None` when none is left to choose.
    ///
    /// # Errors
    /// Whatever ends the flow.
    fn step(&mut self) -> Result<Option<u32>>;

    /// The token it is at.
    fn token(&self) -> u32;

    /// Whether it can go no further, because its context is full.
    fn is_full(&self) -> bool {
        false
    }
}

impl Walk for super::Session {
    fn step(&mut self) -> Result<Option<u32>> {
        Self::step(self)
    }

    fn token(&self) -> u32 {
        self.flow().node
    }
}
