//! Request bodies, queries and path segments as handlers take them, and JSON responses.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::api_error::{ApiError, ApiResult};
use super::settings::Limits;
use super::state::ServerState;
use crate::error::in_words;

/// Bytes of an oversized body that are read and dropped, so that the client reads the refusal.
const DRAINED: usize = 64 << 20;

/// A JSON response.
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

/// The JSON body of a request, no larger and no slower than the limits allow.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<ServerState>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<ServerState>) -> ApiResult<Self> {
        check_type(request.headers(), &["application/json"])?;
        let bytes = read_bytes(request.into_body(), &state.settings.limits).await?;
        parse(&bytes).map(Self)
    }
}

/// Most characters of a parser's message that an error repeats: it may contain a whole value.
const SHOWN: usize = 300;

/// Parse a JSON body; the error names the field.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let invalid = |field: Option<String>, error: serde_json::Error| {
        let text = in_words(&error.to_string());
        let shown: String = text.chars().take(SHOWN).collect();
        match field {
            Some(field) => ApiError::field(&field, format!("invalid {field}: {shown}")),
            None => ApiError::input(format!("invalid request body: {shown}")),
        }
    };
    let body = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // Invalid JSON is not a fault of the field where it begins.
        let located = error.is_data() || error.to_string().starts_with("number out of range");
        let field = (located && path != ".").then_some(path);
        invalid(field, error)
    })?;
    reader.end().map_err(|error| invalid(None, error))?;
    Ok(body)
}

/// Check that the `Content-Type` is one of `types`.
pub(super) fn check_type(headers: &HeaderMap, types: &[&str]) -> ApiResult<()> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim());
    match given {
        Some(given) if types.iter().any(|one| one.eq_ignore_ascii_case(given)) => Ok(()),
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the Content-Type must be {}", types.join(" or ")),
        )),
    }
}

/// Read a whole body, no larger and no slower than the limits allow.
pub(super) async fn read_bytes(body: Body, limits: &Limits) -> ApiResult<Vec<u8>> {
    let limit = Duration::from_secs_f64(limits.request_timeout);
    match tokio::time::timeout(limit, collect(body, limits.body_bytes)).await {
        Ok(bytes) => bytes,
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            format!(
                "the body did not arrive within {} s",
                limits.request_timeout
            ),
        )),
    }
}

async fn collect(body: Body, limit: usize) -> ApiResult<Vec<u8>> {
    let mut body = std::pin::pin!(body);
    // Nothing is kept of a body that is too long.
    let too_long = body.size_hint().lower() > limit as u64;
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        let frame = frame.map_err(|error| {
            let message = format!("the body ended early: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, message)
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length <= limit && !too_long {
            bytes.extend_from_slice(&data);
            continue;
        }
        bytes = Vec::new();
        if length > limit + DRAINED {
            break;
        }
    }
    if too_long || length > limit {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than the limit of {limit} bytes"),
        ));
    }
    Ok(bytes)
}

/// The query of a request, rejected with an [`ApiError`].
pub(super) struct UrlQuery<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for UrlQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(query)| Self(query))
            .map_err(|error| ApiError::input(error.body_text()))
    }
}

/// The variable segment of a route's path, rejected with an [`ApiError`].
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(segment)| Self(segment))
            .map_err(|error| ApiError::input(error.body_text()))
    }
}
