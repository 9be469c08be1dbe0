//! Tokens become a graph: nodes, directed edges with counts, fans, and the static resistance of edges.
//!
//! In: tokens, or `(source, target, count)` triples. Out: a [`TokenGraph`], whose fans the rooms `signal`
//! and `path` walk, whose counts `learn` turns into resistances, and on which petgraph's algorithms run.
//!
//! To look at a graph, the commands `inspect` and `export` and embedding programs take from here: sizes and
//! strongest edges ([`GraphSummary`], [`NodeSummary`]), what reaches what ([`Reachability`], [`Components`]), what
//! matters ([`PageRank`]), the ways from one token to another ([`least_paths`]), and a part of the graph
//! ([`Subgraph`]) in the formats of other programs ([`export`]).
#![forbid(unsafe_code)]

mod build;
mod community;
mod discount;
pub mod export;
mod incoming;
mod node_map;
mod paths;
mod petgraph;
mod rank;
mod reachability;
mod resistance;
mod strength;
mod subgraph;
mod summary;
mod token_graph;

pub use self::petgraph::{
    EdgeReference, Edges, Neighbors, NodeReference, NodeReferences, Nodes, Visited,
};
pub use build::GraphBuilder;
pub use community::communities;
pub use discount::Discounts;
pub use incoming::{Entering, Incoming};
pub use node_map::{Disc, NodeMap};
pub use paths::{LeastPath, least_paths};
pub use rank::{PageRank, RankWeight, Ranking};
pub use reachability::{Components, Direction, Reachability};
pub use resistance::Resistance;
pub use strength::Strength;
pub use subgraph::Subgraph;
pub use summary::{Distribution, EdgeSummary, GraphSummary, NodeSummary};
pub use token_graph::{EdgeId, Fan, NodeId, TokenGraph};
