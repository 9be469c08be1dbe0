//! Traces, their export, and the library.

use std::process::Command;

use brillm::run::trace::Trace;
use serde_json::{Value, json};

use crate::server::{JSON, TestServer, engine, events, model};

#[test]
fn a_trace_equals_that_of_the_command_line() {
    let server = TestServer::start(&[]);
    for (name, file) in [("english", "english.bril"), ("stories260K", "stories260K")] {
        let engine = engine(file);
        let own = server.get("/api/v1/models");
        let own = own.as_array().unwrap();
        let own = own.iter().find(|one| one["name"] == engine.name()).unwrap();
        assert_eq!(own["kind"] == "graph", name == "english");
        let body = json!({
            "model": engine.name(), "prompt": "Once upon a time", "tokens": 5, "temperature": 0.9, "seed": 3,
        });
        let trace = server.trace(body);
        let command = Command::new(env!("CARGO_BIN_EXE_brillm"))
            .args([
                "trace",
                "Once upon a time",
                "--tokens",
                "5",
                "--temperature",
                "0.9",
            ])
            .args(["--seed", "3", "--json", "--model"])
            .arg(model(file))
            .output()
            .unwrap();
        let expected: Value = serde_json::from_slice(&command.stdout).unwrap();
        assert_eq!(trace, expected);
        // Exports too.
        for format in ["json", "svg", "dot", "graphml", "gexf", "csv"] {
            let reply = server.post(&format!("/api/v1/export/{format}?theme=dark"), &trace);
            assert_eq!(reply.status, 200, "{format}: {}", reply.text());
            let own: Trace = serde_json::from_value(trace.clone()).unwrap();
            let theme = "dark".parse().unwrap();
            assert_eq!(
                reply.text(),
                own.export(format.parse().unwrap(), theme).unwrap()
            );
            if format == "svg" {
                let kind = "Content-Type: image/svg+xml\r\n";
                let back = server.send("POST", "/api/v1/import", kind, &reply.text());
                assert_eq!(back.json(), trace);
            }
        }
    }
    let fork = server.trace(json!({
        "prompt": "Once upon a time", "tokens": 5,
        "interventions": [{"kind": "force", "step": 1, "node": 7}],
    }));
    let plain = server.trace(json!({"prompt": "Once upon a time", "tokens": 5}));
    assert_eq!(fork["steps"][1]["chosen"], 7);
    let compared = server
        .post("/api/v1/compare", &json!({"a": plain, "b": fork}))
        .json();
    assert_eq!(compared["first_divergence"], 1);
    assert_eq!(compared["rows"][0]["same"], true);
    let look = server
        .post(
            "/api/v1/fan",
            &json!({"tokens": [1, 2, 3], "k": 5, "targets": [9], "vectors": true}),
        )
        .json();
    assert_eq!(look["contributions"][0]["target"], 9);
    assert!(
        look["candidates"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["id"] == 9)
    );
}

#[test]
fn errors_are_events_once_a_trace_has_begun() {
    let server = TestServer::start(&[]);
    for (body, kind) in [
        (json!({"prompt": ""}), "input"),
        (json!({"prompt_ids": [99_999_999]}), "input"),
        (
            json!({"prompt": "a", "plugins": ["nothing-of-that-name"]}),
            "configuration",
        ),
        (
            json!({"prompt": "a", "plugins": ["/bin/true"]}),
            "configuration",
        ),
        (json!({"prompt": "a", "temperature": -1.0}), "input"),
        (
            json!({"model": "stories260K", "prompt": "a", "interventions": [{"kind": "mute_signal", "position": 0}]}),
            "unsupported",
        ),
    ] {
        let reply = server.post("/api/v1/trace", &body);
        let events = events(&reply.text());
        let (name, data) = events.last().unwrap();
        assert_eq!(
            (name.as_str(), &data["error"]["kind"]),
            ("error", &json!(kind)),
            "{body}"
        );
    }
}

#[test]
fn a_trace_refuses_biased_and_banned_tokens_outside_the_vocabulary() {
    let server = TestServer::start(&[]);
    for model in ["english", "stories260K"] {
        for (field, value) in [
            ("logit_bias", json!([[3, 1.0], [999_999, 1.0]])),
            ("banned", json!([3, 999_999])),
        ] {
            let mut body = json!({"model": model, "prompt": "Once", "tokens": 1});
            body[field] = value;
            let events = events(&server.post("/api/v1/trace", &body).text());
            let (name, data) = events.last().unwrap();
            let message = data["error"]["message"].as_str().unwrap_or_default();
            assert!(
                name == "error" && data["error"]["kind"] == "input" && message.contains("999999"),
                "{model} {field}: {events:?}"
            );
        }
    }
}

#[test]
fn a_saved_trace_keeps_its_annotations() {
    let server = TestServer::start(&[]);
    let mut trace = server.trace(json!({"prompt": "Once", "tokens": 2}));
    trace["annotations"]["title"] = "春 风".into();
    trace["annotations"]["notes"] = "why?".into();
    trace["annotations"]["pins"] = json!([{"step": 0, "node": trace["steps"][0]["chosen"]}]);
    let path = "/api/v1/library/%E6%98%A5%20walk-1.a";
    let saved = server.send("PUT", path, JSON, &trace.to_string());
    assert_eq!(
        (saved.status, &saved.json()["name"]),
        (200, &json!("春 walk-1.a"))
    );
    assert_eq!(server.get(path), trace);
    let rows = server.get("/api/v1/library");
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "春 walk-1.a")
        .unwrap();
    assert_eq!(
        (&row["title"], &row["pins"], &row["steps"]),
        (&json!("春 风"), &json!(1), &json!(2))
    );
    for name in ["..%2fx", "%2e%2e", ".hidden", "a%00b", "a%2fb", "%ff"] {
        let path = format!("/api/v1/library/{name}");
        let reply = server.send("PUT", &path, JSON, &trace.to_string());
        assert_eq!(reply.status, 400, "{name}: {}", reply.text());
    }
    let broken = server.send("PUT", "/api/v1/library/b", JSON, "{\"schema\":\"other\"}");
    assert_eq!(broken.status, 400);
    assert_eq!(server.send("DELETE", path, "", "").status, 204);
    assert_eq!(server.send("GET", path, "", "").status, 404);
    assert_eq!(server.send("DELETE", path, "", "").status, 404);
}
