//! The hook that observes models: `probe/1`.

use crate::Result;
use crate::hook::{Activations, Call, State, SubjectShape, Tap};

/// Observes and reports; never changes the run. Any number per run.
pub trait Probe: Send + Sync {
    /// Whether to observe a tap. Called once per run.
    fn wants(&self, tap: Tap) -> bool;

    /// Observe activations.
    ///
    /// # Errors
    /// A failure of the hook.
    fn see(&self, call: &Call<'_>, activations: &Activations<'_>) -> Result<()>;

    /// Report the observations as one JSON value; `None` for no report.
    ///
    /// # Errors
    /// A failure of the hook.
    fn report(&self, _call: &Call<'_>) -> Result<Option<serde_json::Value>> {
        Ok(None)
    }

    /// Whether [`Self::ask`] is implemented.
    fn asks(&self) -> bool {
        false
    }

    /// Query the model with the hook's own texts. Called once, in a run without texts.
    ///
    /// # Errors
    /// A failure of the hook.
    fn ask(&self, _call: &Call<'_>, _subject: &mut dyn Subject) -> Result<()> {
        Ok(())
    }
}

/// The model of a run as seen by a probe. Queries do not change the run.
pub trait Subject {
    /// Return kind and size of the model.
    fn shape(&self) -> SubjectShape;

    /// Encode a text as tokens, without special tokens before it.
    ///
    /// # Errors
    /// A failure of the model's tokenizer.
    fn tokens(&mut self, text: &str) -> Result<Vec<u32>>;

    /// Compute −ln p over all `V` of each token of `answer` after `prompt`: of the tokens of the joined text that are
    /// not the prompt's. `[T]`
    ///
    /// # Errors
    /// An empty prompt; a text longer than the model's context.
    fn resist(&mut self, prompt: &str, answer: &str) -> Result<Vec<f64>>;

    /// Compute a state for a text, layer by layer, token by token.
    ///
    /// # Errors
    /// A state that this kind of model does not have; an empty text.
    fn states(&mut self, state: State, text: &str) -> Result<Vec<f32>>;

    /// Use the weights that training with `seed` would begin with, or the model's own for `None`.
    ///
    /// # Errors
    /// A model that cannot be initialised again.
    fn untrained(&mut self, seed: Option<u64>) -> Result<()>;

    /// Add `delta` to the bias of one node of the graph, which changes every signal the node receives; an empty `delta`
    /// removes the shift. `delta [D]`
    ///
    /// # Errors
    /// A transformer; a node outside the graph; a shift of the wrong width.
    fn shift(&mut self, node: u32, delta: &[f32]) -> Result<()>;
}
