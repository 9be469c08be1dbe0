//! A network before training: the configuration of a recipe, and random weights under Hugging Face's names.

use serde_json::{Value, json};

use crate::Result;
use crate::kernel::random::Random;
use crate::learn::recipe::{Kind, Recipe, Style};
use crate::transformer::family::Role;
use crate::transformer::variables::Weight;
use crate::transformer::{Architecture, Configuration};

/// One weight to create.
#[derive(Clone, Debug, PartialEq)]
struct InitialWeight {
    name: String,
    shape: Vec<usize>,
    initializer: Initializer,
}

/// Distribution of a weight's first values.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Initializer {
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Biases of an LSTM: 1 for the forget gates, so that states are kept at first, 0 for the others.
    LstmGates,
}

const ONE: Initializer = Initializer::Constant(1.0);
const ZERO: Initializer = Initializer::Constant(0.0);
const EMBEDDING: Initializer = Initializer::Normal(0.02);

impl InitialWeight {
    fn new(name: impl Into<String>, shape: &[usize], initializer: Initializer) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            initializer,
        }
    }

    /// Draw the values; they depend on the seed and the weight's index alone.
    fn draw(self, seed: u64, index: usize) -> Weight {
        let length: usize = self.shape.iter().product();
        let values = match self.initializer {
            Initializer::Constant(value) => vec![value; length],
            Initializer::Normal(deviation) => {
                let mut random = Random::stream(seed, 0x6e65_7477, index as u64);
                (0..length)
                    .map(|_| random.normal() as f32 * deviation)
                    .collect()
            }
            Initializer::LstmGates => {
                // Gates are in the order i, f, g, o.
                let width = length / 4;
                (0..length)
                    .map(|i| if i / width == 1 { 1.0 } else { 0.0 })
                    .collect()
            }
        };
        Weight {
            name: self.name,
            shape: self.shape,
            values,
        }
    }
}

/// Create the configuration of a recipe for a vocabulary size. A BERT whose tokenizer has no mask token gets one more
/// token.
pub(super) fn configuration(
    recipe: &Recipe,
    vocabulary: usize,
    mask: Option<u32>,
    end: Option<u32>,
) -> Result<Configuration> {
    // Settings follow Hugging Face's names, so that the folder can be read there.
    let network = recipe.network.clone().unwrap_or_default();
    let context = network.context.unwrap_or(recipe.train.steps);
    let (d, layers, heads) = (network.width, network.layers, network.heads);
    let json: Value = match (recipe.kind, network.style) {
        (Kind::Gpt, Style::Llama) | (Kind::Graph, _) => json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama",
            "hidden_size": d, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": network.kv_heads.unwrap_or(heads), "head_dim": d / heads,
            // Three matrices instead of two: 2/3 of 4 D keeps the number of parameters, rounded up to a multiple of 8.
            "intermediate_size": network.feed_forward.unwrap_or((8 * d / 3).next_multiple_of(8)),
            "max_position_embeddings": context, "rms_norm_eps": 1e-5, "rope_theta": network.rope_theta,
            "hidden_act": "silu", "tie_word_embeddings": network.tied, "vocab_size": vocabulary,
            "attention_bias": false, "mlp_bias": false, "eos_token_id": end, "torch_dtype": "float32",
        }),
        (Kind::Gpt, Style::Gpt2) => json!({
            "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": d, "n_layer": layers,
            "n_head": heads, "n_inner": network.feed_forward.unwrap_or(4 * d), "n_positions": context,
            "n_ctx": context, "layer_norm_epsilon": 1e-5, "activation_function": "gelu",
            "tie_word_embeddings": network.tied, "vocab_size": vocabulary, "eos_token_id": end,
            "torch_dtype": "float32",
        }),
        (Kind::Bert, _) => json!({
            "architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_size": d,
            "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": network.feed_forward.unwrap_or(4 * d),
            "max_position_embeddings": context, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
            "type_vocab_size": 2, "tie_word_embeddings": network.tied,
            "vocab_size": vocabulary + usize::from(mask.is_none()),
            "mask_token_id": mask.unwrap_or(vocabulary as u32), "torch_dtype": "float32",
        }),
        (Kind::Lstm, _) => json!({
            "architectures": ["LstmForCausalLM"], "model_type": "lstm", "hidden_size": d,
            "num_hidden_layers": layers, "max_position_embeddings": 0, "tie_word_embeddings": network.tied,
            "vocab_size": vocabulary, "eos_token_id": end, "torch_dtype": "float32",
        }),
    };
    Configuration::from_json(json)
}

