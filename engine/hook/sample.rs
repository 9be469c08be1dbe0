//! `sample/1`: how the next token is chosen. Serves both paths.

use crate::Result;
use crate::hook::{Answer, Call};

/// What a [`Sample`] wants to be given; what nobody wants is not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleNeeds {
    /// Wants to be asked once a prompt.
    pub prompt: bool,
    /// Wants to be asked each step.
    pub step: bool,
    /// Chooses the token itself.
    pub choose: bool,
    /// Wants `hidden`.
    pub hidden: bool,
    /// Wants `history`.
    pub history: bool,
}

impl SampleNeeds {
    /// What either wants.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            prompt: self.prompt | other.prompt,
            step: self.step | other.step,
            choose: self.choose | other.choose,
            hidden: self.hidden | other.hidden,
            history: self.history | other.history,
        }
    }
}

/// A prompt that has been read, before its first new token.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// Its tokens.
    pub tokens: &'a [u32],
    /// Mean over the prompt's positions of the hidden state: what leaves a node on the graph, the last
    /// layer's output on a transformer. `[D]`, empty unless wanted.
    pub pooled: &'a [f32],
    /// The hidden state at the last position. `[D]`, empty unless wanted.
    pub hidden: &'a [f32],
    /// Scores of the first new token, before any temperature. `[V]`
    pub logits: &'a [f32],
}

/// A token that is about to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// New tokens chosen so far.
    pub generated: u64,
    /// The current token.
    pub token: u32,
    /// Prompt and new tokens; empty unless wanted.
    pub history: &'a [u32],
    /// The hidden state. `[D]`, empty unless wanted.
    pub hidden: &'a [f32],
}

/// What a [`Sample`] sets; `None` keeps what the run says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Setting {
    /// Divides the scores before the softmax; 0 takes the highest.
    pub temperature: Option<f32>,
}

/// Reshapes scores and sets the temperature; the last hook of a chain that chooses, chooses.
///
/// The engine's order: penalties and bans, then this chain, temperature, truncation, draw.
pub trait Sample: Send + Sync {
    /// What it wants to be given.
    fn needs(&self) -> SampleNeeds;

    /// A prompt begins: a setting that holds until its text ends.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn prompt(&self, _call: &Call<'_>, _prompt: &Prompt<'_>) -> Result<Setting> {
        Ok(Setting::default())
    }

    /// Rewrites the scores of all V tokens in place, and may set this step's temperature. `logits [V]`
    ///
    /// The scores are logits, or energies above rest: a softmax of them is the model's distribution.
    ///
    /// # Errors
    /// Whatever went wrong.
    fn step(
        &self,
        _call: &Call<'_>,
        _step: &Step<'_>,
        _logits: &mut [f32],
        _setting: &mut Setting,
    ) -> Result<Answer> {
        Ok(Answer::Declined)
    }

    /// Chooses among the probabilities that temperature and truncation left. `probabilities [V]`
    ///
    /// # Errors
    /// Whatever went wrong.
    fn choose(
        &self,
        _call: &Call<'_>,
        _step: &Step<'_>,
        _probabilities: &[f32],
    ) -> Result<Option<u32>> {
        Ok(None)
    }
}
