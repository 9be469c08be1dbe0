//! How the commands that generate text choose tokens.

use clap::Args;

use crate::path::Sampling;

/// How tokens are chosen.
#[derive(Args)]
pub(super) struct TokenSampling {
    /// Sampling temperature; 0 always takes the most probable token.
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Sample from the K most probable tokens only; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Sample from the smallest set of most probable tokens whose probabilities add up to P; 1 for all.
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    top_p: f32,
    /// Sample only from tokens with at least P times the highest probability; 0 for all.
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    min_p: f32,
    /// Divide the odds of recent tokens by X; 1 for no penalty.
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    repetition_penalty: f32,
    /// Number of most recent tokens that --repetition-penalty applies to.
    #[arg(long, default_value_t = 64, value_name = "N")]
    penalty_window: usize,
    /// Subtract X from the logits of new tokens that occurred before; -2 to 2.
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "X",
        allow_negative_numbers = true
    )]
    presence_penalty: f32,
    /// Subtract X from the logit of a new token for each time it occurred before; -2 to 2.
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "X",
        allow_negative_numbers = true
    )]
    frequency_penalty: f32,
    /// Add BIAS, -100 to 100, to the logit of a token id; separate several by commas.
    #[arg(long, value_delimiter = ',', value_name = "ID:BIAS", value_parser = parse_bias)]
    logit_bias: Vec<(u32, f32)>,
    /// Random seed; the same seed gives the same text.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(super) seed: u64,
    /// Token ids never to generate, for example 3,4,5.
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    pub(super) banned: Vec<u32>,
}

fn parse_bias(text: &str) -> std::result::Result<(u32, f32), String> {
    let pair = text.split_once(':').and_then(|(id, bias)| {
        let bias: f32 = bias.trim().parse().ok()?;
        Some((id.trim().parse().ok()?, bias))
    });
    pair.filter(|(_, bias)| bias.abs() <= 100.0).ok_or_else(|| {
        format!("invalid bias {text:?}: expected ID:BIAS, the bias from -100 to 100")
    })
}

impl TokenSampling {
    /// Build the sampling settings; `default` is the temperature unless one is given.
    pub(super) fn sampling(&self, default: f32) -> Sampling {
        Sampling::default()
            .temperature(self.temperature.unwrap_or(default))
            .top_k(self.top_k)
            .top_p(self.top_p)
            .min_p(self.min_p)
            .repetition_penalty(self.repetition_penalty, self.penalty_window)
            .presence_and_frequency(self.presence_penalty, self.frequency_penalty)
            .logit_bias(self.logit_bias.iter().copied())
            .banned(self.banned.iter().copied())
            .seed(self.seed)
    }
}
