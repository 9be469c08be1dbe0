//! The page, and the data that it shows: nodes, edges, the map.

use std::collections::BTreeSet;

use brillm::graph::{NodeId, PageRank, RankWeight};
use brillm::run::Engine;
use serde_json::{Value, json};

use crate::server::{TestServer, engine};

#[test]
fn the_page_loads_only_files_of_the_server() {
    let server = TestServer::start(&[]);
    let page = server.send("GET", "/", "", "");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let tag = page.header("etag").unwrap();
    let again = server.send("GET", "/", &format!("If-None-Match: {tag}\r\n"), "");
    assert_eq!((again.status, again.body.len()), (304, 0));
    for path in [
        "/none.js",
        "/../Cargo.toml",
        "/..%2f..%2fCargo.toml",
        "/app/../../mod.rs",
        "/.git",
    ] {
        let reply = server.send("GET", path, "", "");
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.json()["error"]["code"], 404);
    }
    let wrong = server.send("DELETE", "/api/v1/about", "", "");
    assert_eq!(
        (wrong.status, wrong.json()["error"]["kind"].as_str()),
        (405, Some("http"))
    );
    let about = server.get("/api/v1/about");
    assert_eq!(about["schema"], "brillm-trace/1");
    let models = server.get("/api/v1/models");
    assert_eq!(models[0]["kind"], "graph");
    assert_eq!(models[1]["kind"], "transformer");
    assert_eq!(models[0]["sha256"].as_str().unwrap().len(), 64);
    let shown = server
        .post("/api/v1/tokens", &json!({"text": "Once ☃"}))
        .json();
    assert!(shown["tokens"].as_array().unwrap().len() > 1);
}

#[test]
fn nodes_and_edges_equal_those_of_the_graph() {
    let server = TestServer::start(&[]);
    let Engine::Graph(english) = engine("english.bril") else {
        panic!("not a graph")
    };
    let graph = english.mechanism().graph();
    let found = server.get("/api/v1/nodes?q=the&limit=5");
    let first = &found["nodes"][0];
    assert_eq!(first["text"].as_str().unwrap().trim(), "the");
    let id = first["id"].as_u64().unwrap() as u32;
    let node = server.get(&format!("/api/v1/nodes/{id}"));
    let out = graph.row(NodeId(id)).len();
    assert_eq!(node["out_degree"], out);
    assert_eq!(node["nearest"].as_array().unwrap().len(), 10);
    let ranks = PageRank {
        tolerance: 1e-8,
        iterations: 60,
        weight: RankWeight::Count,
        ..PageRank::default()
    };
    let ranking = ranks.of(graph).unwrap();
    let highest = (0..graph.nodes() as u32)
        .find(|&node| ranking.position(NodeId(node)) == Some(1))
        .unwrap();
    let highest = server.get(&format!("/api/v1/nodes/{highest}"));
    assert_eq!(highest["page_rank_position"], 1);
    let fan = server.get(&format!("/api/v1/nodes/{id}/out?k=7"));
    let edges = fan["edges"].as_array().unwrap();
    assert_eq!((edges.len(), &fan["total"]), (7, &json!(out)));
    assert_eq!(fan["rest"]["count"], out - 7);
    let probability = |edge: &Value| edge["probability"].as_f64().unwrap();
    assert!(
        edges
            .windows(2)
            .all(|pair| probability(&pair[0]) >= probability(&pair[1]))
    );
    let listed: f64 = edges.iter().map(probability).sum();
    let all =
        listed + fan["rest"]["probability"].as_f64().unwrap() + fan["unseen"].as_f64().unwrap();
    assert!((all - 1.0).abs() < 1e-6, "{all}");
    let entering = server.get(&format!("/api/v1/nodes/{id}/in?k=3"));
    assert_eq!(entering["edges"][0]["target"], id);
    assert_eq!(server.get("/api/v1/nodes?q=%2317")["nodes"][0]["id"], 17);
    for path in [
        "/api/v1/nodes/x",
        "/api/v1/nodes/99999999",
        "/api/v1/nodes/-1/out",
    ] {
        assert_eq!(server.send("GET", path, "", "").status, 404, "{path}");
    }
    assert_eq!(
        server.send("GET", "/api/v1/nodes/1/out?k=x", "", "").status,
        400
    );
    let other = server.send("GET", "/api/v1/nodes/1/out?model=stories260K", "", "");
    assert_eq!(
        (other.status, &other.json()["error"]["kind"]),
        (422, &json!("unsupported"))
    );
}

#[test]
fn the_map_stays_within_its_limits() {
    let server = TestServer::start(&[]);
    let clusters_only = server.get("/api/v1/map");
    let clusters = clusters_only["clusters"].as_array().unwrap();
    assert!((2..=200).contains(&clusters.len()), "{}", clusters.len());
    let nodes: u64 = clusters
        .iter()
        .map(|one| one["nodes"].as_u64().unwrap())
        .sum();
    assert_eq!(json!(nodes), clusters_only["total"]["nodes"]);
    assert!(clusters_only["edges"].as_array().unwrap().len() <= 2000);
    for query in [
        "level=1",
        "level=2",
        "level=2&k=50",
        "level=2&x0=0.4&x1=0.6&y0=0.4&y1=0.6&k=9",
    ] {
        let near = server.get(&format!("/api/v1/map?{query}"));
        let (nodes, edges) = (
            near["nodes"].as_array().unwrap(),
            near["edges"].as_array().unwrap(),
        );
        assert!(nodes.len() <= 4000 && edges.len() <= 20_000, "{query}");
        assert!(!nodes.is_empty() && !edges.is_empty(), "{query}");
        let ids: BTreeSet<u64> = nodes
            .iter()
            .map(|node| node["id"].as_u64().unwrap())
            .collect();
        for edge in edges {
            for end in ["source", "target"] {
                assert!(ids.contains(&edge[end].as_u64().unwrap()), "{query}");
            }
        }
        if query.contains("x0") {
            let inside = |node: &Value| (0.4..=0.6).contains(&node["x"].as_f64().unwrap());
            assert!(nodes.iter().all(inside) && nodes.len() < 4000);
        }
    }
    assert_eq!(
        server.send("GET", "/api/v1/map?level=3", "", "").status,
        400
    );
}
