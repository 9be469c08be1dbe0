//! Who is let in, and what every answer says to browsers.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::IntoResponse;

use super::api_error::ApiError;
use super::state::ServerState;

/// What pages may load: from here, and pictures they draw themselves.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; \
     connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The name of the cookie that carries the token.
const COOKIE: &str = "brillm-token";

/// Stands before every route.
pub(super) async fn auth(
    State(state): State<Arc<ServerState>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let (begun, path) = (Instant::now(), request.uri().path().to_string());
    let (method, open_ai) = (request.method().clone(), path.starts_with("/v1/"));
    let mut response = match check(&state, &request) {
        Ok(None) => next.run(request).await,
        Ok(Some(answer)) => answer,
        Err(api_error) if open_ai => api_error.open_ai().into_response(),
        Err(api_error) => api_error.into_response(),
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let api_error = ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is not what {path} answers"),
        );
        let allow = response.headers_mut().remove(header::ALLOW);
        response = match open_ai {
            true => api_error.open_ai().into_response(),
            false => api_error.into_response(),
        };
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    let headers = response.headers_mut();
    let set = HeaderValue::from_static;
    headers.insert(header::CONTENT_SECURITY_POLICY, set(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, set("nosniff"));
    headers.insert(header::REFERRER_POLICY, set("no-referrer"));
    headers.insert("cross-origin-opener-policy", set("same-origin"));
    headers.insert("cross-origin-resource-policy", set("same-origin"));
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(set("no-store"));
    state
        .metrics
        .answered(&path, response.status(), begun.elapsed());
    response
}

/// Whether a request is let in; an answer of its own where it is answered here.
fn check(state: &ServerState, request: &Request) -> Result<Option<Response<Body>>, ApiError> {
    let (headers, uri) = (request.headers(), request.uri());
    check_names(state, headers, uri)?;
    let Some(token) = &state.settings.token else {
        return Ok(None);
    };
    if uri.path() == "/health" {
        return Ok(None);
    }
    let asked = uri.query().unwrap_or_default().split('&');
    let given = asked
        .filter_map(|pair| pair.strip_prefix("token="))
        .any(|given| same(given, token));
    if uri.path() == "/" && given && request.method() == Method::GET {
        let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/");
        let mut response = StatusCode::SEE_OTHER.into_response();
        let headers = response.headers_mut();
        headers.insert(header::LOCATION, HeaderValue::from_static("/"));
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.insert(header::SET_COOKIE, cookie);
        }
        return Ok(Some(response));
    }
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let cookie = text(header::COOKIE)
        .into_iter()
        .flat_map(|all| all.split(';'))
        .filter_map(|one| one.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    match bearer
        .into_iter()
        .chain(cookie)
        .any(|given| same(given, token))
    {
        true => Ok(None),
        false => Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "the token is missing or wrong (send it as Authorization: Bearer, or open /?token=)",
        )),
    }
}

/// Compares without telling how much was right.
fn same(given: &str, token: &str) -> bool {
    let different = given.bytes().zip(token.bytes());
    given.len() == token.len() && different.fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// `Host` must be a name of this server, and `Origin`, where a browser sends one, its own page.
fn check_names(state: &ServerState, headers: &HeaderMap, uri: &Uri) -> Result<(), ApiError> {
    let host = match headers.get(header::HOST) {
        Some(host) => host.to_str().ok().map(str::to_string),
        None => uri.authority().map(|authority| authority.to_string()),
    };
    let Some(host) = host else {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "the request names no host",
        ));
    };
    // Who reaches another address has shown the token; its names are not known here.
    let own = !state.settings.host.is_loopback() || is_own(&host, state.port);
    if !own || headers.get_all(header::HOST).iter().count() > 1 {
        return Err(ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!("{host:?} is no name of this server"),
        ));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let place = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        if place != Some(host.as_str()) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                format!("pages of {origin:?} are not let in"),
            ));
        }
    }
    Ok(())
}

/// Whether a host is a name of this machine, with the right port.
fn is_own(host: &str, port: u16) -> bool {
    let (name, given) = match host.rsplit_once(':') {
        Some((name, given)) if !given.ends_with(']') => (name, given.parse().ok()),
        _ => (host, Some(80)),
    };
    let names = ["localhost", "127.0.0.1", "[::1]"];
    given == Some(port) && names.iter().any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_have_the_right_port() {
        for own in ["localhost:81", "LocalHost:81", "127.0.0.1:81", "[::1]:81"] {
            assert!(is_own(own, 81), "{own}");
        }
        for foreign in [
            "localhost",
            "localhost:82",
            "example.org:81",
            "127.0.0.1.example.org:81",
            "localhost:81:81",
            "[::1]",
            "",
            ":81",
        ] {
            assert!(!is_own(foreign, 81), "{foreign}");
        }
        assert!(is_own("localhost", 80));
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same("abcdefgh", "abcdefgh"));
        assert!(!same("abcdefg", "abcdefgh") && !same("abcdefgi", "abcdefgh"));
    }
}
