//! Masked language modelling: choosing the tokens to mask, and filling masks in.
//!
//! A fraction of each text is selected; of the selected tokens 80 % become the mask token, 10 % a random token, and
//! 10 % stay (Devlin et al. 2019). Hooks of `mask/1` choose the fraction and the weight of each token.

use std::ops::Range;
use std::sync::Arc;

use candle_core::Tensor;

use crate::hook::{Call, Canvas, Order};
use crate::kernel::random::Random;
use crate::learn::recipe::MaskDraw;
use crate::path::{History, Sampling};
use crate::transformer::batch::{Dropout, TokenBatch, cross_entropy};
use crate::transformer::matrix;
use crate::transformer::network::Network;
use crate::transformer::operation::to_vec;
use crate::{Error, ErrorKind, Result};

/// Fraction of tokens that is selected unless a recipe or hook decides otherwise.
pub const MASK_FRACTION: f64 = 0.15;

/// A batch with masked tokens.
#[derive(Clone, Debug)]
pub struct MaskedBatch {
    /// The tokens the network sees.
    pub input: TokenBatch,
    /// Indices of the selected tokens in the batch, ascending within a sequence. `[M]`
    pub positions: Vec<u32>,
    /// The original tokens there. `[M]`
    pub targets: Vec<u32>,
}

/// How tokens are selected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Masking<'a> {
    /// Fraction of each sequence.
    pub fraction: f64,
    /// Relative weight of each token; equal without. `[B · T]`
    pub weights: Option<&'a [f32]>,
    /// Word number of each token, ascending in a sequence: words are masked whole. Without, each token is a word.
    /// `[B · T]`
    pub words: Option<&'a [u32]>,
    /// How weights become a selection.
    pub draw: MaskDraw,
    /// Tokens that are never selected, such as `[CLS]`.
    pub fixed: &'a [u32],
}

/// Mask a fraction of the tokens of each sequence, at least one word.
///
/// [`MaskDraw::Quota`] draws words without replacement, weighted by exponential keys (Efraimidis and Spirakis 2006), up
/// to the fraction; [`MaskDraw::SinglePass`] visits the words once in random order and accepts each with its weight as
/// the probability (Yang et al. 2023), so that a fraction above the mean weight is not reached. A word that would
/// exceed the fraction is skipped. The result depends on `random` alone.
pub fn mask_tokens(
    input: &TokenBatch,
    masking: &Masking<'_>,
    mask: u32,
    vocabulary: usize,
    random: &mut Random,
) -> MaskedBatch {
    let mut masked = input.clone();
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for sequence in 0..input.sequences() {
        let start = sequence * input.length;
        let valid = input.valid.get(sequence).copied().unwrap_or(input.length);
        let mut selected = select(input, masking, start..start + valid, random);
        selected.sort_unstable();
        for position in selected {
            positions.push(position as u32);
            targets.push(input.tokens[position]);
            masked.tokens[position] = match random.uniform() {
                // Real texts contain no [MASK]: a fifth of the selected tokens keeps the network from relying on it.
                draw if draw < 0.8 => mask,
                draw if draw < 0.9 => random.below(vocabulary as u64) as u32,
                _ => input.tokens[position],
            };
        }
    }
    MaskedBatch {
        input: masked,
        positions,
        targets,
    }
}

/// Group the tokens of one sequence that may be selected into words.
fn words(input: &TokenBatch, masking: &Masking<'_>, range: Range<usize>) -> Vec<Vec<usize>> {
    let mut words: Vec<Vec<usize>> = Vec::new();
    let mut last = None;
    for position in range.filter(|&position| !masking.fixed.contains(&input.tokens[position])) {
        // Without word numbers every token is a word.
        let word = masking.words.map(|words| words[position]);
        match words.last_mut() {
            Some(open) if word.is_some() && word == last => open.push(position),
            _ => words.push(vec![position]),
        }
        last = word;
    }
    words
}

/// Select positions of one sequence.
fn select(
    input: &TokenBatch,
    masking: &Masking<'_>,
    range: Range<usize>,
    random: &mut Random,
) -> Vec<usize> {
    let words = words(input, masking, range);
    let tokens: usize = words.iter().map(Vec::len).sum();
    // At least one token, at most all.
    let count = ((tokens as f64 * masking.fraction).round() as usize).clamp(1, tokens.max(1));
    // A word has the weight of its first token.
    let weight = |word: &[usize]| {
        let weights = masking.weights.unwrap_or(&[]);
        let weight = weights
            .get(word[0])
            .map_or(1.0, |&weight| f64::from(weight));
        weight.max(1e-9)
    };
    // Sorting by E/w, E exponential, draws without replacement in proportion to w.
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
    let mut selected = Vec::with_capacity(count);
    for &(_, index) in &keys {
        let word = &words[index];
        let accepted = match masking.draw {
            MaskDraw::Quota => true,
            MaskDraw::SinglePass => random.uniform() < weight(word),
        };
        // Later, shorter words may still fit.
        if accepted && selected.len() + word.len() <= count {
            selected.extend_from_slice(word);
        }
        if selected.len() == count {
            break;
        }
    }
    // The loss is a mean over selected tokens: select at least one word, however long or unlikely.
    if let (true, Some(&(_, index))) = (selected.is_empty(), keys.first()) {
        selected.extend_from_slice(&words[index]);
    }
    selected
}

