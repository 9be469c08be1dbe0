//! Warm start: training from the weights of a model, or from the transposes of its edges.

use std::path::Path;

use crate::graph::{NodeId, TokenGraph};
use crate::learn::edge_trainer::EdgeTrainer;
use crate::learn::recipe::Recipe;
use crate::model::{Model, Verify};
use crate::signal::{EdgeForm, Mechanism, Profile, blocks};
use crate::text::ReadingDirection;
use crate::{Error, ErrorKind, Result};

/// A model whose weights training starts from.
pub(super) struct WarmStart {
    model: Model,
    /// Whether edge (v, u) takes the transpose of the model's edge (u, v), and nothing else is taken.
    transposed: bool,
}

impl WarmStart {
    /// Open the model that a recipe names; also returns the rate of the edge weights, 0 for transposes.
    pub(super) fn of(recipe: &Recipe, base: &Path) -> Result<Option<(Self, f64)>> {
        let open = |path: &String, transposed| -> Result<Self> {
            let model = Model::open(&base.join(path), Verify::Whole)?;
            Ok(Self { model, transposed })
        };
        Ok(match (&recipe.initial, &recipe.graph.transpose_of) {
            (Some(path), _) => Some((open(path, false)?, recipe.train.edge_rate)),
            // Transposed edges stay as they are: their rate is 0.
            (None, Some(path)) => Some((open(path, true)?, 0.0)),
            (None, None) => None,
        })
    }

    fn error(&self, what: &str) -> Error {
        Error::new(ErrorKind::Configuration, what.to_string()).at(&self.model.metadata().name)
    }

    /// Check that the model fits this profile and graph.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`].
    pub(super) fn check(&self, profile: &Profile, graph: &TokenGraph) -> Result<()> {
        let (own, theirs) = (
            self.model.mechanism().graph(),
            &self.model.metadata().profile,
        );
        if self.transposed {
            return match (theirs.form, theirs.width == profile.width) {
                _ if own.nodes() != graph.nodes() => {
                    Err(self.error("the model has a different vocabulary"))
                }
                _ if self.model.metadata().direction != ReadingDirection::Forward => {
                    Err(self.error("the model already reads backward"))
                }
                (EdgeForm::Own, true) => Ok(()),
                _ => Err(self.error("the model has no own edges of this width to transpose")),
            };
        }
        if theirs != profile {
            return Err(self.error("the model has a different profile").advice(
                "copy its switches, which `brillm inspect` prints, to [profile] of the run file",
            ));
        }
        if (own.rows(), own.targets(), own.edge_rows())
            != (graph.rows(), graph.targets(), graph.edge_rows())
        {
            return Err(self
                .error("the model has different edges")
                .advice("train on the same text, with the same [graph] section and tokenizer"));
        }
        Ok(())
    }

    /// Replace fresh weights by those of the model.
    pub(super) fn put(&self, edge_trainer: &mut EdgeTrainer, graph: &TokenGraph) -> Result<()> {
        let mechanism = self.model.mechanism();
        let (weights, theirs) = (mechanism.weights(), mechanism.graph());
        if !self.transposed {
            copy_weights(mechanism, edge_trainer);
            return Ok(());
        }
        let d = mechanism.profile().width;
        let edge_weights = weights.table("edge.arena");
        let mut row = vec![0.0; d * d + d];
        let mut put = |edge_trainer: &mut EdgeTrainer, to: Option<usize>, from: usize| {
            // The edge weights are the first parameter.
            let Some((to, parameter)) = to.zip(edge_trainer.parameters().into_iter().next()) else {
                return;
            };
            edge_weights.read_row(from, &mut row);
            let to = &mut parameter.value[to * (d * d + d)..(to + 1) * (d * d + d)];
            // y = x W read backward is x = y Wᵀ, up to the activation.
            for i in 0..d {
                for j in 0..d {
                    to[i * d + j] = row[j * d + i];
                }
            }
            to[d * d..].copy_from_slice(&row[d * d..]);
        };
        // Row 0 is the shared edge.
        put(edge_trainer, Some(0), 0);
        for source in 0..graph.nodes() as u32 {
            let fan = graph.fan(NodeId(source));
            for (&target, &edge_row) in fan.targets.iter().zip(fan.edge_rows) {
                let edge = theirs.edge(NodeId(target), NodeId(source));
                // An edge that the other model lacks is its shared edge, transposed.
                let from = edge.map_or(0, |edge| theirs.edge_rows()[edge.index()]);
                if edge_row > 0 {
                    let to = edge_trainer.held_row(source, edge_row);
                    put(edge_trainer, to, from as usize);
                }
            }
        }
        Ok(())
    }
}

/// Replace the weights of a trainer by those of a mechanism with the same profile and graph.
pub(super) fn copy_weights(mechanism: &Mechanism, edge_trainer: &mut EdgeTrainer) {
    let (weights, graph) = (mechanism.weights(), mechanism.graph());
    let all = blocks(mechanism.profile(), graph.nodes(), graph.own_edges());
    if let Some(mut held) = edge_trainer.held(false) {
        let table = weights.table(held.name);
        let (_, values) = &mut held.arrays[0];
        let rows = held.rows.iter().cloned().flatten();
        for (row, to) in rows.zip(values.chunks_exact_mut(held.columns)) {
            table.read_row(row, to);
        }
    }
    let divided = edge_trainer.is_divided();
    for parameter in edge_trainer.parameters() {
        for block in &all {
            if divided && block.name == "edge.arena" {
                continue;
            }
            if block.name == parameter.name && block.rows * block.columns > 0 {
                parameter.value = match block.narrows {
                    true => weights.table(block.name).to_vec(),
                    false => weights.values(block.name).to_vec(),
                };
            }
        }
    }
}
