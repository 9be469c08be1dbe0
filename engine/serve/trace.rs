//! Traces as they are made, step by step, and fans in context.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api_error::ApiError;
use super::events::{self, Sink};
use super::exchange;
use super::state::{RunHooks, Served, ServerState};
use super::work::Job;
use crate::run::trace::{
    FanLook, FanRequest, Intervention, ShownToken, Step, TraceRequest, TraceSampling, Tracing,
};

/// What a trace is asked for with.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TraceBody {
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
            banned: Vec::new(),
            seed: 0,
            candidates: 24,
            ignore_eos: false,
            plugins: Vec::new(),
            interventions: Vec::new(),
        }
    }
}

/// A step, as it is sent. Written as it is, not by way of a JSON value, which would widen its numbers.
#[derive(Serialize)]
struct StepEvent<'a> {
    step: &'a Step,
    token: &'a ShownToken,
    text: &'a str,
}

pub(super) async fn trace(
    State(state): State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let body: TraceBody = exchange::read(&headers, body, &state.settings.limits).await?;
    let served = state.model(body.model.as_deref())?.clone();
    let limits = &state.settings.limits;
    for (name, given, most) in [
        ("tokens", body.tokens, limits.tokens),
        ("candidates", body.candidates, limits.candidates),
    ] {
        if given > most {
            return Err(ApiError::input(format!(
                "{given} {name} are more than the {most} allowed"
            )));
        }
    }
    let run = state.work.admit().await?;
    Ok(events::answer(run, move |job, sink| {
        if let Err(api_error) = steps(&state, &served, body, &job, &sink) {
            sink.send("error", &api_error.json());
        }
    }))
}

fn steps(
    state: &ServerState,
    served: &Served,
    body: TraceBody,
    job: &Job,
    sink: &Sink,
) -> Result<(), ApiError> {
    let engine = &served.model.engine;
    let ids = match (body.prompt_ids, &body.prompt) {
        (Some(ids), _) => ids,
        (None, Some(text)) => engine.encode(text)?,
        (None, None) => Vec::new(),
    };
    state.check_prompt(&ids, engine.vocabulary())?;
    let prompt = ids.len();
    let plugins = RunHooks::named(state, &body.plugins)?;
    let sampling = TraceSampling {
        temperature: body.temperature,
        top_k: body.top_k,
        top_p: body.top_p,
        min_p: body.min_p,
        repetition_penalty: body.repetition_penalty,
        penalty_window: body.penalty_window,
        banned: body.banned,
    };
    let request = TraceRequest::new(ids)
        .tokens(body.tokens)
        .candidates(body.candidates)
        .sampling(sampling.sampling(body.seed))
        .ignore_eos(body.ignore_eos)
        .intervene(body.interventions);
    let mut tracing = Tracing::begin(engine, request, &plugins.hooks)?.cancel(job.cancel.clone());
    let head = tracing.trace_mut();
    head.model.name.clone_from(&served.model.name);
    head.model.sha256.clone_from(&served.model.sha256);
    #[cfg(feature = "plugin")]
    if !body.plugins.is_empty() {
        head.plugins = plugins.plugins.record();
    }
    let mut goes_on = sink.send("start", tracing.trace());
    let mut count = 0;
    while goes_on && let Some(traced) = tracing.advance()? {
        count += 1;
        let last = tracing.trace().tokens.last();
        let event = StepEvent {
            step: &traced.step,
            token: last.unwrap_or(&traced.token),
            text: &traced.text,
        };
        goes_on = sink.send("step", &event);
    }
    state.metrics.tokens(prompt, count);
    if job.is_late() {
        return Err(ApiError::late());
    }
    let trace = tracing.trace();
    if goes_on {
        sink.send(
            "end",
            &json!({"finish": trace.finish, "text": trace.text, "tokens": trace.tokens}),
        );
    }
    Ok(())
}

/// What a fan is asked for with.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FanBody {
    #[serde(default)]
    model: Option<String>,
    tokens: Vec<u32>,
    #[serde(default)]
    prompt_tokens: Option<usize>,
    #[serde(default = "fifty")]
    k: usize,
    #[serde(default)]
    targets: Vec<u32>,
    #[serde(default)]
    vectors: bool,
    #[serde(default)]
    plugins: Vec<String>,
    #[serde(default)]
    interventions: Vec<Intervention>,
    #[serde(default)]
    seed: u64,
}

fn fifty() -> usize {
    50
}

/// Edges that are split in one answer.
const TARGETS: usize = 32;

pub(super) async fn fan(
    State(state): State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let body: FanBody = exchange::read(&headers, body, &state.settings.limits).await?;
    let served = state.model(body.model.as_deref())?.clone();
    state.check_prompt(&body.tokens, served.model.engine.vocabulary())?;
    if body.targets.len() > TARGETS {
        return Err(ApiError::input(format!("more than {TARGETS} targets")));
    }
    let run = state.work.admit().await?;
    let look = run
        .finish(move |_| {
            let plugins = RunHooks::named(&state, &body.plugins)?;
            let request = FanRequest {
                tokens: body.tokens,
                prompt_tokens: body.prompt_tokens,
                candidates: body.k.min(state.settings.limits.candidates),
                targets: body.targets,
                vectors: body.vectors,
                interventions: body.interventions,
                seed: body.seed,
            };
            Ok(FanLook::of(&served.model.engine, &request, &plugins.hooks)?)
        })
        .await?;
    Ok(exchange::json(&look))
}
