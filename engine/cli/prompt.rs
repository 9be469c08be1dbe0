//! Arguments that `generate` and `trace` share: the model, the prompt, sampling.

use std::path::PathBuf;

use clap::Args;

use crate::path::{RecallSettings, Sampling};
use crate::run::{Engine, Request};
use crate::signal::Start;
use crate::{Error, ErrorKind, Result};

/// The prompt and how to continue it.
#[derive(Args)]
pub(super) struct PromptArguments {
    /// Text to continue; `-` reads standard input.
    #[arg(allow_hyphen_values = false, conflicts_with = "prompt_ids")]
    prompt: Option<String>,
    /// Token ids to continue instead of a text, for example 3,4,5.
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    prompt_ids: Option<Vec<u32>>,
    /// Model: a .bril file or a folder with config.json [default: the built-in English model].
    #[arg(long, value_name = "PATH")]
    pub(super) model: Option<PathBuf>,
    /// Maximum number of new tokens [default: 128].
    #[arg(long, value_name = "N")]
    pub(super) tokens: Option<usize>,
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
    /// Initial signal of a graph: profile (as the model was trained), ones, random:SEED, or its components 0.1,0.2,…
    #[arg(long, default_value = "profile", value_name = "START", value_parser = parse_start)]
    pub(super) start: Start,
    /// Raise the probability of tokens that followed similar signals before (a continuous cache) by the fitted recall of
    /// the model, or by WINDOW,THETA,MU[,SLOPE].
    #[arg(long, num_args = 0..=1, default_missing_value = "", require_equals = true, value_name = "WINDOW,THETA,MU[,SLOPE]")]
    pub(super) recall: Option<String>,
    #[command(flatten)]
    order: super::order::OrderArgument,
    #[command(flatten)]
    pub(super) backend: super::backend::BackendArguments,
    /// Print the result as JSON.
    #[arg(long)]
    pub(super) json: bool,
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

fn parse_start(text: &str) -> std::result::Result<Start, String> {
    match text.split_once(':') {
        _ if text == "profile" => Ok(Start::Profile),
        _ if text == "ones" => Ok(Start::Ones),
        Some(("random", seed)) => seed
            .parse()
            .map(Start::Random)
            .map_err(|_| format!("invalid seed {seed:?}: expected a whole number")),
        _ => text
            .split(',')
            .map(|number| {
                number
                    .trim()
                    .parse()
                    .map_err(|_| format!("invalid component {number:?}: expected a number"))
            })
            .collect::<std::result::Result<Vec<f32>, String>>()
            .map(Start::Vector),
    }
}

impl PromptArguments {
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

    /// Return the constants of recall, where it is wanted.
    pub(super) fn recall(&self, engine: &Engine) -> Result<Option<RecallSettings>> {
        let Some(text) = &self.recall else {
            return Ok(None);
        };
        engine.clone().graph()?.recall(text).map(Some)
    }

    /// Return the maximum number of new tokens.
    pub(super) fn length(&self) -> usize {
        self.tokens.unwrap_or(128)
    }

    /// Open the model.
    pub(super) fn open_engine(&self) -> Result<Engine> {
        super::open_engine(self.model.as_deref())?.with_order(self.order.order)
    }

    /// Open the model and encode the prompt.
    pub(super) fn open(&self) -> Result<(Engine, Vec<u32>)> {
        let (model, mut ids) = self.open_to_continue()?;
        if self.prompt.as_deref() == Some("") {
            // Some tokenizers begin every text with a token.
            ids = model.encode("")?;
        }
        if ids.is_empty() {
            return Err(Error::new(
                ErrorKind::Input,
                "the prompt is empty: generation needs at least one token",
            )
            .advice("pass a text of at least one character, or --prompt-ids"));
        }
        Ok((model, ids))
    }

    /// Open the model and encode the prompt, which may be empty because it continues a session.
    pub(super) fn open_to_continue(&self) -> Result<(Engine, Vec<u32>)> {
        self.backend.check()?;
        let model = self.open_engine()?;
        self.backend.check_model(&model)?;
        let ids = match (&self.prompt_ids, self.prompt.as_deref()) {
            (Some(ids), _) => ids.clone(),
            (None, Some("-")) => {
                let text = crate::text::read_text("-".as_ref())?;
                model.encode(&text)?
            }
            (None, Some("") | None) => Vec::new(),
            (None, Some(text)) => model.encode(text)?,
        };
        Ok((model, ids))
    }

    /// Build the request.
    pub(super) fn request(&self, ids: Vec<u32>, temperature: f32) -> Request {
        Request::ids(ids)
            .tokens(self.length())
            .sampling(self.sampling(temperature))
            .start_signal(self.start.clone())
    }
}
