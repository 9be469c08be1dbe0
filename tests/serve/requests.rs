//! Invalid, slow and unauthorised requests.

use std::io::{Read, Write};
use std::process::Command;

use serde_json::json;

use crate::server::{JSON, Reply, TestServer, model};
use crate::support::cases;

#[test]
fn invalid_heads_are_refused_with_their_status() {
    let server = TestServer::start(&[]);
    let get = |host: &str| format!("GET /health HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
    let long = "x".repeat(200_000);
    let table = [
        ("GARBAGE\r\n\r\n".into(), 400),
        ("GET / HTTP/9.9\r\n\r\n".into(), 400),
        ("\u{0}\u{1}\u{2}\r\n\r\n".into(), 400),
        (get(""), 400),
        (get("Host: example.org\r\n"), 421),
        (get("Host: localhost:1\r\n"), 421),
        (
            "POST /v1/completions HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}".into(),
            421,
        ),
        (
            "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".into(),
            421,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: {}\r\nX: {long}\r\n\r\n", server.address),
            431,
        ),
    ];
    cases(table, |(head, status)| {
        let reply = server.raw(head.as_bytes());
        assert_eq!(reply.status, *status);
    });
    let (foreign, own) = (
        "Origin: http://evil.example\r\n".to_string(),
        format!("Origin: http://{}\r\n", server.address),
    );
    cases([(foreign, 403), (own, 200)], |(origin, status)| {
        let reply = server.send("GET", "/api/v1/about", origin, "");
        assert_eq!(reply.status, *status);
    });
}

#[test]
fn invalid_completions_are_refused_in_the_shape_of_openai() {
    let server = TestServer::start(&[]);
    let large = format!(r#"{{"prompt":"{}"}}"#, "a ".repeat(4 << 20));
    let many = json!({"prompt": "a ".repeat(100_000)}).to_string();
    let table = [
        ("Content-Type: text/plain\r\n", "{}", 415),
        ("", "{}", 415),
        (JSON, "", 400),
        (JSON, "{", 400),
        (JSON, "[]", 400),
        (JSON, "\u{fffd}", 400),
        (JSON, r#"{"prompt":null}"#, 400),
        (JSON, r#"{"prompt":""}"#, 400),
        (JSON, r#"{"prompt":[]}"#, 400),
        (JSON, r#"{"prompt":[[]]}"#, 400),
        (JSON, r#"{"prompt":[999999999]}"#, 400),
        (JSON, r#"{"prompt":[-1]}"#, 400),
        (JSON, r#"{"prompt":"a","max_tokens":1000000}"#, 400),
        (JSON, r#"{"prompt":"a","max_tokens":-1}"#, 400),
        (JSON, r#"{"prompt":"a","temperature":-1}"#, 400),
        (JSON, r#"{"prompt":"a","top_p":0}"#, 400),
        (JSON, r#"{"prompt":"a","logprobs":1000}"#, 400),
        (JSON, r#"{"prompt":"a","n":0}"#, 400),
        (JSON, r#"{"prompt":"a","n":100000}"#, 400),
        (JSON, r#"{"prompt":"a","stop":""}"#, 400),
        (JSON, r#"{"prompt":"a","suffix":"b"}"#, 400),
        (JSON, r#"{"prompt":"a","model":"other"}"#, 404),
        (JSON, &"[".repeat(100_000), 400),
        (JSON, &large, 413),
        (JSON, &many, 400),
    ];
    cases(table, |(headers, body, status)| {
        let reply = server.send("POST", "/v1/completions", headers, body);
        assert_eq!(reply.status, *status, "{}", reply.text());
        let error = &reply.json()["error"];
        assert!(
            error["message"].is_string() && error["type"].is_string(),
            "{error}"
        );
    });
    // The server still works.
    assert_eq!(server.get("/health")["status"], "ok");
}

#[test]
fn unknown_paths_and_methods_are_refused_in_the_shape_of_their_interface() {
    let server = TestServer::start(&[]);
    let table = [
        ("GET", "/v1/completions", 405, "type"),
        ("GET", "/v1/other", 404, "type"),
        ("DELETE", "/api/v1/about", 405, "kind"),
        ("POST", "/api/v1/other", 405, "kind"),
        ("GET", "/api/v1/other", 404, "kind"),
    ];
    cases(table, |(method, path, status, key)| {
        let reply = server.send(method, path, "", "");
        assert_eq!(reply.status, *status);
        assert!(reply.json()["error"][key].is_string(), "{}", reply.text());
        assert_eq!(reply.header("allow").is_some(), *status == 405);
    });
}

#[test]
fn slow_requests_time_out() {
    let server = TestServer::start(&["--patience", "1"]);
    let mut head = server.connect();
    head.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
    let mut rest = Vec::new();
    // Nothing more is sent: the server closes the connection, with or without a response.
    head.read_to_end(&mut rest).unwrap();
    let received = String::from_utf8_lossy(&rest);
    assert!(
        received.is_empty() || received.starts_with("HTTP/1.1 408"),
        "{received}"
    );
    let mut body = server.connect();
    write!(
        body,
        "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        server.address
    )
    .unwrap();
    let reply = Reply::read(body);
    assert_eq!(reply.status, 408, "{}", reply.text());
    assert_eq!(server.get("/health")["status"], "ok");
}

#[test]
fn another_address_needs_a_token() {
    let refused = Command::new(env!("CARGO_BIN_EXE_brillm"))
        .args(["serve", "--port", "0", "--host", "0.0.0.0", "--model"])
        .arg(model("english.bril"))
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--token"));
    let server = TestServer::start(&["--token", "a-long-secret"]);
    for headers in [
        "",
        "Authorization: Bearer a-long-secre\r\n",
        "Cookie: brillm-token=x\r\n",
    ] {
        let reply = server.send("GET", "/api/v1/about", headers, "");
        assert_eq!(
            (reply.status, reply.header("www-authenticate")),
            (401, Some("Bearer"))
        );
    }
    assert_eq!(server.send("GET", "/?token=wrong", "", "").status, 401);
    let bearer = "Authorization: Bearer a-long-secret\r\n";
    assert_eq!(server.send("GET", "/api/v1/about", bearer, "").status, 200);
    let login = server.send("GET", "/?token=a-long-secret", "", "");
    assert_eq!((login.status, login.header("location")), (303, Some("/")));
    let cookie = login.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    let cookie = format!("Cookie: a=b; {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(server.send("GET", "/", &cookie, "").status, 200);
    assert_eq!(server.send("GET", "/health", "", "").status, 200);
}
