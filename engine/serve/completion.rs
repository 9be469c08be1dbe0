//! Completions in the shape that OpenAI's clients speak.
//!
//! `echo` gives the prompt back with the log-probability of each of its tokens after those before it, over all V and
//! before any temperature: the figures that `brillm eval` sums up, so that harnesses which score texts by them get
//! the model's own.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::choice::{Choice, Cursor, Part};
use super::events::{self, Sink};
use super::exchange;
use super::state::{RunHooks, Served, ServerState};
use super::work::Job;
use crate::path::Sampling;
use crate::run::{Engine, Finish, Generation, Request, TokenScore, score_tokens};
use crate::text::Tokenizer;
use crate::{Error, ErrorKind};

/// Choices of one request at most.
const CHOICES: usize = 256;
/// Likeliest tokens listed at most.
const TOP: usize = 100;
/// Stop strings at most.
const STOPS: usize = 16;

/// What a completion is asked for with. Fields that it does not know are passed over, as clients send many.
#[derive(Deserialize)]
struct CompletionBody {
    #[serde(default)]
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
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<usize>,
    echo: Option<bool>,
    stop: Option<Stops>,
    seed: Option<i64>,
    suffix: Option<String>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<serde_json::Map<String, Value>>,
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

/// A request that can be carried out.
struct Plan {
    served: Arc<Served>,
    prompts: Vec<Vec<u32>>,
    tokens: usize,
    sampling: Sampling,
    choices: usize,
    logprobs: Option<usize>,
    echo: bool,
    stops: Vec<String>,
    ignore_eos: bool,
    usage: bool,
    id: String,
    created: u64,
}

/// The models, as OpenAI lists them.
pub(super) async fn models(State(state): State<Arc<ServerState>>) -> Response<Body> {
    let data: Vec<Value> = state
        .models
        .iter()
        .map(|served| {
            json!({"id": served.model.name, "object": "model", "created": 0, "owned_by": "brillm"})
        })
        .collect();
    exchange::json(&json!({"object": "list", "data": data}))
}

pub(super) async fn complete(
    State(state): State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    answer(state, headers, body)
        .await
        .map_err(ApiError::open_ai)
}

async fn answer(
    state: Arc<ServerState>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let body: CompletionBody = exchange::read(&headers, body, &state.settings.limits).await?;
    let stream = body.stream.unwrap_or(false);
    let plan = Plan::of(&state, body)?;
    let run = state.work.admit().await?;
    if stream {
        return Ok(events::answer(run, move |job, sink| {
            match plan.stream(&state, &job, &sink) {
                Ok(()) => {
                    sink.data("[DONE]");
                }
                Err(api_error) => {
                    sink.data(&api_error.open_ai().json().to_string());
                }
            }
        }));
    }
    let answer = run.finish(move |job| plan.whole(&state, &job)).await?;
    Ok(exchange::json(&answer))
}

impl Plan {
    fn of(state: &ServerState, body: CompletionBody) -> Result<Self, ApiError> {
        let served = state.model(body.model.as_deref())?.clone();
        let engine = &served.model.engine;
        let limits = &state.settings.limits;
        let foreign = [
            (
                "suffix",
                body.suffix.is_some_and(|suffix| !suffix.is_empty()),
            ),
            (
                "presence_penalty",
                body.presence_penalty.is_some_and(|p| p != 0.0),
            ),
            (
                "frequency_penalty",
                body.frequency_penalty.is_some_and(|p| p != 0.0),
            ),
            (
                "logit_bias",
                body.logit_bias.is_some_and(|bias| !bias.is_empty()),
            ),
            (
                "best_of",
                body.best_of
                    .is_some_and(|best| Some(best) != body.n.or(Some(1))),
            ),
        ];
        if let Some((name, _)) = foreign.iter().find(|(_, given)| *given) {
            return Err(ApiError::input(format!(
                "{name} is not something this server does"
            )));
        }
        let encode = |text: &String| engine.encode(text);
        let prompts = match body.prompt {
            Prompts::Text(text) => vec![encode(&text)?],
            Prompts::Texts(texts) => texts.iter().map(encode).collect::<crate::Result<_>>()?,
            Prompts::Ids(ids) => vec![ids],
            Prompts::Lists(lists) => lists,
        };
        if prompts.is_empty() || prompts.iter().any(Vec::is_empty) {
            return Err(ApiError::input(
                "the prompt is empty: there is no token to start at",
            ));
        }
        for prompt in &prompts {
            state.check_prompt(prompt, engine.vocabulary())?;
        }
        let choices = body.n.unwrap_or(1);
        if choices == 0 || prompts.len().saturating_mul(choices) > CHOICES {
            return Err(ApiError::input(format!(
                "{} prompts with {choices} choices each: 1 to {CHOICES} choices are made in one request",
                prompts.len()
            )));
        }
        let tokens = body.max_tokens.unwrap_or(16);
        if tokens > limits.tokens {
            return Err(ApiError::input(format!(
                "max_tokens is {tokens}, and {} are allowed",
                limits.tokens
            )));
        }
        if body.logprobs.is_some_and(|top| top > TOP) {
            return Err(ApiError::input(format!("logprobs is at most {TOP}")));
        }
        let stops = match body.stop {
            None => Vec::new(),
            Some(Stops::One(stop)) => vec![stop],
            Some(Stops::Many(stops)) => stops,
        };
        if stops.len() > STOPS || stops.iter().any(String::is_empty) {
            return Err(ApiError::input(format!(
                "1 to {STOPS} stop strings are taken, none of them empty"
            )));
        }
        let sampling = Sampling::default()
            .temperature(body.temperature.unwrap_or(1.0))
            .top_p(body.top_p.unwrap_or(1.0))
            .top_k(body.top_k.unwrap_or(0))
            .min_p(body.min_p.unwrap_or(0.0))
            .repetition_penalty(body.repetition_penalty.unwrap_or(1.0), 64)
            .seed(body.seed.map_or_else(random, |seed| seed as u64));
        sampling.check()?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
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

    fn tokenizer(&self) -> &Tokenizer {
        self.served.model.engine.tokenizer()
    }

    /// The answer as one document.
    fn whole(&self, state: &ServerState, job: &Job) -> Result<Value, ApiError> {
        let (mut choices, mut new) = (Vec::new(), 0);
        for index in 0..self.prompts.len() * self.choices {
            let mut choice = Choice::new(self.tokenizer(), index);
            let (finish, made) = self.choose(state, job, index, &mut |part| {
                choice.add(part);
                true
            })?;
            new += made;
            choices.push(choice.json(self.logprobs.is_some(), finish));
        }
        Ok(json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.served.model.name,
            "choices": choices,
            "usage": self.usage(new),
        }))
    }

