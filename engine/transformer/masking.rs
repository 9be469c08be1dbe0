//! Masked language modelling: which tokens are hidden, and filling them in again.
//!
//! Of each text a share is chosen; of those, 80 % become the mask, 10 % another token, 10 % stay
//! (Devlin et al. 2019). What is chosen is a question that may be answered elsewhere: see [`Masking`].

use serde_json::Value;

use crate::kernel::random::Random;
use crate::path::Sampling;
use crate::transformer::dense::{Dense, surprises};
use crate::transformer::network::Network;
use crate::transformer::operation::look;
use crate::{Error, ErrorKind, Result};

/// The share of tokens that is hidden when nobody decides otherwise.
pub const SHARE: f64 = 0.15;

/// Decides what is hidden in training, and hears how hard it was.
pub trait Masking: Send {
    /// The share of tokens hidden in a step, of so many steps in all.
    fn share(&mut self, step: u64, of: u64) -> f64;

    /// A weight for each token: the heavier, the likelier it is hidden. `None` for all alike. `[B · T]`
    fn weights(&mut self, tokens: &[u32]) -> Option<Vec<f32>> {
        let _ = tokens;
        None
    }

    /// The hidden tokens of a step and −ln p of each, before any mean is taken. `[M]`, `[M]`
    fn feedback(&mut self, step: u64, tokens: &[u32], losses: &[f32]) {
        let _ = (step, tokens, losses);
    }

    /// What a checkpoint has to keep.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Goes on from what a checkpoint kept.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it is not that.
    fn restore(&mut self, state: &Value) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

/// The same share in every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedShare(pub f64);

impl Masking for FixedShare {
    fn share(&mut self, _: u64, _: u64) -> f64 {
        self.0
    }
}

/// A batch with hidden tokens.
#[derive(Clone, Debug)]
pub struct Masked {
    /// What the network sees.
    pub input: Dense,
    /// Where tokens were chosen, as indices into the batch, ascending. `[M]`
    pub places: Vec<u32>,
    /// What stood there. `[M]`
    pub targets: Vec<u32>,
}

/// Hides `share` of the tokens of each sequence, at least one.
///
/// The choice is a weighted draw without replacement by exponential keys (Efraimidis and Spirakis 2006); it
/// depends on `random` alone. `fixed` tokens, the marks of a text, are never hidden.
pub fn hide(
    input: &Dense,
    share: f64,
    weights: Option<&[f32]>,
    mask: u32,
    vocabulary: usize,
    fixed: &[u32],
    random: &mut Random,
) -> Masked {
    let mut hidden = input.clone();
    let (mut places, mut targets) = (Vec::new(), Vec::new());
    for sequence in 0..input.sequences() {
        let start = sequence * input.length;
        let valid = input.valid.get(sequence).copied().unwrap_or(input.length);
        let mut keys: Vec<(f64, usize)> = (start..start + valid)
            .filter(|&place| !fixed.contains(&input.tokens[place]))
            .map(|place| {
                let weight = weights.map_or(1.0, |weights| f64::from(weights[place]).max(1e-9));
                (-(1.0 - random.uniform()).ln() / weight, place)
            })
            .collect();
        keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let count = ((keys.len() as f64 * share).round() as usize).clamp(1, keys.len().max(1));
        let mut chosen: Vec<usize> = keys.iter().take(count).map(|&(_, place)| place).collect();
        chosen.sort_unstable();
        for place in chosen {
            places.push(place as u32);
            targets.push(input.tokens[place]);
            hidden.tokens[place] = match random.uniform() {
                draw if draw < 0.8 => mask,
                draw if draw < 0.9 => random.below(vocabulary as u64) as u32,
                _ => input.tokens[place],
            };
        }
    }
    Masked {
        input: hidden,
        places,
        targets,
    }
}

impl Network {
    /// −ln p of each hidden token, not reduced. `[M]`
    ///
    /// # Errors
    /// As [`Network::dense`].
    pub fn masked_losses(
        &self,
        masked: &Masked,
        dropout: Option<crate::transformer::Dropout>,
    ) -> Result<candle_core::Tensor> {
        let x = self.dense(&masked.input, dropout, None)?;
        let places = candle_core::Tensor::from_slice(
            &masked.places,
            masked.places.len(),
            &candle_core::Device::Cpu,
        )?;
        // The head is by far the widest product: only the hidden rows go through it.
        surprises(&self.scores(&x.index_select(&places, 0)?)?, &masked.targets)
    }
}

/// Decides which hidden place is filled next.
pub trait Order {
    /// Chooses among `open`, which ascends; `surest` is the highest probability at each. An index into `open`.
    fn next(&mut self, open: &[usize], surest: &[f32]) -> usize;
}

/// From left to right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forward;

impl Order for Forward {
    fn next(&mut self, _: &[usize], _: &[f32]) -> usize {
        0
    }
}

/// The surest place first (mask-predict, one place at a time; Ghazvininejad et al. 2019).
#[derive(Clone, Copy, Debug, Default)]
pub struct SurestFirst;

impl Order for SurestFirst {
    fn next(&mut self, _: &[usize], surest: &[f32]) -> usize {
        let mut best = 0;
        for (index, p) in surest.iter().enumerate() {
            if *p > surest[best] {
                best = index;
            }
        }
        best
    }
}

/// One filled place.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled {
    /// The place in the text.
    pub place: usize,
    /// The token chosen.
    pub token: u32,
    /// Scores of all tokens there. `[V]`
    pub scores: Vec<f32>,
}

/// Fills every mask of a text, one after another; each choice sees those before it.
///
/// # Errors
/// [`ErrorKind::Input`] for a text without a mask; as [`Network::dense`].
pub fn fill(
    network: &Network,
    ids: &mut [u32],
    mask: u32,
    sampling: &Sampling,
    order: &mut dyn Order,
) -> Result<Vec<Filled>> {
    sampling.check()?;
    let mut random = Random::new(sampling.seed);
    let mut filled = Vec::new();
    loop {
        let open: Vec<usize> = (0..ids.len()).filter(|&place| ids[place] == mask).collect();
        if open.is_empty() {
            return match filled.is_empty() {
                true => Err(Error::new(ErrorKind::Input, "the text has no mask to fill")
                    .advice("write [MASK] where tokens are wanted")),
                false => Ok(filled),
            };
        }
        let input = Dense {
            tokens: ids.to_vec(),
            length: ids.len(),
            ..Dense::default()
        };
        let places: Vec<u32> = open.iter().map(|&place| place as u32).collect();
        let x = network.dense(&input, None, None)?;
        let places =
            candle_core::Tensor::from_slice(&places, places.len(), &candle_core::Device::Cpu)?;
        let scores = look(
            &network.scores(&x.index_select(&places, 0)?)?,
            <[f32]>::to_vec,
        )?;
        let width = scores.len() / open.len();
        let surest: Vec<f32> = scores
            .chunks_exact(width)
            .map(|row| {
                let mut row = row.to_vec();
                crate::kernel::softmax::softmax(&mut row);
                row.into_iter().fold(0.0, f32::max)
            })
            .collect();
        let index = order.next(&open, &surest).min(open.len() - 1);
        let row = scores[index * width..(index + 1) * width].to_vec();
        let mut spent = row.clone();
        spent[mask as usize] = f32::NEG_INFINITY;
        let Some(token) = sampling.choose(&mut spent, &[], &mut random) else {
            return Ok(filled);
        };
        ids[open[index]] = token;
        filled.push(Filled {
            place: open[index],
            token,
            scores: row,
        });
    }
}
