//! Which path is answered by what.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, header};
use axum::routing::{get, post};
use serde_json::json;

use super::state::ServerState;
use super::{
    about, assets, auth, compare, completion, exchange, library, map, nodes, plugins, trace,
};

/// The whole server.
pub(super) fn router(state: Arc<ServerState>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(completion::models))
        .route("/v1/completions", post(completion::complete))
        .route("/api/v1/about", get(about::about))
        .route("/api/v1/models", get(about::models))
        .route("/api/v1/plugins", get(plugins::list))
        .route("/api/v1/tokens", post(about::tokens))
        .route("/api/v1/trace", post(trace::trace))
        .route("/api/v1/fan", post(trace::fan))
        .route("/api/v1/nodes", get(nodes::search))
        .route("/api/v1/nodes/{id}", get(nodes::node))
        .route("/api/v1/nodes/{id}/out", get(nodes::leaving))
        .route("/api/v1/nodes/{id}/in", get(nodes::entering))
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
        .fallback_service(get(assets::asset))
        .layer(axum::middleware::from_fn_with_state(
            state.clone(),
            auth::auth,
        ))
        .with_state(state)
}

async fn health() -> Response<Body> {
    exchange::json(&json!({"status": "ok"}))
}

async fn metrics(State(state): State<Arc<ServerState>>) -> Response<Body> {
    let mut response = Response::new(Body::from(state.metrics.text(state.work.tally())));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}

async fn runs(State(state): State<Arc<ServerState>>) -> Response<Body> {
    use std::sync::atomic::Ordering::Relaxed;
    let tally = state.work.tally();
    exchange::json(&json!({
        "running": tally.running.load(Relaxed),
        "waiting": tally.waiting.load(Relaxed),
        "finished": tally.finished.load(Relaxed),
        "cancelled": tally.cancelled.load(Relaxed),
    }))
}
