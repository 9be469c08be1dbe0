//! The head of a language model: its matrix, and whether weights have one.

use crate::transformer::family::Role;
use crate::transformer::matrix::Matrix;
use crate::transformer::network::{Loader, Network};
use crate::transformer::weights::{Linear, Norm};
use crate::{Error, ErrorKind, Result};

/// Output matrix, and BERT's transform before it.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) transform: Option<(Linear, Norm)>,
    pub(super) matrix: Linear,
}

impl Network {
    /// The error of a network without a language-model head that is asked for logits.
    pub(super) fn lacks_head(&self) -> Error {
        let shape = &self.shape;
        let architecture = shape.json["architectures"][0].as_str();
        let name = architecture.unwrap_or(shape.family().model_types[0]);
        let what = format!("{name} has no language-model head, which gives the logits of tokens");
        let kind = if shape.causal() {
            "ForCausalLM"
        } else {
            "ForMaskedLM"
        };
        Error::new(ErrorKind::Unsupported, what).advice(format!(
            "use the weights of a {kind} model; brillm embed represents texts by the rows of such a model, and \
             brillm classify predicts the labels of a BertForSequenceClassification"
        ))
    }
}

impl Loader<'_> {
    /// Return whether the weights have no language-model head: those of an encoder of texts or of a classifier.
    fn lacks_head(&self) -> Result<bool> {
        let tied = |role: &Role| *role == Role::Head && self.shape.tied;
        let roles = [Role::HeadTransform, Role::HeadBias, Role::Head]
            .into_iter()
            .filter(|role| self.family.has(*role) && !tied(role));
        let languages = [
            "ForCausalLM",
            "LMHeadModel",
            "ForMaskedLM",
            "ForPreTraining",
        ];
        let other = match self.shape.json["architectures"][0].as_str() {
            Some(name) => !languages.iter().any(|kind| name.ends_with(kind)),
            None => !self.shape.causal(),
        };
        let lacks = |role| -> Result<bool> {
            let path = self.path(role, 0)?;
            let has = |kind: &&str| self.weights.has(&format!("{path}.{kind}"));
            Ok(!["weight", "bias"].iter().any(has))
        };
        for role in roles.filter(|_| other) {
            if lacks(role)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Load the head, if there is one; `tokens` is the table of embeddings, which tied heads share. `[V, D]`
    pub(super) fn head(&self, tokens: &Matrix) -> Result<Option<Head>> {
        if self.lacks_head()? {
            return Ok(None);
        }
        let (vocabulary, width) = self.shape.dimensions(Role::Head);
        let bias = self.optional(Role::HeadBias, || {
            let path = self.path(Role::HeadBias, 0)?;
            self.weights.get(&format!("{path}.bias"), &[vocabulary])
        })?;
        let matrix = if self.shape.tied {
            // Tied: the output matrix is the transposed embedding (Press and Wolf 2017).
            Linear::new(tokens.clone(), bias)
        } else if bias.is_some() {
            Linear::new(self.table(Role::Head)?, bias)
        } else {
            Linear::read(self.weights, &self.path(Role::Head, 0)?, width, vocabulary)?
        };
        // BERT: logits = norm(gelu(W x + b)) · embeddingᵀ + bias.
        let transform = self.optional(Role::HeadTransform, || {
            let linear = self.linear(Role::HeadTransform, 0)?;
            let norm = Norm::read(
                self.weights,
                &self.path(Role::HeadNorm, 0)?,
                self.shape,
                self.shape.embedding_width,
            )?;
            Ok((linear, norm))
        })?;
        Ok(Some(Head { transform, matrix }))
    }
}
