//! Requests of pages of other origins (CORS): allowed for the origins in the settings, refused for all others.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
/// Response headers that pages may read, apart from those that they always may.
const EXPOSED: HeaderValue = HeaderValue::from_static("Allow, ETag, Retry-After");
/// Seconds that a browser may keep the answer to a preflight request.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origin of a request, if its pages are allowed; see [`super::Settings::origins`].
pub(super) fn allowed_origin(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let given = headers.get(header::ORIGIN)?;
    let text = given.to_str().ok()?;
    if origins.iter().any(|own| own.eq_ignore_ascii_case(text)) {
        return Some(given.clone());
    }
    let all = origins.iter().any(|own| own == "*");
    all.then_some(HeaderValue::from_static("*"))
}

/// Answer a preflight request: a browser's question whether a page may send a request. It carries no token.
pub(super) fn preflight(request: &Request) -> Option<Response<Body>> {
    let headers = request.headers();
    let method = header::ACCESS_CONTROL_REQUEST_METHOD;
    if request.method() != Method::OPTIONS || !headers.contains_key(method) {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // Clients send headers of their own, and a wildcard does not include `authorization`: allow what is asked for.
    if let Some(names) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    const NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
    if headers.contains_key(NETWORK) {
        let name = HeaderName::from_static("access-control-allow-private-network");
        answer.insert(name, HeaderValue::from_static("true"));
    }
    Some(response)
}

/// Add the headers that let a page of `origin` read a response.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    // Browsers refuse credentials together with the wildcard.
    if origin != "*" {
        let yes = HeaderValue::from_static("true");
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
