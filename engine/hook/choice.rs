//! Hooks that choose the next token or position, on both engines: `sample/1`, `order/1`.

use crate::Result;
use crate::hook::{Answer, Call, Canvas, Fill, Prompt, Setting, Step};

/// The inputs that a [`Sample`] needs. Others are not computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleNeeds {
    /// Whether [`Sample::prompt`] is called.
    pub prompt: bool,
    /// Whether [`Sample::step`] is called.
    pub step: bool,
    /// Whether [`Sample::choose`] is called.
    pub choose: bool,
    /// Whether hidden states are needed.
    pub hidden: bool,
    /// Whether the tokens so far are needed.
    pub history: bool,
}

impl SampleNeeds {
    /// Combine the needs of two hooks.
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

/// Rewrites logits, sets the temperature, or chooses the token. If several hooks of a chain choose, the last wins.
///
/// Order of application: penalties and banned tokens, this chain, temperature, truncation, draw.
pub trait Sample: Send + Sync {
    /// Return the inputs needed.
    fn needs(&self) -> SampleNeeds;

    /// Return the setting for the text that follows a prompt.
    ///
    /// # Errors
    /// A failure of the hook.
    fn prompt(&self, _call: &Call<'_>, _prompt: &Prompt<'_>) -> Result<Setting> {
        Ok(Setting::default())
    }

    /// Rewrite the logits in place, and optionally set this step's temperature. `logits [V]`
    ///
    /// On the graph, the logits are energies above rest; in both engines their softmax is the model's distribution.
    ///
    /// # Errors
    /// A failure of the hook.
    fn step(
        &self,
        _call: &Call<'_>,
        _step: &Step<'_>,
        _logits: &mut [f32],
        _setting: &mut Setting,
    ) -> Result<Answer> {
        Ok(Answer::Declined)
    }

    /// Choose a token given the probabilities after temperature and truncation; `None` for no opinion.
    /// `probabilities [V]`
    ///
    /// # Errors
    /// A failure of the hook.
    fn choose(
        &self,
        _call: &Call<'_>,
        _step: &Step<'_>,
        _probabilities: &[f32],
    ) -> Result<Option<u32>> {
        Ok(None)
    }
}

/// Chooses where a text grows. At most one per run.
pub trait Order: Send + Sync {
    /// Choose the next position to fill; `None` fills `right`, forward.
    ///
    /// # Errors
    /// A failure of the hook.
    fn next(&self, call: &Call<'_>, canvas: &Canvas<'_>) -> Result<Option<Fill>>;
}
