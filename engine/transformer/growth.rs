//! A larger network that says the same: width, heads and layers, without retraining (Net2Net, Chen et al. 2016;
//! bert2BERT, Chen et al. 2022). BatGPT names such an expansion; its mapping is not published.
//!
//! * Llama, any width: new components of the hidden stream begin at zero. The mean square over D components shrinks
//!   by d/D: so do ε, and with its root the gains of the norms, and every norm gives exactly what it gave.
//! * GPT-2, a multiple of the width: a layer norm takes the mean away, so each component is there r times instead;
//!   what reads them is divided by r, and so is the last norm, whose rows meet the embedding again.
//! * New heads and new feed-forward units begin as fresh ones, and what they give is multiplied by zero.
//! * New layers are copies of the layer below, and what they give is multiplied by zero.
//!
//! Zeros on both sides of a product, and equal copies, would stay so in training: once the growth has been checked,
//! noise goes into all that is new.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::kernel::random::Random;
use crate::transformer::batch::TokenBatch;
use crate::transformer::model::{Body, Transformer};
use crate::transformer::operation::look;
use crate::transformer::variables::Weight;
use crate::transformer::{Architecture, Configuration, Weights, folder};
use crate::{Error, ErrorKind, Result};

/// The random streams of fresh units and of noise.
const FRESH: u64 = 0x6772_6f77;
const STIRRING: u64 = 0x7374_6972;

/// What a network grows to; `None` keeps what it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    /// Components of the hidden stream.
    pub width: Option<usize>,
    /// Layers.
    pub layers: Option<usize>,
    /// Query heads.
    pub heads: Option<usize>,
    /// Seed of what is new.
    pub seed: u64,
}

/// A network that has grown, not stored yet.
pub struct GrownModel {
    shape: Configuration,
    weights: Vec<Weight>,
    /// Which numbers of each weight are new.
    new: Vec<Vec<bool>>,
    before: Transformer,
}

/// Where a component of a grown axis comes from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// From an old one, times a factor; a copy that is not the first counts as new.
    Old(usize, f32, bool),
    /// It is new, and begins at zero.
    Zero,
    /// It is new, and begins as fresh weights do.
    Fresh,
}

/// All components of an axis.
type Axis = Vec<Origin>;

/// The axes of a network's weights.
struct Axes {
    /// What is written into the hidden stream, and what reads it.
    written: Axis,
    read: Axis,
    /// Query, key and value components as they are made, and query components as they are read.
    queries: Axis,
    pairs: Axis,
    attended: Axis,
    /// Feed-forward units as they are made and as they are read.
    units: Axis,
    fed: Axis,
    /// The gains of norms, and of the last one.
    norms: Axis,
    last: Axis,
}

fn same(count: usize) -> Axis {
    (0..count).map(|at| Origin::Old(at, 1.0, false)).collect()
}

fn extended(old: usize, new: usize, with: Origin) -> Axis {
    let mut axis = same(old);
    axis.resize(new, with);
    axis
}

impl GrownModel {
    /// Grows the network in a folder.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a bert, whose norms come after the sums, and for recurrent nets;
    /// [`ErrorKind::Input`] for sizes that do not fit; as [`Transformer::open`].
    pub fn new(path: &Path, growth: &Growth) -> Result<Self> {
        let before = Transformer::open(path)?;
        let old = before.configuration().clone();
        let shape = grown_shape(&old, growth)?;
        let axes = Axes::new(&old, &shape);
        let stored: BTreeMap<String, Weight> = folder::read_weights(path)?
            .copies()?
            .into_iter()
            .map(|weight| (weight.name.clone(), weight))
            .collect();
        let mut grown = Self {
            shape,
            weights: Vec::new(),
            new: Vec::new(),
            before,
        };
        for (place, (name, weight)) in stored.iter().enumerate() {
            let Some((layer, rest)) = layer_of(name) else {
                grown.add(name.clone(), weight, &axes, growth.seed, place, false)?;
                continue;
            };
            // Layers l n/N … of the old become the new ones: each old one, then its copies.
            let (n, all) = (old.layers, grown.shape.layers);
            for to in 0..all {
                let from = to * n / all;
                if from == layer {
                    let copy = to > 0 && (to - 1) * n / all == layer;
                    let (head, tail) = rest;
                    let name = format!("{head}{to}.{tail}");
                    let place = place << 10 | to;
                    grown.add(name, weight, &axes, growth.seed, place, copy)?;
                }
            }
        }
        Ok(grown)
    }

