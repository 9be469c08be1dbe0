//! `/v1/completions` and `/v1/chat/completions` in the shape of OpenAI's interface.
//!
//! `echo` returns the prompt, with `logprobs` the log-probability of each of its tokens given those before it, over
//! all V and before any temperature. `brillm eval` sums the same figures, so harnesses that score texts through this
//! interface measure the model itself.

mod chat;
mod choice;
mod fields;
mod request;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::response::sse::Event;
use serde_json::{Value, json};

pub(super) use self::chat::chat;
use self::choice::{Choice, Cursor, Form, Piece};
use self::fields::CompletionBody;
use self::request::CompletionRequest;
use super::api_error::{ApiError, ApiResult};
use super::events::{self, Sink};
use super::extract::{self, JsonBody, Segment};
use super::run_hooks::RunHooks;
use super::run_queue::Job;
use super::state::{ModelState, ServerState};
use crate::run::{Finish, Generation, Request, TokenScore, score_tokens};
use crate::text::Tokenizer;
use crate::{Error, ErrorKind};

/// What generating a choice took, or all of them.
#[derive(Default)]
struct Made {
    finish: Option<&'static str>,
    /// New tokens.
    tokens: usize,
    /// Tokens of the prompt that an earlier run had computed.
    cached: usize,
}

impl Made {
    /// Add draw number `draw` of a prompt. Prompts count once, as the first draw reads them.
    fn add(&mut self, other: &Self, draw: usize) {
        self.tokens += other.tokens;
        self.cached += if draw == 0 { other.cached } else { 0 };
    }
}

/// The models in OpenAI's shape.
pub(super) async fn models(State(state): State<Arc<ServerState>>) -> Response<Body> {
    let data: Vec<Value> = state.models.iter().map(|served| describe(served)).collect();
    extract::json(&json!({"object": "list", "data": data}))
}

/// One model in OpenAI's shape.
pub(super) async fn model(
    State(state): State<Arc<ServerState>>,
    Segment(id): Segment,
) -> ApiResult<Response<Body>> {
    Ok(extract::json(&describe(state.model(Some(&id))?)))
}

fn describe(served: &ModelState) -> Value {
    json!({"id": served.model.name, "object": "model", "created": 0, "owned_by": "brillm"})
}

pub(super) async fn complete(
    State(state): State<Arc<ServerState>>,
    body: Result<JsonBody<CompletionBody>, ApiError>,
) -> ApiResult<Response<Body>> {
    let JsonBody(body) = body.map_err(|error| fields::explain(&fields::COMPLETION, error))?;
    let request = CompletionRequest::new(&state, body)?;
    respond(state, request).await
}

/// Run a request and answer with its document or its events.
async fn respond(state: Arc<ServerState>, request: CompletionRequest) -> ApiResult<Response<Body>> {
    let run = state.runs.admit().await?;
    if request.stream {
        return Ok(events::respond(run, move |job, sink| {
            if let Err(error) = request.stream(&state, &job, &sink) {
                sink.last(Event::default().data(error.open_ai_json().to_string()));
            }
            sink.last(Event::default().data("[DONE]"));
        }));
    }
    let document = run
        .finish(move |job| request.document(&state, &job))
        .await?;
    Ok(extract::json(&document))
}

impl CompletionRequest {
    fn tokenizer(&self) -> &Tokenizer {
        self.served.model.engine.tokenizer()
    }

