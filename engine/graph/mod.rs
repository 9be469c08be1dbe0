//! Tokens become a graph.
pub mod discount;
