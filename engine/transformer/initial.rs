//! A network from scratch: the configuration of a recipe, and fresh weights under Hugging Face's names.

use serde_json::{Value, json};

use crate::Result;
use crate::kernel::random::Random;
use crate::learn::recipe::{Kind, Recipe, Style};
use crate::transformer::{Architecture, Configuration};

/// One weight to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fresh {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    fill: Fill,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fill {
    /// All the same.
    Constant(f32),
    /// Normal numbers of a deviation.
    Normal(f32),
    /// The biases of an LSTM: the forget gates begin open.
    Gates,
}

impl Fresh {
    fn new(name: impl Into<String>, shape: &[usize], fill: Fill) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            fill,
        }
    }

    /// Its numbers: the same for a seed and a place among the weights.
    pub(super) fn values(&self, seed: u64, place: usize) -> Vec<f32> {
        let length = self.shape.iter().product();
        match self.fill {
            Fill::Constant(value) => vec![value; length],
            Fill::Normal(deviation) => {
                let mut random = Random::stream(seed, 0x6e65_7477, place as u64);
                (0..length)
                    .map(|_| random.normal() as f32 * deviation)
                    .collect()
            }
            Fill::Gates => {
                let width = length / 4;
                (0..length)
                    .map(|at| if at / width == 1 { 1.0 } else { 0.0 })
                    .collect()
            }
        }
    }
}

