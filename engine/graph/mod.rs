//! The token graph: nodes, directed edges with counts, fans, and the static resistance of edges.
//!
//! [`GraphBuilder`] counts the edges of a token stream and builds a [`TokenGraph`]. [`crate::signal`] and
//! [`crate::path`] decode over its fans, [`crate::learn`] trains its edges, and petgraph's algorithms run on it.
//!
//! For analysis: sizes and strongest edges ([`GraphSummary`], [`NodeSummary`]), reachability ([`Reachability`],
//! [`Components`]), centrality ([`PageRank`]), paths between two tokens ([`least_paths`]), sub-graphs ([`Subgraph`])
//! and their export to other programs ([`export`]).
#![forbid(unsafe_code)]

mod added_text;
mod build;
mod community;
pub(crate) mod context_tree;
mod discount;
pub mod export;
mod incoming;
mod node_map;
mod owners;
mod path_estimate;
mod path_graph;
mod path_level;
mod paths;
mod petgraph;
mod rank;
mod reachability;
mod resistance;
mod strength;
mod subgraph;
mod summary;
mod token_graph;

pub use self::petgraph::{EdgeReference, Edges, Neighbors, NodeReferences, Nodes, Visited};
pub use added_text::AddedText;
pub use build::GraphBuilder;
pub use community::communities;
pub use discount::Discounts;
pub use incoming::{Entering, Incoming};
pub use node_map::{Disc, NodeMap};
pub use owners::{FAN_BLOCK, FULLEST, FanCost, Owners, Piece, imbalance};
pub use path_graph::{PathGraph, PathSettings};
pub(crate) use path_level::BLOCKS as LEVEL_BLOCKS;
pub use path_level::{PathLevel, Walk};
pub use paths::{LeastPath, least_paths};
pub use rank::{PageRank, RankWeight, Ranking};
pub use reachability::{Components, Direction, Reachability};
pub use resistance::Resistance;
pub use strength::Strength;
pub use subgraph::Subgraph;
pub use summary::{Distribution, EdgeSummary, GraphSummary, NodeSummary};
pub use token_graph::{EdgeId, Fan, NodeId, TokenGraph};
