//! Growing a network in width, heads and layers without changing its outputs (Net2Net, Chen et al. 2016; bert2BERT,
//! Chen et al. 2022). BatGPT mentions such an expansion; its mapping is not published.
//!
//! * Llama, any width: new components of the residual stream begin at zero. The mean square over D components falls by
//!   d/D, so ε is multiplied by d/D and the gains of the norms by √(d/D): every norm returns what it returned before.
//! * GPT-2, a multiple of the width: a layer norm subtracts the mean, so each component is repeated r times instead;
//!   matrices that read the stream are divided by r, and so is the last norm, whose output meets the embedding again.
//! * New heads and feed-forward units are random, and their outputs are multiplied by zero.
//! * New layers are copies of the layer below whose outputs are multiplied by zero.
//!
//! Zeros on both sides of a product, and equal copies, would remain so in training: after the growth is checked, noise
//! is added to all new numbers.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::kernel::random::Random;
use crate::transformer::batch::TokenBatch;
use crate::transformer::family::{Family, Role};
use crate::transformer::model::{Body, Transformer};
use crate::transformer::operation::to_vec;
use crate::transformer::variables::Weight;
use crate::transformer::{Architecture, Configuration, Weights, folder};
use crate::{Error, ErrorKind, Result};

/// Random streams of new units and of noise.
const FRESH: u64 = 0x6772_6f77;
const NOISE: u64 = 0x7374_6972;

/// Sizes that a network grows to; `None` keeps a size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    /// Width of the residual stream.
    pub width: Option<usize>,
    /// Layers.
    pub layers: Option<usize>,
    /// Query heads.
    pub heads: Option<usize>,
    /// Seed of new units.
    pub seed: u64,
}

/// A grown network that is not saved yet.
pub struct GrownModel {
    shape: Configuration,
    weights: Vec<Weight>,
    /// Which numbers of each weight are new.
    new: Vec<Vec<bool>>,
    before: Transformer,
}

/// Origin of one index of a grown axis.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// An old index and a factor.
    Old(Source),
    /// New, zero at first.
    Zero,
    /// New, random at first.
    Random,
}

/// An old index; copies other than the first count as new.
#[derive(Clone, Copy, Debug)]
struct Source {
    index: usize,
    factor: f32,
    copy: bool,
}

/// Origins of all indices of an axis.
type AxisMap = Vec<Origin>;

/// How the axes of a network's weights grow.
struct AxisMaps {
    /// The residual stream where it is written, and where it is read.
    stream_written: AxisMap,
    stream_read: AxisMap,
    /// Components of queries and of keys or values where they are projected, and of attention's output where it is read.
    queries: AxisMap,
    keys: AxisMap,
    attended: AxisMap,
    /// Feed-forward units where they are computed, and where they are read.
    units_written: AxisMap,
    units_read: AxisMap,
    /// Gains of the layers' norms and of the final norm.
    norms: AxisMap,
    final_norm: AxisMap,
}

/// Map index i to index i mod `old`, times a factor.
fn repeated(old: usize, new: usize, factor: f32) -> AxisMap {
    let source = |index| Source {
        index: index % old,
        factor,
        copy: index >= old,
    };
    (0..new).map(|index| Origin::Old(source(index))).collect()
}

/// Map every index to itself.
fn identity(count: usize) -> AxisMap {
    repeated(count, count, 1.0)
}

/// Map old indices to themselves, and new ones to an origin.
fn extended(old: usize, new: usize, origin: Origin) -> AxisMap {
    let mut axis = identity(old);
    axis.resize(new, origin);
    axis
}

