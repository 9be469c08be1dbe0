//! The visualiser's files, embedded in the program.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use rust_embed::RustEmbed;

use super::api_error::{ApiError, ApiResult};

/// The files of `assets/`; builds without optimisation read them from the disk.
#[derive(RustEmbed)]
#[folder = "engine/serve/assets"]
struct Assets;

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        _ => "text/plain; charset=utf-8",
    }
}

/// Describe why a path does not exist; clients of other servers may expect it.
fn unknown_path(path: &str) -> ApiError {
    let advice = match path.trim_end_matches('/') {
        "/v1/responses" | "/v1/messages" => {
            " (send conversations to /v1/chat/completions, text to be continued to /v1/completions)"
        }
        "/completions" | "/chat/completions" | "/models" => {
            " (the base address of OpenAI's clients ends with /v1)"
        }
        "/v1/embeddings" => ": brillm embed prints embeddings of texts",
        path if path.starts_with("/v1") => {
            " (there are /v1/completions, /v1/chat/completions, /v1/models and /v1/models/{id})"
        }
        _ => "",
    };
    let message = format!("{path} does not exist{advice}");
    ApiError::new(StatusCode::NOT_FOUND, message).code("unknown_url")
}

/// Answer with the file at the path of the request.
pub(super) async fn asset(
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> ApiResult<Response<Body>> {
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let plain = !path
        .split('/')
        .any(|part| part.starts_with('.') || part.contains('\\'));
    let Some(file) = Assets::get(path).filter(|_| plain) else {
        return Err(unknown_path(uri.path()));
    };
    if method != Method::GET && method != Method::HEAD {
        let mut refused = super::routes::method_not_allowed(method, uri)
            .await
            .into_response();
        let allowed = HeaderValue::from_static("GET,HEAD");
        refused.headers_mut().insert(header::ALLOW, allowed);
        return Ok(refused);
    }
    let sum = file.metadata.sha256_hash();
    let tag: String = sum[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|one| one.trim() == tag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(file.data.into_owned()))
    };
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static(media_type(path));
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}
