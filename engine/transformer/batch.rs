//! Whole sequences through a network at once, with gradients: training, and networks that see both sides.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::kernel::random::Random;
use crate::transformer::attend::Attend;
use crate::transformer::network::Network;
use crate::transformer::operation::{CrossEntropy, Rotate};
use crate::transformer::probe::{Probe, Row, Tap};
use crate::{Error, ErrorKind, Result};

/// Sequences of one length, side by side; shorter ones are padded at the end.
#[derive(Clone, Debug, Default)]
pub struct TokenBatch {
    /// Token ids. `[B · T]`
    pub tokens: Vec<u32>,
    /// Positions in each sequence, `T`.
    pub length: usize,
    /// Token types; empty for all 0. `[B · T]`
    pub types: Vec<u32>,
    /// Positions of each sequence that are no padding; empty for all. `[B]`
    pub valid: Vec<usize>,
}

/// Dropout whose masks depend on a seed and the step alone.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// The share of numbers that becomes 0; the others grow so that the mean stays.
    pub rate: f64,
    /// The seed of the run.
    pub seed: u64,
    /// The step of training.
    pub step: u64,
}

impl Dropout {
    /// Drops numbers of a tensor at a place of the network, counted from 0.
    pub(super) fn apply(&self, x: Tensor, place: u64) -> Result<Tensor> {
        if self.rate <= 0.0 {
            return Ok(x);
        }
        use rayon::prelude::*;
        let keep = (1.0 / (1.0 - self.rate)) as f32;
        let threshold = (self.rate * f64::from(u32::MAX)) as u32;
        const PIECE: usize = 1 << 14;
        let mut mask = vec![0.0f32; x.elem_count()];
        mask.par_chunks_mut(PIECE)
            .enumerate()
            .for_each(|(piece, mask)| {
                let mut random = Random::stream(
                    self.seed ^ 0x6472_6f70,
                    self.step,
                    place << 32 | piece as u64,
                );
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
    /// Sequences, `B`.
    pub fn sequences(&self) -> usize {
        self.tokens.len() / self.length.max(1)
    }

    fn check(&self) -> Result<()> {
        let whole = self.length > 0
            && !self.tokens.is_empty()
            && self.tokens.len() % self.length == 0
            && (self.types.is_empty() || self.types.len() == self.tokens.len())
            && (self.valid.is_empty() || self.valid.len() == self.sequences())
            && self
                .valid
                .iter()
                .all(|&valid| valid > 0 && valid <= self.length);
        match whole {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Input,
                format!(
                    "{} tokens, {} types and {} lengths are no batch of sequences of {}",
                    self.tokens.len(),
                    self.types.len(),
                    self.valid.len(),
                    self.length
                ),
            )),
        }
    }
}

impl Network {
    /// Rows after the last norm, for every position. `[B · T, D]`
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a batch that is none, or tokens and positions that the network does not have.
    pub fn forward(
        &self,
        input: &TokenBatch,
        dropout: Option<Dropout>,
        mut probe: Option<&mut dyn Probe>,
    ) -> Result<Tensor> {
        input.check()?;
        let sequences = input.sequences();
        let positions: Arc<[u32]> = (0..sequences)
            .flat_map(|_| 0..input.length as u32)
            .collect();
        let rows: Vec<Row> = input
            .tokens
            .iter()
            .enumerate()
            .map(|(index, &token)| Row {
                sequence: index / input.length,
                position: (index % input.length) as u32,
                token,
            })
            .collect();
        let mut show = |tap: Tap, x: &Tensor| -> Result<()> {
            if let Some(probe) = &mut probe
                && probe.wants(tap)
            {
                super::operation::look(x, |values| probe.see(tap, &rows, values))??;
            }
            Ok(())
        };
        let place = std::cell::Cell::new(0);
        let change = |x: Tensor| match &dropout {
            Some(dropout) => {
                place.set(place.get() + 1);
                dropout.apply(x, place.get())
            }
            None => Ok(x),
        };
        let turns = self
            .shape
            .rope
            .as_ref()
            .map(|rope| Arc::new(rope.turns(input.length)));
        let valid: Arc<[usize]> = input.valid.clone().into();
        let mut x = change(self.embed(&input.tokens, &positions, &input.types)?)?;
        show(Tap::Embedding, &x)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, &change, |queries, pairs| {
                let (keys, values) = pairs.ok_or_else(|| {
                    Error::new(ErrorKind::Input, "an aliased layer has no dense pass")
                        .at(format!("layer {layer}"))
                        .advice("train the network whole, and plan it afterwards")
                })?;
                let turned = |x: Tensor| -> Result<Tensor> {
                    let Some(turns) = &turns else {
                        return Ok(x.contiguous()?);
                    };
                    Ok(x.contiguous()?.apply_op1(Rotate {
                        turns: turns.clone(),
                        positions: positions.clone(),
                        head: self.shape.head_width,
                    })?)
                };
                let attend = Attend {
                    heads: self.shape.heads,
                    kv_heads: self.shape.kv_heads,
                    width: self.shape.head_width,
                    sequences,
                    length: input.length,
                    scale: self.shape.scale(layer),
                    causal: self.shape.causal(),
                    window: self.shape.window,
                    valid: valid.clone(),
                };
                Ok(turned(queries)?.apply_op3(&turned(keys)?, &values.contiguous()?, attend)?)
            })?;
            show(Tap::Hidden(layer), &x)?;
        }
        let x = self.finish(&x)?;
        show(Tap::Final, &x)?;
        Ok(x)
    }
}

/// −ln p of each row's target, not reduced. Scores `[N, V]`, targets `[N]` → `[N]`
///
/// # Errors
/// [`ErrorKind::Input`] for a target outside the vocabulary.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    crate::measure::check_ids(targets, logits.dim(1)?)?;
    Ok(logits.contiguous()?.apply_op1(CrossEntropy {
        targets: targets.into(),
    })?)
}
