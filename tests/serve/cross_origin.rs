//! Pages of other origins (CORS).

use crate::server::{JSON, Reply, TestServer};
use crate::support::cases;

const PAGE: &str = "Origin: https://page.example\r\n";
const ASKS: &str = "Access-Control-Request-Method: POST\r\n\
    Access-Control-Request-Headers: authorization, content-type\r\n";

fn origin(reply: &Reply) -> Option<&str> {
    reply.header("access-control-allow-origin")
}

#[test]
fn pages_of_other_origins_are_refused_unless_they_are_allowed() {
    let closed = TestServer::start(&[]);
    let options = [
        "--allow-origin",
        "http://localhost:3000",
        "--allow-origin",
        "https://page.example",
    ];
    let open = TestServer::start(&options);
    let table = [
        (&closed, PAGE, 403, None),
        (&open, PAGE, 200, Some("https://page.example")),
        (
            &open,
            "Origin: http://localhost:3000\r\n",
            200,
            Some("http://localhost:3000"),
        ),
        (&open, "Origin: http://localhost:3001\r\n", 403, None),
        (&open, "Origin: https://page.example.evil\r\n", 403, None),
        (&open, "Origin: null\r\n", 403, None),
        (&open, "", 200, None),
    ];
    for (server, header, status, allowed) in table {
        let reply = server.send("GET", "/v1/models", header, "");
        assert_eq!(
            (reply.status, origin(&reply)),
            (status, allowed),
            "{header}"
        );
        let varies = std::ptr::eq(server, &open).then_some("Origin");
        assert_eq!(reply.header("vary"), varies, "{header}");
        let credentials = reply.header("access-control-allow-credentials");
        assert_eq!(credentials, allowed.and(Some("true")), "{header}");
    }
    // The name of the server is checked all the same: an allowed page does not allow DNS rebinding.
    let rebound =
        format!("GET / HTTP/1.1\r\nHost: page.example\r\n{PAGE}Connection: close\r\n\r\n");
    assert_eq!(open.raw(rebound.as_bytes()).status, 421);
    // Errors can be read by the page as well.
    let refused = open.send("POST", "/v1/completions", &format!("{PAGE}{JSON}"), "{}");
    assert_eq!(
        (refused.status, origin(&refused)),
        (400, Some("https://page.example"))
    );
}

#[test]
fn preflight_requests_need_no_token() {
    let server = TestServer::start(&[
        "--token",
        "a-long-secret",
        "--allow-origin",
        "https://page.example",
    ]);
    let asked = server.send("OPTIONS", "/v1/completions", &format!("{PAGE}{ASKS}"), "");
    assert_eq!(
        (asked.status, origin(&asked)),
        (204, Some("https://page.example"))
    );
    assert!(
        asked
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    let headers = asked.header("access-control-allow-headers");
    assert_eq!(headers, Some("authorization, content-type"));
    let foreign = format!("Origin: https://other.example\r\n{ASKS}");
    let foreign = server.send("OPTIONS", "/v1/completions", &foreign, "");
    assert_eq!((foreign.status, origin(&foreign)), (403, None));
    let body = r#"{"prompt":"Once","max_tokens":1}"#;
    let without = server.send("POST", "/v1/completions", &format!("{PAGE}{JSON}"), body);
    assert_eq!(
        (without.status, origin(&without)),
        (401, Some("https://page.example"))
    );
    let with = format!("{PAGE}{JSON}Authorization: Bearer a-long-secret\r\n");
    assert_eq!(
        server.send("POST", "/v1/completions", &with, body).status,
        200
    );
}

#[test]
fn a_wildcard_allows_all_pages_without_credentials() {
    let server = TestServer::start(&["--allow-origin", "*"]);
    cases([PAGE, "Origin: null\r\n"], |header| {
        let reply = server.send("GET", "/v1/models", header, "");
        assert_eq!((reply.status, origin(&reply)), (200, Some("*")));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    });
}
