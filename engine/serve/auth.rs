//! Checks of every request (`Host`, `Origin`, token) and the security headers of every response.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::IntoResponse;

use super::api_error::{ApiError, ApiResult};
use super::cross_origin;
use super::state::ServerState;

/// What pages may load: files of this server, and images that they draw themselves.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; \
     connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Cookie that carries the token.
const COOKIE: &str = "brillm-token";

/// Middleware of every route: check the request, add the security headers, count the response.
pub(super) async fn auth(
    State(state): State<Arc<ServerState>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let (begun, path) = (Instant::now(), request.uri().path().to_string());
    let method = request.method().clone();
    let origins = &state.settings.origins;
    let origin = cross_origin::allowed_origin(origins, request.headers());
    let mut response = match check(&state, &request, origin.is_some()) {
        Ok(None) => next.run(request).await,
        Ok(Some(response)) => response,
        Err(error) => error.into_response(),
    };
    if path.starts_with("/v1/")
        && let Some(error) = response.extensions_mut().remove::<ApiError>()
    {
        // The router has already set the length of the other body.
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(error.open_ai_json().to_string());
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
    if !origins.is_empty() {
        headers.insert(header::VARY, set("Origin"));
    }
    if let Some(origin) = origin {
        cross_origin::allow(headers, origin);
    }
    let (status, duration) = (response.status(), begun.elapsed());
    state.metrics.answered(&path, status, duration);
    tracing::debug!("{method} {path}: {status} after {duration:.1?}");
    response
}

/// Check a request; `allowed` is whether it comes from a page of an allowed origin. Preflight requests of such pages
/// are answered here, and `/?token=…`, with a cookie and a redirection.
fn check(
    state: &ServerState,
    request: &Request,
    allowed: bool,
) -> ApiResult<Option<Response<Body>>> {
    let (headers, uri) = (request.headers(), request.uri());
    check_host(state, headers, uri)?;
    if allowed {
        if let Some(response) = cross_origin::preflight(request) {
            return Ok(Some(response));
        }
    } else {
        check_origin(headers, uri)?;
    }
    let Some(token) = &state.settings.token else {
        return Ok(None);
    };
    if uri.path() == "/health" {
        return Ok(None);
    }
    let query = uri.query().unwrap_or_default().split('&');
    let given = query
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
    let bearer = text(header::AUTHORIZATION).and_then(bearer_token);
    let cookie = text(header::COOKIE)
        .into_iter()
        .flat_map(|all| all.split(';'))
        .filter_map(|one| one.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    let mut tokens = bearer.into_iter().chain(cookie);
    if tokens.any(|given| same(given, token)) {
        return Ok(None);
    }
    Err(ApiError::new(
        StatusCode::UNAUTHORIZED,
        "the token is missing or wrong (send it as Authorization: Bearer, or open /?token=)",
    ))
}

/// The token of an `Authorization` header. The name of the scheme is not case-sensitive (RFC 9110, section 11.1).
fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once([' ', '\t'])?;
    let bearer = scheme.eq_ignore_ascii_case("bearer");
    bearer.then_some(token.trim())
}

/// Compare in a time that does not depend on how many bytes agree.
fn same(given: &str, token: &str) -> bool {
    let different = given.bytes().zip(token.bytes());
    given.len() == token.len() && different.fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// The name that a request calls this server by.
fn host_of(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    match headers.get(header::HOST) {
        Some(host) => host.to_str().ok().map(str::to_string),
        None => uri.authority().map(|authority| authority.to_string()),
    }
}

/// Check that `Host` is a name of this server.
fn check_host(state: &ServerState, headers: &HeaderMap, uri: &Uri) -> ApiResult<()> {
    let Some(host) = host_of(headers, uri) else {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "the request has no Host header",
        ));
    };
    // Another address than a loopback one may have any name, and its requests carry the token.
    let own = !state.settings.host.is_loopback() || is_own(&host, state.port);
    if !own || headers.get_all(header::HOST).iter().count() > 1 {
        return Err(ApiError::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "{host:?} is not a name of this server (use the address that it printed when it started)"
            ),
        ));
    }
    Ok(())
}

/// Check that `Origin`, where a browser sends one, is a page of this server.
fn check_origin(headers: &HeaderMap, uri: &Uri) -> ApiResult<()> {
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let page = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        if page != host_of(headers, uri).as_deref() {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                format!(
                    "pages of {origin:?} may not send requests to this server (--allow-origin ORIGIN allows them)"
                ),
            ));
        }
    }
    Ok(())
}

/// Whether a host is a name of this machine with the right port.
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
    fn the_scheme_of_a_token_is_not_case_sensitive() {
        for value in ["Bearer x", "bearer x", "BEARER   x", " Bearer \t x "] {
            assert_eq!(bearer_token(value), Some("x"), "{value:?}");
        }
        for value in ["x", "Bearer", "Bearerx", "Basic x", ""] {
            assert_eq!(bearer_token(value), None, "{value:?}");
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same("abcdefgh", "abcdefgh"));
        assert!(!same("abcdefg", "abcdefgh") && !same("abcdefgi", "abcdefgh"));
    }
}
