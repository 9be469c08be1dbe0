//! Trying a network under maps of shared caches, for planners (KVSharer, arXiv 2410.18517).

use std::sync::{Mutex, PoisonError};

use crate::hook::{Activations, Call, Distance, Phase, Probe, Tap, Trial};
use crate::transformer::advance::{LogitsFor, Taps};
use crate::transformer::{Cache, Network, Plan};
use crate::{Error, ErrorKind, Result};

/// Texts of equal length on which a planner may try the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalibrationText {
    texts: Vec<Vec<u32>>,
}

impl CalibrationText {
    /// Texts in the paper's protocol.
    pub const TEXTS: usize = 30;
    /// Tokens of each text in the paper's protocol.
    pub const LENGTH: usize = 64;

    /// Cut at most `count` pieces of `length` tokens, spread evenly over a text.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a text shorter than one piece.
    pub fn cut(tokens: &[u32], count: usize, length: usize) -> Result<Self> {
        let pieces = tokens.len() / length.max(1);
        if pieces == 0 || count == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "{} tokens are too few for a calibration text of {length}",
                    tokens.len()
                ),
            )
            .advice("pass a longer calibration text"));
        }
        let count = count.min(pieces);
        let texts = (0..count)
            .map(|index| {
                let piece = index * pieces / count;
                tokens[piece * length..(piece + 1) * length].to_vec()
            })
            .collect();
        Ok(Self { texts })
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Return whether it has no texts.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// A network with its keys, values and final hidden states on the texts, without sharing.
pub(super) struct Tried<'a> {
    network: &'a Network,
    texts: &'a [Vec<u32>],
    /// Final hidden states of each text. `[T · D]`
    plain: Vec<Vec<f32>>,
    /// Σ over the texts of each layer's keys and of its values, by position. `[L][T · Hkv · d]`
    pairs: [Vec<Vec<f64>>; 2],
}

impl<'a> Tried<'a> {
    pub(super) fn new(network: &'a Network, text: &'a CalibrationText) -> Result<Self> {
        let mut tried = Self {
            network,
            texts: &text.texts,
            plain: Vec::new(),
            pairs: [
                vec![Vec::new(); network.shape.layers],
                vec![Vec::new(); network.shape.layers],
            ],
        };
        let whole = Plan::full(network.shape.layers);
        let sums = Sums(Mutex::new(std::mem::take(&mut tried.pairs)));
        for text in &text.texts {
            let text = std::slice::from_ref(text);
            tried
                .plain
                .extend(states(network, &whole, text, Some(&sums))?);
        }
        tried.pairs = sums.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(tried)
    }
}

/// Texts that go through the network together: enough rows for fast products, and few enough for little memory.
const TOGETHER: usize = 8;

/// Compute the hidden states of texts of equal length under a plan, after the last norm. `[texts][T · D]`
fn states(
    network: &Network,
    plan: &Plan,
    texts: &[Vec<u32>],
    probe: Option<&dyn Probe>,
) -> Result<Vec<Vec<f32>>> {
    let mut all = Vec::with_capacity(texts.len());
    for texts in texts.chunks(TOGETHER) {
        let mut cache = Cache::new(&network.shape, plan.clone(), texts.len())?;
        let mut taps = Taps {
            eviction: None,
            probe,
        };
        let tokens: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let phase = Phase::Prefill;
        let passed = network.advance(&mut cache, &tokens, phase, LogitsFor::None, &mut taps)?;
        let each = passed.hidden.len() / texts.len();
        all.extend(passed.hidden.chunks_exact(each).map(<[f32]>::to_vec));
    }
    Ok(all)
}

/// Sums of keys and of values over texts. `[L][T · Hkv · d]`
struct Sums(Mutex<[Vec<Vec<f64>>; 2]>);

impl Probe for Sums {
    fn wants(&self, tap: Tap) -> bool {
        matches!(tap, Tap::Key | Tap::Value)
    }

    fn see(&self, _: &Call<'_>, activations: &Activations<'_>) -> Result<()> {
        let values = activations.values;
        let side = usize::from(activations.tap == Tap::Value);
        // Probes are called through `&self`.
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = &mut sums[side][activations.layer];
        sum.resize(values.len(), 0.0);
        for (sum, &value) in sum.iter_mut().zip(values) {
            *sum += f64::from(value);
        }
        Ok(())
    }
}

fn distance(measure: Distance, a: &[f64], b: &[f64], width: usize, texts: f64) -> f64 {
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let apart = |a: &[f64], b: &[f64]| {
        a.iter()
            .zip(b)
            .map(|(a, b)| (a - b) * (a - b))
            .sum::<f64>()
            .sqrt()
    };
    match measure {
        // Mean of ‖a − b‖ over positions and heads.
        Distance::MeanOfNorms => {
            let heads = a.len() / width;
            let sum: f64 = a
                .chunks_exact(width)
                .zip(b.chunks_exact(width))
                .map(|(a, b)| apart(a, b))
                .sum();
            sum / heads as f64 / texts
        }
        Distance::Flattened => apart(a, b) / texts,
        Distance::Cosine => {
            let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            1.0 - product / (norm(a) * norm(b)).max(f64::MIN_POSITIVE)
        }
        Distance::Normalised => {
            let scaled = |x: &[f64]| {
                let norm = norm(x).max(f64::MIN_POSITIVE);
                x.iter().map(|x| x / norm).collect::<Vec<_>>()
            };
            apart(&scaled(a), &scaled(b))
        }
    }
}

impl Trial for Tried<'_> {
    fn distances(&mut self, measure: Distance, keys: &mut [f64], values: &mut [f64]) -> Result<()> {
        let (layers, width) = (self.network.shape.layers, self.network.shape.head_width);
        let texts = self.texts.len() as f64;
        for (side, out) in [keys, values].into_iter().enumerate() {
            for a in 0..layers {
                for b in 0..layers {
                    let (one, other) = (&self.pairs[side][a], &self.pairs[side][b]);
                    out[a * layers + b] = if a == b {
                        0.0
                    } else {
                        distance(measure, one, other, width, texts)
                    };
                }
            }
        }
        Ok(())
    }

    fn similarity(&mut self, source: &[u32]) -> Result<f64> {
        let sources: Vec<usize> = source.iter().map(|&layer| layer as usize).collect();
        let plan = Plan::full(self.network.shape.layers).sources(&sources);
        let network = self.network.for_plan(&plan)?;
        let mut sum = 0.0;
        let all = states(&network, &plan, self.texts, None)?;
        for (shared, plain) in all.iter().zip(&self.plain) {
            // Cosine of the final hidden states with and without shared caches, the mean over texts.
            let (mut product, mut a, mut b) = (0.0, 0.0, 0.0);
            for (&x, &y) in shared.iter().zip(plain) {
                let (x, y) = (f64::from(x), f64::from(y));
                product += x * y;
                a += x * x;
                b += y * y;
            }
            sum += product / (a * b).sqrt().max(f64::MIN_POSITIVE);
        }
        Ok(sum / self.texts.len() as f64)
    }
}
