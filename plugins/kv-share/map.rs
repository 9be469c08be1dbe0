//! The map of a model's layers, as a file and as an option.

use std::path::Path;

use brillm_plugin::{PluginError, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::search::Accepted;
use crate::{Measure, Order};

/// The result of a search and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Map {
    pub technique: String,
    /// The layer whose cache each layer reads. `[L]`
    pub source: Vec<u32>,
    /// Layers that read another's cache.
    pub achieved: usize,
    /// Layers that should read another's cache.
    pub target: usize,
    pub threshold: f64,
    pub order: Order,
    pub distance: Measure,
    /// Maps that the model was run with.
    pub tried: usize,
    /// Candidate pairs of layers.
    pub pairs: usize,
    pub accepted: Vec<Accepted>,
    /// The model's key-value heads and their widths, which identify it. `[L]`
    pub kv_heads: Vec<u32>,
    pub head_width: Vec<u32>,
}

/// Check that a map fits a model: each layer reads itself, or an earlier owner of a cache with heads of the same shape.
pub(crate) fn check(source: &[u32], kv_heads: &[u32], head_width: &[u32]) -> Result<()> {
    let invalid = |what: String| Err(PluginError::option(what));
    if source.len() != kv_heads.len() {
        return invalid(format!(
            "the map has {} layers, the model {}",
            source.len(),
            kv_heads.len()
        ));
    }
    for (layer, &from) in source.iter().enumerate() {
        let from = from as usize;
        if from > layer || source[from] as usize != from {
            return invalid(format!(
                "layer {layer} cannot read layer {from}: a source must come before its reader and own its cache"
            ));
        }
        if kv_heads[from] != kv_heads[layer] || head_width[from] != head_width[layer] {
            return invalid(format!(
                "layer {layer} cannot read layer {from}, whose heads have a different shape"
            ));
        }
    }
    Ok(())
}

/// Read the option: numbers joined by hyphens, a list, or one number.
pub(crate) fn parse(value: &Value) -> Result<Vec<u32>> {
    let read = match value {
        Value::String(text) => text
            .split('-')
            .map(|part| part.trim().parse().ok())
            .collect(),
        Value::Array(list) => list
            .iter()
            .map(|layer| layer.as_u64().and_then(|layer| u32::try_from(layer).ok()))
            .collect(),
        Value::Number(number) => number
            .as_u64()
            .and_then(|layer| u32::try_from(layer).ok())
            .map(|layer| vec![layer]),
        _ => None,
    };
    read.ok_or_else(|| {
        PluginError::option(format!(
            "invalid map {value}: expected 0-0-2-3 or [0,0,2,3]"
        ))
    })
}

impl Map {
    pub const TECHNIQUE: &'static str = "kv-share";

    /// Read a map and check that it fits this model.
    pub fn open(path: &Path, kv_heads: &[u32], head_width: &[u32]) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| {
            PluginError::new(format!("{}: {error}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let map: Self = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| failed(&error))?;
        if map.technique != Self::TECHNIQUE {
            return Err(failed(&format!(
                "the map is of technique {}, not kv-share",
                map.technique
            )));
        }
        if map.kv_heads != kv_heads || map.head_width != head_width {
            return Err(failed(
                &"the map was made for a model of another shape; remove the file to search again",
            ));
        }
        check(&map.source, kv_heads, head_width).map_err(|error| failed(&error))?;
        Ok(map)
    }

    /// Write the map atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed =
            |error: std::io::Error| PluginError::new(format!("{}: {error}", path.display()));
        let text = serde_json::to_string_pretty(self)?;
        brillm_file::write(path, format!("{text}\n")).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_are_read_from_options() {
        for (value, expected) in [
            (json!("0-0-2-10"), Some(vec![0, 0, 2, 10])),
            (json!([0, 0, 2]), Some(vec![0, 0, 2])),
            (json!(0), Some(vec![0])),
            (json!("0--1"), None),
            (json!("a"), None),
            (json!([0, -1]), None),
            (json!(true), None),
        ] {
            assert_eq!(parse(&value).ok(), expected, "{value}");
        }
    }

    #[test]
    fn only_maps_to_owners_before_a_layer_fit() {
        let (heads, width) = ([2, 2, 2, 4], [8; 4]);
        for (source, fits) in [
            (&[0, 1, 2, 3][..], true),
            (&[0, 0, 0, 3], true),
            (&[0, 0, 1, 3], false),
            (&[1, 1, 2, 3], false),
            (&[0, 1, 2, 2], false),
            (&[0, 1, 2], false),
        ] {
            assert_eq!(check(source, &heads, &width).is_ok(), fits, "{source:?}");
        }
    }

    #[test]
    fn files_are_of_one_model() {
        let map = Map {
            technique: Map::TECHNIQUE.into(),
            source: vec![0, 0],
            achieved: 1,
            target: 1,
            threshold: 0.5,
            order: Order::Dissimilar,
            distance: Measure::MeanOfNorms,
            tried: 1,
            pairs: 1,
            accepted: vec![Accepted {
                layer: 1,
                source: 0,
                rank: 0,
                distance: 2.5,
                similarity: 0.75,
            }],
            kv_heads: vec![4, 4],
            head_width: vec![8, 8],
        };
        let path = std::env::temp_dir().join(format!("kv-share-{}.json", std::process::id()));
        map.save(&path).unwrap();
        assert_eq!(Map::open(&path, &[4, 4], &[8, 8]).unwrap(), map);
        let error = Map::open(&path, &[4, 4, 4], &[8; 3]).unwrap_err();
        assert!(error.to_string().contains("another shape"), "{error}");
        std::fs::write(&path, "{").unwrap();
        assert!(Map::open(&path, &[4, 4], &[8, 8]).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
