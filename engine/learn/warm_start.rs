//! The weights that training begins with: a model's, or the transposes of its edges.

use std::path::Path;

use crate::graph::{NodeId, TokenGraph};
use crate::learn::edge_trainer::EdgeTrainer;
use crate::learn::recipe::Recipe;
use crate::model::{Model, Verify};
use crate::signal::{EdgeForm, Profile, blocks};
use crate::text::ReadingDirection;
use crate::{Error, ErrorKind, Result};

/// A model whose weights a graph begins with.
pub(super) struct WarmStart {
    model: Model,
    /// Edge (v, u) takes the transpose of the model's edge (u, v); nothing else is taken.
    transposed: bool,
}

impl WarmStart {
    /// What a recipe names, and the factor of the rate with which the arena moves: transposes stay what they are.
    pub(super) fn of(recipe: &Recipe, base: &Path) -> Result<Option<(Self, f64)>> {
        let open = |path: &String, transposed| -> Result<Self> {
            let model = Model::open(&base.join(path), Verify::Whole)?;
            Ok(Self { model, transposed })
        };
        Ok(match (&recipe.initial, &recipe.graph.transpose_of) {
            (Some(path), _) => Some((open(path, false)?, recipe.train.edge_rate)),
            (None, Some(path)) => Some((open(path, true)?, 0.0)),
            (None, None) => None,
        })
    }

    fn fault(&self, what: &str) -> Error {
        Error::new(ErrorKind::Configuration, what.to_string()).at(&self.model.metadata().name)
    }

    /// Whether the model is one for this profile and graph.
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
                    Err(self.fault("has another vocabulary than the text"))
                }
                _ if self.model.metadata().direction != ReadingDirection::Forward => {
                    Err(self.fault("reads backward itself"))
                }
                (EdgeForm::Own, true) => Ok(()),
                _ => Err(self.fault("has no own edges of this width to transpose")),
            };
        }
        if theirs != profile {
            return Err(self
                .fault("has another profile than the run file")
                .advice("write its switches, as brillm inspect shows them, under [profile]"));
        }
        if (own.rows(), own.targets(), own.edge_rows())
            != (graph.rows(), graph.targets(), graph.edge_rows())
        {
            return Err(self
                .fault("has other edges than the text and [graph] give")
                .advice("train on the text it was made of, with the same [graph] and tokenizer"));
        }
        Ok(())
    }

    /// Puts its weights in place of fresh ones.
    pub(super) fn put(&self, edge_trainer: &mut EdgeTrainer, graph: &TokenGraph) -> Result<()> {
        let mechanism = self.model.mechanism();
        let (weights, theirs) = (mechanism.weights(), mechanism.graph());
        for parameter in edge_trainer.parameters() {
            if !self.transposed {
                for block in blocks(mechanism.profile(), theirs.nodes(), theirs.own_edges()) {
                    if block.name == parameter.name && block.rows * block.columns > 0 {
                        parameter.value = match block.narrows {
                            true => weights.table(block.name).to_vec(),
                            false => weights.values(block.name).to_vec(),
                        };
                    }
                }
                continue;
            }
            if parameter.name != "edge.arena" {
                continue;
            }
            let d = mechanism.profile().width;
            let edge_weights = weights.table("edge.arena");
            let mut row = vec![0.0; d * d + d];
            let mut put = |edge_row: usize, from: usize| {
                edge_weights.read_row(from, &mut row);
                let to = &mut parameter.value[edge_row * (d * d + d)..(edge_row + 1) * (d * d + d)];
                for i in 0..d {
                    for j in 0..d {
                        to[i * d + j] = row[j * d + i];
                    }
                }
                to[d * d..].copy_from_slice(&row[d * d..]);
            };
            put(0, 0);
            for source in 0..graph.nodes() as u32 {
                let fan = graph.fan(NodeId(source));
                for (&target, &edge_row) in fan.targets.iter().zip(fan.edge_rows) {
                    let edge = theirs.edge(NodeId(target), NodeId(source));
                    let from = edge.map_or(0, |edge| theirs.edge_rows()[edge.index()]);
                    if edge_row > 0 {
                        put(edge_row as usize, from as usize);
                    }
                }
            }
        }
        Ok(())
    }
}
