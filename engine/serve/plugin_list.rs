//! The installed plugins, described from their manifests; none of their code runs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde_json::Value;
#[cfg(feature = "plugin")]
use serde_json::json;

use super::extract;
use super::state::ServerState;

pub(super) async fn list(State(state): State<Arc<ServerState>>) -> Response<Body> {
    extract::json(&rows(&state))
}

#[cfg(not(feature = "plugin"))]
fn rows(_: &ServerState) -> Vec<Value> {
    Vec::new()
}

#[cfg(feature = "plugin")]
fn rows(state: &ServerState) -> Vec<Value> {
    let mut rows = Vec::new();
    for manifest in state.settings.finder.manifests() {
        match manifest {
            Ok(manifest) => rows.extend(manifest.plugins.iter().map(|plugin| {
                json!({
                    "name": plugin.short(),
                    "id": plugin.id,
                    "title": plugin.name,
                    "version": plugin.version,
                    "description": plugin.about,
                    "license": plugin.license,
                    "hooks": plugin.hooks,
                    "paths": paths(&plugin.hooks),
                    "options": options(&plugin.schema),
                    "path": manifest.library_path(),
                    "sha256": manifest.sha256,
                    "error": null,
                })
            })),
            Err(error) => rows.push(json!({"name": null, "error": error.to_string()})),
        }
    }
    rows
}

/// The kinds of model that call at least one of these hooks.
#[cfg(feature = "plugin")]
fn paths(hooks: &[String]) -> Vec<&'static str> {
    let any = |names: &[&str]| hooks.iter().any(|hook| names.contains(&hook.as_str()));
    let mut paths = Vec::new();
    if any(&[
        "sample/1", "order/1", "probe/1", "edge/1", "signal/1", "path/1",
    ]) {
        paths.push("graph");
    }
    if any(&[
        "kv.plan/1",
        "kv.keep/1",
        "kv.codec/1",
        "sample/1",
        "order/1",
        "mask/1",
        "probe/1",
    ]) {
        paths.push("transformer");
    }
    paths
}

/// The options for a form, from their JSON Schema.
#[cfg(feature = "plugin")]
fn options(schema: &Value) -> Vec<Value> {
    let Some(properties) = schema["properties"].as_object() else {
        return Vec::new();
    };
    properties
        .iter()
        .map(|(name, option)| {
            json!({
                "name": name,
                "type": option["type"],
                "default": option["default"],
                "minimum": option["minimum"],
                "maximum": option["maximum"],
                "choices": option["enum"],
                "help": option["description"],
            })
        })
        .collect()
}
