//! The forward pass: embedding, layers, final norm and output matrix.
//!
//! Training and evaluation compute whole sequences at once with gradients ([`batch`](super::batch)); generation
//! computes new rows that attend to a cache ([`advance`](super::advance)). Both run [`Network::run`] and differ only in
//! what their [`Mode`] does for attention, dropout and the choice of rows.

use candle_core::{Device, Tensor};

use crate::hook::Tap;
use crate::transformer::Configuration;
use crate::transformer::network::{Embedding, FeedForward, Layer, Network};
use crate::transformer::operation::{Gate, apply2};
use crate::transformer::weights::Norm;
use crate::{Error, ErrorKind, Result};

/// What differs between the uses of the forward pass.
pub(super) trait Mode {
    /// Report activations.
    fn tap(&mut self, tap: Tap, layer: usize, x: &Tensor) -> Result<()>;

    /// Compute a layer's attention of queries `[N, H·d]` to keys and values `[N, Hkv·d]`, all before the rotary
    /// embedding. A layer without projections of its own has no keys and values. `[N, H·d]`
    fn attend(
        &mut self,
        layer: usize,
        queries: Tensor,
        key_value: Option<(Tensor, Tensor)>,
    ) -> Result<Tensor>;

    /// Apply dropout to what is added to the residual stream.
    fn dropout(&mut self, x: Tensor) -> Result<Tensor> {
        Ok(x)
    }

    /// Drop rows after a layer.
    fn prune(&mut self, _layer: usize, x: Tensor) -> Result<Tensor> {
        Ok(x)
    }

    /// Select the rows that the final norm is applied to.
    fn select(&mut self, x: Tensor) -> Result<Tensor> {
        Ok(x)
    }
}

impl Network {
    /// Compute the residual stream after the final norm for tokens at positions. `[N]` → `[N, D]`
    ///
    /// `types` are the tokens' types, empty for all 0.
    pub(super) fn run(
        &self,
        tokens: &[u32],
        positions: &[u32],
        types: &[u32],
        mode: &mut dyn Mode,
    ) -> Result<Tensor> {
        if let Some(context) = self.shape.trained_context()
            && positions.iter().any(|&p| p as usize >= context)
        {
            self.warn_once(
                "expect worse predictions there (max_position_embeddings in config.json)",
            );
        }
        let x = self
            .embedding
            .forward(&self.shape, tokens, positions, types)?;
        let mut x = mode.dropout(x)?;
        mode.tap(Tap::Hidden, 0, &x)?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(index, x, mode)?;
            mode.tap(Tap::Hidden, index + 1, &x)?;
            // Rows dropped here are not computed by later layers.
            x = mode.prune(index, x)?;
        }
        let mut x = mode.select(x)?;
        if let Some(norm) = &self.final_norm {
            x = norm.forward(&x)?;
        }
        mode.tap(Tap::Final, self.layers.len(), &x)?;
        Ok(x)
    }

    /// Compute the logits of all V tokens. `[N, D]` → `[N, V]`
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when tensor arithmetic fails.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        match &self.head.transform {
            Some((linear, norm)) => {
                // BERT transforms the rows before the output matrix.
                let x = self.shape.activation.forward(&linear.forward(x)?)?;
                self.head.matrix.forward(&norm.forward(&x)?)
            }
            None => self.head.matrix.forward(x),
        }
    }
}

impl Embedding {
    /// Add the rows of tokens, positions and types, and normalise the sums where the family does. `[N]` → `[N, D]`
    fn forward(
        &self,
        shape: &Configuration,
        tokens: &[u32],
        positions: &[u32],
        types: &[u32],
    ) -> Result<Tensor> {
        crate::measure::check_ids(tokens, shape.vocabulary)?;
        let mut x = rows(&self.tokens, tokens)?;
        if let Some(table) = &self.positions {
            if let Some(beyond) = positions.iter().find(|&&p| p as usize >= shape.context) {
                return Err(Error::new(
                    ErrorKind::Input,
                    format!(
                        "position {beyond} is beyond the context of {}",
                        shape.context
                    ),
                )
                .advice("use a shorter text"));
            }
            x = (x + rows(table, positions)?)?;
        }
        if let Some(table) = &self.types {
            // All types are 0 unless the batch names them.
            let zeros = vec![0; tokens.len()];
            let types = if types.is_empty() { &zeros } else { types };
            crate::measure::check_ids(types, shape.types)?;
            x = (x + rows(table, types)?)?;
        }
        match &self.norm {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        }
    }
}

/// Select rows of a tensor. `[R, D]` → `[N, D]`
pub(super) fn rows(table: &Tensor, indices: &[u32]) -> Result<Tensor> {
    let indices = Tensor::from_slice(indices, indices.len(), &Device::Cpu)?;
    Ok(table.index_select(&indices, 0)?)
}

impl Layer {
    /// Compute one layer. `[N, D]` → `[N, D]`
    ///
    /// ```text
    /// pre-norm:   y = x + attention(norm x)     output = y + feed_forward(norm y)
    /// post-norm:  y = norm(x + attention x)     output = norm(y + feed_forward y)
    /// ```
    fn forward(&self, index: usize, x: Tensor, mode: &mut dyn Mode) -> Result<Tensor> {
        let normalise = |norm: &Norm, when: bool, x: &Tensor| {
            if self.post_norm == when {
                norm.forward(x)
            } else {
                Ok(x.clone())
            }
        };
        let (before, after) = (false, true);
        // Attention sublayer.
        let input = normalise(&self.attention_norm, before, &x)?;
        let queries = self.query.forward(&input)?;
        let key_value = match &self.key_value {
            Some((key, value)) => Some((key.forward(&input)?, value.forward(&input)?)),
            None => None,
        };
        // Projections are the same in every mode; what the queries attend to differs.
        let attended = mode.attend(index, queries, key_value)?;
        let y = (x + mode.dropout(self.output.forward(&attended)?)?)?;
        let y = normalise(&self.attention_norm, after, &y)?;
        // Feed-forward sublayer.
        let input = normalise(&self.feed_forward_norm, before, &y)?;
        let output = (y + mode.dropout(self.feed_forward.forward(&input)?)?)?;
        normalise(&self.feed_forward_norm, after, &output)
    }
}

impl FeedForward {
    /// Compute the feed-forward layer. `[N, D]` → `[N, D]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // D → feed-forward width → D.
        let up = self.up.forward(x)?;
        let inner = match &self.gate {
            Some(gate) => apply2(&gate.forward(x)?, &up, Gate)?,
            None => self.activation.forward(&up)?,
        };
        self.down.forward(&inner)
    }
}