impl GrownModel {
    /// Grow the network in a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for BERT, whose norms follow the residual sums, and for recurrent networks;
    /// [`ErrorKind::Input`] for sizes that do not fit; as [`Transformer::open`].
    pub fn new(path: &Path, growth: &Growth) -> Result<Self> {
        let before = Transformer::open(path)?;
        let old = before.configuration().clone();
        let shape = grown_shape(&old, growth)?;
        let maps = AxisMaps::new(&old, &shape);
        let stored: BTreeMap<String, Weight> = folder::read_weights(path)?
            .copies()?
            .into_iter()
            .map(|weight| (weight.name.clone(), weight))
            .collect();
        let (family, n, all) = (old.family(), old.layers, shape.layers);
        let mut grown = Self {
            shape,
            weights: Vec::new(),
            new: Vec::new(),
            before,
        };
        for (index, (name, weight)) in stored.iter().enumerate() {
            // Files may hold buffers besides weights: the network does not read them.
            let Some((role, layer)) = family.locate(name) else {
                continue;
            };
            let mut add = |name: String, stream: usize, copy: bool| {
                let random = Random::stream(growth.seed, FRESH, stream as u64);
                grown.add(name, weight, role, &maps, random, copy);
            };
            let Some(layer) = layer else {
                add(name.clone(), index, false);
                continue;
            };
            // New layer l is old layer ⌊l n / N⌋: each old layer, followed by its copies.
            for to in (0..all).filter(|to| to * n / all == layer) {
                let number = |layer: usize| format!("{}.{layer}.", family.layers);
                let name = name.replacen(&number(layer), &number(to), 1);
                let copy = to > 0 && (to - 1) * n / all == layer;
                add(name, index << 10 | to, copy);
            }
        }
        Ok(grown)
    }

    /// Add a weight, each of whose axes is grown by its map. The outputs of copied layers are zero.
    fn add(
        &mut self,
        name: String,
        weight: &Weight,
        role: Role,
        maps: &AxisMaps,
        mut random: Random,
        copy: bool,
    ) {
        let vector = weight.shape.len() == 1;
        let family = self.shape.family();
        let (output, input) = maps.of(role, family, weight);
        let (rows, columns) = match (vector, transposed(role, family)) {
            (true, _) => (identity(1), output),
            (false, true) => (input, output),
            (false, false) => (output, input),
        };
        let fan_in = if transposed(role, family) {
            rows.len()
        } else {
            columns.len()
        };
        // A product of fan_in terms of variance 1 / fan_in has the variance of its input.
        let deviation = 1.0 / (fan_in as f32).sqrt();
        let stride = weight.shape.last().copied().unwrap_or(1);
        let silent = copy && role.adds_to_stream();
        let mut values = Vec::with_capacity(rows.len() * columns.len());
        let mut new = Vec::with_capacity(values.capacity());
        for row in &rows {
            for column in &columns {
                let (value, is_new) = match (row, column) {
                    // Both indices are old: the old number, scaled.
                    (Origin::Old(a), Origin::Old(b)) => {
                        let old = weight.values[a.index * stride + b.index];
                        (old * a.factor * b.factor, a.copy || b.copy)
                    }
                    // Zero where either side must not contribute yet, random where a new unit reads or writes.
                    (Origin::Zero, _) | (_, Origin::Zero) => (0.0, true),
                    _ if vector => (0.0, true),
                    _ => (random.normal() as f32 * deviation, true),
                };
                values.push(if silent { 0.0 } else { value });
                new.push(is_new || copy);
            }
        }
        // Vectors are stored with one axis.
        let shape = if vector {
            vec![columns.len()]
        } else {
            vec![rows.len(), columns.len()]
        };
        self.weights.push(Weight {
            name,
            shape,
            values,
        });
        self.new.push(new);
    }

    fn body(&self) -> Result<Body> {
        Body::new(self.shape.clone(), &Weights::from_values(&self.weights)?)
    }

    /// Measure the largest difference of any logit from the old network's, over random texts.
    ///
    /// # Errors
    /// As [`Network::forward`](crate::transformer::Network::forward).
    pub fn difference(&self, texts: usize, seed: u64) -> Result<f64> {
        let body = self.body()?;
        // Short texts suffice: an inexact growth differs at the first token.
        let length = self.shape.hard_context().unwrap_or(24).min(24);
        let mut random = Random::stream(seed, FRESH, u64::MAX);
        let tokens = (0..texts * length)
            .map(|_| random.below(self.shape.vocabulary as u64) as u32)
            .collect();
        let input = TokenBatch::new(tokens, length);
        let logits = |body: &Body| -> Result<Vec<f32>> {
            Ok(to_vec(&body.logits(&body.forward(&input, None)?)?)?)
        };
        let (old, new) = (logits(self.before.body())?, logits(&body)?);
        Ok(old
            .iter()
            .zip(&new)
            .map(|(a, b)| f64::from((a - b).abs()))
            // A difference that is not a number counts as the largest.
            .fold(0.0, |worst, gap| if gap <= worst { worst } else { gap }))
    }

