//! Masked language modelling: which tokens are hidden, and filling them in again.
//!
//! Of each text a share is chosen; of those, 80 % become the mask, 10 % another token, 10 % stay
//! (Devlin et al. 2019). The share and the chance of each token are a question that hooks answer (`mask/1`).

use std::sync::Arc;

use crate::hook::{Call, Canvas, Direction, Order};
use crate::kernel::random::Random;
use crate::learn::recipe::MaskDraw;
use crate::path::Sampling;
use crate::transformer::batch::{TokenBatch, cross_entropy};
use crate::transformer::network::Network;
use crate::transformer::operation::to_vec;
use crate::{Error, ErrorKind, Result};

/// The share of tokens that is hidden when nobody decides otherwise.
pub const MASK_FRACTION: f64 = 0.15;

/// A batch with hidden tokens.
#[derive(Clone, Debug)]
pub struct MaskedBatch {
    /// What the network sees.
    pub input: TokenBatch,
    /// Where tokens were chosen, as indices into the batch, ascending. `[M]`
    pub positions: Vec<u32>,
    /// What stood there. `[M]`
    pub targets: Vec<u32>,
}

/// How tokens are chosen to be hidden.
#[derive(Clone, Copy, Debug, Default)]
pub struct Masking<'a> {
    /// The share of each sequence.
    pub fraction: f64,
    /// Relative chance of each token; all alike without. `[B · T]`
    pub weights: Option<&'a [f32]>,
    /// The word of each token, counted up in a sequence: a word is hidden whole. Each token is one without. `[B · T]`
    pub words: Option<&'a [u32]>,
    /// How weights become a choice.
    pub draw: MaskDraw,
    /// Tokens that are never hidden, the marks of a text.
    pub fixed: &'a [u32],
}

/// Hides a share of the tokens of each sequence, at least one.
///
/// [`MaskDraw::Quota`] is a weighted draw without replacement by exponential keys (Efraimidis and Spirakis 2006)
/// up to the share; [`MaskDraw::SinglePass`] walks the words once in random order and accepts each with its weight
/// as the probability (Yang et al. 2023), so a share above the mean weight is not reached. A word that would
/// overstep the share is left out. It depends on `random` alone.
pub fn mask_tokens(
    input: &TokenBatch,
    masking: &Masking<'_>,
    mask: u32,
    vocabulary: usize,
    random: &mut Random,
) -> MaskedBatch {
    let mut hidden = input.clone();
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for sequence in 0..input.sequences() {
        let start = sequence * input.length;
        let valid = input.valid.get(sequence).copied().unwrap_or(input.length);
        let mut chosen = choose(input, masking, start..start + valid, random);
        chosen.sort_unstable();
        for position in chosen {
            positions.push(position as u32);
            targets.push(input.tokens[position]);
            hidden.tokens[position] = match random.uniform() {
                draw if draw < 0.8 => mask,
                draw if draw < 0.9 => random.below(vocabulary as u64) as u32,
                _ => input.tokens[position],
            };
        }
    }
    MaskedBatch {
        input: hidden,
        positions,
        targets,
    }
}

/// The places of one sequence that are hidden.
fn choose(
    input: &TokenBatch,
    masking: &Masking<'_>,
    positions: std::ops::Range<usize>,
    random: &mut Random,
) -> Vec<usize> {
    let mut words: Vec<Vec<usize>> = Vec::new();
    let mut last = None;
    let mut tokens = 0;
    for position in positions.filter(|&position| !masking.fixed.contains(&input.tokens[position])) {
        tokens += 1;
        let word = masking.words.map(|words| words[position]);
        match (words.last_mut(), word) {
            (Some(open), Some(_)) if word == last => open.push(position),
            _ => words.push(vec![position]),
        }
        last = word;
    }
    let weight = |word: &[usize]| {
        let weight = |&position: &usize| {
            masking
                .weights
                .map_or(1.0, |weights| f64::from(weights[position]))
        };
        word.first().map_or(0.0, weight).max(1e-9)
    };
    let count = ((tokens as f64 * masking.fraction).round() as usize).clamp(1, tokens.max(1));
    let mut keys: Vec<(f64, usize)> = words
        .iter()
        .enumerate()
        .map(|(index, word)| {
            let key = -(1.0 - random.uniform()).ln();
            match masking.draw {
                MaskDraw::Quota => (key / weight(word), index),
                MaskDraw::SinglePass => (key, index),
            }
        })
        .collect();
    keys.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut chosen = Vec::with_capacity(count);
    for &(_, index) in &keys {
        let word = &words[index];
        let taken = match masking.draw {
            MaskDraw::Quota => true,
            MaskDraw::SinglePass => random.uniform() < weight(word),
        };
        if taken && chosen.len() + word.len() <= count {
            chosen.extend_from_slice(word);
        }
        if chosen.len() == count {
            break;
        }
    }
    // A mean over nothing is no loss: one word at least, however long or unlikely.
    if chosen.is_empty()
        && let Some(&(_, index)) = keys.first()
    {
        chosen.extend_from_slice(&words[index]);
    }
    chosen
}