/// Draw the weights of a configuration.
pub(super) fn weights(shape: &Configuration, seed: u64) -> Vec<Weight> {
    let list = match shape.architecture {
        Architecture::Lstm => lstm(shape),
        _ => attention_network(shape),
    };
    list.into_iter()
        .enumerate()
        .map(|(index, weight)| weight.draw(seed, index))
        .collect()
}

/// Return the initializer that keeps the variance of a product with rows of `input` numbers.
fn scaled(input: usize) -> Initializer {
    Initializer::Normal(1.0 / (input as f32).sqrt())
}

/// List the weights of a network of attention layers, in the order of its family's modules.
fn attention_network(shape: &Configuration) -> Vec<InitialWeight> {
    let family = shape.family();
    let mut list = Vec::new();
    let mut add = |role: Role, layer: usize| {
        let Some(path) = family.path(family.prefix, role, layer) else {
            return;
        };
        let (output, input) = shape.dimensions(role);
        let mut weight = |suffix: &str, shape: &[usize], initializer| {
            let name = format!("{path}.{suffix}");
            list.push(InitialWeight::new(name, shape, initializer));
        };
        match role {
            Role::Head if shape.tied => return,
            Role::HeadBias => {}
            Role::PositionEmbedding => {
                let deviation = family.position_deviation;
                weight("weight", &[output, input], Initializer::Normal(deviation));
            }
            role if role.is_embedding() => weight("weight", &[output, input], EMBEDDING),
            role if role.is_norm() => weight("weight", &[output], ONE),
            role => {
                let dimensions = if family.transposed {
                    [input, output]
                } else {
                    [output, input]
                };
                // The stream of a pre-norm network is a sum of 2 L products: scaling them by 1/√(2 L) keeps its
                // variance (Radford et al. 2019).
                let sums = if role.adds_to_stream() && !family.post_norm {
                    2 * shape.layers
                } else {
                    1
                };
                weight("weight", &dimensions, scaled(input * sums));
            }
        }
        if family.biased && !role.is_embedding() {
            weight("bias", &[output], ZERO);
        }
    };
    family.input.iter().for_each(|(role, _)| add(*role, 0));
    for layer in 0..shape.layers {
        family.layer.iter().for_each(|(role, _)| add(*role, layer));
    }
    family.output.iter().for_each(|(role, _)| add(*role, 0));
    list
}

/// List the weights of a recurrent network.
fn lstm(shape: &Configuration) -> Vec<InitialWeight> {
    let (d, v) = (shape.width, shape.vocabulary);
    let mut list = vec![InitialWeight::new(
        "embedding.weight",
        &[v, d],
        Initializer::Normal(0.1),
    )];
    for layer in 0..shape.layers {
        let path = |name: &str| format!("layers.{layer}.{name}");
        list.push(InitialWeight::new(
            path("input.weight"),
            &[4 * d, d],
            scaled(d),
        ));
        list.push(InitialWeight::new(
            path("input.bias"),
            &[4 * d],
            Initializer::LstmGates,
        ));
        list.push(InitialWeight::new(
            path("recurrent.weight"),
            &[4 * d, d],
            scaled(d),
        ));
    }
    if !shape.tied {
        list.push(InitialWeight::new("head.weight", &[v, d], EMBEDDING));
    }
    list.push(InitialWeight::new("head.bias", &[v], ZERO));
    list
}
