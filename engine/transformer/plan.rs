//! What each layer keeps and how: decided once, before anything is allocated.

use serde::{Deserialize, Serialize};

use crate::transformer::Configuration;
use crate::{Error, ErrorKind, Result};

/// Along which axis numbers share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// A group is one component of several tokens (KIVI's way with keys).
    Channel,
    /// A group is several components of one token (KIVI's way with values).
    Token,
}

/// Integers with a scale and an offset for each group (Liu et al. 2024, KIVI).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codec {
    /// Bits of one number: 2, 4 or 8; or 16, which is half precision without groups.
    pub bits: u8,
    /// Numbers that share a scale and an offset.
    pub group: usize,
    /// Along which axis they lie.
    pub axis: Axis,
}

/// How keys or values are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Storage {
    /// As they are.
    #[default]
    F32,
    /// Quantised, once a page is full and older than the residual.
    Quantised(Codec),
}

/// What one layer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerPlan {
    /// The layer whose cache this one reads: itself, or an earlier one that owns a cache.
    pub source: usize,
    /// How keys are kept, by the owner.
    pub keys: Storage,
    /// How values are kept, by the owner.
    pub values: Storage,
    /// The newest tokens that stay as they are when the rest is quantised.
    pub residual: usize,
    /// Whether every key head keeps tokens of its own, instead of all heads the same.
    pub per_head: bool,
}

/// What all layers keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// One entry a layer. `[L]`
    pub layers: Vec<LayerPlan>,
}

impl Plan {
    /// Every layer keeps its own keys and values, as they are.
    pub fn full(layers: usize) -> Self {
        let layer = |source| LayerPlan {
            source,
            keys: Storage::F32,
            values: Storage::F32,
            residual: 0,
            per_head: false,
        };
        Self {
            layers: (0..layers).map(layer).collect(),
        }
    }

    /// The same with other sources, one for each layer.
    #[must_use]
    pub fn sources(mut self, sources: &[usize]) -> Self {
        for (layer, &source) in self.layers.iter_mut().zip(sources) {
            layer.source = source;
        }
        self
    }

    /// The same with every layer's keys and values kept in these forms.
    #[must_use]
    pub fn stored(mut self, keys: Storage, values: Storage, residual: usize) -> Self {
        for layer in &mut self.layers {
            (layer.keys, layer.values, layer.residual) = (keys, values, residual);
        }
        self
    }

    /// The same with every key head keeping tokens of its own.
    #[must_use]
    pub fn per_head(mut self) -> Self {
        for layer in &mut self.layers {
            layer.per_head = true;
        }
        self
    }

    /// Layers that own a cache.
    pub fn owners(&self) -> usize {
        self.layers
            .iter()
            .enumerate()
            .filter(|(layer, plan)| plan.source == *layer)
            .count()
    }

    /// Whether the plan fits a network.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] naming the layer: a source that is later, or that owns no cache; a codec that is
    /// not built; a number of layers that is not the network's.
    pub fn check(&self, shape: &Configuration) -> Result<()> {
        let fault = |what: String| Error::new(ErrorKind::Input, what).at("cache plan");
        if self.layers.len() != shape.layers {
            return Err(fault(format!(
                "{} layers for a network of {}",
                self.layers.len(),
                shape.layers
            )));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let place = |error: Error| error.at(format!("layer {index}"));
            if layer.source > index {
                return Err(place(fault(format!(
                    "the source {} is a later layer",
                    layer.source
                ))));
            }
            if self.layers[layer.source].source != layer.source {
                return Err(place(
                    fault(format!(
                        "the source {} reads another layer's cache itself",
                        layer.source
                    ))
                    .advice("name the layer that owns the cache"),
                ));
            }
            for storage in [layer.keys, layer.values] {
                if let Storage::Quantised(codec) = storage {
                    codec.check().map_err(place)?;
                }
            }
        }
        Ok(())
    }
}

impl Codec {
    fn check(&self) -> Result<()> {
        if !matches!(self.bits, 2 | 4 | 8 | 16) {
            return Err(
                Error::new(ErrorKind::Input, format!("a codec of {} bits", self.bits))
                    .advice("2, 4, 8 and 16 are built"),
            );
        }
        if !(1..=4096).contains(&self.group) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("a codec with groups of {}", self.group),
            )
            .advice("groups have 1 to 4096 numbers"));
        }
        Ok(())
    }
}
