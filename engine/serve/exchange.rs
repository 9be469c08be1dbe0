//! A request's body in, a JSON document out.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::api_error::ApiError;
use super::settings::Limits;

/// Bytes of an oversized body that are read and dropped, so that the refusal arrives.
const DRAINED: usize = 64 << 20;

/// A JSON answer.
pub(super) fn json(value: &impl Serialize) -> Response<Body> {
    let (status, text) = match serde_json::to_vec(value) {
        Ok(text) => (StatusCode::OK, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, b"{}".to_vec()),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Reads a JSON body.
pub(super) async fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
) -> Result<T, ApiError> {
    check_type(headers, &["application/json"])?;
    let bytes = read_bytes(body, limits).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::input(format!("the body cannot be read: {error}")))
}

/// Whether the body is of one of these types.
pub(super) fn check_type(headers: &HeaderMap, types: &[&str]) -> Result<(), ApiError> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim());
    match given {
        Some(given) if types.iter().any(|one| one.eq_ignore_ascii_case(given)) => Ok(()),
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the body must be {}", types.join(" or ")),
        )),
    }
}

/// Reads a whole body, no longer and no larger than is allowed.
pub(super) async fn read_bytes(body: Body, limits: &Limits) -> Result<Vec<u8>, ApiError> {
    let patience = Duration::from_secs_f64(limits.patience);
    let mut taken = Vec::new();
    let collect = collect(body, limits.body_bytes, &mut taken);
    match tokio::time::timeout(patience, collect).await {
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {} s", limits.patience),
        )),
        Ok(Err(api_error)) => Err(api_error),
        Ok(Ok(())) => Ok(taken),
    }
}

async fn collect(body: Body, limit: usize, taken: &mut Vec<u8>) -> Result<(), ApiError> {
    let mut body = std::pin::pin!(body);
    let mut length = 0;
    loop {
        let frame = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                format!("the body broke off: {error}"),
            )
        })?;
        let Ok(data): Result<Bytes, _> = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length <= limit {
            taken.extend_from_slice(&data);
        } else if length > limit + DRAINED {
            break;
        }
    }
    match length > limit {
        true => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {limit} bytes"),
        )),
        false => Ok(()),
    }
}

/// What stands behind the question mark; a refusal is said as all others are.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(error) => Err(ApiError::input(error.body_text())),
        }
    }
}

/// A part of the path.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(error) => Err(ApiError::input(error.body_text())),
        }
    }
}