impl Network {
    /// Compute −ln p of each masked token, not reduced. `[M]`
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn masked_losses(&self, masked: &MaskedBatch, dropout: Option<Dropout>) -> Result<Tensor> {
        let x = self.forward(&masked.input, dropout, None)?;
        // The output matrix is by far the largest product: only masked rows are multiplied by it.
        let x = matrix::rows(&x, &masked.positions)?;
        cross_entropy(&self.logits(&x)?, &masked.targets)
    }
}

/// A mask that was filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct FilledMask {
    /// Position in the text.
    pub position: usize,
    /// The chosen token.
    pub token: u32,
    /// Logits of all tokens there. `[V]`
    pub logits: Vec<f32>,
}

/// Fill every mask of a text, one after another; each choice sees those before it.
///
/// The next mask is the one whose likeliest token has the highest probability (mask-predict, one position at a time;
/// Ghazvininejad et al. 2019), unless `order` names another.
///
/// # Errors
/// [`ErrorKind::Input`] for a text without a mask; as [`Network::forward`]; errors of the hook.
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
        let open: Vec<u32> = (0..ids.len() as u32)
            .filter(|&position| ids[position as usize] == mask)
            .collect();
        if open.is_empty() {
            if filled.is_empty() {
                return Err(Error::new(ErrorKind::Input, "the text has no mask to fill")
                    .advice("write [MASK] where tokens are wanted"));
            }
            return Ok(filled);
        }
        let input = TokenBatch::new(ids.to_vec(), ids.len());
        let x = network.forward(&input, None, None)?;
        let logits = to_vec(&network.logits(&matrix::rows(&x, &open)?)?)?;
        let width = logits.len() / open.len();
        let best: Vec<f32> = logits.chunks_exact(width).map(confidence).collect();
        let ordered = match order {
            Some(order) => {
                let call = Call::new(sampling.seed, 0, filled.len() as u64);
                next_in_order(&**order, &call, ids, mask, &open, &best)?
            }
            None => None,
        };
        let index = ordered.unwrap_or_else(|| {
            let better = |index: usize, next: usize| {
                if best[next] > best[index] {
                    next
                } else {
                    index
                }
            };
            (0..open.len()).fold(0, better)
        });
        let row = logits[index * width..(index + 1) * width].to_vec();
        // The mask token itself must not be chosen.
        let mut candidates = row.clone();
        candidates[mask as usize] = f32::NEG_INFINITY;
        let Some(token) = sampling.choose(&mut candidates, &History::default(), &mut random)?
        else {
            return Ok(filled);
        };
        let position = open[index] as usize;
        ids[position] = token;
        filled.push(FilledMask {
            position,
            token,
            logits: row,
        });
    }
}

/// Return the probability of the likeliest token.
fn confidence(logits: &[f32]) -> f32 {
    let mut row = logits.to_vec();
    crate::kernel::softmax::softmax(&mut row);
    row.into_iter().fold(0.0, f32::max)
}

/// Choose the next mask by `order/1`. Returns its index among `open`; `best` are the probabilities of their likeliest
/// tokens.
fn next_in_order(
    order: &dyn Order,
    call: &Call<'_>,
    ids: &[u32],
    mask: u32,
    open: &[u32],
    best: &[f32],
) -> Result<Option<usize>> {
    let tokens: Vec<u32> = ids
        .iter()
        .map(|&id| if id == mask { Canvas::EMPTY } else { id })
        .collect();
    // The canvas holds the longest filled span, the first of equal ones.
    let (mut filled, mut start) = (0..0, 0);
    for span in tokens.split(|&token| token == Canvas::EMPTY) {
        if span.len() > filled.len() {
            filled = start..start + span.len();
        }
        start += span.len() + 1;
    }
    let (left, right) = (filled.start, filled.end);
    let index_of = |position: u64| open.iter().position(|&open| u64::from(open) == position);
    let resistance = |position: Option<usize>| {
        position
            .and_then(|position| index_of(position as u64))
            .map_or(f64::NAN, |index| -f64::from(best[index]).ln())
    };
    let canvas = Canvas {
        tokens: &tokens,
        left: left as u64,
        right: right as u64,
        left_resistance: resistance(left.checked_sub(1)),
        right_resistance: resistance(Some(right)),
    };
    // The direction has no meaning where both sides are visible.
    let Some(next) = order.next(call, &canvas)? else {
        return Ok(None);
    };
    let index = index_of(next.position).ok_or_else(|| {
        Error::new(
            ErrorKind::Plugin,
            format!("position {} is not a mask", next.position),
        )
        .at(format!("order/1, step {}", call.step))
    })?;
    Ok(Some(index))
}
