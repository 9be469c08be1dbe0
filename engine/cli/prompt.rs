//! What generate and trace have in common: the model, the prompt, the sampling.

use std::path::PathBuf;

use clap::Args;

use crate::path::Sampling;
use crate::run::{Engine, Request};
use crate::signal::Start;
use crate::{Error, ErrorKind, Result};

/// The prompt and how to go on from it.
#[derive(Args)]
pub(super) struct PromptArguments {
    /// The text to continue; `-` reads it from standard input.
    #[arg(allow_hyphen_values = false, conflicts_with = "prompt_ids")]
    prompt: Option<String>,
    /// Token ids in place of text, for example 3,4,5.
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    prompt_ids: Option<Vec<u32>>,
    /// The model: a .bril file, or a folder with a config.json; the English one in the program by default.
    #[arg(long, value_name = "PATH")]
    pub(super) model: Option<PathBuf>,
    /// New tokens at most; 128 without it.
    #[arg(long, value_name = "N")]
    pub(super) tokens: Option<usize>,
    /// 0 takes the node of most energy (greedy); above 0 samples.
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Sample among the K likeliest only; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Sample among the likeliest that together reach this probability.
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    top_p: f32,
    /// Sample among tokens at least this fraction as likely as the likeliest.
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    min_p: f32,
    /// How many times less likely a recent token becomes.
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    repetition_penalty: f32,
    /// How many tokens count as recent.
    #[arg(long, default_value_t = 64, value_name = "N")]
    penalty_window: usize,
    /// Seed of the draws; the same seed gives the same text.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// Token ids that are never chosen.
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    pub(super) banned: Vec<u32>,
    /// Where the signal starts: profile, ones, random:SEED, or numbers 0.1,0.2,…
    #[arg(long, default_value = "profile", value_name = "START", value_parser = parse_start)]
    pub(super) start: Start,
    #[command(flatten)]
    pub(super) backend: super::backend::BackendArguments,
    /// Report as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

fn parse_start(text: &str) -> std::result::Result<Start, String> {
    match text.split_once(':') {
        _ if text == "profile" => Ok(Start::Profile),
        _ if text == "ones" => Ok(Start::Ones),
        Some(("random", seed)) => seed
            .parse()
            .map(Start::Random)
            .map_err(|_| format!("{seed:?} is no seed")),
        _ => text
            .split(',')
            .map(|number| {
                number
                    .trim()
                    .parse()
                    .map_err(|_| format!("{number:?} is no number"))
            })
            .collect::<std::result::Result<Vec<f32>, String>>()
            .map(Start::Vector),
    }
}

impl PromptArguments {
    /// How nodes are chosen; `default` is the temperature where none is given.
    pub(super) fn sampling(&self, default: f32) -> Sampling {
        Sampling::default()
            .temperature(self.temperature.unwrap_or(default))
            .top_k(self.top_k)
            .top_p(self.top_p)
            .min_p(self.min_p)
            .repetition_penalty(self.repetition_penalty, self.penalty_window)
            .banned(self.banned.iter().copied())
            .seed(self.seed)
    }

    /// New tokens at most.
    pub(super) fn length(&self) -> usize {
        self.tokens.unwrap_or(128)
    }

    /// Opens the model and encodes the prompt.
    pub(super) fn open(&self) -> Result<(Engine, Vec<u32>)> {
        self.backend.check()?;
        let model = super::open_engine(self.model.as_deref())?;
        let ids = match (&self.prompt_ids, self.prompt.as_deref()) {
            (Some(ids), _) => ids.clone(),
            (None, Some("-")) => {
                let text = std::io::read_to_string(std::io::stdin())
                    .map_err(|error| Error::io(error, "standard input"))?;
                model.encode(&text)?
            }
            (None, Some(text)) => model.encode(text)?,
            (None, None) => Vec::new(),
        };
        if ids.is_empty() {
            return Err(Error::new(
                ErrorKind::Input,
                "the prompt is empty: there is no token to start at",
            )
            .advice("give at least one character, or --prompt-ids"));
        }
        Ok((model, ids))
    }

    /// The request that these arguments make.
    pub(super) fn request(&self, ids: Vec<u32>, temperature: f32) -> Request {
        Request::ids(ids)
            .tokens(self.length())
            .sampling(self.sampling(temperature))
            .start_signal(self.start.clone())
    }
}
