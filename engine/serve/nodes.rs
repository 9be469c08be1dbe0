//! Nodes: found, described, and their edges without context.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::exchange::{self, Asked, Named};
use super::state::{Served, ServerState};
use crate::graph::{EdgeId, NodeId, TokenGraph};
use crate::kernel::vector;
use crate::run::Engine;
use crate::run::trace::ShownToken;
use crate::signal::EdgeForm;

/// Entries of a list at most.
const MOST: usize = 500;
/// Nearest nodes.
const NEAREST: usize = 10;
/// Lower ends of the bins of probabilities that are not listed.
const BINS: [f64; 7] = [0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];

#[derive(Deserialize)]
pub(super) struct Search {
    model: Option<String>,
    #[serde(default)]
    q: String,
    limit: Option<usize>,
}

/// Does what takes a while on a thread of its own.
async fn on_thread(
    state: Arc<ServerState>,
    work: impl FnOnce(&ServerState) -> Result<Value, ApiError> + Send + 'static,
) -> Result<Response<Body>, ApiError> {
    let run = state.work.admit().await?;
    let value = run.finish(move |_| work(&state)).await?;
    Ok(exchange::json(&value))
}

pub(super) async fn search(
    State(state): State<Arc<ServerState>>,
    Asked(search): Asked<Search>,
) -> Result<Response<Body>, ApiError> {
    let served = state.model(search.model.as_deref())?.clone();
    on_thread(state, move |_| find(&served, &search)).await
}

fn find(served: &Served, search: &Search) -> Result<Value, ApiError> {
    let engine = &served.model.engine;
    let vocabulary = engine.tokenizer().vocabulary();
    let nodes = engine.vocabulary() as u32;
    let (text, lower) = (search.q.as_str(), search.q.to_lowercase());
    let number = text.strip_prefix('#').and_then(|id| id.parse::<u32>().ok());
    let bytes = hexadecimal(text);
    let fits = |id: u32| -> bool {
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
    let mut found: Vec<u32> = (0..nodes).filter(|&id| fits(id)).collect();
    let total = found.len();
    let counts = served.counts().ok();
    let count = |id: u32| counts.map_or(0, |counts| counts[id as usize]);
    // What is the text itself comes first, then the most frequent.
    let exact = |id: u32| {
        let own = std::str::from_utf8(vocabulary.bytes(id)).unwrap_or_default();
        !text.is_empty() && own.trim() == text.trim()
    };
    found.sort_by_key(|&id| (!exact(id), std::cmp::Reverse(count(id)), id));
    found.truncate(search.limit.unwrap_or(50).min(MOST));
    let rows: Vec<Value> = found
        .into_iter()
        .map(|id| row(served, id))
        .collect::<Result<_, ApiError>>()?;
    Ok(json!({"total": total, "nodes": rows}))
}

/// Bytes written as `0xE6`, `E6 98` behind `0x`.
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

/// A token with its counts.
fn row(served: &Served, id: u32) -> Result<Value, ApiError> {
    let engine = &served.model.engine;
    let mut row = serde_json::to_value(ShownToken::of(engine.tokenizer().vocabulary(), id))
        .unwrap_or_default();
    if let (Engine::Graph(model), Value::Object(row)) = (engine, &mut row) {
        let graph = model.mechanism().graph();
        row.insert("count".into(), served.counts()?[id as usize].into());
        row.insert("out_degree".into(), graph.row(NodeId(id)).len().into());
        let degree = graph.incoming().degree(NodeId(id));
        row.insert("in_degree".into(), degree.into());
    }
    Ok(row)
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    model: Option<String>,
    k: Option<usize>,
}

fn number(state: &ServerState, asked: &Wanted, id: &str) -> Result<(Arc<Served>, u32), ApiError> {
    let served = state.model(asked.model.as_deref())?.clone();
    let nodes = served.model.engine.vocabulary();
    let id = id.parse().ok().filter(|&id: &u32| (id as usize) < nodes);
    let id = id.ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            format!("there is no such node among {nodes}"),
        )
    })?;
    Ok((served, id))
}

pub(super) async fn node(
    State(state): State<Arc<ServerState>>,
    Named(id): Named,
    Asked(asked): Asked<Wanted>,
) -> Result<Response<Body>, ApiError> {
    let (served, id) = number(&state, &asked, &id)?;
    on_thread(state, move |_| describe(&served, id)).await
}

fn describe(served: &Served, id: u32) -> Result<Value, ApiError> {
    let mut row = row(served, id)?;
    let (Engine::Graph(model), Value::Object(fields)) = (&served.model.engine, &mut row) else {
        return Ok(row);
    };
    let ranking = served.ranking()?;
    let own = model.mechanism().graph().own_slots(NodeId(id)).len();
    fields.insert("own_out".into(), own.into());
    fields.insert("page_rank".into(), ranking.ranks[id as usize].into());
    let place = ranking.place(NodeId(id)).map(|place| place + 1);
    fields.insert("page_rank_place".into(), json!(place));
    let vocabulary = model.tokenizer().vocabulary();
    let nearest: Vec<Value> = nearest(model.mechanism(), id)
        .into_iter()
        .map(|(other, similarity)| {
            let mut row =
                serde_json::to_value(ShownToken::of(vocabulary, other)).unwrap_or_default();
            row["similarity"] = json!(similarity);
            row
        })
        .collect();
    fields.insert("nearest".into(), nearest.into());
    Ok(row)
}