    /// The name of the document, or of an event.
    fn object(&self) -> &'static str {
        match (self.chat, self.stream) {
            (false, _) => "text_completion",
            (true, false) => "chat.completion",
            (true, true) => "chat.completion.chunk",
        }
    }

    fn choice(&self, index: usize, cursor: Cursor) -> Choice<'_> {
        let form = match (self.chat, self.stream) {
            (false, _) => Form::Text,
            (true, false) => Form::Message,
            (true, true) => Form::Delta,
        };
        Choice::new(self.tokenizer(), form, index, cursor)
    }

    /// The start of a choice's text, for the offsets of its tokens.
    fn cursor(&self, prompt: usize) -> Cursor {
        match self.echo {
            true => Cursor::default(),
            false => Cursor::after(self.tokenizer(), &self.prompts[prompt]),
        }
    }

    /// The fields that a document and an event have in common.
    fn envelope(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": self.object(),
            "created": self.created,
            "model": self.served.model.name,
            "choices": choices,
        })
    }

    fn usage(&self, made: &Made) -> Value {
        let new = made.tokens;
        let prompt: usize = self.prompts.iter().map(Vec::len).sum();
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": new,
            "total_tokens": prompt + new,
            "prompt_tokens_details": {"cached_tokens": made.cached},
        })
    }

    /// Generate all choices and return them as one document.
    fn document(&self, state: &ServerState, job: &Job) -> ApiResult<Value> {
        let (mut choices, mut all) = (Vec::new(), Made::default());
        for prompt in 0..self.prompts.len() {
            let echo = self.echoed(state, job, prompt)?;
            let mut drawn = Vec::new();
            for draw in 0..self.draws {
                let mut choice = self.choice(0, self.cursor(prompt));
                if let Some(piece) = echo.clone() {
                    choice.add(piece);
                }
                let (mut nats, mut scored) = (0.0, 0usize);
                let index = prompt * self.draws + draw;
                let made = self.generate_choice(state, job, index, &mut |piece| {
                    nats += piece.ln_probability();
                    scored += piece.scores.len();
                    choice.add(piece);
                    true
                })?;
                all.add(&made, draw);
                drawn.push((nats / scored.max(1) as f64, choice, made.finish));
            }
            // The most probable per token first; without `best_of` in the order of the draws.
            if self.draws > self.choices {
                drawn.sort_by(|a, b| b.0.total_cmp(&a.0));
            }
            for (_, mut choice, finish) in drawn.into_iter().take(self.choices) {
                choice.index = choices.len();
                choices.push(choice.json(self.logprobs.is_some(), finish));
            }
        }
        let mut document = self.envelope(choices.into());
        document["usage"] = self.usage(&all);
        Ok(document)
    }

    /// Generate all choices and send each piece as an event.
    fn stream(&self, state: &ServerState, job: &Job, sink: &Sink) -> ApiResult<()> {
        let send = |choices: Value, usage: Value| {
            let mut event = self.envelope(choices);
            if self.usage {
                event["usage"] = usage;
            }
            sink.data(&event.to_string())
        };
        let logprobs = self.logprobs.is_some();
        let (mut all, mut echo) = (Made::default(), None);
        for index in 0..self.prompts.len() * self.choices {
            if index % self.draws == 0 {
                echo = self.echoed(state, job, index / self.draws)?;
            }
            let mut cursor = self.cursor(index / self.draws);
            if self.chat && !send(json!([Choice::role(index)]), Value::Null) {
                return Ok(());
            }
            let mut take = |piece| {
                let mut choice = self.choice(index, std::mem::take(&mut cursor));
                choice.add(piece);
                cursor = std::mem::take(&mut choice.cursor);
                send(json!([choice.json(logprobs, None)]), Value::Null)
            };
            if echo.clone().is_some_and(|piece| !take(piece)) {
                return Ok(());
            }
            let made = self.generate_choice(state, job, index, &mut take)?;
            all.add(&made, index % self.draws);
            let last = self.choice(index, Cursor::default());
            let last = last.json(logprobs, made.finish);
            if !send(json!([last]), Value::Null) {
                return Ok(());
            }
        }
        if self.usage {
            send(json!([]), self.usage(&all));
        }
        Ok(())
    }

    /// Generate one choice, passing its pieces to `take` until it returns false.
    fn generate_choice(
        &self,
        state: &ServerState,
        job: &Job,
        index: usize,
        take: &mut dyn FnMut(Piece) -> bool,
    ) -> ApiResult<Made> {
        job.check()?;
        let prompt = &self.prompts[index / self.draws];
        let engine = &self.served.model.engine;
        let plugins = RunHooks::of_server(state)?;
        state.metrics.tokens(prompt.len(), 0);
        if self.tokens == 0 {
            return Ok(Made {
                finish: Some("length"),
                ..Made::default()
            });
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
        if !engine.is_causal() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a masked language model cannot complete texts",
            )
            .into());
        }
        let mut generation = engine.start(request)?;
        let cached = generation.session().reused();
        state.metrics.cached(cached);
        let (finish, tokens) = self.generate(generation, take)?;
        state.metrics.tokens(0, tokens);
        job.check()?;
        Ok(Made {
            finish,
            tokens,
            cached,
        })
    }

    /// The prompt as the first piece of each of its choices, where the request asks for it. It is scored once, since its
    /// probabilities do not depend on the draws.
    fn echoed(&self, state: &ServerState, job: &Job, prompt: usize) -> ApiResult<Option<Piece>> {
        if !self.echo {
            return Ok(None);
        }
        job.check()?;
        let (engine, ids) = (&self.served.model.engine, &self.prompts[prompt]);
        let scores = match self.logprobs {
            Some(top) => {
                let plugins = RunHooks::of_server(state)?;
                score_tokens(engine, ids, top, &plugins.hooks, Some(&job.cancel))?
            }
            None => ids.iter().map(|&id| TokenScore::unscored(id)).collect(),
        };
        let text = engine.tokenizer().decode(ids);
        Ok(Some(Piece { text, scores }))
    }

    /// Pass the pieces of a generation to `take`, with the log-probabilities of their tokens. Returns the finish reason and
    /// the number of new tokens.
    fn generate(
        &self,
        mut generation: Generation,
        take: &mut dyn FnMut(Piece) -> bool,
    ) -> ApiResult<(Option<&'static str>, usize)> {
        let mut made = 0;
        loop {
            let logits = match self.scored() {
                Some(_) if made < self.tokens && generation.finish().is_none() => {
                    Some(generation.session().look()?.1.to_vec())
                }
                _ => None,
            };
            let Some(piece) = generation.next() else {
                // The end token has an entry although it has no text: lm-evaluation-harness asks for one token
                // beyond a prompt and drops the last entry, whichever it is.
                if let (Some(logits), Some(top), Some(Finish::Stop)) =
                    (&logits, self.scored(), generation.finish())
                    && !self.chat
                {
                    let id = generation.session().token();
                    take(Piece {
                        scores: vec![TokenScore::of(id, logits, top)],
                        ..Piece::default()
                    });
                }
                break;
            };
            let generated = piece?;
            // Text that was held back until the end token belongs to that token's entry; otherwise it has no token.
            let ended = generated.text_only && generation.finish() == Some(Finish::Stop);
            let ended = ended && !self.chat;
            made += usize::from(!generated.text_only);
            let mut piece = Piece {
                text: generated.text,
                ..Piece::default()
            };
            if !generated.text_only || ended && self.scored().is_some() {
                piece.scores.push(match (&logits, self.scored()) {
                    (Some(logits), Some(top)) => TokenScore::of(generated.id, logits, top),
                    _ => TokenScore::unscored(generated.id),
                });
            }
            if !take(piece) {
                return Ok((None, made));
            }
        }
        let finish = match generation.finish() {
            // No token was left to choose: the text cannot be continued with a larger limit.
            Some(Finish::Stop | Finish::StopText | Finish::Exhausted) => "stop",
            _ => "length",
        };
        Ok((Some(finish), made))
    }
}