    fn add(
        &mut self,
        name: String,
        weight: &Weight,
        axes: &Axes,
        seed: u64,
        place: usize,
        copy: bool,
    ) -> Result<()> {
        let (rows, columns) = axes.of(&name, &self.shape, &weight.shape);
        let mut random = Random::stream(seed, FRESH, place as u64);
        let across = weight.shape.last().copied().unwrap_or(1);
        let fan = match wide(&name) {
            true => rows.len(),
            false => columns.len(),
        };
        let deviation = 1.0 / (fan as f32).sqrt();
        let silent = copy && gives(&name);
        let mut values = Vec::with_capacity(rows.len() * columns.len());
        let mut new = Vec::with_capacity(values.capacity());
        for row in &rows {
            for column in &columns {
                let (value, is_new) = match (row, column) {
                    (Origin::Old(i, a, x), Origin::Old(j, b, y)) => {
                        (weight.values[i * across + j] * a * b, *x || *y)
                    }
                    (Origin::Zero, _) | (_, Origin::Zero) => (0.0, true),
                    _ if weight.shape.len() == 1 => (0.0, true),
                    _ => (random.normal() as f32 * deviation, true),
                };
                values.push(if silent { 0.0 } else { value });
                new.push(is_new || copy);
            }
        }
        let shape = match weight.shape.len() {
            1 => vec![columns.len()],
            _ => vec![rows.len(), columns.len()],
        };
        self.weights.push(Weight {
            name,
            shape,
            values,
        });
        self.new.push(new);
        Ok(())
    }

    fn body(&self) -> Result<Body> {
        let named = self.weights.iter().map(|weight| {
            let tensor = candle_core::Tensor::from_slice(
                &weight.values,
                weight.shape.as_slice(),
                &candle_core::Device::Cpu,
            );
            Ok((weight.name.clone(), tensor?))
        });
        let weights = Weights::new(named.collect::<Result<Vec<_>>>()?)?;
        Body::new(self.shape.clone(), &weights)
    }

    /// The largest difference of any score from the network's before, over random texts.
    ///
    /// # Errors
    /// As [`Network::forward`](crate::transformer::Network::dense).
    pub fn difference(&self, texts: usize, seed: u64) -> Result<f64> {
        let body = self.body()?;
        let length = self.shape.hard_context().unwrap_or(24).min(24);
        let mut random = Random::stream(seed, FRESH, u64::MAX);
        let input = TokenBatch {
            tokens: (0..texts * length)
                .map(|_| random.below(self.shape.vocabulary as u64) as u32)
                .collect(),
            length,
            ..TokenBatch::default()
        };
        let logits = |body: &Body| -> Result<Vec<f32>> {
            Ok(look(
                &body.logits(&body.forward(&input, None)?)?,
                <[f32]>::to_vec,
            )?)
        };
        let (old, new) = (logits(self.before.body())?, logits(&body)?);
        Ok(old
            .iter()
            .zip(&new)
            .map(|(a, b)| f64::from((a - b).abs()))
            // Not a number is no small difference.
            .fold(0.0, |worst, gap| if gap <= worst { worst } else { gap }))
    }

    /// Adds noise to what is new: normal, `share` of the deviation of the weight it is in.
    pub fn add_noise(&mut self, share: f32, seed: u64) {
        for (place, (weight, new)) in self.weights.iter_mut().zip(&self.new).enumerate() {
            let square: f32 = weight.values.iter().map(|value| value * value).sum();
            let deviation = share * (square / weight.values.len().max(1) as f32).sqrt();
            let mut random = Random::stream(seed, STIRRING, place as u64);
            for (value, _) in weight.values.iter_mut().zip(new).filter(|(_, new)| **new) {
                *value += random.normal() as f32 * deviation;
            }
        }
    }

