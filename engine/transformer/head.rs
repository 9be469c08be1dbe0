//! The head of a language model: its matrix, and the check that weights have one.

use crate::transformer::family::Role;
use crate::transformer::matrix::Matrix;
use crate::transformer::network::Loader;
use crate::transformer::weights::{Linear, Norm};
use crate::{Error, ErrorKind, Result};

/// Output matrix, and BERT's transform before it.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) transform: Option<(Linear, Norm)>,
    pub(super) matrix: Linear,
}

impl Loader<'_> {
    /// Check that the weights have a language-model head: those of an encoder of texts or of a classifier have none.
    pub(super) fn check_head(&self) -> Result<()> {
        let tied = |role: &Role| *role == Role::Head && self.shape.tied;
        let roles = [Role::HeadTransform, Role::HeadBias, Role::Head]
            .into_iter()
            .filter(|role| self.family.has(*role) && !tied(role));
        let architecture = self.shape.json["architectures"][0].as_str();
        let languages = [
            "ForCausalLM",
            "LMHeadModel",
            "ForMaskedLM",
            "ForPreTraining",
        ];
        let other = match architecture {
            Some(name) => !languages.iter().any(|kind| name.ends_with(kind)),
            None => !self.shape.causal(),
        };
        let lacks = |role| -> Result<bool> {
            let path = self.path(role, 0)?;
            let has = |kind: &&str| self.weights.has(&format!("{path}.{kind}"));
            Ok(!["weight", "bias"].iter().any(has))
        };
        let mut lacking = false;
        for role in roles.filter(|_| other) {
            lacking |= lacks(role)?;
        }
        if !lacking {
            return Ok(());
        }
        let name = architecture.unwrap_or(self.family.model_types[0]);
        let what = format!("{name} has no language-model head, which gives the logits of tokens");
        let kind = if self.shape.causal() {
            "ForCausalLM"
        } else {
            "ForMaskedLM"
        };
        Err(Error::new(ErrorKind::Unsupported, what).advice(format!(
            "use the weights of a {kind} model; texts are classified by a model of brillm classify --train"
        )))
    }

    /// Load the head; `tokens` is the table of embeddings, which tied heads share. `[V, D]`
    pub(super) fn head(&self, tokens: &Matrix) -> Result<Head> {
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
        Ok(Head { transform, matrix })
    }
}