    /// Add normal noise to new numbers, `relative` times the root mean square of the weight they belong to.
    pub fn add_noise(&mut self, relative: f32, seed: u64) {
        for (index, (weight, new)) in self.weights.iter_mut().zip(&self.new).enumerate() {
            // Relative to the root mean square of the whole weight, so that all weights get comparable noise.
            let square: f32 = weight.values.iter().map(|value| value * value).sum();
            let deviation = relative * (square / weight.values.len().max(1) as f32).sqrt();
            let mut random = Random::stream(seed, NOISE, index as u64);
            for (value, _) in weight.values.iter_mut().zip(new).filter(|(_, new)| **new) {
                *value += random.normal() as f32 * deviation;
            }
        }
    }

    /// Return the number of parameters.
    pub fn parameters(&self) -> usize {
        self.weights.iter().map(|weight| weight.values.len()).sum()
    }

    /// Return the grown sizes.
    pub fn configuration(&self) -> &Configuration {
        &self.shape
    }

    /// Save the network as a folder; `record` describes the growth.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Resource`].
    pub fn save(&self, path: &Path, record: Value) -> Result<()> {
        let mut all = self.before.record_object();
        all["growth"] = record;
        folder::write(
            path,
            &self.shape.json,
            &self.weights,
            self.before.tokenizer(),
            &all,
            false,
        )
    }
}

/// Return whether a role's matrix is stored `[in, out]`.
fn transposed(role: Role, family: &Family) -> bool {
    family.transposed && !role.is_embedding()
}

/// Return the configuration that a network grows to.
fn grown_shape(old: &Configuration, growth: &Growth) -> Result<Configuration> {
    let gpt2 = match old.architecture {
        Architecture::Llama => false,
        Architecture::Gpt2 => true,
        Architecture::Bert | Architecture::Lstm | Architecture::Decoder | Architecture::Encoder => {
            let family = old.family().model_types[0];
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("growing a {family} is not supported"),
            )
            .advice("grow a graph, a llama or a gpt2"));
        }
    };
    let width = growth.width.unwrap_or(old.width);
    let layers = growth.layers.unwrap_or(old.layers);
    let heads = growth.heads.unwrap_or(if gpt2 {
        old.heads * width / old.width.max(1)
    } else {
        old.heads
    });
    let group = old.heads / old.kv_heads;
    let problem = if width < old.width || layers < old.layers || heads < old.heads {
        format!(
            "a model cannot shrink: it has width {}, {} layers and {} heads",
            old.width, old.layers, old.heads
        )
    } else if (width, layers, heads) == (old.width, old.layers, old.heads) {
        "no size is larger than the model's: pass a larger --width, --layers or --heads".into()
    } else if gpt2 && (width % old.width != 0 || heads * old.head_width != width) {
        format!(
            "a GPT-2 grows to a multiple of {}, with heads of {}",
            old.width, old.head_width
        )
    } else if heads % group != 0 {
        format!("{heads} heads cannot be divided into groups of {group}")
    } else if old.scaled_by_layer && layers != old.layers {
        "attention logits are scaled by the layer index, so new layers would change the outputs"
            .into()
    } else {
        return Configuration::from_json(grown_json(old, width, layers, heads, gpt2));
    };
    Err(Error::new(ErrorKind::Input, problem))
}

