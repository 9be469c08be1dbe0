//! Plan of a KV cache: whose cache each layer reads, and how keys and values are stored. Fixed before allocation.

use crate::hook::CodecAxis;
use crate::transformer::Configuration;
use crate::{Error, ErrorKind, Result};

/// Quantisation to integers with a scale and an offset for each group (KIVI, Liu et al. 2024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Bits per number: 2, 4 or 8; or 16, half precision without groups.
    pub bits: u8,
    /// Numbers that share a scale and an offset.
    pub group: usize,
    /// Axis of a group.
    pub axis: CodecAxis,
}

/// Storage of keys or values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// Single precision.
    #[default]
    F32,
    /// Quantised once a page is full and older than the residual.
    Quantised(Codec),
}

/// Cache of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerPlan {
    /// Layer whose cache this one reads: itself, or an earlier layer with a cache of its own.
    pub source: usize,
    /// Storage of keys, in a layer with a cache of its own.
    pub keys: Storage,
    /// Storage of values, in a layer with a cache of its own.
    pub values: Storage,
    /// Number of newest tokens that are not quantised.
    pub residual: usize,
    /// Whether key heads keep different tokens.
    pub per_head: bool,
}

/// Cache of all layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `[L]`
    pub layers: Vec<LayerPlan>,
}

impl Plan {
    /// Create a plan in which every layer keeps its own keys and values in single precision.
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

    /// Set the layer whose cache each layer reads. `[L]`
    #[must_use]
    pub fn sources(mut self, sources: &[usize]) -> Self {
        for (layer, &source) in self.layers.iter_mut().zip(sources) {
            layer.source = source;
        }
        self
    }

    /// Set the storage of all layers.
    #[must_use]
    pub fn stored(mut self, keys: Storage, values: Storage, residual: usize) -> Self {
        for layer in &mut self.layers {
            (layer.keys, layer.values, layer.residual) = (keys, values, residual);
        }
        self
    }

    /// Let key heads keep different tokens.
    #[must_use]
    pub fn per_head(mut self) -> Self {
        for layer in &mut self.layers {
            layer.per_head = true;
        }
        self
    }

    /// Count the layers with a cache of their own.
    pub fn owners(&self) -> usize {
        self.layers
            .iter()
            .enumerate()
            .filter(|(layer, plan)| plan.source == *layer)
            .count()
    }

    /// Check that the plan fits a network.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] naming the layer: a source that is a later layer or has no cache of its own, an invalid codec;
    /// or a number of layers other than the network's.
    pub fn check(&self, shape: &Configuration) -> Result<()> {
        let invalid = |what: String| Error::new(ErrorKind::Input, what).at("cache plan");
        if self.layers.len() != shape.layers {
            return Err(invalid(format!(
                "the plan has {} layers, the network {}",
                self.layers.len(),
                shape.layers
            )));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let in_layer = |error: Error| error.at(format!("layer {index}"));
            if layer.source > index {
                return Err(in_layer(invalid(format!(
                    "the source {} is a later layer",
                    layer.source
                ))));
            }
            // No chains: the source must have a cache of its own.
            if self.layers[layer.source].source != layer.source {
                return Err(in_layer(
                    invalid(format!(
                        "the source {} reads another layer's cache",
                        layer.source
                    ))
                    .advice("name the layer that owns the cache"),
                ));
            }
            for storage in [layer.keys, layer.values] {
                if let Storage::Quantised(codec) = storage {
                    codec.check().map_err(in_layer)?;
                }
            }
        }
        Ok(())
    }
}

impl Codec {
    fn check(&self) -> Result<()> {
        if !matches!(self.bits, 2 | 4 | 8 | 16) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("invalid codec: {} bits", self.bits),
            )
            .advice("use 2, 4, 8 or 16"));
        }
        if !(1..=4096).contains(&self.group) {
            return Err(Error::new(
                ErrorKind::Input,
                format!("invalid codec: groups of {} numbers", self.group),
            )
            .advice("use groups of 1 to 4096"));
        }
        Ok(())
    }
}
