//! Nodes: search, description, and edges without context.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::{ApiError, ApiResult};
use super::edges::{StaticEdge, split_strongest};
use super::extract::{Segment, UrlQuery};
use super::state::{ModelState, ServerState};
use crate::graph::{EdgeId, NodeId};
use crate::kernel::vector;
use crate::run::trace::ShownToken;
use crate::signal::EdgeForm;

/// Most entries of a list.
const MAX_ENTRIES: usize = 500;
/// Number of nearest nodes.
const NEAREST: usize = 10;
/// Bounds of the histogram of the probabilities that are not listed.
const BINS: [f64; 7] = [0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];

#[derive(Deserialize)]
pub(super) struct SearchQuery {
    model: Option<String>,
    #[serde(default)]
    q: String,
    limit: Option<usize>,
}

pub(super) async fn search(
    State(state): State<Arc<ServerState>>,
    UrlQuery(query): UrlQuery<SearchQuery>,
) -> ApiResult<Response<Body>> {
    let served = state.model(query.model.as_deref())?.clone();
    state.compute(move || find(&served, &query)).await
}

/// Find the nodes whose text, bytes (`0xE6`) or id (`#17`) match.
fn find(served: &ModelState, query: &SearchQuery) -> ApiResult<Value> {
    let engine = &served.model.engine;
    let vocabulary = engine.tokenizer().vocabulary();
    let nodes = engine.vocabulary() as u32;
    let (text, lower) = (query.q.as_str(), query.q.to_lowercase());
    let number = text.strip_prefix('#').and_then(|id| id.parse::<u32>().ok());
    let bytes = hexadecimal(text);
    let matches = |id: u32| -> bool {
        if let Some(number) = number {
            return id == number;
        }
        let own = vocabulary.bytes(id);
        if let Some(bytes) = &bytes {
            return own.windows(bytes.len()).any(|window| window == bytes);
        }
        let contains = |all: &str| all.contains(text) || all.to_lowercase().contains(&lower);
        std::str::from_utf8(own).is_ok_and(contains) || contains(&vocabulary.display(id))
    };
    let mut found: Vec<u32> = (0..nodes).filter(|&id| matches(id)).collect();
    let total = found.len();
    let counts = served.counts().ok();
    let count = |id: u32| counts.map_or(0, |counts| counts[id as usize]);
    // Tokens that equal the text come first, then the most frequent.
    let exact = |id: u32| {
        let own = std::str::from_utf8(vocabulary.bytes(id)).unwrap_or_default();
        !text.is_empty() && own.trim() == text.trim()
    };
    found.sort_by_key(|&id| (!exact(id), std::cmp::Reverse(count(id)), id));
    found.truncate(query.limit.unwrap_or(50).min(MAX_ENTRIES));
    let rows: Vec<Value> = found
        .into_iter()
        .map(|id| row(served, id))
        .collect::<Result<_, ApiError>>()?;
    Ok(json!({"total": total, "nodes": rows}))
}

/// Parse bytes in hexadecimal: `0xE6`, `0xE6 98`.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: String = text
        .strip_prefix("0x")?
        .chars()
        .filter(|character| !character.is_whitespace())
        .collect();
    let even = !digits.is_empty() && digits.len() % 2 == 0 && digits.is_ascii();
    even.then(|| {
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
            .collect()
    })?
}

/// A token with its counts and degrees.
fn row(served: &ModelState, id: u32) -> ApiResult<Value> {
    let engine = &served.model.engine;
    let mut row = json!(ShownToken::of(engine.tokenizer().vocabulary(), id));
    if let (Some(model), Value::Object(row)) = (engine.as_graph(), &mut row) {
        let graph = model.mechanism().graph();
        row.insert("count".into(), served.counts()?[id as usize].into());
        row.insert("out_degree".into(), graph.row(NodeId(id)).len().into());
        let degree = graph.incoming().degree(NodeId(id));
        row.insert("in_degree".into(), degree.into());
    }
    Ok(row)
}

#[derive(Deserialize)]
pub(super) struct NodeQuery {
    model: Option<String>,
    k: Option<usize>,
}

/// The model of a query and the node of a path.
fn resolve(state: &ServerState, query: &NodeQuery, id: &str) -> ApiResult<(Arc<ModelState>, u32)> {
    let served = state.model(query.model.as_deref())?.clone();
    let nodes = served.model.engine.vocabulary();
    match id.parse() {
        Ok(node) if (node as usize) < nodes => Ok((served, node)),
        _ => {
            let message = format!("node {id:?} does not exist (nodes are 0 to {})", nodes - 1);
            Err(ApiError::new(StatusCode::NOT_FOUND, message))
        }
    }
}

pub(super) async fn node(
    State(state): State<Arc<ServerState>>,
    Segment(id): Segment,
    UrlQuery(query): UrlQuery<NodeQuery>,
) -> ApiResult<Response<Body>> {
    let (served, id) = resolve(&state, &query, &id)?;
    state.compute(move || describe(&served, id)).await
}

fn describe(served: &ModelState, id: u32) -> ApiResult<Value> {
    let mut row = row(served, id)?;
    let (Some(model), Value::Object(fields)) = (served.model.engine.as_graph(), &mut row) else {
        return Ok(row);
    };
    let ranking = served.ranking()?;
    let own = model.mechanism().graph().own_slots(NodeId(id)).len();
    fields.insert("own_out".into(), own.into());
    fields.insert("page_rank".into(), ranking.ranks[id as usize].into());
    let position = ranking.position(NodeId(id));
    fields.insert("page_rank_position".into(), json!(position));
    let vocabulary = model.tokenizer().vocabulary();
    let nearest: Vec<Value> = nearest(model.mechanism(), id)
        .into_iter()
        .map(|(other, similarity)| {
            let mut row = json!(ShownToken::of(vocabulary, other));
            row["similarity"] = json!(similarity);
            row
        })
        .collect();
    fields.insert("nearest".into(), nearest.into());
    Ok(row)
}