    /// Numbers in the weights.
    pub fn parameters(&self) -> usize {
        self.weights.iter().map(|weight| weight.values.len()).sum()
    }

    /// The shape.
    pub fn configuration(&self) -> &Configuration {
        &self.shape
    }

    /// Stores the network as a folder; `record` says how it has grown.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] or [`ErrorKind::Resource`].
    pub fn save(&self, path: &Path, record: Value) -> Result<()> {
        let mut whole = self.before.record().clone();
        if !whole.is_object() {
            whole = json!({"name": self.before.name()});
        }
        whole["growth"] = record;
        folder::write(
            path,
            &self.shape.json,
            &self.weights,
            self.before.tokenizer(),
            &whole,
            false,
        )
    }
}

/// The layer of a weight, and its name around the number.
fn layer_of(name: &str) -> Option<(usize, (&str, &str))> {
    let head = ["layers.", "h."].iter().find_map(|part| {
        let at = name.find(part)?;
        (at == 0 || name.as_bytes()[at - 1] == b'.').then_some(at + part.len())
    })?;
    let (number, tail) = name[head..].split_once('.')?;
    Some((number.parse().ok()?, (&name[..head], tail)))
}

/// Whether a matrix is stored `[in, out]`.
fn wide(name: &str) -> bool {
    name.contains(".c_")
}

/// Whether a weight writes a layer's outcome into the hidden stream.
fn gives(name: &str) -> bool {
    [
        "self_attn.o_proj",
        "mlp.down_proj",
        "attn.c_proj",
        "mlp.c_proj",
    ]
    .iter()
    .any(|part| name.contains(part))
}

/// The shape that a network grows to.
fn grown_shape(old: &Configuration, growth: &Growth) -> Result<Configuration> {
    let fault = |what: String| Err(Error::new(ErrorKind::Input, what));
    let width = growth.width.unwrap_or(old.width);
    let layers = growth.layers.unwrap_or(old.layers);
    let gpt2 = old.architecture == Architecture::Gpt2;
    let heads = growth.heads.unwrap_or(match gpt2 {
        true => old.heads * width / old.width.max(1),
        false => old.heads,
    });
    match old.architecture {
        Architecture::Llama | Architecture::Gpt2 => {}
        Architecture::Bert => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a bert normalises after its sums, so no new layer says nothing",
            )
            .advice("grow a graph, a Llama or a GPT-2"));
        }
        Architecture::Lstm => {
            return Err(
                Error::new(ErrorKind::Unsupported, "recurrent nets do not grow here")
                    .advice("grow a graph, a Llama or a GPT-2"),
            );
        }
    }
    if width < old.width || layers < old.layers || heads < old.heads {
        return fault(format!(
            "width {}, layers {} and heads {} only grow",
            old.width, old.layers, old.heads
        ));
    }
    if (width, layers, heads) == (old.width, old.layers, old.heads) {
        return fault("nothing grows".into());
    }
    if gpt2 && (width % old.width != 0 || heads * old.head_width != width) {
        return fault(format!(
            "a GPT-2 grows to a multiple of {}, with heads of {}",
            old.width, old.head_width
        ));
    }
    if heads % (old.heads / old.kv_heads) != 0 {
        return fault(format!(
            "{heads} heads are no groups of {}",
            old.heads / old.kv_heads
        ));
    }
    if old.scaled_by_layer && layers != old.layers {
        return fault("scores divided by the layer's number would change with new layers".into());
    }
    let units = (old.feed_forward * width / old.width).max(old.feed_forward);
    let mut json = old.json.clone();
    match gpt2 {
        true => {
            json["n_embd"] = width.into();
            json["n_layer"] = layers.into();
            json["n_head"] = heads.into();
            json["n_inner"] = units.into();
        }
        false => {
            json["hidden_size"] = width.into();
            json["num_hidden_layers"] = layers.into();
            json["num_attention_heads"] = heads.into();
            json["num_key_value_heads"] = (heads * old.kv_heads / old.heads).into();
            json["head_dim"] = old.head_width.into();
            json["intermediate_size"] = units.into();
            let epsilon = f64::from(old.norm_epsilon) * old.width as f64 / width as f64;
            json["rms_norm_eps"] = epsilon.into();
        }
    }
    json["torch_dtype"] = "float32".into();
    Configuration::from_json(json)
}

