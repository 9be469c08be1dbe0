//! Traces, sent step by step, and fans in context.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::response::sse::Event;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api_error::{ApiError, ApiResult};
use super::events::{self, Sink};
use super::extract::JsonBody;
use super::run_hooks::RunHooks;
use super::run_queue::Job;
use super::state::{ModelState, ServerState};
use crate::run::trace::{
    FanLook, FanRequest, Intervention, ShownToken, Step, TraceRequest, TraceSampling, Tracing,
};

/// The body of `/api/v1/trace`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TraceBody {
    model: Option<String>,
    prompt: Option<String>,
    prompt_ids: Option<Vec<u32>>,
    tokens: usize,
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    penalty_window: usize,
    presence_penalty: f32,
    frequency_penalty: f32,
    logit_bias: Vec<(u32, f32)>,
    banned: Vec<u32>,
    seed: u64,
    candidates: usize,
    ignore_eos: bool,
    plugins: Vec<String>,
    interventions: Vec<Intervention>,
}

impl Default for TraceBody {
    fn default() -> Self {
        let sampling = TraceSampling::default();
        Self {
            model: None,
            prompt: None,
            prompt_ids: None,
            tokens: 24,
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            penalty_window: sampling.penalty_window,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            banned: Vec::new(),
            seed: 0,
            candidates: 24,
            ignore_eos: false,
            plugins: Vec::new(),
            interventions: Vec::new(),
        }
    }
}

/// The event of a step. It is serialised directly, since a JSON value would widen its numbers to 64 bits.
#[derive(Serialize)]
struct StepEvent<'a> {
    step: &'a Step,
    token: &'a ShownToken,
    text: &'a str,
}

pub(super) async fn trace(
    State(state): State<Arc<ServerState>>,
    JsonBody(body): JsonBody<TraceBody>,
) -> ApiResult<Response<Body>> {
    let served = state.model(body.model.as_deref())?.clone();
    let limits = &state.settings.limits;
    for (name, given, most) in [
        ("tokens", body.tokens, limits.tokens),
        ("candidates", body.candidates, limits.candidates),
    ] {
        if given > most {
            return Err(ApiError::input(format!(
                "{name} is {given}, more than this server's limit of {most}"
            )));
        }
    }
    let run = state.runs.admit().await?;
    Ok(events::respond(run, move |job, sink| {
        if let Err(error) = send_steps(&state, &served, body, &job, &sink) {
            sink.last(
                Event::default()
                    .event("error")
                    .data(error.json().to_string()),
            );
        }
    }))
}

impl TraceBody {
    fn request(self, ids: Vec<u32>) -> TraceRequest {
        let sampling = TraceSampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            penalty_window: self.penalty_window,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias,
            banned: self.banned,
        };
        TraceRequest::new(ids)
            .tokens(self.tokens)
            .candidates(self.candidates)
            .sampling(sampling.sampling(self.seed))
            .ignore_eos(self.ignore_eos)
            .intervene(self.interventions)
    }
}

/// Trace a path and send each step as an event.
fn send_steps(
    state: &ServerState,
    served: &ModelState,
    mut body: TraceBody,
    job: &Job,
    sink: &Sink,
) -> ApiResult<()> {
    let engine = &served.model.engine;
    let ids = match (body.prompt_ids.take(), &body.prompt) {
        (Some(ids), _) => ids,
        (None, Some(text)) => engine.encode(text)?,
        (None, None) => Vec::new(),
    };
    state.check_prompt(&ids, engine.vocabulary())?;
    let prompt = ids.len();
    let plugins = RunHooks::named(state, &body.plugins)?;
    #[cfg(feature = "plugin")]
    let record = (!body.plugins.is_empty()).then(|| plugins.plugins.record());
    let request = body.request(ids);
    let mut tracing = Tracing::begin(engine, request, &plugins.hooks)?.cancel(job.cancel.clone());
    let head = tracing.trace_mut();
    head.model.name.clone_from(&served.model.name);
    head.model.sha256.clone_from(&served.model.sha256);
    #[cfg(feature = "plugin")]
    if let Some(record) = record {
        head.plugins = record;
    }
    let mut open = sink.send("start", tracing.trace());
    let mut count = 0;
    while open && let Some(traced) = tracing.advance()? {
        count += 1;
        let last = tracing.trace().tokens.last();
        let event = StepEvent {
            step: &traced.step,
            token: last.unwrap_or(&traced.token),
            text: &traced.text,
        };
        open = sink.send("step", &event);
    }
    state.metrics.tokens(prompt, count);
    if let Some(error) = job.stopped() {
        return Err(error);
    }
    let trace = tracing.trace();
    if open {
        sink.send(
            "end",
            &json!({"finish": trace.finish, "text": trace.text, "tokens": trace.tokens}),
        );
    }
    Ok(())
}

/// The body of `/api/v1/fan`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FanBody {
    #[serde(default)]
    model: Option<String>,
    tokens: Vec<u32>,
    #[serde(default)]
    prompt_tokens: Option<usize>,
    #[serde(default = "default_k")]
    k: usize,
    #[serde(default)]
    targets: Vec<u32>,
    #[serde(default)]
    against: Option<u32>,
    #[serde(default)]
    vectors: bool,
    #[serde(default)]
    plugins: Vec<String>,
    #[serde(default)]
    interventions: Vec<Intervention>,
    #[serde(default)]
    seed: u64,
}

fn default_k() -> usize {
    50
}

/// Most edges whose contributions one request may ask for.
const MAX_TARGETS: usize = 32;

pub(super) async fn fan(
    State(state): State<Arc<ServerState>>,
    JsonBody(body): JsonBody<FanBody>,
) -> ApiResult<Response<Body>> {
    let served = state.model(body.model.as_deref())?.clone();
    state.check_prompt(&body.tokens, served.model.engine.vocabulary())?;
    if body.targets.len() > MAX_TARGETS {
        return Err(ApiError::input(format!(
            "{} targets are more than the limit of {MAX_TARGETS}",
            body.targets.len()
        )));
    }
    let shared = state.clone();
    let look = move || {
        let plugins = RunHooks::named(&shared, &body.plugins)?;
        let request = FanRequest {
            tokens: body.tokens,
            prompt_tokens: body.prompt_tokens,
            candidates: body.k.min(shared.settings.limits.candidates),
            targets: body.targets,
            against: body.against,
            vectors: body.vectors,
            interventions: body.interventions,
            seed: body.seed,
        };
        let engine = &served.model.engine;
        Ok(FanLook::of(engine, &request, &plugins.hooks)?)
    };
    state.compute(look).await
}