/// Return the `config.json` with new sizes; the feed-forward width grows with the width.
fn grown_json(old: &Configuration, width: usize, layers: usize, heads: usize, gpt2: bool) -> Value {
    let keys = &old.family().keys;
    // The feed-forward width keeps its ratio to the width.
    let units = (old.feed_forward * width / old.width).max(old.feed_forward);
    let mut json = old.json.clone();
    json[keys.width] = width.into();
    json[keys.layers] = layers.into();
    let feed_forward = keys.feed_forward.map(|(key, _)| key);
    for (key, size) in [(keys.heads, heads), (feed_forward, units)] {
        if let Some(key) = key {
            json[key] = size.into();
        }
    }
    if !gpt2 {
        json["num_key_value_heads"] = (heads * old.kv_heads / old.heads).into();
        json["head_dim"] = old.head_width.into();
        // mean square' = mean square · d/D, so ε' = ε d/D gives the same norm up to its gain.
        let epsilon = f64::from(old.norm_epsilon) * old.width as f64 / width as f64;
        json[keys.norm_epsilon.0] = epsilon.into();
    }
    json["torch_dtype"] = "float32".into();
    json
}

impl AxisMaps {
    fn new(old: &Configuration, shape: &Configuration) -> Self {
        let (d, wide) = (old.width, shape.width);
        let (stream_written, stream_read, norms, final_norm) =
            if old.architecture == Architecture::Gpt2 {
                // r copies: sums over the stream grow r times, so what reads it is divided by r.
                let copied = repeated(d, wide, 1.0);
                let divided = repeated(d, wide, 1.0 / (wide / d) as f32);
                (copied.clone(), divided.clone(), copied, divided)
            } else {
                let padded = extended(d, wide, Origin::Zero);
                // New gains multiply zeros: they are set to what the others have.
                let shrunk = repeated(d, wide, (d as f32 / wide as f32).sqrt());
                (padded.clone(), padded, shrunk.clone(), shrunk)
            };
        let (q, queries) = (old.heads * old.head_width, shape.heads * shape.head_width);
        let (f, units) = (old.feed_forward, shape.feed_forward);
        Self {
            stream_written,
            stream_read,
            norms,
            final_norm,
            // New units are computed from random weights and multiplied by zero where they are read.
            queries: extended(q, queries, Origin::Random),
            keys: extended(old.kv_width(), shape.kv_width(), Origin::Random),
            attended: extended(q, queries, Origin::Zero),
            units_written: extended(f, units, Origin::Random),
            units_read: extended(f, units, Origin::Zero),
        }
    }

    /// Return the maps of a weight's output and input axis; a vector has its output axis alone.
    fn of(&self, role: Role, family: &Family, weight: &Weight) -> (AxisMap, AxisMap) {
        let (output, input) = match role {
            Role::Query => (&self.queries, &self.stream_read),
            Role::Key | Role::Value => (&self.keys, &self.stream_read),
            Role::AttentionOutput => (&self.stream_written, &self.attended),
            Role::Gate | Role::Up => (&self.units_written, &self.stream_read),
            Role::Down => (&self.stream_written, &self.units_read),
            Role::QueryKeyValue => {
                let old = weight.shape[weight.shape.len() - 1] / 3;
                return (self.fused(old), self.stream_read.clone());
            }
            Role::AttentionNorm | Role::FeedForwardNorm => (&self.norms, &self.norms),
            Role::FinalNorm => (&self.final_norm, &self.final_norm),
            // Rows are tokens or positions. A head of its own reads rows that GPT-2's last norm has divided already.
            Role::Head if family.architecture != Architecture::Gpt2 => {
                return (identity(weight.shape[0]), self.stream_read.clone());
            }
            _ => return (identity(weight.shape[0]), self.stream_written.clone()),
        };
        (output.clone(), input.clone())
    }

    /// Return the map of queries, keys and values side by side, of `old` components each.
    fn fused(&self, old: usize) -> AxisMap {
        let shifted = |third: usize| {
            self.queries.iter().map(move |origin| match *origin {
                Origin::Old(source) => Origin::Old(Source {
                    index: third * old + source.index,
                    ..source
                }),
                other => other,
            })
        };
        (0..3).flat_map(shifted).collect()
    }
}
