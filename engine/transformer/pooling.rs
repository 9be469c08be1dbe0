//! One row for each text: the rows of its tokens after the last layer, pooled.

use candle_core::{Device, Tensor};

use crate::text::Tokenizer;
use crate::transformer::batch::{Dropout, TokenBatch};
use crate::transformer::model::Transformer;
use crate::transformer::{Configuration, matrix};
use crate::{Error, ErrorKind, Result};

/// How the rows of a text become one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first row, `[CLS]`; classifiers take it through BERT's pooler.
    Cls,
    /// The mean of all rows; of classifiers, for a BERT whose tokenizer has no `[CLS]`.
    Mean,
    /// The last row, for causal networks.
    Last,
}

impl Pooling {
    /// Choose the pooling for a network and its tokenizer.
    pub(super) fn of(shape: &Configuration, tokenizer: &Tokenizer) -> Self {
        match (shape.causal(), tokenizer.frame().0.is_empty()) {
            (true, _) => Self::Last,
            (false, true) => Self::Mean,
            (false, false) => Self::Cls,
        }
    }

    /// Return the value of `classifier_pooling` in `config.json`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::Last => "last",
        }
    }

    /// Compute one row for each text. `[B]` → `[B, D]`
    pub(super) fn rows(
        self,
        transformer: &Transformer,
        texts: &[&Encoded],
        dropout: Option<Dropout>,
    ) -> Result<Tensor> {
        let length = texts
            .iter()
            .map(|text| text.tokens.len())
            .max()
            .unwrap_or(0);
        // Padding is token 0 and type 0; `valid` excludes it from attention.
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
        let shape = transformer.configuration();
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
        let x = transformer.body().forward(&input, dropout)?;
        let row_of_each = |position: fn(usize) -> usize| {
            let texts = valid.iter().enumerate();
            let indices = texts.map(|(text, &valid)| (text * length + position(valid)) as u32);
            matrix::rows(&x, &indices.collect::<Vec<_>>())
        };
        Ok(match self {
            Pooling::Cls => row_of_each(|_| 0)?,
            Pooling::Last => row_of_each(|valid| valid - 1)?,
            Pooling::Mean => {
                // All means as one product, [B, B · T] times [B · T, D]: row b is 1 / valid at b's positions.
                let mut weights = vec![0.0f32; texts.len() * texts.len() * length];
                for (text, &valid) in valid.iter().enumerate() {
                    let from = text * texts.len() * length + text * length;
                    weights[from..from + valid].fill(1.0 / valid as f32);
                }
                let dimensions = (texts.len(), texts.len() * length);
                Tensor::from_vec(weights, dimensions, &Device::Cpu)?.matmul(&x)?
            }
        })
    }
}

/// Tokens of a text or a pair of texts.
#[derive(Clone, Debug)]
pub(super) struct Encoded {
    pub(super) tokens: Vec<u32>,
    /// Token types: 0 for the first text, 1 for the second.
    pub(super) types: Vec<u32>,
}

impl Encoded {
    /// Encode a text or a pair with the tokenizer's special tokens. Beyond the context, the longer text is cut.
    pub(super) fn of(transformer: &Transformer, text: &str, pair: Option<&str>) -> Result<Self> {
        let tokenizer = transformer.tokenizer();
        let (before, after) = tokenizer.frame();
        let mut first = tokenizer.encode(text)?;
        let mut second = match pair {
            Some(pair) => Some(tokenizer.encode(pair)?),
            None => None,
        };
        // [CLS] text [SEP], or [CLS] text [SEP] pair [SEP].
        let marks = before.len() + after.len() * if second.is_some() { 2 } else { 1 };
        let context = match transformer.configuration().context {
            0 => usize::MAX,
            context => context,
        };
        let most = context.saturating_sub(marks).max(1);
        let other = second.as_ref().map_or(0, Vec::len);
        // The second text gets up to half of the context, the first the rest.
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
            return Err(Error::new(ErrorKind::Input, "the text has no token"));
        }
        Ok(Self { tokens, types })
    }
}