    fn usage(&self, new: usize) -> Value {
        let prompt: usize = self.prompts.iter().map(Vec::len).sum();
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": new,
            "total_tokens": prompt + new,
        })
    }

    /// The answer piece by piece.
    fn stream(&self, state: &ServerState, job: &Job, sink: &Sink) -> Result<(), ApiError> {
        let chunk = |choices: Value, usage: Value| {
            let mut chunk = json!({
                "id": self.id,
                "object": "text_completion",
                "created": self.created,
                "model": self.served.model.name,
                "choices": choices,
            });
            if self.usage {
                chunk["usage"] = usage;
            }
            sink.data(&chunk.to_string())
        };
        let mut new = 0;
        for index in 0..self.prompts.len() * self.choices {
            let mut cursor = Cursor::default();
            let (finish, made) = self.choose(state, job, index, &mut |part| {
                let mut choice = Choice::new(self.tokenizer(), index);
                choice.cursor = std::mem::take(&mut cursor);
                choice.add(part);
                cursor = std::mem::take(&mut choice.cursor);
                chunk(
                    json!([choice.json(self.logprobs.is_some(), None)]),
                    Value::Null,
                )
            })?;
            new += made;
            let last = Choice::new(self.tokenizer(), index).json(self.logprobs.is_some(), finish);
            if !chunk(json!([last]), Value::Null) {
                return Ok(());
            }
        }
        if self.usage {
            chunk(json!([]), self.usage(new));
        }
        Ok(())
    }

    /// Makes one choice, part by part, until `take` has had enough. Why it ended, and how many tokens were made.
    fn choose(
        &self,
        state: &ServerState,
        job: &Job,
        index: usize,
        take: &mut dyn FnMut(Part) -> bool,
    ) -> Result<(Option<&'static str>, usize), ApiError> {
        job.check()?;
        let prompt = &self.prompts[index / self.choices];
        let engine = &self.served.model.engine;
        let plugins = RunHooks::of_server(state)?;
        if self.echo {
            let scores = match self.logprobs {
                Some(top) => score_tokens(engine, prompt, top, &plugins.hooks, Some(&job.cancel))?,
                None => prompt
                    .iter()
                    .map(|&id| TokenScore {
                        id,
                        ln_probability: None,
                        top: Vec::new(),
                    })
                    .collect(),
            };
            let (tokenizer, mut whole) = (engine.tokenizer(), Vec::new());
            for &id in prompt {
                whole.extend_from_slice(tokenizer.vocabulary().bytes(id));
            }
            let text = tokenizer.decode(prompt);
            let swallowed = String::from_utf8_lossy(&whole).chars().count();
            let part = Part {
                swallowed: swallowed.saturating_sub(text.chars().count()),
                text,
                scores,
            };
            if !take(part) {
                return Ok((None, 0));
            }
        }
        state.metrics.tokens(prompt.len(), 0);
        if self.tokens == 0 {
            return Ok((Some("length"), 0));
        }
        let mut sampling = self.sampling.clone();
        sampling.seed = sampling.seed.wrapping_add(index as u64);
        let mut request = Request::ids(prompt.clone())
            .tokens(self.tokens)
            .sampling(sampling)
            .ignore_eos(self.ignore_eos)
            .hooks(plugins.hooks.clone())
            .cancel(job.cancel.clone());
        for stop in &self.stops {
            request = request.stop(stop.clone());
        }
        let (finish, made) = match engine {
            Engine::Graph(model) => {
                let ends = model.tokenizer().vocabulary().stop();
                let ends: Vec<u32> = ends.into_iter().collect();
                let look = |session: &mut crate::path::GraphSession| {
                    session.look().map(|(_, scores)| scores.to_vec())
                };
                self.generate(request.start(model)?, &ends, &look, take)?
            }
            #[cfg(feature = "transformer")]
            Engine::Transformer(model) => {
                if model
                    .network()
                    .is_some_and(|net| !net.configuration().causal())
                {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "the model fills in masks; it does not complete texts",
                    )
                    .into());
                }
                let seed = self.sampling.seed;
                let asked =
                    crate::transformer::HookAdapter::new(model, &plugins.hooks, seed, None)?
                        .cancel(Some(job.cancel.clone()));
                let look = |session: &mut crate::transformer::TransformerSession| {
                    Ok(session.logits().to_vec())
                };
                let generation = request.start_transformer(model, &asked)?;
                self.generate(generation, &model.ends(), &look, take)?
            }
        };
        state.metrics.tokens(0, made);
        job.check()?;
        Ok((finish, made))
    }

    fn generate<W: crate::path::Session>(
        &self,
        mut generation: Generation<W>,
        ends: &[u32],
        look: &dyn Fn(&mut W) -> crate::Result<Vec<f32>>,
        take: &mut dyn FnMut(Part) -> bool,
    ) -> Result<(Option<&'static str>, usize), ApiError> {
        let mut made = 0;
        loop {
            let scores = match self.logprobs {
                Some(_) if made < self.tokens && generation.finish().is_none() => {
                    Some(look(generation.session())?)
                }
                _ => None,
            };
            let Some(piece) = generation.next() else {
                // The end token is no text and has its entry all the same: lm-evaluation-harness asks for one token
                // beyond a prompt and drops the last entry, whatever it is.
                if let (Some(scores), Some(top), Some(Finish::Stop)) =
                    (&scores, self.logprobs, generation.finish())
                {
                    let id = generation.session().token();
                    take(Part {
                        text: String::new(),
                        scores: vec![TokenScore::of(id, scores, top)],
                        swallowed: 0,
                    });
                }
                break;
            };
            let piece = piece?;
            // Text that was held back until the end token came stands with that token's entry.
            let own = self.ignore_eos || !ends.contains(&piece.id);
            let mut part = Part {
                text: piece.text,
                scores: Vec::new(),
                swallowed: 0,
            };
            made += usize::from(own);
            if own || self.logprobs.is_some() {
                part.scores.push(match (&scores, self.logprobs) {
                    (Some(scores), Some(top)) => TokenScore::of(piece.id, scores, top),
                    _ => TokenScore {
                        id: piece.id,
                        ln_probability: None,
                        top: Vec::new(),
                    },
                });
            }
            if !take(part) {
                return Ok((None, made));
            }
        }
        let finish = match generation.finish() {
            Some(Finish::Stop) => "stop",
            _ => "length",
        };
        Ok((Some(finish), made))
    }
}

/// A number that differs each time.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
