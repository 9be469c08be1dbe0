//! The graph of a model.

use std::collections::HashMap;

use brillm::graph::{Direction, NodeId, Strength, Subgraph, TokenGraph};
use brillm::{Error, ErrorKind, Model};
use pyo3::prelude::*;

use crate::buffer::{Buffer, Number};
use crate::call::detached;

/// The graph of a model; its rows are the edges that leave a node.
#[pyclass(frozen, module = "brillm._native")]
pub(crate) struct Graph {
    model: Model,
}

impl Graph {
    pub(crate) fn new(model: Model) -> Self {
        Self { model }
    }

    fn graph(&self) -> &TokenGraph {
        self.model.mechanism().graph()
    }

    fn view<T: Number>(&self, array: for<'a> fn(&'a TokenGraph) -> &'a [T]) -> Buffer {
        let shape = vec![array(self.graph()).len()];
        Buffer::new(self.model.clone(), shape, |model: &Model| {
            array(model.mechanism().graph())
        })
    }
}

#[pymethods]
impl Graph {
    /// Numbers of nodes, edges and own edges.
    fn sizes(&self) -> (usize, usize, usize) {
        let graph = self.graph();
        (graph.nodes(), graph.edges(), graph.own_edges())
    }

    /// The arrays of the graph, by name. Not copied.
    fn arrays(&self) -> HashMap<&'static str, Buffer> {
        HashMap::from([
            ("indptr", self.view(TokenGraph::rows)),
            ("indices", self.view(TokenGraph::targets)),
            ("counts", self.view(TokenGraph::counts)),
            ("edge_rows", self.view(TokenGraph::edge_rows)),
            ("resistance", self.view(|graph| graph.resistance().seen())),
        ])
    }

    /// Nodes and edges around some nodes, or, without any, the strongest edges and their nodes.
    fn select(
        &self,
        py: Python<'_>,
        around: Vec<u32>,
        radius: usize,
        maximum: usize,
        direction: &str,
        strength: &str,
    ) -> PyResult<(Vec<u32>, Vec<u32>)> {
        detached(py, || {
            let direction = match direction {
                "out" => Direction::Out,
                "in" => Direction::In,
                "both" => Direction::Both,
                _ => return Err(invalid("direction", direction, "out, in or both")),
            };
            let strength = match strength {
                "resistance" => Strength::Resistance,
                "count" => Strength::Count,
                _ => return Err(invalid("strength", strength, "resistance or count")),
            };
            let graph = self.graph();
            let part = if around.is_empty() {
                Subgraph::strongest(graph, maximum, strength)
            } else {
                let centres: Vec<NodeId> = around.into_iter().map(NodeId).collect();
                Subgraph::around(graph, &centres, radius, maximum, direction)?
            };
            let nodes = part.nodes().iter().map(|node| node.0).collect();
            Ok((nodes, part.edges().iter().map(|edge| edge.0).collect()))
        })
    }
}

fn invalid(name: &str, value: &str, expected: &str) -> Error {
    let what = format!("invalid {name} {value:?}: expected {expected}");
    Error::new(ErrorKind::Input, what)
}
