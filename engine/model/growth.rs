//! Widening a model without changing its outputs: old components stay, new ones are zero.
//!
//! Energies stay the same because the position table and the initial level of a signal keep those of the old width
//! ([`Profile::grown_from`]), and GELU(0) = 0 leaves new components of a signal at zero. Composed and layered edges divide by the
//! root of the mean square of D components; growing from d to D components lowers that mean by d/D, which the gain
//! compensates by √(d/D). In training, zeros would stay zeros, since the gradient of each factor of a new component is
//! a multiple of another one: [`Model::stirred`] adds small noise.

use std::collections::BTreeMap;

use crate::kernel::random::Random;
use crate::kernel::table::Table;
use crate::model::Model;
use crate::signal::{EdgeForm, Mechanism, Profile, Weights, blocks};
use crate::{Error, ErrorKind, Result};

/// Id of the random stream of the noise.
const STIRRING: u64 = 0x7374_6972;

/// Old index of each component of a grown axis; `None` for a new one.
type Axis = Vec<Option<usize>>;

/// An axis of several groups of `from` components, each grown to `to`.
fn axis(parts: usize, from: usize, to: usize) -> Axis {
    (0..parts * to)
        .map(|at| (at % to < from).then(|| at / to * from + at % to))
        .collect()
}

/// The axes of the rows and columns of a block; `None` for one that does not grow.
fn axes(profile: &Profile, name: &str, width: usize) -> (Option<Axis>, Option<Axis>) {
    let (d, k) = (profile.width, profile.banks);
    let wide = Some(axis(1, d, width));
    let (banks, blended) = (Some(axis(k, d, width)), Some(axis(1 + k, d, width)));
    // The columns of a layered edge: p and q stay, the gate of the signal grows.
    let inner = profile.widths().blended();
    let mut edge: Axis = (0..inner).map(Some).collect();
    edge.extend((0..width).map(|j| (j < d).then_some(inner + j)));
    let layers = |axis: Axis| -> Axis {
        let columns = profile.widths().edge();
        (0..profile.layers)
            .flat_map(|layer| {
                let shifted = axis
                    .iter()
                    .map(move |&at| at.map(|at| layer * columns + at));
                shifted.collect::<Vec<_>>()
            })
            .collect()
    };
    match name {
        "edge.arena" => {
            // A matrix in row-major order, then the bias.
            let mut columns: Axis = (0..width * width)
                .map(|at| {
                    let (i, j) = (at / width, at % width);
                    (i < d && j < d).then_some(i * d + j)
                })
                .collect();
            columns.extend((0..width).map(|j| (j < d).then_some(d * d + j)));
            (None, Some(columns))
        }
        "edge.residual" => {
            let rank = profile.residual.unwrap_or(0);
            (None, Some(axis(1 + rank, d, width)))
        }
        "edge.mix" => (blended, wide),
        "edge.low_in" | "edge.residual_in" => (blended, None),
        "blend.decay" | "blend.gate" => (None, banks),
        "blend.gate_signal" => (wide, banks),
        // Rows of all layers lie below each other.
        "layer.edge" => (Some(layers(edge.clone())), Some(axis(2, d, width))),
        "layer.edge_bias" => (None, Some(edge)),
        "layer.mix" => (Some(axis(profile.layers, d, width)), None),
        "read.mix" => (wide.clone(), wide),
        "layer.gain" | "read.gain" | "read.bias" => (None, wide),
        "node.start" | "node.target" | "node.scale" | "node.offset" | "node.gain"
        | "edge.low_out" | "blend.mix" => (None, wide),
        _ => (None, None),
    }
}

/// Copy a block to its new axes; `fresh` fills new entries.
fn spread(values: &[f32], columns: usize, rows: &Axis, across: &Axis, fresh: f32) -> Vec<f32> {
    let mut grown = Vec::with_capacity(rows.len() * across.len());
    for row in rows {
        grown.extend(across.iter().map(|column| match (row, column) {
            (Some(row), Some(column)) => values[row * columns + column],
            _ => fresh,
        }));
    }
    grown
}

