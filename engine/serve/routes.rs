//! The routes and their handlers.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use serde_json::json;

use super::api_error::ApiError;
use super::state::ServerState;
use super::{
    about, assets, auth, compare, completion, extract, library, map, nodes, plugin_list, trace,
};

/// Build the router of all paths.
pub(super) fn router(state: Arc<ServerState>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(completion::models))
        .route("/v1/models/{*id}", get(completion::model))
        .route("/v1/completions", post(completion::complete))
        .route("/v1/chat/completions", post(completion::chat))
        .route("/api/v1/about", get(about::about))
        .route("/api/v1/models", get(about::models))
        .route("/api/v1/plugins", get(plugin_list::list))
        .route("/api/v1/tokens", post(about::tokens))
        .route("/api/v1/trace", post(trace::trace))
        .route("/api/v1/fan", post(trace::fan))
        .route("/api/v1/nodes", get(nodes::search))
        .route("/api/v1/nodes/{id}", get(nodes::node))
        .route("/api/v1/nodes/{id}/out", get(nodes::outgoing))
        .route("/api/v1/nodes/{id}/in", get(nodes::incoming))
        .route("/api/v1/map", get(map::map))
        .route("/api/v1/compare", post(compare::compare))
        .route("/api/v1/export/{format}", post(library::export))
        .route("/api/v1/import", post(library::import))
        .route("/api/v1/library", get(library::list))
        .route(
            "/api/v1/library/{name}",
            get(library::open)
                .put(library::save)
                .delete(library::delete),
        )
        .route("/api/v1/runs", get(runs))
        .fallback(assets::asset)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(state.clone(), auth::auth))
        .with_state(state)
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "{} does not support {method} (see the Allow header)",
            uri.path()
        ),
    )
}

async fn health() -> Response<Body> {
    extract::json(&json!({"status": "ok"}))
}

async fn metrics(State(state): State<Arc<ServerState>>) -> Response<Body> {
    let mut response = Response::new(Body::from(state.metrics.text(state.runs.counts())));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn runs(State(state): State<Arc<ServerState>>) -> Response<Body> {
    use std::sync::atomic::Ordering::Relaxed;
    let counts = state.runs.counts();
    extract::json(&json!({
        "running": counts.running.load(Relaxed),
        "waiting": counts.waiting.load(Relaxed),
        "finished": counts.finished.load(Relaxed),
        "cancelled": counts.cancelled.load(Relaxed),
        "refused": counts.refused.load(Relaxed),
        "queue_timeouts": counts.queue_timeouts.load(Relaxed),
    }))
}
