//! Arguments that `generate` and `trace` share: the model, the prompt, sampling.

use std::path::PathBuf;

use clap::Args;

use super::token_sampling::TokenSampling;
use crate::modality::Modality;
use crate::path::{RecallSettings, Sampling};
use crate::ranks::Ranks;
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
    /// Image before the text of the prompt: a PNG or PGM file, for a model trained on images.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt_ids")]
    image: Option<PathBuf>,
    /// Sound before the text of the prompt: a WAV file, for a model trained on sounds.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt_ids")]
    audio: Option<PathBuf>,
    /// Model: a .bril or .gguf file, or a folder with config.json [default: the built-in English model].
    #[arg(long, value_name = "PATH")]
    pub(super) model: Option<PathBuf>,
    /// Maximum number of new tokens [default: 128].
    #[arg(long, value_name = "N")]
    pub(super) tokens: Option<usize>,
    #[command(flatten)]
    pub(super) choice: TokenSampling,
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
        self.choice.sampling(default)
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

    /// Open the model for several ranks, which run it on the CPU.
    pub(super) fn open_over(&self, ranks: &dyn Ranks) -> Result<Engine> {
        self.backend.check()?;
        if !self.backend.allows_cpu() {
            let what = "many prompts, and ranks, run on the CPU";
            return Err(
                Error::new(ErrorKind::Unsupported, what).advice("use --backend cpu or auto")
            );
        }
        super::open_over(ranks, self.model.as_deref())?.with_order(self.order.order)
    }

    /// Whether the prompt comes from standard input.
    pub(super) fn reads_standard_input(&self) -> bool {
        self.prompt.as_deref() == Some("-")
    }

    /// Open the model and encode the prompt.
    pub(super) fn open(&self) -> Result<(Engine, Vec<u32>)> {
        self.backend.check()?;
        let model = self.open_engine()?;
        self.backend.check_model(&model)?;
        let ids = self.tokens_for(&model)?;
        Ok((model, ids))
    }

    /// Encode the prompt for a model.
    pub(super) fn tokens_for(&self, model: &Engine) -> Result<Vec<u32>> {
        let mut ids = self.encode(model, false)?;
        if self.prompt.as_deref() == Some("") && ids.is_empty() {
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
        Ok(ids)
    }

    /// Open the model and encode the prompt, which may be empty because it continues a session.
    pub(super) fn open_to_continue(&self) -> Result<(Engine, Vec<u32>)> {
        self.backend.check()?;
        let model = self.open_engine()?;
        self.backend.check_model(&model)?;
        let ids = self.encode(&model, true)?;
        Ok((model, ids))
    }

    /// Encode the prompt, which `continues` a session or begins a text.
    fn encode(&self, model: &Engine, continues: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for (modality, file) in [
            (Modality::Image, &self.image),
            (Modality::Audio, &self.audio),
        ] {
            if let Some(file) = file {
                let tokenizer = model.tokenizer();
                ids.extend(match ids.is_empty() && !continues {
                    true => tokenizer.prompt_of_file(modality, file)?,
                    false => tokenizer.encode_file(modality, file)?,
                });
            }
        }
        match (&self.prompt_ids, self.prompt.as_deref()) {
            (Some(given), _) => ids.clone_from(given),
            (None, Some("-")) => {
                let text = crate::text::read_text("-".as_ref())?;
                ids.extend(model.encode(&text)?);
            }
            (None, Some("") | None) => {}
            (None, Some(text)) => ids.extend(model.encode(text)?),
        }
        Ok(ids)
    }

    /// Whether the prompt has no text, only an image or a sound.
    pub(super) fn has_only_media(&self) -> bool {
        let media = self.image.is_some() || self.audio.is_some();
        media && self.prompt.as_deref().is_none_or(str::is_empty)
    }

    /// Build the request.
    pub(super) fn request(&self, ids: Vec<u32>, temperature: f32) -> Request {
        Request::ids(ids)
            .tokens(self.length())
            .sampling(self.sampling(temperature))
            .start_signal(self.start.clone())
    }
}
