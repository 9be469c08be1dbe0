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
    cached_tokens: AtomicU64,
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
    const ROUTES: [&str; 18] = [
        "/v1/chat/completions",
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

    /// Count tokens of prompts that an earlier run had computed.
    pub(super) fn cached(&self, tokens: usize) {
        self.cached_tokens
            .fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// Count tokens of prompts and new tokens.
    pub(super) fn tokens(&self, prompt: usize, new: usize) {
        self.prompt_tokens
            .fetch_add(prompt as u64, Ordering::Relaxed);
        self.new_tokens.fetch_add(new as u64, Ordering::Relaxed);
    }

    /// All metrics in the text format.
    pub(super) fn text(&self, runs: &RunCounts) -> String {
        let mut out = self.durations();
        let mut write = |name: &str, help: &str, value: &AtomicU64| {
            let kind = if name.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            };
            let value = value.load(Ordering::Relaxed);
            describe(&mut out, &format!("brillm_{name}"), kind, help);
            let _ = writeln!(out, "brillm_{name} {value}");
        };
        write("runs_running", "Runs in progress.", &runs.running);
        write("runs_waiting", "Runs in the queue.", &runs.waiting);
        write("connections", "Open connections.", &self.connections);
        write("runs_finished_total", "Runs that ended.", &runs.finished);
        let help = "Runs whose client closed the connection.";
        write("runs_cancelled_total", help, &runs.cancelled);
        let help = "Runs refused because the queue was full.";
        write("runs_refused_total", help, &runs.refused);
        let help = "Runs whose time limit passed in the queue.";
        write("runs_queue_timeouts_total", help, &runs.queue_timeouts);
        let help = "Tokens read in prompts.";
        write("prompt_tokens_total", help, &self.prompt_tokens);
        let help = "Tokens of prompts that an earlier run had computed.";
        write("cached_tokens_total", help, &self.cached_tokens);
        write("new_tokens_total", "Tokens generated.", &self.new_tokens);
        out
    }

    /// The histograms of response times by route and status.
    fn durations(&self) -> String {
        let (mut out, name) = (String::new(), "brillm_request_duration_seconds");
        let help = "Time until the head of a response.";
        describe(&mut out, name, "histogram", help);
        let responses = self.responses.lock();
        let responses = responses.unwrap_or_else(PoisonError::into_inner);
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
        out
    }
}

fn describe(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