impl Network {
    /// −ln p of each hidden token, not reduced. `[M]`
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn masked_losses(
        &self,
        masked: &MaskedBatch,
        dropout: Option<crate::transformer::Dropout>,
    ) -> Result<candle_core::Tensor> {
        let x = self.forward(&masked.input, dropout, None)?;
        let positions = candle_core::Tensor::from_slice(
            &masked.positions,
            masked.positions.len(),
            &candle_core::Device::Cpu,
        )?;
        // The head is by far the widest product: only the hidden rows go through it.
        cross_entropy(
            &self.logits(&x.index_select(&positions, 0)?)?,
            &masked.targets,
        )
    }
}

/// One filled place.
#[derive(Clone, Debug, PartialEq)]
pub struct FilledMask {
    /// The place in the text.
    pub position: usize,
    /// The token chosen.
    pub token: u32,
    /// Scores of all tokens there. `[V]`
    pub logits: Vec<f32>,
}

/// Fills every mask of a text, one after another; each choice sees those before it. The surest place comes first
/// (mask-predict, one place at a time; Ghazvininejad et al. 2019), unless `order` names another.
///
/// # Errors
/// [`ErrorKind::Input`] for a text without a mask; as [`Network::forward`]; whatever the hook meets.
pub fn fill_masks(
    network: &Network,
    ids: &mut [u32],
    mask: u32,
    sampling: &Sampling,
    order: Option<&Arc<dyn Order>>,
) -> Result<Vec<FilledMask>> {
    sampling.check()?;
    let mut random = Random::new(sampling.seed);
    let mut filled = Vec::new();
    loop {
        let open: Vec<usize> = (0..ids.len())
            .filter(|&position| ids[position] == mask)
            .collect();
        if open.is_empty() {
            return match filled.is_empty() {
                true => Err(Error::new(ErrorKind::Input, "the text has no mask to fill")
                    .advice("write [MASK] where tokens are wanted")),
                false => Ok(filled),
            };
        }
        let input = TokenBatch {
            tokens: ids.to_vec(),
            length: ids.len(),
            ..TokenBatch::default()
        };
        let positions: Vec<u32> = open.iter().map(|&position| position as u32).collect();
        let x = network.forward(&input, None, None)?;
        let positions = candle_core::Tensor::from_slice(
            &positions,
            positions.len(),
            &candle_core::Device::Cpu,
        )?;
        let logits = to_vec(&network.logits(&x.index_select(&positions, 0)?)?)?;
        let width = logits.len() / open.len();
        let surest: Vec<f32> = logits
            .chunks_exact(width)
            .map(|row| {
                let mut row = row.to_vec();
                crate::kernel::softmax::softmax(&mut row);
                row.into_iter().fold(0.0, f32::max)
            })
            .collect();
        let asked = match order {
            Some(order) => {
                let call = Call::new(sampling.seed, 0, filled.len() as u64);
                ask(&**order, &call, ids, mask, &open, &surest)?
            }
            None => None,
        };
        let index = asked.unwrap_or_else(|| {
            (0..open.len()).fold(0, |best, index| match surest[index] > surest[best] {
                true => index,
                false => best,
            })
        });
        let row = logits[index * width..(index + 1) * width].to_vec();
        let mut spent = row.clone();
        spent[mask as usize] = f32::NEG_INFINITY;
        let Some(token) = sampling.choose(&mut spent, &[], &mut random) else {
            return Ok(filled);
        };
        ids[open[index]] = token;
        filled.push(FilledMask {
            position: open[index],
            token,
            logits: row,
        });
    }
}

/// `order/1` over all open places. The span that holds the prompt is the longest filled one.
fn ask(
    order: &dyn Order,
    call: &Call<'_>,
    ids: &[u32],
    mask: u32,
    open: &[usize],
    surest: &[f32],
) -> Result<Option<usize>> {
    let tokens: Vec<u32> = ids
        .iter()
        .map(|&id| if id == mask { Canvas::EMPTY } else { id })
        .collect();
    let (mut left, mut right, mut from) = (0, 0, 0);
    for position in 0..=tokens.len() {
        if tokens
            .get(position)
            .is_none_or(|&token| token == Canvas::EMPTY)
        {
            if position - from > right - left {
                (left, right) = (from, position);
            }
            from = position + 1;
        }
    }
    let resistance = |position: Option<usize>| {
        position
            .and_then(|position| open.iter().position(|&open| open == position))
            .map_or(f64::NAN, |index| -f64::from(surest[index]).ln())
    };
    let canvas = Canvas {
        tokens: &tokens,
        left: left as u64,
        right: right as u64,
        left_resistance: resistance(left.checked_sub(1)),
        right_resistance: resistance(Some(right)),
    };
    let Some(position) = order.next(call, &canvas)? else {
        return Ok(None);
    };
    // From which side is no question where both are seen.
    let (Direction::Forward | Direction::Backward) = position.direction;
    match open
        .iter()
        .position(|&open| open as u64 == position.position)
    {
        Some(index) => Ok(Some(index)),
        None => Err(Error::new(
            ErrorKind::Plugin,
            format!("place {} is not open", position.position),
        )
        .at(format!("order/1, step {}", call.step))),
    }
}
