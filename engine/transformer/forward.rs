//! The forward pass: embedding, layers, final norm and output matrix.
//!
//! Training and evaluation compute whole sequences at once with gradients ([`batch`](super::batch)); generation
//! computes new rows that attend to a cache ([`advance`](super::advance)). Both run [`Network::run`] and differ only in
//! what their [`Mode`] does for attention, dropout and the choice of rows.

use candle_core::{Device, Tensor};

use crate::hook::Tap;
use crate::kernel::softmax;
use crate::transformer::matrix;
use crate::transformer::network::{
    Embedding, FeedForward, FeedForwardKind, Layer, Mixture, Network,
};
use crate::transformer::operation::{Gate, apply2, to_vec};
use crate::transformer::weights::Norm;
use crate::transformer::{Activation, Configuration};
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
    /// [`ErrorKind::Numeric`] when tensor arithmetic fails; [`ErrorKind::Unsupported`] without a language-model head.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let head = self.head.as_ref().ok_or_else(|| self.lacks_head())?;
        let mut logits = match &head.transform {
            Some((linear, norm)) => {
                // BERT transforms the rows before the output matrix.
                let x = self.shape.activation.forward(&linear.forward(x)?)?;
                head.matrix.forward(&norm.forward(&x)?)?
            }
            None => head.matrix.forward(x)?,
        };
        let (scale, cap) = (self.shape.logit_scale, f64::from(self.shape.logit_cap));
        if scale != 1.0 {
            logits = (logits * f64::from(scale))?;
        }
        if cap > 0.0 {
            logits = ((logits / cap)?.tanh()? * cap)?;
        }
        Ok(logits)
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
        let mut x = self.tokens.rows(tokens)?;
        if shape.embedding_scale != 1.0 {
            x = (x * f64::from(shape.embedding_scale))?;
        }
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
            let offset = shape.position_offset as u32;
            let rows: Vec<u32> = positions.iter().map(|&p| p + offset).collect();
            x = (x + table.rows(&rows)?)?;
        }
        if let Some(table) = &self.types {
            // All types are 0 unless the batch names them.
            let zeros = vec![0; tokens.len()];
            let types = if types.is_empty() { &zeros } else { types };
            crate::measure::check_ids(types, shape.types)?;
            x = (x + table.rows(types)?)?;
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(&x)?;
        }
        match &self.projection {
            Some(projection) => projection.forward(&x),
            None => Ok(x),
        }
    }
}

/// Normalise rows where there is a norm.
fn normalised(norm: Option<&Norm>, x: &Tensor) -> Result<Tensor> {
    norm.map_or_else(|| Ok(x.clone()), |norm| norm.forward(x))
}

