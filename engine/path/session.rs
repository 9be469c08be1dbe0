//! What makes a path token by token, whichever way it scores them.

use crate::Result;

/// A flow that chooses its next token by itself.
pub trait Session {
    /// Chooses the next token and goes there. `None` when none is left to choose.
    ///
    /// # Errors
    /// Whatever ends the flow.
    fn step(&mut self) -> Result<Option<u32>>;

    /// Goes to a given token.
    ///
    /// # Errors
    /// Whatever ends the flow.
    fn force(&mut self, token: u32) -> Result<()>;

    /// −ln p of a token as the next one, over all V; with hooks of `sample/1`, p is what would be drawn from.
    ///
    /// # Errors
    /// Whatever a hook meets.
    fn resistance(&mut self, token: u32) -> Result<f64>;

    /// Adds energy at a token, for the next choice only.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Input`] for a token outside the vocabulary or an energy that is not finite.
    fn inject(&mut self, token: u32, energy: f32) -> Result<()>;

    /// The token it is at.
    fn token(&self) -> u32;

    /// Whether it can go no further, because its context is full.
    fn is_full(&self) -> bool {
        false
    }
}

impl Session for super::GraphSession {
    fn step(&mut self) -> Result<Option<u32>> {
        Self::step(self)
    }

    fn force(&mut self, token: u32) -> Result<()> {
        Self::force(self, token)
    }

    fn resistance(&mut self, token: u32) -> Result<f64> {
        Self::resistance(self, token)
    }

    fn inject(&mut self, token: u32, energy: f32) -> Result<()> {
        Self::inject(self, token, energy)
    }

    fn token(&self) -> u32 {
        self.flow().node
    }
}

/// Behind a pointer, so that paths of graphs and of transformers have one type.
impl Session for Box<dyn Session + Send> {
    fn step(&mut self) -> Result<Option<u32>> {
        (**self).step()
    }

    fn force(&mut self, token: u32) -> Result<()> {
        (**self).force(token)
    }

    fn resistance(&mut self, token: u32) -> Result<f64> {
        (**self).resistance(token)
    }

    fn inject(&mut self, token: u32, energy: f32) -> Result<()> {
        (**self).inject(token, energy)
    }

    fn token(&self) -> u32 {
        (**self).token()
    }

    fn is_full(&self) -> bool {
        (**self).is_full()
    }
}