impl Model {
    /// Widen signals to `width` components without changing energies.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a width that is not larger; as [`Mechanism::new`].
    pub fn widened(&self, width: usize) -> Result<Self> {
        let old = &self.metadata().profile;
        if width <= old.width {
            return Err(Error::new(
                ErrorKind::Input,
                format!("the model already has width {}", old.width),
            )
            .advice("pass a larger width"));
        }
        if self.records().len() > 0 {
            let what = "a model that has learned texts cannot be widened";
            return Err(Error::new(ErrorKind::Unsupported, what)
                .advice("widen the model first, or forget the texts with `brillm forget`"));
        }
        let mut profile = Profile {
            width,
            ..old.clone()
        };
        if old.form == EdgeForm::Own {
            profile.grown_from = Some(old.grown_from.unwrap_or(old.width));
        }
        profile.check()?;
        let graph = self.mechanism().graph();
        let weights = self.mechanism().weights();
        let before: BTreeMap<&str, _> = blocks(old, graph.nodes(), graph.own_edges())
            .into_iter()
            .map(|block| (block.name, block))
            .collect();
        let shrunk = (old.width as f32 / width as f32).sqrt();
        let grown = Weights::gather(&profile, graph.nodes(), graph.own_edges(), |block| {
            let Some(from) = before.get(block.name) else {
                return Ok(None);
            };
            let values = if block.narrows {
                weights.table(block.name).to_vec()
            } else {
                weights.values(block.name).to_vec()
            };
            let (rows, columns) = axes(old, block.name, width);
            let whole = |count: usize| (0..count).map(Some).collect::<Axis>();
            let rows = rows.unwrap_or_else(|| whole(from.rows));
            let columns = columns.unwrap_or_else(|| whole(from.columns));
            // The gates of new components have no effect yet: initialise them like the old ones.
            let fresh = match block.name {
                "blend.decay" => values.iter().sum::<f32>() / values.len().max(1) as f32,
                "blend.mix" => 1.0 / (1 + old.banks) as f32,
                "node.scale" | "node.gain" | "layer.gain" | "read.gain" => 1.0,
                _ => 0.0,
            };
            let mut values = spread(&values, from.columns, &rows, &columns, fresh);
            if block.name.ends_with(".gain") {
                values.iter_mut().for_each(|gain| *gain *= shrunk);
            }
            Ok(Some(Table::of(&values, block.rows, block.columns)))
        })?;
        let mechanism = Mechanism::new(profile.clone(), graph.clone(), grown)?;
        let mut metadata = self.metadata().clone();
        metadata.profile = profile;
        Self::new(metadata, self.tokenizer().clone(), mechanism)
    }

    /// Add normal noise of `deviation` to the new components of a model widened from `from` components, so that it can
    /// be trained.
    ///
    /// # Errors
    /// As [`Mechanism::new`].
    pub fn stirred(&self, from: usize, deviation: f32, seed: u64) -> Result<Self> {
        let profile = &self.metadata().profile;
        let old = Profile {
            width: from,
            ..profile.clone()
        };
        let (graph, weights) = (self.mechanism().graph(), self.mechanism().weights());
        let mut draw = 0;
        let stirred = Weights::gather(profile, graph.nodes(), graph.own_edges(), |block| {
            draw += 1;
            let mut values = if block.narrows {
                weights.table(block.name).to_vec()
            } else {
                weights.values(block.name).to_vec()
            };
            let (rows, columns) = axes(&old, block.name, profile.width);
            let mut random = Random::stream(seed, STIRRING, draw);
            let new = |axis: &Option<Axis>, at: usize| {
                axis.as_ref().is_some_and(|axis| axis[at].is_none())
            };
            for (at, value) in values.iter_mut().enumerate() {
                if new(&rows, at / block.columns) || new(&columns, at % block.columns) {
                    *value += random.normal() as f32 * deviation;
                }
            }
            Ok(Some(Table::of(&values, block.rows, block.columns)))
        })?;
        let mechanism = self.mechanism().with_weights(stirred)?;
        Self::new(self.metadata().clone(), self.tokenizer().clone(), mechanism)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_apart() {
        assert_eq!(
            axis(2, 2, 3),
            [Some(0), Some(1), None, Some(2), Some(3), None]
        );
        let grown = spread(
            &[1.0, 2.0, 3.0, 4.0],
            2,
            &axis(1, 2, 3),
            &axis(1, 2, 3),
            0.5,
        );
        assert_eq!(grown, [1.0, 2.0, 0.5, 3.0, 4.0, 0.5, 0.5, 0.5, 0.5]);
    }
}
