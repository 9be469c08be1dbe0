//! `corpus/1`: reference texts become records.

use crate::Result;
use crate::hook::Call;

/// A text to make records of.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Its name, unique within the run.
    pub id: &'a str,
    /// The text.
    pub text: &'a str,
}

/// Lets the run's model speak.
pub trait Generate {
    /// Text that continues `prompt`, at most `tokens` tokens of it.
    ///
    /// # Errors
    /// Whatever generating met.
    fn generate(&mut self, prompt: &str, tokens: usize) -> Result<String>;
}

/// Writes a corpus; named by the command that runs it.
pub trait Corpus: Send + Sync {
    /// Makes records of a reference; each is one JSON object. `generate` is `None` without a model.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn write(
        &self,
        call: &Call<'_>,
        reference: &Reference<'_>,
        generate: Option<&mut dyn Generate>,
        record: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()>;
}
