//! A network that tells labels of texts: what its last layer leaves of a text, pooled, through one matrix.

use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::Value;

use crate::text::{Labelled, Tokenizer};
use crate::transformer::batch::{Dropout, TokenBatch};
use crate::transformer::model::Transformer;
use crate::transformer::operation::to_vec;
use crate::transformer::weights::{Linear, Weights};
use crate::transformer::{Architecture, Configuration, folder};
use crate::{Error, ErrorKind, Result};

/// The matrix from a pooled row to labels.
pub(super) const HEAD: &str = "classifier";
/// BERT's own pooling of `[CLS]`: a matrix and tanh.
pub(super) const POOLER: &str = "bert.pooler.dense";
/// Texts scored together.
const TOGETHER: usize = 64;

/// Which rows of a text stand for the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first, `[CLS]`, through BERT's pooler.
    First,
    /// The mean over the text: for a BERT whose tokenizer has no `[CLS]`.
    Mean,
    /// The last: for a network that only looks back.
    Last,
}

impl Pooling {
    /// What fits a network and its tokenizer.
    pub(super) fn of(shape: &Configuration, tokenizer: &Tokenizer) -> Self {
        match (shape.architecture, tokenizer.frame().0.is_empty()) {
            (Architecture::Bert, false) => Self::First,
            (Architecture::Bert, true) => Self::Mean,
            _ => Self::Last,
        }
    }

    /// As `classifier_pooling` of a `config.json`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::First => "cls",
            Self::Mean => "mean",
            Self::Last => "last",
        }
    }
}

/// A network with a head of labels.
pub struct Classifier {
    transformer: Transformer,
    pooling: Pooling,
    pooler: Option<Linear>,
    head: Linear,
    labels: Vec<String>,
}

/// A text as the network takes it.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    pub(super) tokens: Vec<u32>,
    /// 0 for the first text, 1 for the second.
    pub(super) types: Vec<u32>,
}

/// What a classifier says of one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The likeliest label, as a place in [`Classifier::labels`].
    pub label: usize,
    /// Of every label. `[labels]`
    pub probabilities: Vec<f32>,
}

