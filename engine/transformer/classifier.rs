//! Classification of texts: the last layer's rows of a text, pooled, then one linear layer.

use std::path::Path;

use candle_core::Tensor;
use serde_json::Value;

use crate::text::LabelledText;
use crate::transformer::batch::Dropout;
use crate::transformer::model::Transformer;
use crate::transformer::operation::to_vec;
use crate::transformer::pooling::{Encoded, Pooling};
use crate::transformer::weights::{Linear, Weights};
use crate::transformer::{Configuration, folder};
use crate::{Error, ErrorKind, Result};

/// Name of the linear layer from a pooled row to labels.
pub(super) const HEAD: &str = "classifier";
/// Name of BERT's pooler of `[CLS]`: a linear layer and tanh.
pub(super) const POOLER: &str = "bert.pooler.dense";
/// Texts in a batch.
const BATCH: usize = 64;

/// A network with a classification head.
pub struct Classifier {
    transformer: Transformer,
    pooling: Pooling,
    pooler: Option<Linear>,
    head: Linear,
    labels: Vec<String>,
}

/// Prediction for one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Most probable label, an index into [`Classifier::labels`].
    pub label: usize,
    /// Probability of each label. `[labels]`
    pub probabilities: Vec<f32>,
}

impl Classifier {
    /// Join a network with the head among `weights`.
    pub(super) fn new(
        transformer: Transformer,
        weights: &Weights,
        labels: Vec<String>,
    ) -> Result<Self> {
        let shape = transformer.configuration();
        if transformer.network().is_none() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "classification with a recurrent network is not supported",
            )
            .advice("use a bert, gpt2 or llama"));
        }
        let pooling = Pooling::of(shape, transformer.tokenizer());
        let d = shape.width;
        Ok(Self {
            pooler: (pooling == Pooling::Cls)
                .then(|| Linear::read(weights, POOLER, d, d))
                .transpose()?,
            head: Linear::read(weights, HEAD, d, labels.len())?,
            transformer,
            pooling,
            labels,
        })
    }

    /// Open a folder written by fine-tuning, or a BertForSequenceClassification in Hugging Face's layout.
    ///
    /// # Errors
    /// As [`Transformer::open`]; [`ErrorKind::Format`] for a model without a classification head.
    pub fn open(path: &Path) -> Result<Self> {
        let transformer = Transformer::open_encoder(path)?;
        let names = &transformer.configuration().json["id2label"];
        let labels: Vec<String> = (0..)
            .map_while(|id| names[id.to_string()].as_str().map(str::to_string))
            .collect();
        if labels.len() < 2 {
            return Err(
                Error::new(ErrorKind::Format, "the model has no classification head")
                    .at(path.display())
                    .advice("fine-tune it first: brillm classify --train FILE --out FOLDER"),
            );
        }
        let weights = folder::open_weights(path)?;
        Self::new(transformer, &weights, labels).map_err(|error| error.at(path.display()))
    }

    /// Return the labels in the order of their ids.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Return the model under the head.
    pub fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    /// Return the index of a label.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an unknown label.
    pub fn label(&self, label: &str) -> Result<usize> {
        let index = self.labels.iter().position(|known| known == label);
        index.ok_or_else(|| {
            Error::new(ErrorKind::Input, format!("unknown label {label:?}"))
                .advice(format!("the model's labels: {}", self.labels.join(", ")))
        })
    }

    /// Encode a text or a pair.
    pub(super) fn encode(&self, text: &LabelledText) -> Result<Encoded> {
        Encoded::of(&self.transformer, &text.text, text.pair.as_deref())
    }

    /// Compute the logits of all labels. `[B]` → `[B, labels]`
    pub(super) fn logits(&self, texts: &[&Encoded], dropout: Option<Dropout>) -> Result<Tensor> {
        let pooled = self.pooling.rows(&self.transformer, texts, dropout)?;
        let pooled = match &self.pooler {
            Some(pooler) => pooler.forward(&pooled)?.tanh()?,
            None => pooled,
        };
        let pooled = match dropout {
            // A site number that no layer has.
            Some(dropout) => dropout.apply(pooled, u64::from(u32::MAX))?,
            None => pooled,
        };
        self.head.forward(&pooled)
    }

    /// Predict the label of each text.
    ///
    /// # Errors
    /// As [`crate::text::Tokenizer::encode`] and [`crate::transformer::Body::forward`].
    ///
    /// # Complexity
    /// One forward pass over all tokens; texts of similar length share a batch.
    pub fn predict(&self, texts: &[LabelledText]) -> Result<Vec<Prediction>> {
        let encoded = texts
            .iter()
            .map(|text| self.encode(text))
            .collect::<Result<Vec<_>>>()?;
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        // Padding is computed too: texts of similar length waste the least.
        order.sort_by_key(|&text| encoded[text].tokens.len());
        let mut predictions = vec![None; encoded.len()];
        for group in order.chunks(BATCH) {
            let batch: Vec<&Encoded> = group.iter().map(|&text| &encoded[text]).collect();
            let logits = to_vec(&self.logits(&batch, None)?.detach())?;
            for (row, &text) in logits.chunks_exact(self.labels.len()).zip(group) {
                let mut probabilities = row.to_vec();
                crate::kernel::softmax::softmax(&mut probabilities);
                let better =
                    |best: usize, label: usize| if row[label] > row[best] { label } else { best };
                let label = (0..row.len()).fold(0, better);
                predictions[text] = Some(Prediction {
                    label,
                    probabilities,
                });
            }
        }
        Ok(predictions.into_iter().flatten().collect())
    }
}

/// Return the `config.json` of a classifier over a network's.
pub(super) fn classifier_json(shape: &Configuration, labels: &[String], pooling: Pooling) -> Value {
    let mut json = shape.json.clone();
    let class = shape.family().class;
    json["architectures"] = serde_json::json!([format!("{class}ForSequenceClassification")]);
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
