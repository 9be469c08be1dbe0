//! Comparison of two traces.

use axum::body::Body;
use axum::http::Response;
use serde::Deserialize;

use super::api_error::ApiResult;
use super::extract::{self, JsonBody};
use crate::run::trace::{Comparison, Trace};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CompareBody {
    a: Trace,
    b: Trace,
}

pub(super) async fn compare(JsonBody(body): JsonBody<CompareBody>) -> ApiResult<Response<Body>> {
    body.a.check()?;
    body.b.check()?;
    Ok(extract::json(&Comparison::of(&body.a, &body.b)))
}
