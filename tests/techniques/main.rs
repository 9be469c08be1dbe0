//! The plugins of `plugins/` on real models: each passes the validator, leaves everything as it is where it should,
//! and holds exactly as much as its arithmetic says.
#![cfg(all(feature = "plugin", feature = "cli", feature = "transformer"))]

use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::Value;

#[path = "../support/mod.rs"]
mod support;
use support::{
    build_plugins, fails, json, kept_folder, root, run, text_of, with_plugins, write_ids,
};

mod cache;
mod sampling;

const TRANSFORMER: &str = "models/stories260K";
const GRAPH: &str = "models/english.bril";
/// Layers of the transformer.
const LAYERS: usize = 5;

/// A file of this test's own.
fn place(name: &str) -> PathBuf {
    kept_folder("techniques").join(name)
}

/// All plugins of `plugins/`, built once.
static PLUGINS: LazyLock<String> = LazyLock::new(|| build_plugins("techniques/plugins", &[]));

fn report(arguments: &[&str], plugins: &[&str]) -> Value {
    json(&with_plugins(arguments, &PLUGINS, plugins))
}

fn failure(arguments: &[&str], plugins: &[&str]) -> String {
    fails(&with_plugins(arguments, &PLUGINS, plugins))
}

fn number(report: &Value, key: &str) -> f64 {
    report[key]
        .as_f64()
        .unwrap_or_else(|| panic!("{key}: {report}"))
}

fn numbers(report: &Value, key: &str) -> Vec<f64> {
    let list = report[key]
        .as_array()
        .unwrap_or_else(|| panic!("{key}: {report}"));
    list.iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance, "{a} and {b}");
}

fn questions() -> String {
    root()
        .join("plugins/quats/questions.jsonl")
        .display()
        .to_string()
}

fn asked(model: &str, options: &str) -> Value {
    let questions = questions();
    let arguments = [
        "probe", &questions, "--model", model, "--tokens", "2", "--quiet", "--json",
    ];
    let report = report(
        &arguments,
        &[&format!("quats:questions={questions},{options}")],
    );
    report["probes"]["org.brillm.quats"].clone()
}
