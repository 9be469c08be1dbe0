//! The server and its models: version, limits, sizes, tokens of a text.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiResult;
use super::extract::{self, JsonBody};
use super::state::{ModelState, ServerState};
use crate::run::trace::show_tokens;

/// Languages of the visualiser.
const LOCALES: [&str; 2] = ["en", "zh"];

pub(super) async fn about(
    State(state): State<Arc<ServerState>>,
    headers: HeaderMap,
) -> Response<Body> {
    let accepted = headers
        .get(header::ACCEPT_LANGUAGE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let limits = &state.settings.limits;
    extract::json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "schema": crate::run::trace::NAME,
        "locales": LOCALES,
        "locale": locale(accepted),
        "default_model": state.models[0].model.name,
        "library": state.library.is_some(),
        "limits": {
            "prompt_tokens": limits.prompt_tokens,
            "tokens": limits.tokens,
            "candidates": limits.candidates,
            "body_bytes": limits.body_bytes,
            "seconds": limits.seconds,
        },
        "map": {"nodes": super::map::MAX_NODES, "edges": super::map::MAX_EDGES},
    }))
}

/// Choose the language with the highest weight (`;q=`) of an `Accept-Language` header among [`LOCALES`].
fn locale(accepted: &str) -> &'static str {
    let mut ranked: Vec<(f32, usize, &str)> = accepted
        .split(',')
        .enumerate()
        .map(|(index, range)| {
            let (name, rest) = range.trim().split_once(';').unwrap_or((range.trim(), ""));
            let weight = rest
                .trim()
                .strip_prefix("q=")
                .map_or(Some(1.0), |q| q.parse().ok());
            (weight.unwrap_or(0.0), index, name)
        })
        .filter(|ranked| ranked.0 > 0.0)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let known = |name: &str| {
        let language = name.split('-').next().unwrap_or_default();
        LOCALES
            .into_iter()
            .find(|one| one.eq_ignore_ascii_case(language))
    };
    ranked
        .iter()
        .find_map(|(_, _, name)| known(name))
        .unwrap_or(LOCALES[0])
}

pub(super) async fn models(State(state): State<Arc<ServerState>>) -> Response<Body> {
    let all: Vec<Value> = state
        .models
        .iter()
        .enumerate()
        .map(|(position, served)| describe(served, position))
        .collect();
    extract::json(&all)
}

fn describe(served: &ModelState, position: usize) -> Value {
    let engine = &served.model.engine;
    let summary = engine.summary();
    let mut row = json!({
        "name": served.model.name,
        "kind": summary.kind,
        "vocabulary": engine.vocabulary(),
        "sha256": served.model.sha256,
        "profile": summary.profile,
        "width": summary.width,
        "layers": summary.layers,
        "order": engine.order(),
        "position": position,
        "license": summary.license,
        "edges": summary.edges,
        "own_edges": summary.own_edges,
        "parameters": engine.parameters(),
    });
    if let (Some(heads), Some(context)) = (summary.heads, summary.context) {
        row["heads"] = heads.into();
        row["context"] = context.into();
    }
    row
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokensBody {
    #[serde(default)]
    model: Option<String>,
    text: String,
}

pub(super) async fn tokens(
    State(state): State<Arc<ServerState>>,
    JsonBody(body): JsonBody<TokensBody>,
) -> ApiResult<Response<Body>> {
    let served = state.model(body.model.as_deref())?.clone();
    state
        .compute(move || {
            let engine = &served.model.engine;
            let shown = show_tokens(engine.tokenizer(), &engine.encode(&body.text)?);
            Ok(json!({"tokens": shown}))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::locale;

    #[test]
    fn the_language_with_the_highest_weight_is_chosen() {
        assert_eq!(locale(""), "en");
        assert_eq!(locale("zh-CN,zh;q=0.9,en;q=0.8"), "zh");
        assert_eq!(locale("fr, en;q=0.3, zh;q=0.7"), "zh");
        assert_eq!(locale("de;q=1"), "en");
        assert_eq!(locale("zh;q=0, en"), "en");
        assert_eq!(locale(";;;,,q="), "en");
    }
}
