//! How fast a model generates, and how many bytes that takes.

use std::time::Instant;

use crate::Result;
use crate::path::Sampling;
use crate::run::Engine;

/// The speed of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct FlowSpeed {
    /// New tokens per second of one sequence alone, after a prompt.
    pub tokens_per_second: f64,
    /// Bytes of weights that a token reads, on average over nodes where it depends on the node.
    pub bytes_per_token: usize,
    /// Bytes of state at the end: a transformer's cache, a graph's signal and blend.
    pub state_bytes: usize,
}

impl Engine {
    /// Measure greedy generation from `prompt` for about `seconds`; prompts do not count. Where a context is full,
    /// it begins anew.
    ///
    /// # Errors
    /// As [`Engine::session`].
    pub fn flow_speed(&self, prompt: &[u32], seconds: f64) -> Result<FlowSpeed> {
        // Positions beyond those it was trained on would not be representative.
        let length = match self.summary().context {
            None | Some(0) => usize::MAX,
            Some(context) => context.saturating_sub(prompt.len()).max(1),
        };
        let (mut tokens, mut spent) = (0usize, 0.0);
        loop {
            let mut session = self.session(prompt, Sampling::greedy())?;
            let begun = Instant::now();
            let mut done = 0;
            while done < length
                && (tokens + done < 4 || spent + begun.elapsed().as_secs_f64() < seconds)
            {
                if session.step()?.is_none() {
                    break;
                }
                done += 1;
            }
            tokens += done;
            spent += begun.elapsed().as_secs_f64();
            if done == 0 || (tokens >= 4 && spent >= seconds) {
                return Ok(FlowSpeed {
                    tokens_per_second: tokens as f64 / spent.max(1e-9),
                    bytes_per_token: self.bytes_per_token(),
                    state_bytes: session.state_bytes(),
                });
            }
        }
    }
}
