//! The run queue: limits, cancellation, shutdown.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{TestServer, events};

/// The body of a completion that runs until it is stopped.
fn endless(stream: bool) -> Value {
    json!({"prompt": "Once", "max_tokens": 100_000_000, "ignore_eos": true, "stream": stream})
}

/// The body of a trace that runs until it is stopped.
fn endless_trace() -> Value {
    json!({"prompt": "Once", "tokens": 100_000_000, "ignore_eos": true, "candidates": 1})
}

const ENDLESS: [&str; 2] = ["--max-tokens", "100000000"];

#[test]
fn closing_a_connection_cancels_its_run_and_a_full_queue_refuses() {
    let limits = ["--parallel", "1", "--queue", "1"];
    let server = TestServer::start(&[limits.as_slice(), &ENDLESS].concat());
    for (number, (path, body)) in [
        ("/v1/completions", endless(true)),
        ("/v1/completions", endless(false)),
        ("/api/v1/trace", endless_trace()),
    ]
    .iter()
    .enumerate()
    {
        let first = server.open(path, body);
        server.wait_for_runs("the first runs", |runs| runs["running"] == 1);
        let second = server.open(path, body);
        server.wait_for_runs("the second waits", |runs| runs["waiting"] == 1);
        let third = server.post("/v1/completions", &json!({"prompt": "a", "max_tokens": 1}));
        assert_eq!(
            (third.status, third.header("retry-after")),
            (429, Some("1"))
        );
        assert_eq!(third.json()["error"]["type"], "rate_limit_error");
        // The second starts when the first is cancelled, and is cancelled as well.
        drop(first);
        server.wait_for_runs("the first is cancelled", |runs| {
            runs["cancelled"].as_u64() > Some(2 * number as u64) && runs["waiting"] == 0
        });
        drop(second);
        server.wait_for_runs("nothing runs", |runs| runs["running"] == 0);
    }
    assert_eq!(server.metric("brillm_runs_cancelled_total"), 6.0);
    assert_eq!(server.metric("brillm_runs_refused_total"), 3.0);
    assert_eq!(server.metric("brillm_runs_queue_timeouts_total"), 0.0);
    assert_eq!(server.metric("brillm_runs_running"), 0.0);
    let metrics = server.send("GET", "/metrics", "", "").text();
    assert!(metrics.contains("brillm_request_duration_seconds_bucket{route=\"/v1/completions\",status=\"429\",le=\"+Inf\"} 3"));
}

#[test]
fn a_timeout_in_the_queue_is_not_a_refusal() {
    let limits = ["--parallel", "1", "--queue", "8", "--max-seconds", "2"];
    let server = TestServer::start(&[limits.as_slice(), &ENDLESS].concat());
    let mut first = server.open("/v1/completions", &endless(false));
    server.wait_for_runs("the first runs", |runs| runs["running"] == 1);
    // The eight arrive almost together, so their time limits pass almost together: one of them may get the permit of
    // the first and be stopped a moment later, but the last of them are still waiting.
    let replies: Vec<_> = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| server.post("/v1/completions", &endless(false))))
            .collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    let mut head = [0u8; 12];
    first.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 408", "the first ran into its time limit");
    let waited: Vec<_> = replies.iter().filter(|reply| reply.status == 503).collect();
    assert!(!waited.is_empty(), "no request timed out in the queue");
    for reply in &replies {
        assert!(matches!(reply.status, 408 | 503), "{}", reply.status);
    }
    assert_eq!(waited[0].header("retry-after"), Some("1"));
    assert_eq!(waited[0].json()["error"]["type"], "server_error");
    assert_eq!(server.metric("brillm_runs_refused_total"), 0.0);
    let timeouts = server.metric("brillm_runs_queue_timeouts_total");
    assert_eq!(timeouts, waited.len() as f64);
    assert_eq!(server.get("/api/v1/runs")["queue_timeouts"], waited.len());
}

#[test]
fn a_run_stops_at_its_time_limit() {
    let server = TestServer::start(&[&["--max-seconds", "1"], ENDLESS.as_slice()].concat());
    let reply = server.post("/v1/completions", &endless(false));
    assert_eq!(reply.status, 408, "{}", reply.text());
    let reply = server.post("/api/v1/trace", &endless_trace());
    assert_eq!(events(&reply.text()).last().unwrap().0, "error");
    server.wait_for_runs("nothing runs", |runs| runs["running"] == 0);
}

#[test]
fn a_stream_ends_with_an_error_at_its_time_limit() {
    let server = TestServer::start(&[&["--max-seconds", "1"], ENDLESS.as_slice()].concat());
    let reply = server.post("/v1/completions", &endless(true)).text();
    let mut last = reply.rsplit("data: ");
    assert_eq!(last.next().unwrap().trim(), "[DONE]");
    let error: Value = serde_json::from_str(last.next().unwrap()).unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("time limit"), "{message}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_lets_responses_end() {
    let server = TestServer::start(&[]);
    let body = json!({"prompt": "Once", "max_tokens": 60, "ignore_eos": true, "stream": true});
    let mut stream = server.open("/v1/completions", &body);
    let mut first = [0u8; 200];
    stream.read_exact(&mut first).unwrap();
    server.signal("INT");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("[DONE]") && !rest.contains("error"), "{rest}");
    assert_eq!(server.wait().0, Some(130));
}

#[cfg(unix)]
#[test]
fn unfinished_streams_end_with_an_error_when_the_server_stops() {
    let limits = ["--parallel", "1"];
    let server = TestServer::start(&[limits.as_slice(), &ENDLESS].concat());
    let mut stream = server.open("/v1/completions", &endless(true));
    server.wait_for_runs("the first runs", |runs| runs["running"] == 1);
    let mut waiting = server.open("/v1/completions", &endless(false));
    server.wait_for_runs("the second waits", |runs| runs["waiting"] == 1);
    // An idle connection and half a request do not matter.
    let _idle = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    server.signal("TERM");
    let (mut rest, mut refused) = (String::new(), String::new());
    stream.read_to_string(&mut rest).unwrap();
    let end = &rest[rest.len().saturating_sub(400)..];
    assert!(
        end.contains("the server is stopping") && end.contains("[DONE]"),
        "{end}"
    );
    waiting.read_to_string(&mut refused).unwrap();
    assert!(
        refused.starts_with("HTTP/1.1 503") && refused.contains("the server is stopping"),
        "{refused}"
    );
    let (code, errors) = server.wait();
    assert_eq!(code, Some(130));
    assert!(
        errors.contains("finishing 2 runs, Ctrl-C again to stop"),
        "{errors}"
    );
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_stops_at_once() {
    let server = TestServer::start(&ENDLESS);
    let _stream = server.open("/v1/completions", &endless(true));
    server.wait_for_runs("it runs", |runs| runs["running"] == 1);
    server.signal("INT");
    // The listener closes at the first signal.
    while std::net::TcpStream::connect(server.address).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let start = Instant::now();
    server.signal("INT");
    let (code, errors) = server.wait();
    assert_eq!(code, Some(130));
    assert!(errors.contains("finishing 1 run,"), "{errors}");
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "it waited for the run"
    );
}
