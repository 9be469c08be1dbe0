//! The map of the graph: clusters, or nodes with their strongest edges, no more than a page can draw.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api_error::{ApiError, ApiResult};
use super::edges::{StaticEdge, split_strongest};
use super::extract::UrlQuery;
use super::state::{ModelState, ServerState};
use crate::graph::{EdgeId, NodeId, TokenGraph};
use crate::run::trace::ShownToken;

/// Most nodes in a response.
pub(super) const MAX_NODES: usize = 4000;
/// Most edges in a response.
pub(super) const MAX_EDGES: usize = 20_000;
/// Most links between clusters.
const MAX_LINKS: usize = 2000;
/// Most nodes at level 1.
const MAX_MAIN_NODES: usize = 1500;

#[derive(Deserialize)]
pub(super) struct MapQuery {
    model: Option<String>,
    #[serde(default)]
    level: u8,
    x0: Option<f32>,
    y0: Option<f32>,
    x1: Option<f32>,
    y1: Option<f32>,
    k: Option<usize>,
    /// Smallest count of an edge.
    #[serde(default)]
    minimum: u32,
    /// Smallest count of a node.
    #[serde(default)]
    frequency: u64,
    /// Only edges of this kind.
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Own,
    Seen,
}

/// The answer of a level. Nodes and edges, of which there are thousands, are written as JSON without a tree of values.
#[derive(Serialize)]
#[serde(untagged)]
enum Level {
    Clusters(Value),
    Nodes {
        level: u8,
        clusters: [u8; 0],
        shown: Value,
        within: usize,
        total: Value,
        nodes: Vec<NodeRow>,
        edges: Vec<EdgeRow>,
    },
}

#[derive(Serialize)]
struct NodeRow {
    id: u32,
    x: f32,
    y: f32,
    size: u64,
    cluster: u32,
    display: String,
    bytes_hex: String,
}

#[derive(Serialize)]
struct EdgeRow {
    source: u32,
    target: u32,
    weight: f64,
    edge: &'static str,
}

pub(super) async fn map(
    State(state): State<Arc<ServerState>>,
    UrlQuery(query): UrlQuery<MapQuery>,
) -> ApiResult<Response<Body>> {
    let served = state.model(query.model.as_deref())?.clone();
    if query.level > 2 {
        return Err(ApiError::input(format!(
            "invalid level {}: expected 0, 1 or 2",
            query.level
        )));
    }
    state
        .compute(move || match query.level {
            0 => clusters(&served).map(Level::Clusters),
            _ => nodes(&served, &query),
        })
        .await
}

/// The clusters and the summed counts of the edges between them.
fn clusters(served: &ModelState) -> ApiResult<Value> {
    let (map, model) = (served.map()?, served.graph()?);
    let vocabulary = model.tokenizer().vocabulary();
    let clusters: Vec<Value> = map
        .discs
        .iter()
        .enumerate()
        .map(|(id, disc)| {
            let members: Vec<ShownToken> = disc
                .nodes
                .iter()
                .take(5)
                .map(|&node| ShownToken::of(vocabulary, node))
                .collect();
            let names: Vec<&str> = members
                .iter()
                .take(3)
                .map(|token| token.display.as_str())
                .collect();
            json!({
                "id": id,
                "x": disc.middle[0],
                "y": disc.middle[1],
                "nodes": disc.nodes.len(),
                "count": disc.count,
                "label": names.join(", "),
                "members": members,
            })
        })
        .collect();
    let edges: Vec<Value> = map
        .links
        .iter()
        .take(MAX_LINKS)
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

/// The most frequent nodes within the box of a query, and the number of nodes in it.
fn select_nodes(
    served: &ModelState,
    query: &MapQuery,
    most: usize,
) -> ApiResult<(Vec<u32>, usize)> {
    let (map, counts) = (served.map()?, served.counts()?);
    let low = [query.x0.unwrap_or(0.0), query.y0.unwrap_or(0.0)];
    let high = [query.x1.unwrap_or(1.0), query.y1.unwrap_or(1.0)];
    let inside = |node: &u32| {
        let point = map.positions[*node as usize];
        (0..2).all(|axis| (low[axis]..=high[axis]).contains(&point[axis]))
    };
    let mut nodes: Vec<u32> = (0..counts.len() as u32)
        .filter(|node| inside(node) && counts[*node as usize] >= query.frequency)
        .collect();
    let within = nodes.len();
    nodes.sort_by_key(|&node| (std::cmp::Reverse(counts[node as usize]), node));
    nodes.truncate(most);
    Ok((nodes, within))
}

/// The `fan` strongest edges of each node to the others that match a query.
fn select_edges(
    graph: &TokenGraph,
    nodes: &[u32],
    query: &MapQuery,
    fan: usize,
) -> Vec<StaticEdge> {
    let mut shown = vec![false; graph.nodes()];
    nodes.iter().for_each(|&node| shown[node as usize] = true);
    let matches = |edge: &StaticEdge| {
        shown[edge.target as usize]
            && graph.counts()[edge.id.index()] >= query.minimum
            && match query.kind {
                None => true,
                Some(Kind::Own) => edge.is_own(graph),
                Some(Kind::Seen) => !edge.is_own(graph),
            }
    };
    let mut edges: Vec<StaticEdge> = Vec::new();
    for &node in nodes {
        let mut leaving: Vec<StaticEdge> = graph
            .row(NodeId(node))
            .map(|edge| StaticEdge::new(graph, EdgeId(edge as u32), node))
            .filter(matches)
            .collect();
        split_strongest(&mut leaving, fan);
        edges.append(&mut leaving);
    }
    split_strongest(&mut edges, MAX_EDGES);
    edges
}

/// The nodes within a box, and their strongest edges to each other.
fn nodes(served: &ModelState, query: &MapQuery) -> ApiResult<Level> {
    let (map, model, counts) = (served.map()?, served.graph()?, served.counts()?);
    let graph = model.mechanism().graph();
    let (most, fan) = match query.level {
        1 => (MAX_MAIN_NODES, 3),
        _ => (MAX_NODES, query.k.unwrap_or(5).clamp(1, 50)),
    };
    let (nodes, within) = select_nodes(served, query, most)?;
    let edges = select_edges(graph, &nodes, query, fan);
    let vocabulary = model.tokenizer().vocabulary();
    let node_rows: Vec<NodeRow> = nodes
        .iter()
        .map(|&node| {
            let [x, y] = map.positions[node as usize];
            let token = ShownToken::of(vocabulary, node);
            NodeRow {
                id: node,
                x,
                y,
                size: counts[node as usize],
                cluster: map.clusters[node as usize],
                display: token.display,
                bytes_hex: token.bytes_hex,
            }
        })
        .collect();
    let edge_rows: Vec<EdgeRow> = edges
        .iter()
        .map(|edge| EdgeRow {
            source: edge.source,
            target: edge.target,
            weight: edge.probability,
            edge: edge.kind(graph),
        })
        .collect();
    Ok(Level::Nodes {
        level: query.level,
        clusters: [],
        shown: json!({"nodes": node_rows.len(), "edges": edge_rows.len()}),
        within,
        total: json!({"nodes": graph.nodes(), "edges": graph.edges()}),
        nodes: node_rows,
        edges: edge_rows,
    })
}
