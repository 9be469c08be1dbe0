//! The layers of a Llama, a GPT-2 or a BERT, over tensors; how positions see each other is left to the caller.
//!
//! Two callers: `forward` sees whole sequences at once, with gradients; `flow` sees what a cache has kept.

use candle_core::{Device, Tensor};

use crate::transformer::operation::Gate;
use crate::transformer::weights::{Linear, Norm, Weights};
use crate::transformer::{Architecture, Configuration, Plan};
use crate::{Error, ErrorKind, Result};

/// A network of attention layers with its weights. Cheap to clone: weights are shared.
#[derive(Clone, Debug)]
pub struct Network {
    pub(super) shape: Configuration,
    tokens: Tensor,
    positions: Option<Tensor>,
    types: Option<Tensor>,
    embedding_norm: Option<Norm>,
    pub(super) blocks: Vec<Block>,
    final_norm: Option<Norm>,
    head: Head,
}

/// One layer.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Norms come after what they normalise (BERT), not before.
    post: bool,
    attention_norm: Norm,
    query: Linear,
    /// Key and value projections; an aliased layer has none.
    key_value: Option<(Linear, Linear)>,
    output: Linear,
    feed_norm: Norm,
    feed: Feed,
}

#[derive(Clone, Debug)]
enum Feed {
    Gated {
        gate: Linear,
        up: Linear,
        down: Linear,
    },
    Plain {
        up: Linear,
        down: Linear,
        activation: crate::transformer::Activation,
    },
}

#[derive(Clone, Debug)]
struct Head {
    transform: Option<(Linear, Norm, crate::transformer::Activation)>,
    matrix: Linear,
}

/// Changes a tensor at one of a layer's places: dropout in training, nothing else.
pub(super) type Change<'a> = &'a dyn Fn(Tensor) -> Result<Tensor>;

impl Block {
    /// One layer on rows `[N, D]`; `attend` makes `[N, H·d]` of queries, keys and values.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        change: Change<'_>,
        attend: impl FnOnce(Tensor, Option<(Tensor, Tensor)>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let seen = match self.post {
            true => x.clone(),
            false => self.attention_norm.apply(x)?,
        };
        let queries = self.query.apply(&seen)?;
        let pairs = match &self.key_value {
            Some((key, value)) => Some((key.apply(&seen)?, value.apply(&seen)?)),
            None => None,
        };
        let taken = change(self.output.apply(&attend(queries, pairs)?)?)?;
        let x = (x + taken)?;
        if self.post {
            let x = self.attention_norm.apply(&x)?;
            let fed = change(self.feed.apply(&x)?)?;
            return self.feed_norm.apply(&(x + fed)?);
        }
        let fed = change(self.feed.apply(&self.feed_norm.apply(&x)?)?)?;
        Ok((x + fed)?)
    }

    fn count(&self) -> usize {
        let feed = match &self.feed {
            Feed::Gated { gate, up, down } => gate.count() + up.count() + down.count(),
            Feed::Plain { up, down, .. } => up.count() + down.count(),
        };
        let pairs = match &self.key_value {
            Some((key, value)) => key.count() + value.count(),
            None => 0,
        };
        self.attention_norm.count()
            + self.feed_norm.count()
            + self.query.count()
            + pairs
            + self.output.count()
            + feed
    }
}

impl Feed {
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Gated { gate, up, down } => {
                let inner = gate.apply(x)?.apply_op2(&up.apply(x)?, Gate)?;
                down.apply(&inner)
            }
            Self::Plain {
                up,
                down,
                activation,
            } => down.apply(&activation.apply(&up.apply(x)?)?),
        }
    }
}

impl Network {
    /// Builds the network of a configuration from its weights.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] naming a tensor that is missing or of another shape.
    pub fn new(shape: Configuration, weights: &Weights) -> Result<Self> {
        match shape.architecture {
            Architecture::Llama => Self::llama(shape, weights),
            Architecture::Gpt2 => Self::gpt2(shape, weights),
            Architecture::Bert => Self::bert(shape, weights),
            Architecture::Lstm => Err(Error::new(
                ErrorKind::Unsupported,
                "a recurrent net has no attention layers",
            )),
        }
    }