impl Layer {
    /// Compute one layer. `[N, D]` → `[N, D]`
    ///
    /// ```text
    /// pre-norm:   y = x + attention(norm x)     output = y + feed_forward(norm y)
    /// post-norm:  y = norm(x + attention x)     output = norm(y + feed_forward y)
    /// parallel:   output = x + attention(norm x) + feed_forward(norm x)
    /// ```
    ///
    /// What a sublayer adds may be normalised and scaled as well.
    fn forward(&self, index: usize, x: Tensor, mode: &mut dyn Mode) -> Result<Tensor> {
        let before = |norm: &'_ Option<Norm>, x: &Tensor| {
            normalised(norm.as_ref().filter(|_| !self.post_norm), x)
        };
        // Attention sublayer.
        let input = before(&self.attention_norm, &x)?;
        let mut queries = self.query.forward(&input)?;
        if let Some(norm) = &self.query_norm {
            queries = norm.forward_parts(&queries)?;
        }
        let key_value = match &self.key_value {
            Some((key, value)) => {
                let mut keys = key.forward(&input)?;
                if let Some(norm) = &self.key_norm {
                    keys = norm.forward_parts(&keys)?;
                }
                Some((keys, value.forward(&input)?))
            }
            None => None,
        };
        // Projections are the same in every mode; what the queries attend to differs.
        let attended = self
            .output
            .forward(&mode.attend(index, queries, key_value)?)?;
        let attended = self.added(&self.attention_post_norm, attended, mode)?;
        if self.parallel {
            let input = match &self.feed_forward_norm {
                Some(norm) => norm.forward(&x)?,
                None => input,
            };
            let output = self.feed_forward.forward(&input)?;
            let output = self.added(&self.feed_forward_post_norm, output, mode)?;
            return Ok(((x + attended)? + output)?);
        }
        let y = (x + attended)?;
        let after = |norm: &'_ Option<Norm>, x: &Tensor| {
            normalised(norm.as_ref().filter(|_| self.post_norm), x)
        };
        let y = after(&self.attention_norm, &y)?;
        // Feed-forward sublayer.
        let output = self
            .feed_forward
            .forward(&before(&self.feed_forward_norm, &y)?)?;
        let output = (y + self.added(&self.feed_forward_post_norm, output, mode)?)?;
        after(&self.feed_forward_norm, &output)
    }

    /// Compute what a sublayer's output adds to the stream.
    fn added(&self, norm: &Option<Norm>, output: Tensor, mode: &mut dyn Mode) -> Result<Tensor> {
        let output = mode.dropout(normalised(norm.as_ref(), &output)?)?;
        if self.residual_scale == 1.0 {
            return Ok(output);
        }
        Ok((output * f64::from(self.residual_scale))?)
    }
}

impl FeedForwardKind {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense(layer) => layer.forward(x),
            Self::Mixture(mixture) => mixture.forward(x),
        }
    }
}

impl Mixture {
    /// Add the outputs of the experts that each row uses, weighted by the router's probabilities. `[N, D]` → `[N, D]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let logits = to_vec(&self.router.forward(x)?)?;
        let mut of_expert = vec![(Vec::new(), Vec::new()); self.experts.len()];
        for (row, logits) in logits.chunks_exact(self.sizes.count).enumerate() {
            let mut probabilities = logits.to_vec();
            softmax::softmax(&mut probabilities);
            let mut order: Vec<usize> = (0..self.sizes.count).collect();
            order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
            order.truncate(self.sizes.used);
            let sum: f32 = order.iter().map(|&expert| probabilities[expert]).sum();
            let divisor = if self.sizes.normalised { sum } else { 1.0 };
            for expert in order {
                of_expert[expert].0.push(row as u32);
                of_expert[expert].1.push(probabilities[expert] / divisor);
            }
        }
        let mut output = match &self.shared {
            Some((layer, router)) => {
                // σ(s) of a row's score s, by tanh.
                let factor = (((router.forward(x)? * 0.5)?.tanh()? + 1.0)? * 0.5)?;
                layer.forward(x)?.broadcast_mul(&factor)?
            }
            None => x.zeros_like()?,
        };
        for (expert, (rows, weights)) in self.experts.iter().zip(of_expert) {
            if rows.is_empty() {
                continue;
            }
            let count = rows.len();
            let weights = Tensor::from_vec(weights, (count, 1), &Device::Cpu)?;
            let rows_of_x = matrix::rows(x, &rows)?;
            let part = expert.forward(&rows_of_x)?.broadcast_mul(&weights)?;
            let rows = Tensor::from_vec(rows, count, &Device::Cpu)?;
            output = output.index_add(&rows, &part, 0)?;
        }
        Ok(output)
    }
}

impl FeedForward {
    /// Compute the feed-forward layer. `[N, D]` → `[N, D]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // D → feed-forward width → D.
        let up = self.up.forward(x)?;
        let inner = match (&self.gate, self.activation) {
            (Some(gate), Activation::Silu) => apply2(&gate.forward(x)?, &up, Gate)?,
            (Some(gate), activation) => (activation.forward(&gate.forward(x)?)? * up)?,
            (None, activation) => activation.forward(&up)?,
        };
        self.down.forward(&inner)
    }
}