impl Axes {
    fn new(old: &Configuration, shape: &Configuration) -> Self {
        let (d, wide) = (old.width, shape.width);
        let (written, read, norms, last) = match old.architecture {
            Architecture::Gpt2 => {
                let times = wide / d;
                let copies = |factor: f32| -> Axis {
                    (0..wide)
                        .map(|at| Origin::Old(at % d, factor, at >= d))
                        .collect()
                };
                let share = 1.0 / times as f32;
                (copies(1.0), copies(share), copies(1.0), copies(share))
            }
            _ => {
                let padded = extended(d, wide, Origin::Zero);
                let shrunk = (d as f32 / wide as f32).sqrt();
                let norms: Axis = (0..wide)
                    .map(|at| match at < d {
                        true => Origin::Old(at, shrunk, false),
                        // Whatever multiplies zeros: what the others have.
                        false => Origin::Old(at % d, shrunk, true),
                    })
                    .collect();
                (padded.clone(), padded, norms.clone(), norms)
            }
        };
        let (q, kv) = (old.heads * old.head_width, old.kv_width());
        let (queries, pairs) = (shape.heads * shape.head_width, shape.kv_width());
        Self {
            written,
            read,
            norms,
            last,
            queries: extended(q, queries, Origin::Fresh),
            pairs: extended(kv, pairs, Origin::Fresh),
            attended: extended(q, queries, Origin::Zero),
            units: extended(old.feed_forward, shape.feed_forward, Origin::Fresh),
            fed: extended(old.feed_forward, shape.feed_forward, Origin::Zero),
        }
    }

    /// The rows and columns of a weight; a vector has one row.
    fn of(&self, name: &str, shape: &Configuration, stored: &[usize]) -> (Axis, Axis) {
        let one = || same(1);
        let vector = stored.len() == 1;
        // `out` and `into` of a matrix, whichever way it lies; its bias lies along `out`.
        let matrix = |out: &Axis, into: &Axis| match (vector, wide(name)) {
            (true, _) => (one(), out.clone()),
            (false, true) => (into.clone(), out.clone()),
            (false, false) => (out.clone(), into.clone()),
        };
        let has = |part: &str| name.contains(part);
        if has("q_proj") {
            matrix(&self.queries, &self.read)
        } else if has("k_proj") || has("v_proj") {
            matrix(&self.pairs, &self.read)
        } else if has("o_proj") || has("attn.c_proj") {
            matrix(&self.written, &self.attended)
        } else if has("gate_proj") || has("up_proj") || has("c_fc") {
            matrix(&self.units, &self.read)
        } else if has("down_proj") || has("mlp.c_proj") {
            matrix(&self.written, &self.fed)
        } else if has("c_attn") {
            // Queries, keys and values side by side.
            let part = self.queries.len();
            let old = stored[stored.len() - 1] / 3;
            let out: Axis = (0..3 * part)
                .map(|at| match self.queries[at % part] {
                    Origin::Old(from, factor, new) => {
                        Origin::Old(at / part * old + from, factor, new)
                    }
                    other => other,
                })
                .collect();
            matrix(&out, &self.read)
        } else if has("lm_head") {
            // A head of its own reads what the last norm has not been divided for.
            match (shape.architecture, vector) {
                (_, true) => (one(), same(stored[0])),
                (Architecture::Gpt2, _) => (same(stored[0]), self.written.clone()),
                _ => (same(stored[0]), self.read.clone()),
            }
        } else if vector
            && (has("ln_f") || name.ends_with("norm.weight") && layer_of(name).is_none())
        {
            (one(), self.last.clone())
        } else if vector {
            (one(), self.norms.clone())
        } else {
            // Embeddings of tokens and positions.
            (same(stored[0]), self.written.clone())
        }
    }
}
