//! The hook that makes training data: `corpus/1`.

use std::collections::HashSet;

use crate::Result;
use crate::hook::{Call, Speech, Spoken};

/// A text to make records of.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Name of the text, unique within the run.
    pub id: &'a str,
    /// The text.
    pub text: &'a str,
    /// Keys of the records that an earlier run has written; these are not made again.
    pub written: &'a HashSet<String>,
}

/// A model that generates text for a [`Corpus`].
pub trait Generate {
    /// Generate at most `tokens` tokens that continue `prompt`.
    ///
    /// # Errors
    /// A failure of the model.
    fn generate(&mut self, prompt: &str, tokens: usize) -> Result<String> {
        let speech = Speech {
            prompt,
            tokens,
            ..Speech::default()
        };
        self.speak(&speech).map(|spoken| spoken.text)
    }

    /// Generate text within bounds.
    ///
    /// # Errors
    /// A failure of the model; a bound that this model does not support.
    fn speak(&mut self, speech: &Speech<'_>) -> Result<Spoken>;

    /// Compute the fraction of the hops of `text` that are hops of `reference`; `None` if there is no hop or the
    /// model's tokens are not known.
    ///
    /// # Errors
    /// A failure of the model's tokenizer.
    fn grounded(&mut self, _reference: &str, _text: &str) -> Result<Option<f64>> {
        Ok(None)
    }
}

/// Makes records of reference texts. At most one per run.
pub trait Corpus: Send + Sync {
    /// Make records of a reference; each is one JSON object. `generate` is `None` without a model.
    ///
    /// # Errors
    /// A failure of the hook.
    fn write(
        &self,
        call: &Call<'_>,
        reference: &Reference<'_>,
        generate: Option<&mut dyn Generate>,
        record: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()>;
}
