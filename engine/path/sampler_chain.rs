//! The hooks of `sample/1`: they rewrite logits, set the temperature, and choose tokens.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::hook::{Answer, Call, Hooks, Prompt, Sample, SampleNeeds, Setting, Step};
use crate::{Error, ErrorKind, Result};

/// The current token when the next one is about to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct StepContext<'a> {
    /// Tokens taken before the current one.
    pub step: u64,
    /// The current token.
    pub token: u32,
    /// The hidden state there. `[D]`
    pub hidden: &'a [f32],
}

/// The hooks of `sample/1` of a sequence, with what they need of its tokens.
#[derive(Clone)]
pub struct SamplerChain {
    hooks: Vec<Arc<dyn Sample>>,
    needs: SampleNeeds,
    sequence: u64,
    seed: u64,
    cancel: Option<Arc<AtomicBool>>,
    /// Σ of the hidden states of the prompt. `[D]`
    pooled: Vec<f64>,
    /// Hidden states in that sum.
    rows: u64,
    history: Vec<u32>,
    prompt: u64,
    prompt_tokens: Vec<u32>,
    setting: Option<Setting>,
}

impl std::fmt::Debug for SamplerChain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SamplerChain({} hooks)", self.hooks.len())
    }
}

impl SamplerChain {
    /// The chain of sequence `sequence`; `None` without hooks of `sample/1`.
    pub fn new(
        hooks: &Hooks,
        sequence: u64,
        seed: u64,
        cancel: Option<Arc<AtomicBool>>,
    ) -> Option<Self> {
        (!hooks.sample.is_empty()).then(|| Self {
            needs: hooks.sample_needs(),
            hooks: hooks.sample.clone(),
            sequence,
            seed,
            cancel,
            pooled: Vec::new(),
            rows: 0,
            history: Vec::new(),
            prompt: 0,
            prompt_tokens: Vec::new(),
            setting: None,
        })
    }

    fn call(&self, step: u64) -> Call<'_> {
        let call = Call::new(self.seed, self.sequence, step);
        match &self.cancel {
            Some(flag) => call.cancel(flag),
            None => call,
        }
    }

    /// Whether hooks still need the hidden states of the prompt.
    pub fn pools(&self) -> bool {
        self.setting.is_none() && self.needs.prompt && self.needs.hidden
    }

    /// Record a token of the text with its hidden state, empty where it is unknown. Until the first choice, tokens
    /// belong to the prompt.
    pub(super) fn observe(&mut self, token: u32, hidden: &[f32]) {
        if self.setting.is_none() {
            self.prompt += 1;
            if self.needs.prompt {
                self.prompt_tokens.push(token);
            }
            if self.pools() {
                // A running sum, so that a prompt of any length costs D numbers; in f64, so that long ones lose no
                // precision.
                self.rows += u64::from(!hidden.is_empty());
                self.pooled.resize(hidden.len().max(self.pooled.len()), 0.0);
                for (sum, &value) in self.pooled.iter_mut().zip(hidden) {
                    *sum += f64::from(value);
                }
            }
        }
        if self.needs.history {
            self.history.push(token);
        }
    }

    fn step<'a>(&'a self, context: &StepContext<'a>) -> Step<'a> {
        Step {
            // The text so far has step + 1 tokens, of which `prompt` were given.
            generated: (context.step + 1).saturating_sub(self.prompt),
            token: context.token,
            history: &self.history,
            hidden: if self.needs.hidden {
                context.hidden
            } else {
                &[]
            },
        }
    }

    /// Let the chain rewrite the logits and set the temperature. Hooks see a prompt once, before its first new token.
    ///
    /// # Errors
    /// Those of the hooks; [`ErrorKind::Plugin`] when one sets a logit to NaN or +∞.
    pub fn sample(&mut self, context: &StepContext<'_>, logits: &mut [f32]) -> Result<Setting> {
        let mut setting = match self.setting {
            Some(setting) => setting,
            None => {
                let setting = self.ask_prompt(context, logits)?;
                self.setting = Some(setting);
                setting
            }
        };
        if self.needs.step {
            let (call, step) = (self.call(context.step), self.step(context));
            let mut given = false;
            for hook in self.hooks.iter().filter(|hook| hook.needs().step) {
                given |= hook.step(&call, &step, logits, &mut setting)? == Answer::Given;
            }
            let invalid = |logit: &&f32| logit.is_nan() || **logit == f32::INFINITY;
            if given && let Some(logit) = logits.iter().find(invalid) {
                return Err(Error::new(
                    ErrorKind::Plugin,
                    format!("a plugin set a logit to {logit}"),
                )
                .at(format!("step {}", context.step))
                .at("sample/1"));
            }
        }
        Ok(setting)
    }

    fn ask_prompt(&self, context: &StepContext<'_>, logits: &[f32]) -> Result<Setting> {
        let mean: Vec<f32> = self
            .pooled
            .iter()
            .map(|sum| (sum / self.rows.max(1) as f64) as f32)
            .collect();
        let prompt = Prompt {
            tokens: &self.prompt_tokens,
            pooled: &mean,
            hidden: if self.needs.hidden {
                context.hidden
            } else {
                &[]
            },
            logits,
        };
        let call = self.call(context.step);
        let mut setting = Setting::default();
        for hook in self.hooks.iter().filter(|hook| hook.needs().prompt) {
            let answer = hook.prompt(&call, &prompt)?;
            // The last hook that sets a temperature wins.
            setting.temperature = answer.temperature.or(setting.temperature);
        }
        Ok(setting)
    }

    /// Whether a hook chooses tokens itself.
    pub(super) fn chooses(&self) -> bool {
        self.needs.choose
    }

    /// Ask the hooks for a token, last to first; the first that returns one wins.
    pub(super) fn choose(
        &self,
        context: &StepContext<'_>,
        probabilities: &[f32],
    ) -> Result<Option<u32>> {
        let (call, step) = (self.call(context.step), self.step(context));
        for hook in self.hooks.iter().rev().filter(|hook| hook.needs().choose) {
            if let Some(token) = hook.choose(&call, &step, probabilities)? {
                if !probabilities.get(token as usize).is_some_and(|&p| p > 0.0) {
                    return Err(Error::new(
                        ErrorKind::Plugin,
                        format!("token {token} was chosen, whose probability is 0"),
                    )
                    .at(format!("step {}", context.step))
                    .at("sample/1"));
                }
                return Ok(Some(token));
            }
        }
        Ok(None)
    }
}
