//! Two traces side by side.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use serde::Deserialize;

use super::exchange;
use super::fault::Fault;
use super::house::House;
use crate::run::trace::{Comparison, Trace};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareBody {
    a: Trace,
    b: Trace,
}

pub(super) async fn compare(
    State(house): State<Arc<House>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response<Body>, Fault> {
    let body: CompareBody = exchange::read(&headers, body, &house.settings.limits).await?;
    body.a.check()?;
    body.b.check()?;
    Ok(exchange::json(&Comparison::of(&body.a, &body.b)))
}
