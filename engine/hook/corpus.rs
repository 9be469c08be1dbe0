//! `corpus/1`: reference texts become records.

use std::collections::HashSet;

use crate::Result;
use crate::hook::Call;

/// A text to make records of.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// Its name, unique within the run.
    pub id: &'a str,
    /// The text.
    pub text: &'a str,
    /// Keys of the records that an earlier run has written: what has one is not made again.
    pub written: &'a HashSet<String>,
}

/// What is to be said, and within which bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speech<'a> {
    /// What a chat model is told before the prompt; others find it before the prompt.
    pub system: &'a str,
    /// What is continued, or answered.
    pub prompt: &'a str,
    /// New tokens at most.
    pub tokens: usize,
    /// A text whose sub-graph is preferred: its tokens, and the hops between them. Empty for none.
    pub within: &'a str,
    /// What a hop of that sub-graph gains in nats; infinite, and no other is taken.
    pub gain: f64,
}

/// What was said.
#[derive(Clone, Debug, PartialEq)]
pub struct Spoken {
    /// The text.
    pub text: String,
    /// Whether it ended because it was as long as it might be.
    pub cut: bool,
    /// The share of its hops that are hops of the text it was to stay within; `None` without one, or where the tokens are
    /// not known here.
    pub grounded: Option<f64>,
}

/// Lets the run's model speak.
pub trait Generate {
    /// Text that continues `prompt`, at most `tokens` tokens of it.
    ///
    /// # Errors
    /// Whatever generating met.
    fn generate(&mut self, prompt: &str, tokens: usize) -> Result<String>;

    /// Says what a speech asks for.
    ///
    /// # Errors
    /// Whatever generating met; a bound that this model cannot keep.
    fn speak(&mut self, speech: &Speech<'_>) -> Result<Spoken> {
        let prompt = match speech.system {
            "" => speech.prompt.to_string(),
            system => format!("{system}\n\n{}", speech.prompt),
        };
        let text = self.generate(&prompt, speech.tokens)?;
        Ok(Spoken {
            text,
            cut: false,
            grounded: None,
        })
    }

    /// The share of the hops of `text` that are hops of `reference`; `None` where the model's tokens are not known
    /// here or there is no hop.
    ///
    /// # Errors
    /// As the model's tokenizer.
    fn grounded(&mut self, _reference: &str, _text: &str) -> Result<Option<f64>> {
        Ok(None)
    }
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
