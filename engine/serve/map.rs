//! The map: communities from afar, nodes and their strongest edges from near, never more than a page can draw.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::exchange::{self, Asked};
use super::nodes::{kind, probability};
use super::state::{Served, ServerState};
use crate::graph::{EdgeId, NodeId};

/// Nodes in an answer at most.
pub(super) const NODES: usize = 4000;
/// Edges in an answer at most.
pub(super) const EDGES: usize = 20_000;
/// Links between communities.
const LINKS: usize = 2000;
/// Nodes of the middle level.
const MIDDLE: usize = 1500;

#[derive(Deserialize)]
pub(super) struct Wanted {
    model: Option<String>,
    #[serde(default)]
    level: u8,
    x0: Option<f32>,
    y0: Option<f32>,
    x1: Option<f32>,
    y1: Option<f32>,
    k: Option<usize>,
    /// The least walks of an edge.
    #[serde(default)]
    minimum: u32,
    /// The least walks of a node.
    #[serde(default)]
    frequency: u64,
    /// Edges of one kind alone.
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Own,
    Seen,
}

pub(super) async fn map(
    State(state): State<Arc<ServerState>>,
    Asked(asked): Asked<Wanted>,
) -> Result<Response<Body>, ApiError> {
    let served = state.model(asked.model.as_deref())?.clone();
    if asked.level > 2 {
        return Err(ApiError::input("the level is 0, 1 or 2"));
    }
    let run = state.work.admit().await?;
    let value = run
        .finish(move |_| match asked.level {
            0 => afar(&served),
            _ => near(&served, &asked),
        })
        .await?;
    Ok(exchange::json(&value))
}

/// Communities and what flows between them.
fn afar(served: &Served) -> Result<Value, ApiError> {
    let (map, model) = (served.map()?, served.graph()?);
    let vocabulary = model.tokenizer().vocabulary();
    let clusters: Vec<Value> = map
        .discs
        .iter()
        .enumerate()
        .map(|(id, disc)| {
            let members: Vec<_> = disc.nodes.iter().take(5).collect();
            let names: Vec<String> = members
                .iter()
                .take(3)
                .map(|&&node| vocabulary.display(node))
                .collect();
            let tokens: Vec<_> = members
                .iter()
                .map(|&&node| crate::run::trace::ShownToken::of(vocabulary, node))
                .collect();
            json!({
                "id": id,
                "x": disc.middle[0],
                "y": disc.middle[1],
                "nodes": disc.nodes.len(),
                "count": disc.count,
                "label": names.join(", "),
                "members": tokens,
            })
        })
        .collect();
    let edges: Vec<Value> = map
        .links
        .iter()
        .take(LINKS)
        .map(|&(source, target, weight)| {
            json!({"source": source, "target": target, "weight": weight})
        })
        .collect();
    let graph = model.mechanism().graph();
    Ok(json!({
        "level": 0,
        "clusters": clusters,
        "nodes": [],
        "shown": {"nodes": 0, "edges": edges.len()},
        "total": {"nodes": graph.nodes(), "edges": graph.edges()},
        "edges": edges,
    }))
}

fn bytes_hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(" ")
}

/// Nodes within a box and their strongest edges to each other.
fn near(served: &Served, asked: &Wanted) -> Result<Value, ApiError> {
    let (map, model, counts) = (served.map()?, served.graph()?, served.counts()?);
    let graph = model.mechanism().graph();
    let low = [asked.x0.unwrap_or(0.0), asked.y0.unwrap_or(0.0)];
    let high = [asked.x1.unwrap_or(1.0), asked.y1.unwrap_or(1.0)];
    let inside = |node: &u32| {
        let place = map.places[*node as usize];
        (0..2).all(|axis| (low[axis]..=high[axis]).contains(&place[axis]))
    };
    let (most, fan) = match asked.level {
        1 => (MIDDLE, 3),
        _ => (NODES, asked.k.unwrap_or(5).clamp(1, 50)),
    };
    let often = |node: &u32| counts[*node as usize] >= asked.frequency;
    let of_kind = |edge: usize| match asked.kind {
        None => true,
        Some(Kind::Own) => graph.edge_rows()[edge] > 0,
        Some(Kind::Seen) => graph.edge_rows()[edge] == 0,
    };
    let mut nodes: Vec<u32> = (0..graph.nodes() as u32)
        .filter(|node| inside(node) && often(node))
        .collect();
    let within = nodes.len();
    nodes.sort_by_key(|&node| (std::cmp::Reverse(counts[node as usize]), node));
    nodes.truncate(most);
    let mut shown = vec![false; graph.nodes()];
    nodes.iter().for_each(|&node| shown[node as usize] = true);
    let mut edges: Vec<(EdgeId, u32, u32, f64)> = Vec::new();
    for &node in &nodes {
        let mut own: Vec<(EdgeId, u32, u32, f64)> = graph
            .row(NodeId(node))
            .filter(|&edge| {
                shown[graph.targets()[edge] as usize]
                    && graph.counts()[edge] >= asked.minimum
                    && of_kind(edge)
            })
            .map(|edge| {
                let id = EdgeId(edge as u32);
                (id, node, graph.targets()[edge], probability(graph, id))
            })
            .collect();
        own.sort_by(|a, b| b.3.total_cmp(&a.3).then(a.0.cmp(&b.0)));
        own.truncate(fan);
        edges.append(&mut own);
    }
    edges.sort_by(|a, b| b.3.total_cmp(&a.3).then(a.0.cmp(&b.0)));
    edges.truncate(EDGES);
    let vocabulary = model.tokenizer().vocabulary();
    let rows: Vec<Value> = nodes
        .iter()
        .map(|&node| {
            let [x, y] = map.places[node as usize];
            json!({
                "id": node,
                "x": x,
                "y": y,
                "size": counts[node as usize],
                "cluster": map.clusters[node as usize],
                "display": vocabulary.display(node),
                "bytes_hex": bytes_hex(vocabulary.bytes(node)),
            })
        })
        .collect();
    let lines: Vec<Value> = edges
        .iter()
        .map(|&(edge, source, target, weight)| {
            json!({
                "source": source,
                "target": target,
                "weight": weight,
                "edge": kind(graph, edge),
            })
        })
        .collect();
    Ok(json!({
        "level": asked.level,
        "clusters": [],
        "shown": {"nodes": rows.len(), "edges": lines.len()},
        "within": within,
        "total": {"nodes": graph.nodes(), "edges": graph.edges()},
        "nodes": rows,
        "edges": lines,
    }))
}
