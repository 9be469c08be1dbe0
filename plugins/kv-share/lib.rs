//! KVSharer (Yang, Cao, Chen, Qin, Zhao 2024, arXiv 2410.18517): layers read the keys and values of other layers,
//! those most dissimilar to their own, as long as the model's output stays similar. The search runs once, offline;
//! at run time there is only a map from layer to layer.

mod map;
mod search;

use std::path::Path;

use brillm_plugin::{
    Activations, Amount, Answer, Distance, Host, HostTrial, KvShape, LogLevel, PlanHook, Planned,
    Plugin, PluginError, ProbeHook, Result, Tap, export,
};
use serde_json::Value;

use map::Map;
use search::{Pair, rank};

/// The order in which pairs of layers are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Order {
    Dissimilar,
    Similar,
    Random,
}

/// The engine's distances between layers, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Measure {
    MeanOfNorms,
    Flattened,
    Cosine,
    Normalised,
}

impl From<Measure> for Distance {
    fn from(measure: Measure) -> Self {
        match measure {
            Measure::MeanOfNorms => Self::MeanOfNorms,
            Measure::Flattened => Self::Flattened,
            Measure::Cosine => Self::Cosine,
            Measure::Normalised => Self::Normalised,
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    map: Option<String>,
    source: Option<Value>,
    target: Amount,
    threshold: f64,
    order: Order,
    distance: Measure,
    exact: bool,
}

struct Share {
    options: Options,
    given: Option<Vec<u32>>,
    used: Option<Map>,
}

impl Plugin for Share {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        let given = options.source.as_ref().map(map::parse).transpose()?;
        if given.is_some() && options.map.is_some() {
            return Err(PluginError::option("set either source or map, not both"));
        }
        Ok(Self {
            options,
            given,
            used: None,
        })
    }
}

impl Share {
    fn search(&self, host: &mut Host, question: &KvShape, mut trial: HostTrial) -> Result<Map> {
        let Options {
            threshold,
            order,
            distance,
            ..
        } = self.options;
        let layers = question.layers;
        let (keys, values) = trial.distances(distance.into())?;
        let alike = |a: usize, b: usize| {
            question.kv_heads.get(a) == question.kv_heads.get(b)
                && question.head_width.get(a) == question.head_width.get(b)
        };
        let mut pairs: Vec<Pair> = Vec::new();
        for layer in 1..layers {
            for source in (0..layer).filter(|&source| alike(layer, source)) {
                let at = layer * layers + source;
                pairs.push(Pair {
                    layer,
                    source,
                    distance: (keys[at] + values[at]) / 2.0,
                });
            }
        }
        if let Some(pair) = pairs.iter().find(|pair| !pair.distance.is_finite()) {
            return Err(PluginError::new(format!(
                "the distance of layers {} and {} is {}",
                pair.layer, pair.source, pair.distance
            )));
        }
        rank(&mut pairs, order, host.random());
        let target = self.options.target.of(layers).min(layers.saturating_sub(1));
        let found = search::search(&pairs, layers, target, threshold, &mut |source| {
            if host.cancelled() {
                return Err(PluginError::cancelled());
            }
            trial.similarity(source)
        })?;
        Ok(Map {
            technique: Map::TECHNIQUE.into(),
            kv_heads: question.kv_heads.to_vec(),
            head_width: question.head_width.to_vec(),
            order,
            distance,
            threshold,
            target,
            achieved: found.accepted.len(),
            tried: found.tried,
            pairs: pairs.len(),
            accepted: found.accepted,
            source: found.source,
        })
    }

    /// The map of the file, or of a search that makes the file; `None` where there is neither file nor text.
    fn find(&self, host: &mut Host, question: &KvShape, trial: Option<HostTrial>) -> Result<Map> {
        let path = self.options.map.as_ref().map(Path::new);
        if let Some(path) = path.filter(|path| path.exists()) {
            return Map::open(path, question.kv_heads, question.head_width);
        }
        let Some(trial) = trial else {
            return Err(PluginError::new(
                "there is no text to try the model on: give the run calibration text, a map that was made before \
                 (map=FILE), or the map itself (source=0-0-2…)",
            ));
        };
        let map = self.search(host, question, trial)?;
        let shortfall = format!(
            "{} of {} layers share: {} maps tried of {} pairs, no other map was above the threshold of {}",
            map.achieved, map.target, map.tried, map.pairs, map.threshold
        );
        match (map.achieved < map.target, self.options.exact) {
            (true, true) => return Err(PluginError::new(shortfall)),
            (true, false) => host.log(LogLevel::Warn, &shortfall),
            (false, _) => {}
        }
        if let Some(path) = path {
            map.save(path)?;
        }
        Ok(map)
    }
}

impl PlanHook for Share {
    const TRIAL: bool = true;

    fn plan(
        &mut self,
        host: &mut Host,
        question: &KvShape,
        trial: Option<HostTrial>,
        storage: Planned,
    ) -> Result<Answer> {
        let source = match &self.given {
            Some(source) => {
                map::check(source, question.kv_heads, question.head_width)?;
                source.clone()
            }
            // One search serves the run: sessions after the first use its map.
            None => match &self.used {
                Some(map) if map.source.len() == question.layers => map.source.clone(),
                _ => {
                    let map = self.find(host, question, trial)?;
                    self.used.insert(map).source.clone()
                }
            },
        };
        storage.source.copy_from_slice(&source);
        Ok(Answer::Given)
    }
}

impl ProbeHook for Share {
    fn taps(&self) -> Vec<Tap> {
        Vec::new()
    }

    fn see(&mut self, _: &mut Host, _: &Activations) -> Result<()> {
        Ok(())
    }

    fn report(&mut self, _: &mut Host) -> Result<Option<Value>> {
        Ok(match (&self.given, &self.used) {
            (Some(source), _) => Some(serde_json::json!({ "source": source })),
            (None, Some(map)) => Some(serde_json::to_value(map)?),
            (None, None) => None,
        })
    }
}

export! {
    Share {
        id: "org.brillm.kv-share",
        about: "Let layers read the keys and values of dissimilar layers (KVSharer).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "map": {"type": "string",
                "description": "file of the map: read if it exists, else written after the search"},
            "source": {
                "description": "the map: for each layer, the layer whose cache it reads, as 0-0-2-3 or [0,0,2,3]"},
            "target": {"type": "number", "minimum": 0, "default": 0.25,
                "description": "layers that read another layer's cache: a fraction of the layers below 1, else a number"},
            "threshold": {"type": "number", "minimum": -1, "maximum": 1, "default": 0.5,
                "description": "a map is accepted if the cosine of the final hidden states is above this"},
            "order": {"enum": ["dissimilar", "similar", "random"], "default": "dissimilar",
                "description": "pairs tried first; all but dissimilar are controls"},
            "distance": {"enum": ["mean-of-norms", "flattened", "cosine", "normalised"], "default": "mean-of-norms",
                "description": "distance between two layers"},
            "exact": {"type": "boolean", "default": false,
                "description": "fail if fewer layers than target can share"}}}"#,
        hooks: [PlanHook, ProbeHook],
    }
}
