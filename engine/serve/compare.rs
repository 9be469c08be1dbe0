//! Two traces side by side.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use serde::Deserialize;

use super::api_error::ApiError;
use super::exchange;
use super::state::ServerState;
use crate::run::trace::{Comparison, Trace};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareBody {
    a: Trace,
    b: Trace,
}

pub(super) async fn compare(
    State(state): State<Arc<ServerState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, ApiError> {
    let body: CompareBody = exchange::read(&headers, body, &state.settings.limits).await?;
    body.a.check()?;
    body.b.check()?;
    Ok(exchange::json(&Comparison::of(&body.a, &body.b)))
}
