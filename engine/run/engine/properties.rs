//! What a model of either kind is: name, tokenizer, sizes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Engine;
use crate::Result;
use crate::model::Model;
use crate::signal::{EdgeForm, blocks};
use crate::text::{ReadingDirection, Tokenizer};

/// The kind of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// A graph.
    Graph,
    /// A transformer or a recurrent network.
    Transformer,
}

/// The sizes of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSummary {
    /// Its kind.
    pub kind: EngineKind,
    /// The profile's name, or the transformer's `model_type`.
    pub profile: String,
    /// Signal width or width of the residual stream, `D`.
    pub width: usize,
    /// Layers of a transformer or of layered edges, `L`.
    pub layers: Option<usize>,
    /// Heads of a transformer, `H`.
    pub heads: Option<usize>,
    /// Positions that a transformer was trained on; 0 for a recurrent network.
    pub context: Option<usize>,
    /// Edges of a graph.
    pub edges: Option<usize>,
    /// Edges with parameters of their own.
    pub own_edges: Option<usize>,
    /// The license, as the model's metadata states it.
    pub license: Value,
}

impl Engine {
    /// The model's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Graph(model) => &model.metadata().name,
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.name(),
        }
    }

    /// The direction in which the model reads.
    pub fn direction(&self) -> ReadingDirection {
        match self {
            Self::Graph(model) => model.metadata().direction,
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.direction(),
        }
    }

    /// Number of tokens, `V`.
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Graph(model) => model.mechanism().nodes(),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.configuration().vocabulary,
        }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        match self {
            Self::Graph(model) => model.shared_tokenizer(),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.tokenizer(),
        }
    }

    /// Encode a text, with the marks that the model expects before one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Graph(model) => model.tokenizer().encode(text),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.encode(text),
        }
    }

    /// The tokens that end a text.
    pub fn stop_tokens(&self) -> Vec<u32> {
        match self {
            Self::Graph(model) => model.tokenizer().vocabulary().stop().into_iter().collect(),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.stop_tokens(),
        }
    }

    /// Tokens that a context can hold; `None` without a limit.
    pub fn context_limit(&self) -> Option<usize> {
        match self {
            Self::Graph(model) => {
                let profile = model.mechanism().profile();
                // A path of n hops has n + 1 tokens.
                profile.position_limit.then(|| profile.positions + 1)
            }
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.configuration().hard_context(),
        }
    }

    /// Whether the model predicts each token from those before it; a masked language model does not.
    pub fn is_causal(&self) -> bool {
        match self {
            Self::Graph(_) => true,
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model
                .network()
                .is_none_or(|network| network.configuration().causal()),
        }
    }

    /// Whether a prompt is read in one pass, rather than token by token.
    pub fn reads_at_once(&self) -> bool {
        !matches!(self, Self::Graph(_))
    }

    /// Number of learned parameters.
    pub fn parameters(&self) -> usize {
        match self {
            Self::Graph(model) => model.mechanism().weights().parameters(),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.body().parameters(),
        }
    }

    /// Bytes of weights that a token reads, on average over nodes where it depends on the node.
    pub fn bytes_per_token(&self) -> usize {
        match self {
            Self::Graph(model) => graph_bytes(model),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => model.body().bytes_per_token(),
        }
    }

    /// Kind, sizes and license.
    pub fn summary(&self) -> EngineSummary {
        match self {
            Self::Graph(model) => {
                let graph = model.mechanism().graph();
                let profile = &model.metadata().profile;
                EngineSummary {
                    kind: EngineKind::Graph,
                    profile: profile.name.clone(),
                    width: profile.width,
                    layers: (profile.form == EdgeForm::Layered).then_some(profile.layers),
                    heads: None,
                    context: None,
                    edges: Some(graph.edges()),
                    own_edges: Some(graph.own_edges()),
                    license: json!(model.metadata().license),
                }
            }
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => {
                let shape = model.configuration();
                let kind = shape.json["model_type"].as_str().unwrap_or_default();
                EngineSummary {
                    kind: EngineKind::Transformer,
                    profile: kind.to_string(),
                    width: shape.width,
                    layers: Some(shape.layers),
                    heads: Some(shape.heads),
                    context: Some(shape.context),
                    edges: None,
                    own_edges: None,
                    license: model.record()["license"].clone(),
                }
            }
        }
    }

    /// The metadata of the model's file, as JSON.
    pub fn metadata(&self) -> Value {
        match self {
            Self::Graph(model) => json!(model.metadata()),
            #[cfg(feature = "transformer")]
            Self::Transformer(model) => json!({
                "name": model.name(),
                "configuration": model.configuration().json,
                "record": model.record(),
            }),
        }
    }
}

/// Bytes that one hop of a graph reads: whole tables over all candidates, the edges of a mean fan, one row of the rest.
fn graph_bytes(model: &Model) -> usize {
    let (mechanism, profile) = (model.mechanism(), &model.metadata().profile);
    let (graph, weights) = (mechanism.graph(), mechanism.weights());
    let (nodes, own) = (graph.nodes(), graph.own_edges());
    blocks(profile, nodes, own)
        .iter()
        .filter(|block| block.rows * block.columns > 0)
        .map(|block| {
            let row = if block.narrows {
                let table = weights.table(block.name);
                let scales = table.scales().map_or(0, |_| 4);
                block.columns * table.element().size() + scales
            } else {
                block.columns * 4
            };
            let fan = own / nodes.max(1);
            let rows = match block.name {
                "node.target" | "node.bias" => block.rows,
                "edge.arena" => 1 + fan,
                "edge.residual" => fan,
                name if name.starts_with("node.") || name == "blend.gate" => 1,
                _ => block.rows,
            };
            rows * row
        })
        .sum()
}
