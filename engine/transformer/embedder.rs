//! Embeddings of texts: the last layer's rows of a text, pooled, as sentence-transformers computes them.

use std::path::Path;

use serde_json::Value;

use crate::text::download;
use crate::transformer::model::Transformer;
use crate::transformer::operation::to_vec;
use crate::transformer::pooling::{Encoded, Pooling};
use crate::{Error, ErrorKind, Result};

/// Texts in a batch.
const BATCH: usize = 32;

/// A network that represents texts by vectors.
pub struct Embedder {
    transformer: Transformer,
    pooling: Pooling,
    normalises: bool,
}

impl Embedder {
    /// Open a model, with or without a language-model head. Pooling is that of `1_Pooling/config.json`, or the mean of all rows,
    /// and of causal networks the last row; vectors have length 1 where `modules.json` has a module that normalises.
    ///
    /// # Errors
    /// As [`Transformer::open_encoder`]; [`ErrorKind::Unsupported`] for another pooling, and for a recurrent network.
    pub fn open(path: &Path) -> Result<Self> {
        let transformer = Transformer::open_encoder(path)?;
        if transformer.network().is_none() {
            let what = "embeddings of a recurrent network are not supported";
            return Err(Error::new(ErrorKind::Unsupported, what).at(path.display()));
        }
        let read = |file: &str| -> Result<Value> {
            let file = path.join(file);
            if !file.exists() {
                return Ok(Value::Null);
            }
            serde_json::from_str(&download::read_text(&file)?).map_err(|error| {
                Error::new(ErrorKind::Format, error.to_string()).at(file.display())
            })
        };
        let pooling = pooling(
            &read("1_Pooling/config.json")?,
            transformer.configuration().causal(),
        )
        .map_err(|error| error.at(path.display()))?;
        let modules = read("modules.json")?;
        let normalises = modules.as_array().is_some_and(|modules| {
            let kinds = modules.iter().filter_map(|module| module["type"].as_str());
            kinds.into_iter().any(|kind| kind.ends_with(".Normalize"))
        });
        Ok(Self {
            transformer,
            pooling,
            normalises,
        })
    }

    /// Return how the rows of a text become one.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Return the network that computes the rows.
    pub fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    /// Return the length of a vector.
    pub fn width(&self) -> usize {
        self.transformer.configuration().width
    }

    /// Compute the vector of each text. A text beyond the context is cut. `[texts][D]`
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a text without a token; as [`crate::text::Tokenizer::encode`] and [`crate::transformer::Body::forward`].
    ///
    /// # Complexity
    /// One forward pass over all tokens; texts of similar length share a batch.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let encode = |text: &&str| Encoded::of(&self.transformer, text, None);
        let encoded: Vec<Encoded> = texts.iter().map(encode).collect::<Result<_>>()?;
        let mut order: Vec<usize> = (0..encoded.len()).collect();
        // Padding is computed too: texts of similar length waste the least.
        order.sort_by_key(|&text| encoded[text].tokens.len());
        let mut vectors = vec![Vec::new(); encoded.len()];
        for group in order.chunks(BATCH) {
            let batch: Vec<&Encoded> = group.iter().map(|&text| &encoded[text]).collect();
            let rows = to_vec(&self.pooling.rows(&self.transformer, &batch, None)?)?;
            for (row, &text) in rows.chunks_exact(self.width()).zip(group) {
                let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                // As in PyTorch, a vector of zeros stays one.
                let scale = if self.normalises {
                    1.0 / length.max(1e-12)
                } else {
                    1.0
                };
                vectors[text] = row.iter().map(|x| x * scale).collect();
            }
        }
        Ok(vectors)
    }
}

/// Read the pooling of sentence-transformers.
fn pooling(config: &Value, causal: bool) -> Result<Pooling> {
    let Some(config) = config.as_object() else {
        return Ok(if causal { Pooling::Last } else { Pooling::Mean });
    };
    let modes = config
        .iter()
        .filter(|(_, value)| value.as_bool() == Some(true));
    let mut modes = modes.filter_map(|(key, _)| key.strip_prefix("pooling_mode_"));
    match (modes.next(), modes.next()) {
        (Some("cls_token"), None) => Ok(Pooling::Cls),
        (Some("mean_tokens"), None) => Ok(Pooling::Mean),
        (Some("lasttoken"), None) => Ok(Pooling::Last),
        (mode, other) => {
            let named = [mode, other]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" and ");
            let what = format!("the pooling {named:?} is not supported");
            Err(Error::new(ErrorKind::Unsupported, what)
                .at("1_Pooling/config.json")
                .advice("supported: one of cls_token, mean_tokens and lasttoken"))
        }
    }
}
