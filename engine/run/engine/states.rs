//! The states of a model and its variants, as probes ask for them.

use std::sync::Arc;

use super::Engine;
use crate::graph::NodeId;
use crate::hook::State;
use crate::kernel::element::Element;
use crate::kernel::table::Table;
use crate::learn::edge_trainer::EdgeTrainer;
use crate::model::Model;
use crate::signal::{EdgeForm, Mechanism, Start, Weights};
use crate::{Error, ErrorKind, Result};

impl Engine {
    /// Convert a graph's weights to f32; a transformer computes in f32 already.
    pub(in crate::run) fn in_f32(&self) -> Result<Self> {
        match self {
            Self::Graph(model) => {
                let weights = model.mechanism().weights().converted(Element::F32)?;
                with_weights(model, weights)
            }
            #[cfg(feature = "transformer")]
            Self::Transformer(_) => Ok(self.clone()),
        }
    }

    /// Return the model with the weights that training with `seed` would start from.
    pub(in crate::run) fn untrained(&self, seed: u64) -> Result<Self> {
        match self {
            Self::Graph(model) => {
                let (profile, graph) = (model.mechanism().profile(), model.mechanism().graph());
                let mut trainer = EdgeTrainer::new(profile, graph, 0.0, seed);
                with_weights(model, trainer.weights(profile, graph)?)
            }
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.untrained(seed).map(Self::Transformer),
        }
    }

    /// Add `delta` to the bias of one node of a graph; an empty `delta` changes nothing. `delta [D]`
    pub(in crate::run) fn shifted(&self, node: u32, delta: &[f32]) -> Result<Self> {
        let Some(model) = self.as_graph() else {
            return Err(needs("a graph"));
        };
        if delta.is_empty() {
            return Ok(self.clone());
        }
        with_weights(model, shifted(model.mechanism(), node, delta)?)
    }

    /// Compute the states of a text of tokens; a transformer leaves out the first `marks` of them.
    pub(in crate::run) fn states(
        &self,
        state: State,
        ids: &[u32],
        #[cfg_attr(not(feature = "transformer"), allow(unused_variables))] marks: usize,
    ) -> Result<Vec<f32>> {
        match self {
            Self::Graph(model) => graph_states(model.mechanism(), state, ids),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) if state == State::Hidden => {
                let layers = crate::transformer::residual_stream(model, ids)?;
                let skipped = marks * model.configuration().width;
                Ok(layers
                    .iter()
                    .flat_map(|layer| &layer[skipped..])
                    .copied()
                    .collect())
            }
            #[cfg(feature = "transformer")]
            Self::Transformer(_) => Err(needs("a graph")),
        }
    }
}

fn needs(kind: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("this needs {kind}"))
}

fn with_weights(model: &Model, weights: Weights) -> Result<Engine> {
    let mechanism = Arc::new(model.mechanism().with_weights(weights)?);
    Ok(Engine::Graph(model.with_mechanism(mechanism)))
}

/// Shift the bias that every signal receives on arriving at a node. Composed edges share the target's vector; own
/// edges have a bias each, so all of them that lead there move.
fn shifted(mechanism: &Mechanism, node: u32, delta: &[f32]) -> Result<Weights> {
    let (profile, graph, weights) = (mechanism.profile(), mechanism.graph(), mechanism.weights());
    let wrong = |what: String| Error::new(ErrorKind::Input, what).at("shift");
    if node as usize >= graph.nodes() {
        return Err(wrong(format!(
            "node {node} is outside the graph of {}",
            graph.nodes()
        )));
    }
    if delta.len() != profile.width || delta.iter().any(|value| !value.is_finite()) {
        return Err(wrong(format!(
            "a shift must be {} finite numbers",
            profile.width
        )));
    }
    let (name, from, rows): (&str, usize, Vec<usize>) = match profile.form {
        EdgeForm::Composed | EdgeForm::Layered => ("node.target", 0, vec![node as usize]),
        EdgeForm::Own => {
            let edge_rows = (0..graph.nodes() as u32)
                .filter_map(|source| graph.edge(NodeId(source), NodeId(node)))
                .map(|edge| graph.edge_rows()[edge.index()] as usize)
                .filter(|&edge_row| edge_row > 0)
                .collect();
            ("edge.arena", profile.width * profile.width, edge_rows)
        }
    };
    Weights::gather(profile, graph.nodes(), graph.own_edges(), |block| {
        if block.name != name {
            return Ok(Some(if block.narrows {
                weights.table(block.name).clone()
            } else {
                Table::of(weights.values(block.name), block.rows, block.columns)
            }));
        }
        let mut values = weights.table(name).to_vec();
        for &row in &rows {
            let bias = &mut values[row * block.columns + from..][..profile.width];
            for (value, more) in bias.iter_mut().zip(delta) {
                *value += more;
            }
        }
        Ok(Some(Table::of(&values, block.rows, block.columns)))
    })
}

/// Compute the states of a text on a graph, token by token.
fn graph_states(mechanism: &Mechanism, state: State, ids: &[u32]) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    if state == State::Node {
        let name = match mechanism.profile().form {
            EdgeForm::Composed | EdgeForm::Layered => "node.target",
            EdgeForm::Own => "node.start",
        };
        let table = mechanism.weights().table(name);
        let mut row = vec![0.0; table.columns()];
        for &id in ids {
            mechanism.check_node(id)?;
            table.read_row(id as usize, &mut row);
            values.extend_from_slice(&row);
        }
        return Ok(values);
    }
    let mut flow = mechanism.begin(ids[0], &Start::Profile)?;
    let mut energies = vec![0.0; mechanism.nodes()];
    for (index, &id) in ids.iter().enumerate() {
        if index > 0 {
            mechanism.hop(&mut flow, id)?;
        }
        match state {
            State::Signal => values.extend_from_slice(&flow.signal),
            State::Energy => {
                mechanism.energies(&flow, &mut energies)?;
                values.extend_from_slice(&energies);
            }
            _ => return Err(needs("a transformer")),
        }
    }
    Ok(values)
}
