//! Whole sequences through a network at once, with gradients: training, evaluation, and attention in both directions.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::hook::{Probe, Tap};
use crate::kernel::random::Random;
use crate::transformer::advance::{Row, observe};
use crate::transformer::attention::Attention;
use crate::transformer::forward::Mode;
use crate::transformer::network::Network;
use crate::transformer::operation::{CrossEntropy, Rotate, apply1, apply3, with_values};
use crate::transformer::rotary::RotaryTable;
use crate::{Error, ErrorKind, Result};

/// Sequences of one length; shorter ones are padded at the end.
#[derive(Clone, Debug, Default)]
pub struct TokenBatch {
    /// Token ids. `[B · T]`
    pub tokens: Vec<u32>,
    /// Positions in each sequence, `T`.
    pub length: usize,
    /// Token types; empty for all 0. `[B · T]`
    pub types: Vec<u32>,
    /// Positions of each sequence that are not padding; empty for all. `[B]`
    pub valid: Vec<usize>,
}

/// Dropout (Srivastava et al. 2014) with masks that depend on the seed and the step alone.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Fraction of numbers set to 0; the others are divided by 1 − rate.
    pub rate: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Training step.
    pub step: u64,
}

impl Dropout {
    /// Drop numbers of a tensor; `site` numbers the applications within a step.
    pub(super) fn apply(&self, x: Tensor, site: u64) -> Result<Tensor> {
        // Numbers with one random stream: fixed, so that masks do not depend on the number of threads.
        const CHUNK: usize = 1 << 14;
        if self.rate <= 0.0 {
            return Ok(x);
        }
        // Scaling by 1 / (1 − rate) keeps the expected value, so that inference needs no correction.
        let keep = (1.0 / (1.0 - self.rate)) as f32;
        // A number is dropped when 32 random bits are below rate · 2³².
        let threshold = (self.rate * f64::from(u32::MAX)) as u32;
        let mut mask = vec![0.0f32; x.elem_count()];
        mask.par_chunks_mut(CHUNK)
            .enumerate()
            .for_each(|(chunk, mask)| {
                let mut random = Random::stream(
                    self.seed ^ 0x6472_6f70,
                    self.step,
                    site << 32 | chunk as u64,
                );
                // Each 64-bit draw decides two numbers.
                for pair in mask.chunks_mut(2) {
                    let bits = random.bits();
                    for (value, half) in pair.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
                        *value = if half < threshold { 0.0 } else { keep };
                    }
                }
            });
        let mask = Tensor::from_vec(mask, x.shape(), &Device::Cpu)?;
        Ok((x * mask)?)
    }
}

impl TokenBatch {
    /// Create a batch of sequences without padding and types. `tokens [B · T]`
    pub fn new(tokens: Vec<u32>, length: usize) -> Self {
        Self {
            tokens,
            length,
            ..Self::default()
        }
    }

    /// Return the number of sequences, `B`.
    pub fn sequences(&self) -> usize {
        self.tokens.len() / self.length.max(1)
    }

    fn check(&self) -> Result<()> {
        let (tokens, sequences) = (self.tokens.len(), self.sequences());
        let fits = |list: usize, expected: usize| list == 0 || list == expected;
        if self.length > 0
            && tokens > 0
            && tokens % self.length == 0
            && fits(self.types.len(), tokens)
            && fits(self.valid.len(), sequences)
            && self
                .valid
                .iter()
                .all(|valid| (1..=self.length).contains(valid))
        {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Input,
            format!(
                "{tokens} tokens, {} types and {} lengths do not form sequences of {} tokens",
                self.types.len(),
                self.valid.len(),
                self.length
            ),
        ))
    }
}

/// Forward pass over whole sequences.
struct WholeSequences<'a> {
    network: &'a Network,
    batch: &'a TokenBatch,
    positions: Arc<[u32]>,
    valid: Arc<[usize]>,
    /// Rotations of each layer.
    rotary: Vec<Option<Arc<RotaryTable>>>,
    dropout: Option<Dropout>,
    /// Applications of dropout so far.
    sites: u64,
    rows: Vec<Row>,
    probe: Option<&'a dyn Probe>,
}

