//! The body of a completion request, and its validation.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::path::Sampling;
use crate::serve::api_error::{ApiError, ApiResult};
use crate::serve::state::{ModelState, ServerState};

/// Most choices of one request, over all prompts.
const MAX_CHOICES: usize = 256;
/// Most alternatives listed for each token.
const MAX_LOGPROBS: usize = 100;
/// Most stop strings.
const MAX_STOPS: usize = 16;

/// The body of `/v1/completions`. Unknown fields are ignored, since clients send many.
#[derive(Deserialize)]
pub(in crate::serve) struct CompletionBody {
    model: Option<String>,
    prompt: Prompts,
    max_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    n: Option<usize>,
    best_of: Option<usize>,
    pub(super) stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<usize>,
    echo: Option<bool>,
    stop: Option<Stops>,
    seed: Option<i64>,
    suffix: Option<String>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<Map<String, Value>>,
    ignore_eos: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    Lists(Vec<Vec<u32>>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stops {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// A valid completion request.
pub(super) struct CompletionRequest {
    pub(super) served: Arc<ModelState>,
    /// Token ids; none of them empty.
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) tokens: usize,
    pub(super) sampling: Sampling,
    /// Choices for each prompt.
    pub(super) choices: usize,
    /// Alternatives listed for each token.
    pub(super) logprobs: Option<usize>,
    pub(super) echo: bool,
    pub(super) stops: Vec<String>,
    pub(super) ignore_eos: bool,
    /// Whether a stream ends with the token counts.
    pub(super) usage: bool,
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
}

impl CompletionRequest {
    pub(super) fn new(state: &ServerState, body: CompletionBody) -> ApiResult<Self> {
        let served = state.model(body.model.as_deref())?.clone();
        body.check_unsupported()?;
        let sampling = body.sampling();
        sampling.check()?;
        let choices = body.n.unwrap_or(1);
        let prompts = encode_prompts(state, &served, body.prompt)?;
        if choices == 0 || prompts.len().saturating_mul(choices) > MAX_CHOICES {
            return Err(ApiError::input(format!(
                "invalid n {choices} for {} prompts: a request may have 1 to {MAX_CHOICES} choices in all",
                prompts.len()
            )));
        }
        let (tokens, limit) = (body.max_tokens.unwrap_or(16), state.settings.limits.tokens);
        if tokens > limit {
            return Err(ApiError::input(format!(
                "max_tokens is {tokens}, more than this server's limit of {limit}"
            )));
        }
        if body.logprobs.is_some_and(|top| top > MAX_LOGPROBS) {
            return Err(ApiError::input(format!(
                "logprobs is more than {MAX_LOGPROBS}"
            )));
        }
        let stops = match body.stop {
            None => Vec::new(),
            Some(Stops::One(stop)) => vec![stop],
            Some(Stops::Many(stops)) => stops,
        };
        if stops.len() > MAX_STOPS || stops.iter().any(String::is_empty) {
            return Err(ApiError::input(format!(
                "invalid stop: expected at most {MAX_STOPS} strings, none of them empty"
            )));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            prompts,
            tokens,
            sampling,
            choices,
            logprobs: body.logprobs,
            echo: body.echo.unwrap_or(false),
            stops,
            ignore_eos: body.ignore_eos.unwrap_or(false),
            usage: body
                .stream_options
                .is_some_and(|options| options.include_usage),
            id: format!("cmpl-{:016x}", random()),
            created: now.map_or(0, |now| now.as_secs()),
            served,
        })
    }
}

impl CompletionBody {
    /// Reject the fields of OpenAI's interface that would change the result and are not implemented.
    fn check_unsupported(&self) -> ApiResult<()> {
        let set = |penalty: Option<f32>| penalty.is_some_and(|penalty| penalty != 0.0);
        let suffix = self.suffix.as_ref();
        let bias = self.logit_bias.as_ref();
        let best_of = |best: usize| Some(best) != self.n.or(Some(1));
        let fields = [
            ("suffix", suffix.is_some_and(|suffix| !suffix.is_empty())),
            ("presence_penalty", set(self.presence_penalty)),
            ("frequency_penalty", set(self.frequency_penalty)),
            ("logit_bias", bias.is_some_and(|bias| !bias.is_empty())),
            ("best_of", self.best_of.is_some_and(best_of)),
        ];
        match fields.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(ApiError::input(format!(
                "{name} is not supported (leave it out)"
            ))),
            None => Ok(()),
        }
    }

    fn sampling(&self) -> Sampling {
        Sampling::default()
            .temperature(self.temperature.unwrap_or(1.0))
            .top_p(self.top_p.unwrap_or(1.0))
            .top_k(self.top_k.unwrap_or(0))
            .min_p(self.min_p.unwrap_or(0.0))
            .repetition_penalty(self.repetition_penalty.unwrap_or(1.0), 64)
            .seed(self.seed.map_or_else(random, |seed| seed as u64))
    }
}

/// Encode the prompts and check their tokens.
fn encode_prompts(
    state: &ServerState,
    served: &ModelState,
    prompts: Prompts,
) -> ApiResult<Vec<Vec<u32>>> {
    let engine = &served.model.engine;
    let encode = |text: &String| engine.encode(text);
    let prompts = match prompts {
        Prompts::Text(text) => vec![encode(&text)?],
        Prompts::Texts(texts) => texts.iter().map(encode).collect::<crate::Result<_>>()?,
        Prompts::Ids(ids) => vec![ids],
        Prompts::Lists(lists) => lists,
    };
    if prompts.is_empty() || prompts.iter().any(Vec::is_empty) {
        return Err(ApiError::input(
            "the prompt is empty (give at least one token)",
        ));
    }
    for prompt in &prompts {
        state.check_prompt(prompt, engine.vocabulary())?;
    }
    Ok(prompts)
}

/// A number that differs from call to call.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