/// The `config.json` of a recipe, for a vocabulary of so many tokens; a bert has one more for what is masked
/// where the tokenizer has none.
pub(super) fn configuration(
    recipe: &Recipe,
    vocabulary: usize,
    mask: Option<u32>,
    end: Option<u32>,
) -> Result<Configuration> {
    let network = recipe.network.clone().unwrap_or_default();
    let context = network.context.unwrap_or(recipe.train.steps);
    let (d, layers, heads) = (network.width, network.layers, network.heads);
    let json: Value = match (recipe.kind, network.style) {
        (Kind::Gpt, Style::Llama) | (Kind::Graph, _) => json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama",
            "hidden_size": d, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": network.kv_heads.unwrap_or(heads), "head_dim": d / heads,
            // Three matrices instead of two: two thirds of 4 D each, in whole eights.
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

/// The weights of a configuration, in a fixed order.
pub(super) fn weights(shape: &Configuration) -> Vec<Fresh> {
    match shape.architecture {
        Architecture::Llama => llama(shape),
        Architecture::Gpt2 => gpt2(shape),
        Architecture::Bert => bert(shape),
        Architecture::Lstm => lstm(shape),
    }
}

/// The deviation that keeps the size of a row of `input` numbers.
fn spread(input: usize) -> Fill {
    Fill::Normal(1.0 / (input as f32).sqrt())
}

/// The same for what is added to the stream, which has 2 L such sums (Radford et al. 2019).
fn added(input: usize, layers: usize) -> Fill {
    Fill::Normal(1.0 / (input as f32 * 2.0 * layers as f32).sqrt())
}

const ONE: Fill = Fill::Constant(1.0);
const ZERO: Fill = Fill::Constant(0.0);
const EMBEDDING: Fill = Fill::Normal(0.02);

fn llama(shape: &Configuration) -> Vec<Fresh> {
    let (d, f, v, n) = (
        shape.width,
        shape.feed_forward,
        shape.vocabulary,
        shape.layers,
    );
    let (q, kv) = (shape.heads * shape.head_width, shape.kv_width());
    let mut list = vec![Fresh::new("model.embed_tokens.weight", &[v, d], EMBEDDING)];
    for layer in 0..n {
        let mut add = |name: &str, dims: &[usize], fill| {
            list.push(Fresh::new(
                format!("model.layers.{layer}.{name}.weight"),
                dims,
                fill,
            ));
        };
        add("input_layernorm", &[d], ONE);
        add("self_attn.q_proj", &[q, d], spread(d));
        add("self_attn.k_proj", &[kv, d], spread(d));
        add("self_attn.v_proj", &[kv, d], spread(d));
        add("self_attn.o_proj", &[d, q], added(q, n));
        add("post_attention_layernorm", &[d], ONE);
        add("mlp.gate_proj", &[f, d], spread(d));
        add("mlp.up_proj", &[f, d], spread(d));
        add("mlp.down_proj", &[d, f], added(f, n));
    }
    list.push(Fresh::new("model.norm.weight", &[d], ONE));
    if !shape.tied {
        list.push(Fresh::new("lm_head.weight", &[v, d], EMBEDDING));
    }
    list
}

fn gpt2(shape: &Configuration) -> Vec<Fresh> {
    let (d, f, v, n) = (
        shape.width,
        shape.feed_forward,
        shape.vocabulary,
        shape.layers,
    );
    let mut list = vec![
        Fresh::new("transformer.wte.weight", &[v, d], EMBEDDING),
        Fresh::new(
            "transformer.wpe.weight",
            &[shape.context, d],
            Fill::Normal(0.01),
        ),
    ];
    for layer in 0..n {
        let mut add = |name: &str, dims: &[usize], fill, bias: usize| {
            let name = format!("transformer.h.{layer}.{name}");
            list.push(Fresh::new(format!("{name}.weight"), dims, fill));
            list.push(Fresh::new(format!("{name}.bias"), &[bias], ZERO));
        };
        add("ln_1", &[d], ONE, d);
        add("attn.c_attn", &[d, 3 * d], spread(d), 3 * d);
        add("attn.c_proj", &[d, d], added(d, n), d);
        add("ln_2", &[d], ONE, d);
        add("mlp.c_fc", &[d, f], spread(d), f);
        add("mlp.c_proj", &[f, d], added(f, n), d);
    }
    list.push(Fresh::new("transformer.ln_f.weight", &[d], ONE));
    list.push(Fresh::new("transformer.ln_f.bias", &[d], ZERO));
    if !shape.tied {
        list.push(Fresh::new("lm_head.weight", &[v, d], EMBEDDING));
    }
    list
}

fn bert(shape: &Configuration) -> Vec<Fresh> {
    let (d, f, v) = (shape.width, shape.feed_forward, shape.vocabulary);
    let mut list = vec![
        Fresh::new("bert.embeddings.word_embeddings.weight", &[v, d], EMBEDDING),
        Fresh::new(
            "bert.embeddings.position_embeddings.weight",
            &[shape.context, d],
            EMBEDDING,
        ),
        Fresh::new(
            "bert.embeddings.token_type_embeddings.weight",
            &[shape.types, d],
            EMBEDDING,
        ),
    ];
    let mut add = |name: String, dims: &[usize], fill, bias: usize| {
        list.push(Fresh::new(format!("{name}.weight"), dims, fill));
        list.push(Fresh::new(format!("{name}.bias"), &[bias], ZERO));
    };
    add("bert.embeddings.LayerNorm".into(), &[d], ONE, d);
    for layer in 0..shape.layers {
        let place = |name: &str| format!("bert.encoder.layer.{layer}.{name}");
        for name in ["query", "key", "value"] {
            add(
                place(&format!("attention.self.{name}")),
                &[d, d],
                spread(d),
                d,
            );
        }
        add(place("attention.output.dense"), &[d, d], spread(d), d);
        add(place("attention.output.LayerNorm"), &[d], ONE, d);
        add(place("intermediate.dense"), &[f, d], spread(d), f);
        add(place("output.dense"), &[d, f], spread(f), d);
        add(place("output.LayerNorm"), &[d], ONE, d);
    }
    add(
        "cls.predictions.transform.dense".into(),
        &[d, d],
        spread(d),
        d,
    );
    add("cls.predictions.transform.LayerNorm".into(), &[d], ONE, d);
    list.push(Fresh::new("cls.predictions.bias", &[v], ZERO));
    if !shape.tied {
        list.push(Fresh::new(
            "cls.predictions.decoder.weight",
            &[v, d],
            EMBEDDING,
        ));
    }
    list
}

fn lstm(shape: &Configuration) -> Vec<Fresh> {
    let (d, v) = (shape.width, shape.vocabulary);
    let mut list = vec![Fresh::new("embedding.weight", &[v, d], Fill::Normal(0.1))];
    for layer in 0..shape.layers {
        let place = |name: &str| format!("layers.{layer}.{name}");
        list.push(Fresh::new(place("input.weight"), &[4 * d, d], spread(d)));
        list.push(Fresh::new(place("input.bias"), &[4 * d], Fill::Gates));
        list.push(Fresh::new(
            place("recurrent.weight"),
            &[4 * d, d],
            spread(d),
        ));
    }
    if !shape.tied {
        list.push(Fresh::new("head.weight", &[v, d], EMBEDDING));
    }
    list.push(Fresh::new("head.bias", &[v], ZERO));
    list
}
