//! Counts for Prometheus (text format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;

use super::work::Tally;

/// Upper ends of the buckets of durations, in seconds.
const BUCKETS: [f64; 8] = [0.001, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0];

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    answers: Mutex<BTreeMap<(&'static str, u16), Durations>>,
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

/// The route of a path; few names, whatever is asked for.
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
    /// A request has been answered, its body aside.
    pub(super) fn answered(&self, path: &str, status: StatusCode, duration: Duration) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let durations = answers.entry((route(path), status.as_u16())).or_default();
        let seconds = duration.as_secs_f64();
        durations.count += 1;
        durations.seconds += seconds;
        for (bucket, &end) in durations.buckets.iter_mut().zip(&BUCKETS) {
            *bucket += u64::from(seconds <= end);
        }
    }

    /// Tokens have been read, or made.
    pub(super) fn tokens(&self, prompt: usize, new: usize) {
        self.prompt_tokens
            .fetch_add(prompt as u64, Ordering::Relaxed);
        self.new_tokens.fetch_add(new as u64, Ordering::Relaxed);
    }

    /// All of it as text.
    pub(super) fn text(&self, tally: &Tally) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let name = "brillm_request_duration_seconds";
        head(
            &mut out,
            name,
            "histogram",
            "Time to the head of an answer.",
        );
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, status), durations) in answers.iter() {
            let labels = format!("route=\"{route}\",status=\"{status}\"");
            for (bucket, end) in durations.buckets.iter().zip(&BUCKETS) {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {bucket}");
            }
            let Durations { count, seconds, .. } = durations;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{name}_sum{{{labels}}} {seconds}");
            let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
        }
        drop(answers);
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let gauges = [
            (
                "brillm_runs_running",
                tally.running.load(Ordering::Relaxed),
                "Runs at work.",
            ),
            (
                "brillm_runs_waiting",
                tally.waiting.load(Ordering::Relaxed),
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
                &tally.finished,
                "Runs that came to their end.",
            ),
            (
                "brillm_runs_cancelled_total",
                &tally.cancelled,
                "Runs whose client went.",
            ),
            (
                "brillm_runs_refused_total",
                &tally.refused,
                "Runs refused under load.",
            ),
            (
                "brillm_prompt_tokens_total",
                &self.prompt_tokens,
                "Tokens read.",
            ),
            ("brillm_new_tokens_total", &self.new_tokens, "Tokens made."),
        ];
        for (name, value, help) in counters {
            head(&mut out, name, "counter", help);
            let _ = writeln!(out, "{name} {}", load(value));
        }
        out
    }
}
