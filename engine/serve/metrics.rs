//! Metrics for Prometheus (text format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;

use super::run_queue::RunCounts;

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 8] = [0.001, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0];

/// Counts since the server started.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    responses: Mutex<BTreeMap<(&'static str, u16), Durations>>,
    prompt_tokens: AtomicU64,
    new_tokens: AtomicU64,
    pub(super) connections: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Durations {
    count: u64,
    seconds: f64,
    /// Cumulative.
    buckets: [u64; BUCKETS.len()],
}

/// The route of a path, as the value of a label.
fn route(path: &str) -> &'static str {
    const ROUTES: [&str; 17] = [
        "/v1/completions",
        "/v1/models",
        "/health",
        "/metrics",
        "/api/v1/about",
        "/api/v1/models",
        "/api/v1/plugins",
        "/api/v1/tokens",
        "/api/v1/trace",
        "/api/v1/fan",
        "/api/v1/nodes",
        "/api/v1/map",
        "/api/v1/compare",
        "/api/v1/export",
        "/api/v1/import",
        "/api/v1/library",
        "/api/v1/runs",
    ];
    let known = ROUTES.iter().find(|&&route| {
        path.strip_prefix(route)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    known.copied().unwrap_or("other")
}

impl Metrics {
    /// Count a response, whose body may still be under way.
    pub(super) fn answered(&self, path: &str, status: StatusCode, duration: Duration) {
        let mut responses = self
            .responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let durations = responses.entry((route(path), status.as_u16())).or_default();
        let seconds = duration.as_secs_f64();
        durations.count += 1;
        durations.seconds += seconds;
        for (bucket, &end) in durations.buckets.iter_mut().zip(&BUCKETS) {
            *bucket += u64::from(seconds <= end);
        }
    }

    /// Count tokens of prompts and new tokens.
    pub(super) fn tokens(&self, prompt: usize, new: usize) {
        self.prompt_tokens
            .fetch_add(prompt as u64, Ordering::Relaxed);
        self.new_tokens.fetch_add(new as u64, Ordering::Relaxed);
    }

    /// All metrics in the text format.
    pub(super) fn text(&self, runs: &RunCounts) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let name = "brillm_request_duration_seconds";
        head(
            &mut out,
            name,
            "histogram",
            "Time until the head of a response.",
        );
        let responses = self
            .responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for ((route, status), durations) in responses.iter() {
            let labels = format!("route=\"{route}\",status=\"{status}\"");
            for (bucket, end) in durations.buckets.iter().zip(&BUCKETS) {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {bucket}");
            }
            let Durations { count, seconds, .. } = durations;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{name}_sum{{{labels}}} {seconds}");
            let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
        }
        drop(responses);
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let gauges = [
            (
                "brillm_runs_running",
                runs.running.load(Ordering::Relaxed),
                "Runs in progress.",
            ),
            (
                "brillm_runs_waiting",
                runs.waiting.load(Ordering::Relaxed),
                "Runs in the queue.",
            ),
            (
                "brillm_connections",
                load(&self.connections) as usize,
                "Open connections.",
            ),
        ];
        for (name, value, help) in gauges {
            head(&mut out, name, "gauge", help);
            let _ = writeln!(out, "{name} {value}");
        }
        let counters = [
            (
                "brillm_runs_finished_total",
                &runs.finished,
                "Runs that ended.",
            ),
            (
                "brillm_runs_cancelled_total",
                &runs.cancelled,
                "Runs whose client closed the connection.",
            ),
            (
                "brillm_runs_refused_total",
                &runs.refused,
                "Runs refused because the queue was full.",
            ),
            (
                "brillm_runs_queue_timeouts_total",
                &runs.queue_timeouts,
                "Runs whose time limit passed in the queue.",
            ),
            (
                "brillm_prompt_tokens_total",
                &self.prompt_tokens,
                "Prompt tokens read.",
            ),
            (
                "brillm_new_tokens_total",
                &self.new_tokens,
                "Tokens generated.",
            ),
        ];
        for (name, value, help) in counters {
            head(&mut out, name, "counter", help);
            let _ = writeln!(out, "{name} {}", load(value));
        }
        out
    }
}
