//! `probe/1`: looks at named taps; never changes the run.

use crate::Result;
use crate::hook::{Call, Subject};

/// A place where there is something to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tap {
    /// The signal that arrived at a node, on the graph: one row a hop. `[1, D]`
    Signal,
    /// The energies of all next nodes, on the graph: one row a step. `[1, V]`
    Energy,
    /// The hidden stream after a layer, on a transformer; layer 0 is the embedding. `[R, D]`
    Hidden,
    /// The logits, on a transformer. `[R, V]`
    Logits,
}

impl Tap {
    /// Every tap.
    pub const ALL: [Self; 4] = [Self::Signal, Self::Energy, Self::Hidden, Self::Logits];

    /// Its name, the same everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Energy => "energy",
            Self::Hidden => "hidden",
            Self::Logits => "logits",
        }
    }
}

/// What there is to see at a tap.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// Where.
    pub tap: Tap,
    /// The layer; 0 on the graph.
    pub layer: usize,
    /// Layers of the model; 1 on the graph.
    pub layers: usize,
    /// The token of each row. `[R]`
    pub tokens: &'a [u32],
    /// The rows, one after the other. `[R, width]`
    pub values: &'a [f32],
    /// Numbers in a row.
    pub width: usize,
}

/// Looks and reports; any number in a run.
pub trait Probe: Send + Sync {
    /// Whether it wants to look at a tap; asked once a run.
    fn wants(&self, tap: Tap) -> bool;

    /// Looks.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn see(&self, call: &Call<'_>, activations: &Activations<'_>) -> Result<()>;

    /// What it saw, as one JSON value; `None` when it has nothing to say.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn report(&self, call: &Call<'_>) -> Result<Option<serde_json::Value>>;

    /// Whether it has texts of its own and asks the model itself.
    fn asks(&self) -> bool {
        false
    }

    /// Asks the model what it wants to know; once, where a run gives it no texts.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn ask(&self, _call: &Call<'_>, _subject: &mut dyn Subject) -> Result<()> {
        Ok(())
    }
}
