//! Invalid, slow and unauthorised requests.

use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::{JSON, PATIENCE, Reply, TestServer, model};
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
fn invalid_bodies_are_refused_with_their_status() {
    let server = TestServer::start(&[]);
    let large = format!(r#"{{"prompt":"{}"}}"#, "a ".repeat(4 << 20));
    let many = json!({"prompt": "a ".repeat(100_000)}).to_string();
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep = format!(r#"{{"prompt":{nested}}}"#);
    let ignored = format!(r#"{{"prompt":"a","max_tokens":0,"user":{nested}}}"#);
    let table = [
        ("Content-Type: text/plain\r\n", "{}", 415),
        ("", "{}", 415),
        (JSON, "", 400),
        (JSON, "{", 400),
        (JSON, "[]", 400),
        (JSON, "null", 400),
        (JSON, "\u{fffd}", 400),
        (JSON, r#"{"prompt":"a"}{}"#, 400),
        (JSON, r#"{"prompt":"a","prompt":"b"}"#, 400),
        (JSON, r#"{"prompt":"\ud800"}"#, 400),
        (JSON, &"[".repeat(100_000), 400),
        (JSON, &deep, 400),
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
    assert_eq!(
        server
            .send("POST", "/v1/completions", JSON, &ignored)
            .status,
        200
    );
    // The server still works.
    assert_eq!(server.get("/health")["status"], "ok");
}

/// What a hostile or broken client sends, as bytes, with the status of the response; 0 for none.
#[test]
fn broken_messages_do_not_disturb_the_server() {
    let server = TestServer::start(&["--request-timeout", "2"]);
    let head = |first: &str, more: &str| {
        format!(
            "{first} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{more}\r\n",
            server.address
        )
    };
    let post =
        |more: &str, body: &[u8]| [head("POST /v1/completions", more).as_bytes(), body].concat();
    let json = |more: &str| format!("{JSON}{more}");
    let chunked = json("Transfer-Encoding: chunked\r\n");
    let many: String = (0..200).map(|index| format!("X-{index}: y\r\n")).collect();
    let invalid = b"{\"prompt\":\"\xff\xfe\"}";
    let length = json(&format!("Content-Length: {}\r\n", invalid.len()));
    let table: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("invalid UTF-8", post(&length, invalid), &[400]),
        (
            "a chunk cut short",
            post(&chunked, b"ff\r\n{\"prompt\":"),
            &[400, 408],
        ),
        (
            "an invalid chunk size",
            post(&chunked, b"zz\r\n{}\r\n0\r\n\r\n"),
            &[400],
        ),
        (
            "a huge chunk size",
            post(&chunked, b"ffffffffffffffffff\r\n{}"),
            &[400],
        ),
        (
            "a negative length",
            post(&json("Content-Length: -1\r\n"), b"{}"),
            &[400],
        ),
        (
            "two lengths",
            post(&json("Content-Length: 2\r\nContent-Length: 3\r\n"), b"{} "),
            &[400],
        ),
        (
            "a length beyond 64 bits",
            post(&json("Content-Length: 99999999999999999999\r\n"), b"{}"),
            &[400],
        ),
        (
            "200 headers",
            head("GET /health", &many).into_bytes(),
            &[431],
        ),
        (
            "a header name with a space",
            head("GET /health", "a b: c\r\n").into_bytes(),
            &[400],
        ),
        (
            "two hosts",
            head("GET /health", "Host: a\r\n").into_bytes(),
            &[421],
        ),
        (
            "a path with a space",
            head("GET /a b", "").into_bytes(),
            &[400],
        ),
        (
            "a long path",
            head(&format!("GET /{}", "a".repeat(100_000)), "").into_bytes(),
            &[414, 431],
        ),
        (
            "an unknown method",
            head("BREW /health", "").into_bytes(),
            &[405],
        ),
        (
            "CONNECT",
            head("CONNECT a:1", "").into_bytes(),
            &[400, 404, 405],
        ),
    ];
    cases(table, |(what, bytes, statuses)| {
        let reply = server.raw(bytes);
        assert!(
            statuses.contains(&reply.status),
            "{what}: {} {}",
            reply.status,
            reply.text()
        );
    });
    assert_eq!(server.get("/health")["status"], "ok");
}

#[test]
fn paths_are_not_decoded_into_files() {
    let server = TestServer::start(&[]);
    let paths = [
        "/../Cargo.toml",
        "/..%2fCargo.toml",
        "/%2e%2e/%2e%2e/Cargo.toml",
        "/app/../../mod.rs",
        "//etc/passwd",
        "//v1//models",
        "/%00",
        "/.hidden",
        "/app\\main.js",
        "/v1/%6dodels",
        "/api/v1/library/..%2f..%2fx",
    ];
    cases(paths, |path| {
        let reply = server.send("GET", path, "", "");
        assert!(
            matches!(reply.status, 400 | 404),
            "{}: {}",
            reply.status,
            reply.text()
        );
        assert!(reply.json()["error"]["message"].is_string());
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start(&[]);
    let mut stream = server.connect();
    let request = |path: &str, more: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n",
            server.address
        )
    };
    let both = request("/health", "")
        + &request("/v1/other", "")
        + &request("/v1/models", "Connection: close\r\n");
    stream.write_all(both.as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let statuses: Vec<&str> = all
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &all[at + 9..at + 12])
        .collect();
    assert_eq!(statuses, ["200", "404", "200"], "{all}");
}

#[test]
fn unknown_paths_and_methods_are_refused_in_the_shape_of_their_interface() {
    let server = TestServer::start(&[]);
    let table = [
        ("GET", "/v1/completions", 405, "type"),
        ("OPTIONS", "/v1/completions", 405, "type"),
        ("DELETE", "/v1/models", 405, "type"),
        ("GET", "/v1/other", 404, "type"),
        ("POST", "/v1/other", 404, "type"),
        ("POST", "/v1/responses", 404, "type"),
        ("PUT", "/v1/models/", 404, "type"),
        ("DELETE", "/api/v1/about", 405, "kind"),
        ("POST", "/index.html", 405, "kind"),
        ("POST", "/api/v1/other", 404, "kind"),
        ("GET", "/api/v1/other", 404, "kind"),
        ("DELETE", "/other", 404, "kind"),
    ];
    cases(table, |(method, path, status, key)| {
        let reply = server.send(method, path, "", "");
        assert_eq!(reply.status, *status);
        assert!(reply.json()["error"][key].is_string(), "{}", reply.text());
        assert_eq!(reply.header("allow").is_some(), *status == 405);
    });
    let chat = server.post("/v1/messages", &json!({"messages": []})).json();
    let message = chat["error"]["message"].as_str().unwrap();
    assert!(message.contains("/v1/chat/completions"), "{message}");
    assert_eq!(chat["error"]["code"], "unknown_url");
    for path in ["/", "/health", "/v1/models", "/app/main.js"] {
        let mut stream = server.connect();
        let host = server.address;
        write!(
            stream,
            "HEAD {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut head = String::new();
        stream.read_to_string(&mut head).unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }
}

#[test]
fn slow_requests_time_out() {
    let server = TestServer::start(&["--request-timeout", "1"]);
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
fn connections_that_send_or_read_nothing_are_closed() {
    let server = TestServer::start(&["--request-timeout", "1", "--max-seconds", "1"]);
    let silent = server.connect();
    let mut unread = server.connect();
    // More than the buffers of the sockets hold.
    let request = format!(
        "GET /index.html HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.address
    );
    unread
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let _ = unread.write_all(request.repeat(20_000).as_bytes());
    let start = Instant::now();
    // The connection of the question itself is open.
    while server.metric("brillm_connections") > 1.0 {
        assert!(start.elapsed() < PATIENCE, "the connections stay open");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop((silent, unread));
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
    let bearer = "authorization: bearer   a-long-secret\r\n";
    assert_eq!(server.send("GET", "/api/v1/about", bearer, "").status, 200);
    let login = server.send("GET", "/?token=a-long-secret", "", "");
    assert_eq!((login.status, login.header("location")), (303, Some("/")));
    let cookie = login.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    let cookie = format!("Cookie: a=b; {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(server.send("GET", "/", &cookie, "").status, 200);
    assert_eq!(server.send("GET", "/health", "", "").status, 200);
}
