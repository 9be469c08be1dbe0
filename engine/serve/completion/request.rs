//! A valid completion request, made from its body.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::fields::{CompletionBody, Prompts, invalid};
use crate::path::{Sampling, check_tokens};
use crate::serve::api_error::{ApiError, ApiResult};
use crate::serve::state::{ModelState, ServerState};

/// Most choices of one request, over all prompts.
const MAX_CHOICES: usize = 256;
/// Most alternatives listed for each token.
const MAX_LOGPROBS: usize = 100;
/// Most stop strings.
const MAX_STOPS: usize = 16;

/// A valid completion request.
pub(super) struct CompletionRequest {
    pub(super) served: Arc<ModelState>,
    /// Token ids; none of them empty.
    pub(super) prompts: Vec<Vec<u32>>,
    pub(super) tokens: usize,
    pub(super) sampling: Sampling,
    /// Choices for each prompt.
    pub(super) choices: usize,
    /// Completions generated for each prompt, of which the most probable are the choices.
    pub(super) draws: usize,
    /// Alternatives listed for each token.
    pub(super) logprobs: Option<usize>,
    pub(super) echo: bool,
    pub(super) stream: bool,
    /// Whether the answer has the shape of a chat.
    pub(super) chat: bool,
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
        if body
            .suffix
            .as_ref()
            .is_some_and(|suffix| !suffix.is_empty())
        {
            return Err(invalid("suffix", "insertion is not supported"));
        }
        let sampling = body.sampling(served.model.engine.vocabulary())?;
        let prompts = encode_prompts(state, &served, body.prompt)?;
        let choices = body.n.unwrap_or(1);
        let draws = body.best_of.unwrap_or(choices);
        let most = MAX_CHOICES / prompts.len().max(1);
        for (name, count, least) in [("n", choices, 1), ("best_of", draws, choices)] {
            if count < least || count > most {
                return Err(invalid(
                    name,
                    format!("{count} for each of {} prompts", prompts.len()),
                ));
            }
        }
        let stream = body.stream.unwrap_or(false);
        if stream && draws > choices {
            return Err(invalid(
                "best_of",
                "choices cannot be compared before they are sent: set stream to false",
            ));
        }
        let (tokens, limit) = (body.max_tokens.unwrap_or(16), state.settings.limits.tokens);
        if tokens > limit {
            let found = format!("{tokens} is more than this server's limit of {limit}");
            return Err(invalid("max_tokens", found));
        }
        if let Some(top) = body.logprobs.filter(|&top| top > MAX_LOGPROBS) {
            return Err(invalid("logprobs", top));
        }
        let mut stops = body.stop.map_or(Vec::new(), |stops| stops.0);
        // An empty text would end every completion before it begins: it means no stop, as elsewhere.
        stops.retain(|stop| !stop.is_empty());
        if stops.len() > MAX_STOPS {
            return Err(invalid("stop", format!("{} texts", stops.len())));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            prompts,
            tokens,
            sampling,
            choices,
            draws,
            logprobs: body.logprobs,
            echo: body.echo.unwrap_or(false),
            stream,
            chat: false,
            stops,
            ignore_eos: body.ignore_eos.unwrap_or(false),
            usage: body
                .stream_options
                .is_some_and(|options| options.include_usage == Some(true)),
            id: format!("cmpl-{:016x}", random()),
            created: now.map_or(0, |now| now.as_secs()),
            served,
        })
    }

    /// Give the answer the shape of a chat.
    pub(super) fn of_chat(mut self) -> Self {
        self.chat = true;
        self.id = format!("chat{}", self.id);
        self
    }

    /// Alternatives computed for each token: those listed, or none where draws are only compared.
    pub(super) fn scored(&self) -> Option<usize> {
        self.logprobs.or((self.draws > self.choices).then_some(0))
    }
}

impl CompletionBody {
    fn sampling(&self, vocabulary: usize) -> ApiResult<Sampling> {
        let (any, unit, penalty) = (0.0..=f32::MAX, 0.0..=1.0, -2.0..=2.0);
        let ranges = [
            ("temperature", self.temperature, &any),
            ("top_p", self.top_p, &unit),
            ("min_p", self.min_p, &unit),
            (
                "repetition_penalty",
                self.repetition_penalty,
                &(f32::MIN_POSITIVE..=f32::MAX),
            ),
            ("presence_penalty", self.presence_penalty, &penalty),
            ("frequency_penalty", self.frequency_penalty, &penalty),
        ];
        for (name, value, range) in ranges {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                return Err(invalid(name, value));
            }
        }
        let biases = self.logit_bias.iter().flatten().map(|(id, &bias)| {
            let invalid_id = |_| invalid("logit_bias", format!("{id:?} is not a token id"));
            let token: u32 = id.parse().map_err(invalid_id)?;
            if (-100.0..=100.0).contains(&bias) {
                return Ok((token, bias));
            }
            Err(invalid("logit_bias", format!("{bias} for token {id}")))
        });
        let sampling = Sampling::default()
            .temperature(self.temperature.unwrap_or(1.0))
            .top_p(self.top_p.unwrap_or(1.0))
            .top_k(self.top_k.unwrap_or(0))
            .min_p(self.min_p.unwrap_or(0.0))
            .repetition_penalty(self.repetition_penalty.unwrap_or(1.0), 64)
            .presence_and_frequency(
                self.presence_penalty.unwrap_or(0.0),
                self.frequency_penalty.unwrap_or(0.0),
            )
            .logit_bias(biases.collect::<ApiResult<Vec<_>>>()?)
            .seed(self.seed.map_or_else(random, |seed| seed as u64));
        check_tokens(&sampling, vocabulary)
            .map_err(|error| ApiError::from(error).within("logit_bias"))?;
        Ok(sampling)
    }
}

/// Encode the prompts and check their tokens.
fn encode_prompts(
    state: &ServerState,
    served: &ModelState,
    prompts: Prompts,
) -> ApiResult<Vec<Vec<u32>>> {
    let engine = &served.model.engine;
    let prompts = match prompts {
        Prompts::Texts(texts) => {
            let encoded = texts.iter().map(|text| engine.encode(text));
            encoded.collect::<crate::Result<_>>().map_err(in_prompt)?
        }
        Prompts::Ids(lists) => lists,
    };
    if prompts.is_empty() || prompts.iter().any(Vec::is_empty) {
        return Err(invalid("prompt", "it is empty"));
    }
    for prompt in &prompts {
        state
            .check_prompt(prompt, engine.vocabulary())
            .map_err(in_prompt)?;
    }
    Ok(prompts)
}

fn in_prompt(error: impl Into<ApiError>) -> ApiError {
    error.into().within("prompt")
}

/// A number that differs from call to call.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