impl Classifier {
    /// Joins a network with the head among `weights`.
    pub(super) fn new(
        transformer: Transformer,
        weights: &Weights,
        labels: Vec<String>,
    ) -> Result<Self> {
        let shape = transformer.configuration();
        if transformer.network().is_none() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a recurrent net is not built to tell labels",
            )
            .advice("use a bert, a gpt or a llama"));
        }
        let pooling = Pooling::of(shape, transformer.tokenizer());
        let d = shape.width;
        Ok(Self {
            pooler: match pooling {
                Pooling::First => Some(Linear::read(weights, POOLER, d, d)?),
                _ => None,
            },
            head: Linear::read(weights, HEAD, d, labels.len())?,
            transformer,
            pooling,
            labels,
        })
    }

    /// Opens a folder that fine-tuning wrote.
    ///
    /// # Errors
    /// As [`Transformer::open`]; [`ErrorKind::Format`] naming the head's tensor where the model has none.
    pub fn open(path: &Path) -> Result<Self> {
        let transformer = Transformer::open(path)?;
        let names = &transformer.configuration().json["id2label"];
        let labels: Vec<String> = (0..)
            .map_while(|id| names[id.to_string()].as_str().map(str::to_string))
            .collect();
        if labels.len() < 2 {
            return Err(Error::new(ErrorKind::Format, "the model tells no labels")
                .at(path.display())
                .advice("fine-tune it first: brillm classify --train FILE --out FOLDER"));
        }
        let weights = folder::read_weights(path)?;
        Self::new(transformer, &weights, labels).map_err(|error| error.at(path.display()))
    }

    /// The labels, in the order of their ids.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The network.
    pub fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    /// The place of a label.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a label the model does not tell.
    pub fn label(&self, label: &str) -> Result<usize> {
        place(&self.labels, label)
    }

    /// A text or a pair with the tokenizer's marks; of what is too long for the network the longer text is cut.
    pub(super) fn encode(&self, text: &Labelled) -> Result<Encoded> {
        let tokenizer = self.transformer.tokenizer();
        let (before, after) = tokenizer.frame();
        let mut first = tokenizer.encode(&text.text)?;
        let mut second = match &text.pair {
            Some(pair) => Some(tokenizer.encode(pair)?),
            None => None,
        };
        let marks = before.len() + after.len() * if second.is_some() { 2 } else { 1 };
        let room = self.transformer.configuration().context;
        let room = if room == 0 { usize::MAX } else { room };
        let most = room.saturating_sub(marks).max(1);
        let other = second.as_ref().map_or(0, Vec::len);
        let kept = first.len().min(most - other.min(most / 2));
        first.truncate(kept);
        if let Some(second) = &mut second {
            second.truncate(most - kept);
        }
        let mut tokens = before;
        tokens.extend(first);
        tokens.extend(&after);
        let mut types = vec![0; tokens.len()];
        if let Some(second) = second {
            tokens.extend(second);
            tokens.extend(&after);
            types.resize(tokens.len(), 1);
        }
        if tokens.is_empty() {
            return Err(Error::new(ErrorKind::Input, "a text without a token"));
        }
        Ok(Encoded { tokens, types })
    }

    /// Scores of all labels; a softmax of a row is their distribution. `[B]` → `[B, labels]`
    pub(super) fn logits(&self, texts: &[&Encoded], dropout: Option<Dropout>) -> Result<Tensor> {
        let length = texts
            .iter()
            .map(|text| text.tokens.len())
            .max()
            .unwrap_or(0);
        let padded = |pick: fn(&Encoded) -> &Vec<u32>| -> Vec<u32> {
            texts
                .iter()
                .flat_map(|text| {
                    let row = pick(text);
                    row.iter()
                        .copied()
                        .chain(std::iter::repeat_n(0, length - row.len()))
                })
                .collect()
        };
        let shape = self.transformer.configuration();
        let valid: Vec<usize> = texts.iter().map(|text| text.tokens.len()).collect();
        let input = TokenBatch {
            tokens: padded(|text| &text.tokens),
            types: match shape.types {
                0 | 1 => Vec::new(),
                _ => padded(|text| &text.types),
            },
            length,
            valid: valid.clone(),
        };
        let x = self.transformer.body().forward(&input, dropout)?;
        let rows = |place: fn(usize) -> usize| -> Result<Tensor> {
            let rows: Vec<u32> = valid
                .iter()
                .enumerate()
                .map(|(text, &valid)| (text * length + place(valid)) as u32)
                .collect();
            let rows = Tensor::from_slice(&rows, rows.len(), &Device::Cpu)?;
            Ok(x.index_select(&rows, 0)?)
        };
        let pooled = match self.pooling {
            Pooling::First => rows(|_| 0)?,
            Pooling::Last => rows(|valid| valid - 1)?,
            Pooling::Mean => {
                // One matrix of shares: [B, B · T] times [B · T, D].
                let mut shares = vec![0.0f32; texts.len() * texts.len() * length];
                for (text, &valid) in valid.iter().enumerate() {
                    let from = text * texts.len() * length + text * length;
                    shares[from..from + valid].fill(1.0 / valid as f32);
                }
                Tensor::from_vec(shares, (texts.len(), texts.len() * length), &Device::Cpu)?
                    .matmul(&x)?
            }
        };
        let pooled = match &self.pooler {
            Some(pooler) => pooler.forward(&pooled)?.tanh()?,
            None => pooled,
        };
        let pooled = match dropout {
            Some(dropout) => dropout.apply(pooled, u64::from(u32::MAX))?,
            None => pooled,
        };
        self.head.forward(&pooled)
    }

    /// Tells the label of each text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`] and [`crate::transformer::Body::forward`].
    ///
    /// # Complexity
    /// One pass of the network over all tokens; texts of a like length go together.
    pub fn predict(&self, texts: &[Labelled]) -> Result<Vec<Prediction>> {
        let encoded = texts
            .iter()
            .map(|text| self.encode(text))
            .collect::<Result<Vec<_>>>()?;
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        order.sort_by_key(|&text| encoded[text].tokens.len());
        let mut told = vec![None; encoded.len()];
        for group in order.chunks(TOGETHER) {
            let batch: Vec<&Encoded> = group.iter().map(|&text| &encoded[text]).collect();
            let logits = to_vec(&self.logits(&batch, None)?.detach())?;
            for (row, &text) in logits.chunks_exact(self.labels.len()).zip(group) {
                let mut probabilities = row.to_vec();
                crate::kernel::softmax::softmax(&mut probabilities);
                let label = (0..row.len()).fold(0, |best, at| match row[at] > row[best] {
                    true => at,
                    false => best,
                });
                told[text] = Some(Prediction {
                    label,
                    probabilities,
                });
            }
        }
        Ok(told.into_iter().flatten().collect())
    }
}

/// The place of a label among labels.
pub(super) fn place(labels: &[String], label: &str) -> Result<usize> {
    labels
        .iter()
        .position(|known| known == label)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Input,
                format!("the label {label:?} is not known"),
            )
            .advice(format!("the model tells: {}", labels.join(", ")))
        })
}

/// The `config.json` of a classifier over a network's.
pub(super) fn configured(json: &Value, labels: &[String], pooling: Pooling) -> Value {
    let mut json = json.clone();
    let model = match json["model_type"].as_str() {
        Some("bert") => "Bert",
        Some("gpt2") => "GPT2",
        _ => "Llama",
    };
    json["architectures"] = serde_json::json!([format!("{model}ForSequenceClassification")]);
    json["classifier_pooling"] = pooling.name().into();
    json["id2label"] = labels
        .iter()
        .enumerate()
        .map(|(id, label)| (id.to_string(), Value::from(label.as_str())))
        .collect::<serde_json::Map<_, _>>()
        .into();
    json["label2id"] = labels
        .iter()
        .enumerate()
        .map(|(id, label)| (label.clone(), Value::from(id)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    json
}