impl WholeSequences<'_> {
    /// Apply the rotary embedding. `[B · T, heads · d]`
    fn rotate(&self, layer: usize, x: &Tensor) -> Result<Tensor> {
        let Some(table) = &self.rotary[layer] else {
            return Ok(x.clone());
        };
        let rotate = Rotate {
            table: table.clone(),
            positions: self.positions.clone(),
            head_width: self.network.shape.head_width,
        };
        Ok(apply1(x, rotate)?)
    }
}

impl Mode for WholeSequences<'_> {
    fn tap(&mut self, tap: Tap, layer: usize, x: &Tensor) -> Result<()> {
        if !self.probe.is_some_and(|probe| probe.wants(tap)) {
            return Ok(());
        }
        let layer = (layer, self.network.layers.len());
        with_values([x], |[values]| {
            observe(self.probe, tap, layer, &self.rows, values)
        })?
    }

    fn dropout(&mut self, x: Tensor) -> Result<Tensor> {
        self.sites += 1;
        match &self.dropout {
            Some(dropout) => dropout.apply(x, self.sites),
            None => Ok(x),
        }
    }

    fn attend(
        &mut self,
        layer: usize,
        queries: Tensor,
        key_value: Option<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let (keys, values) = key_value.ok_or_else(|| {
            Error::new(
                ErrorKind::Input,
                "a layer without key and value projections cannot be trained",
            )
            .at(format!("layer {layer}"))
            .advice("train the whole network, and apply the plan afterwards")
        })?;
        let shape = &self.network.shape;
        // Scale, mask and window of this layer's attention.
        let attention = Attention {
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            width: shape.head_width,
            sequences: self.batch.sequences(),
            length: self.batch.length,
            scale: shape.scale(layer),
            causal: shape.causal(),
            window: shape.window(layer),
            cap: shape.attention_cap,
            valid: self.valid.clone(),
        };
        // Values have no position: only queries and keys are rotated.
        let (queries, keys) = (self.rotate(layer, &queries)?, self.rotate(layer, &keys)?);
        Ok(apply3(&queries, &keys, &values, attention)?)
    }
}

impl Network {
    /// Compute the rows after the final norm for every position of a batch. `[B · T, D]`
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a batch whose lists do not fit, and for tokens and positions that the network does
    /// not have; errors of the probe.
    pub fn forward<'a>(
        &'a self,
        batch: &'a TokenBatch,
        dropout: Option<Dropout>,
        probe: Option<&'a dyn Probe>,
    ) -> Result<Tensor> {
        batch.check()?;
        let rows: Vec<Row> = batch
            .tokens
            .iter()
            .enumerate()
            .map(|(index, &token)| Row {
                sequence: index / batch.length,
                position: (index % batch.length) as u32,
                token,
            })
            .collect();
        // Every sequence begins at position 0; padding has positions too, and is masked by `valid`.
        let positions: Arc<[u32]> = rows.iter().map(|row| row.position).collect();
        let mut mode = WholeSequences {
            network: self,
            batch,
            positions: positions.clone(),
            valid: batch.valid.clone().into(),
            rotary: self.shape.rotary_tables(batch.length),
            dropout,
            sites: 0,
            rows,
            probe,
        };
        self.run(&batch.tokens, &positions, &batch.types, &mut mode)
    }
}

/// Compute −ln p of each row's target, not reduced. Logits `[N, V]`, targets `[N]` → `[N]`
///
/// # Errors
/// [`ErrorKind::Input`] for a target outside the vocabulary.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    crate::measure::check_ids(targets, logits.dim(1)?)?;
    let targets = targets.into();
    Ok(apply1(logits, CrossEntropy { targets })?)
}