    fn llama(shape: Configuration, weights: &Weights) -> Result<Self> {
        let root = if weights.has("model.embed_tokens.weight") {
            "model."
        } else {
            ""
        };
        let (d, q, kv) = (
            shape.width,
            shape.heads * shape.head_width,
            shape.kv_width(),
        );
        let tokens = weights.need(
            &format!("{root}embed_tokens.weight"),
            &[shape.vocabulary, d],
        )?;
        if shape.activation != crate::transformer::Activation::Silu {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "hidden_act: the gated layers here are built with silu",
            ));
        }
        let block = |layer: usize| -> Result<Block> {
            let place = |name: &str| format!("{root}layers.{layer}.{name}");
            let linear =
                |name: &str, input, output| Linear::read(weights, &place(name), input, output);
            Ok(Block {
                post: false,
                attention_norm: Norm::read(weights, &place("input_layernorm"), &shape)?,
                query: linear("self_attn.q_proj", d, q)?,
                key_value: Some((
                    linear("self_attn.k_proj", d, kv)?,
                    linear("self_attn.v_proj", d, kv)?,
                )),
                output: linear("self_attn.o_proj", q, d)?,
                feed_norm: Norm::read(weights, &place("post_attention_layernorm"), &shape)?,
                feed: Feed::Gated {
                    gate: linear("mlp.gate_proj", d, shape.feed_forward)?,
                    up: linear("mlp.up_proj", d, shape.feed_forward)?,
                    down: linear("mlp.down_proj", shape.feed_forward, d)?,
                },
            })
        };
        Ok(Self {
            blocks: (0..shape.layers).map(block).collect::<Result<_>>()?,
            final_norm: Some(Norm::read(weights, &format!("{root}norm"), &shape)?),
            head: Head {
                transform: None,
                matrix: output_matrix(&shape, weights, &tokens)?,
            },
            tokens,
            positions: None,
            types: None,
            embedding_norm: None,
            shape,
        })
    }

    fn gpt2(shape: Configuration, weights: &Weights) -> Result<Self> {
        let root = if weights.has("transformer.wte.weight") {
            "transformer."
        } else {
            ""
        };
        let d = shape.width;
        let tokens = weights.need(&format!("{root}wte.weight"), &[shape.vocabulary, d])?;
        let block = |layer: usize| -> Result<Block> {
            let place = |name: &str| format!("{root}h.{layer}.{name}");
            let linear =
                |name: &str, input, output| Linear::read_wide(weights, &place(name), input, output);
            let fused = linear("attn.c_attn", d, 3 * d)?;
            Ok(Block {
                post: false,
                attention_norm: Norm::read(weights, &place("ln_1"), &shape)?,
                query: fused.columns(0, d)?,
                key_value: Some((fused.columns(d, d)?, fused.columns(2 * d, d)?)),
                output: linear("attn.c_proj", d, d)?,
                feed_norm: Norm::read(weights, &place("ln_2"), &shape)?,
                feed: Feed::Plain {
                    up: linear("mlp.c_fc", d, shape.feed_forward)?,
                    down: linear("mlp.c_proj", shape.feed_forward, d)?,
                    activation: shape.activation,
                },
            })
        };
        Ok(Self {
            blocks: (0..shape.layers).map(block).collect::<Result<_>>()?,
            positions: Some(weights.need(&format!("{root}wpe.weight"), &[shape.context, d])?),
            final_norm: Some(Norm::read(weights, &format!("{root}ln_f"), &shape)?),
            head: Head {
                transform: None,
                matrix: output_matrix(&shape, weights, &tokens)?,
            },
            tokens,
            types: None,
            embedding_norm: None,
            shape,
        })
    }

    fn bert(shape: Configuration, weights: &Weights) -> Result<Self> {
        let root = if weights.has("bert.embeddings.word_embeddings.weight") {
            "bert."
        } else {
            ""
        };
        let d = shape.width;
        let embedding = |name: &str, rows: usize| {
            weights.need(&format!("{root}embeddings.{name}.weight"), &[rows, d])
        };
        let tokens = embedding("word_embeddings", shape.vocabulary)?;
        let block = |layer: usize| -> Result<Block> {
            let place = |name: &str| format!("{root}encoder.layer.{layer}.{name}");
            let linear =
                |name: &str, input, output| Linear::read(weights, &place(name), input, output);
            Ok(Block {
                post: true,
                query: linear("attention.self.query", d, d)?,
                key_value: Some((
                    linear("attention.self.key", d, d)?,
                    linear("attention.self.value", d, d)?,
                )),
                output: linear("attention.output.dense", d, d)?,
                attention_norm: Norm::read(weights, &place("attention.output.LayerNorm"), &shape)?,
                feed: Feed::Plain {
                    up: linear("intermediate.dense", d, shape.feed_forward)?,
                    down: linear("output.dense", shape.feed_forward, d)?,
                    activation: shape.activation,
                },
                feed_norm: Norm::read(weights, &place("output.LayerNorm"), &shape)?,
            })
        };
        let head = "cls.predictions";
        let matrix = match shape.tied {
            true => tokens.t()?,
            false => weights
                .need(&format!("{head}.decoder.weight"), &[shape.vocabulary, d])?
                .t()?,
        };
        let bias = weights.need(&format!("{head}.bias"), &[shape.vocabulary])?;
        Ok(Self {
            blocks: (0..shape.layers).map(block).collect::<Result<_>>()?,
            positions: Some(embedding("position_embeddings", shape.context)?),
            types: Some(embedding("token_type_embeddings", shape.types)?),
            embedding_norm: Some(Norm::read(
                weights,
                &format!("{root}embeddings.LayerNorm"),
                &shape,
            )?),
            final_norm: None,
            head: Head {
                transform: Some((
                    Linear::read(weights, &format!("{head}.transform.dense"), d, d)?,
                    Norm::read(weights, &format!("{head}.transform.LayerNorm"), &shape)?,
                    shape.activation,
                )),
                matrix: Linear::of(matrix, Some(bias)),
            },
            tokens,
            shape,
        })
    }

    /// The network's shape.
    pub fn configuration(&self) -> &Configuration {
        &self.shape
    }

    /// Rows of the embedding for tokens at positions, with their types (empty: all 0). `[N]` → `[N, D]`
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a token outside the vocabulary or a position beyond the context.
    pub fn embed(&self, tokens: &[u32], positions: &[u32], types: &[u32]) -> Result<Tensor> {
        crate::measure::check_ids(tokens, self.shape.vocabulary)?;
        let pick = |table: &Tensor, ids: &[u32]| -> Result<Tensor> {
            let ids = Tensor::from_slice(ids, ids.len(), &Device::Cpu)?;
            Ok(table.index_select(&ids, 0)?)
        };
        let mut x = pick(&self.tokens, tokens)?;
        if let Some(table) = &self.positions {
            if let Some(&beyond) = positions
                .iter()
                .find(|&&position| position as usize >= self.shape.context)
            {
                return Err(Error::new(
                    ErrorKind::Input,
                    format!(
                        "position {beyond} is beyond the context of {}",
                        self.shape.context
                    ),
                )
                .advice("use a shorter text"));
            }
            x = (x + pick(table, positions)?)?;
        }
        if let Some(table) = &self.types {
            let none = vec![0; tokens.len()];
            let types = if types.is_empty() { &none } else { types };
            crate::measure::check_ids(types, self.shape.types)?;
            x = (x + pick(table, types)?)?;
        }
        match &self.embedding_norm {
            Some(norm) => norm.apply(&x),
            None => Ok(x),
        }
    }

    /// What the last layer leaves, normalised where the architecture does. `[N, D]`
    pub(super) fn finish(&self, x: &Tensor) -> Result<Tensor> {
        match &self.final_norm {
            Some(norm) => norm.apply(x),
            None => Ok(x.clone()),
        }
    }

    /// Scores of all V tokens; a softmax of a row is the model's distribution. `[N, D]` → `[N, V]`
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when arithmetic fails.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        match &self.head.transform {
            Some((forward, norm, activation)) => {
                let x = norm.apply(&activation.apply(&forward.apply(x)?)?)?;
                self.head.matrix.apply(&x)
            }
            None => self.head.matrix.apply(x),
        }
    }

    /// The same network without the key and value projections that a plan's aliased layers do not need.
    ///
    /// # Errors
    /// As [`Plan::check`].
    pub fn for_plan(&self, plan: &Plan) -> Result<Self> {
        plan.check(&self.shape)?;
        let mut network = self.clone();
        for (layer, block) in network.blocks.iter_mut().enumerate() {
            if plan.layers[layer].source != layer {
                block.key_value = None;
                block.query = block.query.alone()?;
            }
        }
        Ok(network)
    }

    /// Numbers in the weights, those shared counted once.
    pub fn parameters(&self) -> usize {
        let tables = [
            Some(&self.tokens),
            self.positions.as_ref(),
            self.types.as_ref(),
        ];
        let head = match self.shape.tied {
            true if self.shape.architecture == Architecture::Bert => self.shape.vocabulary,
            true => 0,
            false => self.head.matrix.count(),
        };
        let transform = self
            .head
            .transform
            .as_ref()
            .map_or(0, |(forward, norm, _)| forward.count() + norm.count());
        tables
            .into_iter()
            .flatten()
            .map(Tensor::elem_count)
            .sum::<usize>()
            + self.blocks.iter().map(Block::count).sum::<usize>()
            + self.embedding_norm.as_ref().map_or(0, Norm::count)
            + self.final_norm.as_ref().map_or(0, Norm::count)
            + transform
            + head
    }

    /// Bytes of weights that one decoded token reads: all but the rows of the tables that it does not use.
    pub fn bytes_per_token(&self) -> usize {
        let tables = [
            Some(&self.tokens),
            self.positions.as_ref(),
            self.types.as_ref(),
        ]
        .into_iter()
        .flatten();
        // A tied table is read whole by the head.
        let unread: usize = tables
            .enumerate()
            .filter(|(index, _)| *index > 0 || !self.shape.tied)
            .map(|(_, table)| table.elem_count().saturating_sub(self.shape.width))
            .sum();
        (self.parameters() - unread) * 4
    }
}

/// The output matrix: the embedding's own, or one of its own.
fn output_matrix(shape: &Configuration, weights: &Weights, tokens: &Tensor) -> Result<Linear> {
    if shape.tied {
        return Ok(Linear::of(tokens.t()?, None));
    }
    Linear::read(weights, "lm_head", shape.width, shape.vocabulary)
}