/// The nodes whose vectors have the largest cosine with that of `id`: target factors of composed edges, start signals
/// of own edges.
fn nearest(mechanism: &crate::signal::Mechanism, id: u32) -> Vec<(u32, f32)> {
    let table = mechanism.weights().table(match mechanism.profile().form {
        EdgeForm::Composed | EdgeForm::Layered => "node.target",
        EdgeForm::Own => "node.start",
    });
    let mut own = vec![0.0; table.columns()];
    table.read_row(id as usize, &mut own);
    let length = vector::dot(&own, &own).sqrt();
    let mut row = own.clone();
    let mut all: Vec<(u32, f32)> = (0..table.rows() as u32)
        .filter(|&other| other != id)
        .map(|other| {
            table.read_row(other as usize, &mut row);
            let both = length * vector::dot(&row, &row).sqrt();
            let similarity = if both > 0.0 {
                vector::dot(&own, &row) / both
            } else {
                0.0
            };
            (other, similarity)
        })
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(NEAREST);
    all
}

pub(super) async fn outgoing(
    State(state): State<Arc<ServerState>>,
    Segment(id): Segment,
    UrlQuery(query): UrlQuery<NodeQuery>,
) -> ApiResult<Response<Body>> {
    let (served, id) = resolve(&state, &query, &id)?;
    let edges = move || {
        let graph = served.graph()?.mechanism().graph();
        let row = graph.row(NodeId(id));
        let edges = row.map(|edge| StaticEdge::new(graph, EdgeId(edge as u32), id));
        list_edges(&served, id, edges.collect(), query.k, Direction::Outgoing)
    };
    state.compute(edges).await
}

pub(super) async fn incoming(
    State(state): State<Arc<ServerState>>,
    Segment(id): Segment,
    UrlQuery(query): UrlQuery<NodeQuery>,
) -> ApiResult<Response<Body>> {
    let (served, id) = resolve(&state, &query, &id)?;
    let edges = move || {
        let graph = served.graph()?.mechanism().graph();
        let entering = graph.incoming().entering(NodeId(id));
        let edges = entering
            .iter()
            .map(|(source, edge)| StaticEdge::new(graph, edge, source.0));
        list_edges(&served, id, edges.collect(), query.k, Direction::Incoming)
    };
    state.compute(edges).await
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Outgoing,
    Incoming,
}

/// List the most probable edges of a node, and the others as a histogram.
fn list_edges(
    served: &ModelState,
    node: u32,
    mut edges: Vec<StaticEdge>,
    k: Option<usize>,
    direction: Direction,
) -> ApiResult<Value> {
    let model = served.graph()?;
    let graph = model.mechanism().graph();
    let total = edges.len();
    let rest = split_strongest(&mut edges, k.unwrap_or(20).clamp(1, MAX_ENTRIES));
    let vocabulary = model.tokenizer().vocabulary();
    let rows: Vec<Value> = edges
        .iter()
        .map(|edge| {
            let other = match direction {
                Direction::Outgoing => edge.target,
                Direction::Incoming => edge.source,
            };
            json!({
                "source": edge.source,
                "target": edge.target,
                "token": ShownToken::of(vocabulary, other),
                "count": graph.counts()[edge.id.index()],
                "probability": edge.probability,
                "resistance": graph.resistance().seen()[edge.id.index()],
                "edge": edge.kind(graph),
            })
        })
        .collect();
    let (histogram, rest_probability) = histogram(&rest);
    let mut response = json!({
        "node": node,
        "total": total,
        "shown": rows.len(),
        "rest": {
            "count": rest.len(),
            "probability": rest_probability,
            "histogram": histogram,
        },
    });
    if direction == Direction::Outgoing {
        let listed: f64 = edges.iter().map(|edge| edge.probability).sum();
        response["unseen"] = json!((1.0 - listed - rest_probability).max(0.0));
    }
    response["edges"] = rows.into();
    Ok(response)
}

/// Count edges by probability. Returns the bins that are not empty, and the sum of all probabilities.
fn histogram(edges: &[StaticEdge]) -> (Vec<Value>, f64) {
    let mut bins = [(0usize, 0.0f64); BINS.len() - 1];
    for edge in edges {
        let bin = BINS[1..].iter().position(|&end| edge.probability < end);
        let (count, sum) = &mut bins[bin.unwrap_or(BINS.len() - 2)];
        *count += 1;
        *sum += edge.probability;
    }
    let rows = bins
        .iter()
        .zip(BINS.windows(2))
        .filter(|((count, _), _)| *count > 0)
        .map(|((count, sum), bounds)| {
            json!({"from": bounds[0], "to": bounds[1], "count": count, "probability": sum})
        });
    (rows.collect(), bins.iter().map(|(_, sum)| sum).sum())
}

#[cfg(test)]
mod tests {
    use super::hexadecimal;

    #[test]
    fn hexadecimal_needs_a_prefix_and_whole_bytes() {
        assert_eq!(hexadecimal("0xE6 98"), Some(vec![0xE6, 0x98]));
        assert_eq!(hexadecimal("0xe6"), Some(vec![0xE6]));
        for none in ["E6", "0x", "0xE", "0xZZ", "0x春春", ""] {
            assert_eq!(hexadecimal(none), None, "{none}");
        }
    }
}