/// The nodes whose vectors point the same way, by cosine: target factors of composed edges, starts of own ones.
fn nearest(mechanism: &crate::signal::Mechanism, id: u32) -> Vec<(u32, f32)> {
    let table = mechanism.weights().table(match mechanism.profile().form {
        EdgeForm::Composed => "node.target",
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

pub(super) async fn leaving(
    State(state): State<Arc<ServerState>>,
    Named(id): Named,
    Asked(asked): Asked<Wanted>,
) -> Result<Response<Body>, ApiError> {
    let (served, id) = number(&state, &asked, &id)?;
    on_thread(state, move |_| {
        let graph = served.graph()?.mechanism().graph();
        let edges: Vec<EdgeId> = graph
            .row(NodeId(id))
            .map(|edge| EdgeId(edge as u32))
            .collect();
        let ends = edges
            .iter()
            .map(|&edge| (edge, id, graph.targets()[edge.index()]));
        edges_of(&served, id, ends.collect(), asked.k, true)
    })
    .await
}

pub(super) async fn entering(
    State(state): State<Arc<ServerState>>,
    Named(id): Named,
    Asked(asked): Asked<Wanted>,
) -> Result<Response<Body>, ApiError> {
    let (served, id) = number(&state, &asked, &id)?;
    on_thread(state, move |_| {
        let graph = served.graph()?.mechanism().graph();
        let entering = graph.incoming().entering(NodeId(id));
        let ends = entering.iter().map(|(source, edge)| (edge, source.0, id));
        edges_of(&served, id, ends.collect(), asked.k, false)
    })
    .await
}

/// The static probability of an edge.
pub(super) fn probability(graph: &TokenGraph, edge: EdgeId) -> f64 {
    (-f64::from(graph.resistance().seen()[edge.index()])).exp()
}

/// What an edge is made of.
pub(super) fn kind(graph: &TokenGraph, edge: EdgeId) -> &'static str {
    match graph.edge_rows()[edge.index()] > 0 {
        true => "own",
        false => "seen",
    }
}

/// The strongest edges of a fan, and what is not listed in bins.
fn edges_of(
    served: &Served,
    node: u32,
    mut edges: Vec<(EdgeId, u32, u32)>,
    k: Option<usize>,
    leaving: bool,
) -> Result<Value, ApiError> {
    let model = served.graph()?;
    let graph = model.mechanism().graph();
    let total = edges.len();
    edges.sort_by(|a, b| {
        let (of_a, of_b) = (probability(graph, a.0), probability(graph, b.0));
        of_b.total_cmp(&of_a).then(a.0.cmp(&b.0))
    });
    let rest = edges.split_off(k.unwrap_or(20).clamp(1, MOST).min(total));
    let mut bins = [(0usize, 0.0f64); BINS.len() - 1];
    for &(edge, ..) in &rest {
        let p = probability(graph, edge);
        let bin = BINS[1..].iter().position(|&end| p < end);
        let bin = &mut bins[bin.unwrap_or(BINS.len() - 2)];
        *bin = (bin.0 + 1, bin.1 + p);
    }
    let vocabulary = model.tokenizer().vocabulary();
    let rows: Vec<Value> = edges
        .iter()
        .map(|&(edge, source, target)| {
            let other = if leaving { target } else { source };
            json!({
                "source": source,
                "target": target,
                "token": ShownToken::of(vocabulary, other),
                "count": graph.counts()[edge.index()],
                "probability": probability(graph, edge),
                "resistance": graph.resistance().seen()[edge.index()],
                "edge": kind(graph, edge),
            })
        })
        .collect();
    let histogram: Vec<Value> = bins
        .iter()
        .zip(BINS.windows(2))
        .filter(|(bin, _)| bin.0 > 0)
        .map(|(bin, ends)| {
            json!({"from": ends[0], "to": ends[1], "count": bin.0, "probability": bin.1})
        })
        .collect();
    let rest_probability: f64 = bins.iter().map(|bin| bin.1).sum();
    let mut answer = json!({
        "node": node,
        "total": total,
        "shown": rows.len(),
        "rest": {
            "count": rest.len(),
            "probability": rest_probability,
            "histogram": histogram,
        },
    });
    if leaving {
        let listed: f64 = edges.iter().map(|one| probability(graph, one.0)).sum();
        answer["unseen"] = json!((1.0 - listed - rest_probability).max(0.0));
    }
    answer["edges"] = rows.into();
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::hexadecimal;

    #[test]
    fn bytes_are_read() {
        assert_eq!(hexadecimal("0xE6 98"), Some(vec![0xE6, 0x98]));
        assert_eq!(hexadecimal("0xe6"), Some(vec![0xE6]));
        for none in ["E6", "0x", "0xE", "0xZZ", "0x春春", ""] {
            assert_eq!(hexadecimal(none), None, "{none}");
        }
    }
}
