//! Faithfulness of explanations: what happens when tokens are removed, against what the explanations predict.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::method::{Attributed, Choice, choose, predict};
use super::statistics::{Interval, area, correlation};
use crate::kernel::random::Random;
use crate::run::Engine;
use crate::{Error, ErrorKind, Result};

/// Shares of tokens that comprehensiveness and sufficiency remove or keep (DeYoung et al. 2020).
const SHARES: [f64; 4] = [0.05, 0.1, 0.2, 0.5];
/// Points of the deletion and insertion curves.
const POINTS: usize = 11;

/// How faithful explanations are, over texts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Faithfulness {
    /// Name of the model.
    pub model: String,
    /// Number of texts.
    pub texts: usize,
    /// Tokens of all texts.
    pub tokens: usize,
    /// Seed of random order and resampling.
    pub seed: u64,
    /// The signal of a token removed at this step alone, of a graph.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muted: Option<MutedRow>,
    /// Tokens removed from the whole text, by each method.
    pub methods: Vec<MethodRow>,
}

/// Predicted against observed changes of the margin when the signal of one token is removed at the step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MutedRow {
    /// Number of removals.
    pub removals: usize,
    /// Largest difference between predicted and observed change, in nats.
    pub largest_error: f64,
    /// Largest difference, relative to the largest change of the same text.
    pub relative_error: f64,
    /// Removals after which the alternative is ahead.
    pub flips: usize,
    /// Flips that were predicted.
    pub predicted: usize,
    /// Predicted flips that did not occur.
    pub false_alarms: usize,
}

/// How faithful one method is when tokens are removed from the whole text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MethodRow {
    /// Name of the method.
    pub method: &'static str,
    /// Removals of a single token after which the alternative is ahead.
    pub flips: usize,
    /// Flips that were predicted: the token's value exceeds the margin.
    pub predicted: usize,
    /// Predicted flips that did not occur.
    pub false_alarms: usize,
    /// Removals.
    pub removals: usize,
    /// Correlation of the values of a text's tokens with what the margin loses without each.
    pub correlation: Interval,
    /// What the probability of the choice loses without the tokens of highest value; higher is better.
    pub comprehensiveness: Interval,
    /// What it loses with those tokens alone; lower is better.
    pub sufficiency: Interval,
    /// Area under the curve of the probability while tokens are removed, the highest first; lower is better.
    pub deletion: Interval,
    /// Area under the curve while tokens are added, the highest first; higher is better.
    pub insertion: Interval,
}

/// Figures of one method on one text.
#[derive(Default)]
struct Collected {
    method: &'static str,
    flips: [usize; 4],
    /// Correlation, comprehensiveness, sufficiency, deletion, insertion; one of each for a text.
    values: [Vec<f64>; 5],
}

/// Test explanations of the choice after each text. Texts need two tokens; `progress` is called after each.
///
/// The removed tokens are those of the text that a choice follows, so that what remains is read as a text of its own.
///
/// # Errors
/// [`ErrorKind::Input`] without a text of two tokens; [`ErrorKind::Cancelled`] once `cancel` is set; else as
/// [`Engine::session`].
///
/// # Complexity
/// For each text of T tokens, O(T) passes of T tokens.
pub fn faithfulness(
    engine: &Engine,
    texts: &[Vec<u32>],
    seed: u64,
    progress: &mut dyn FnMut(),
    cancel: &AtomicBool,
) -> Result<Faithfulness> {
    if texts.is_empty() || texts.iter().any(|text| text.len() < 2) {
        return Err(Error::new(
            ErrorKind::Input,
            "explanations are tested on texts of at least two tokens",
        )
        .advice("pass a longer text, or a larger --length"));
    }
    let mut collected: Vec<Collected> = Vec::new();
    let mut muted = None;
    for (index, ids) in texts.iter().enumerate() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "the test was cancelled"));
        }
        let mut random = Random::stream(seed, 0x6578_706c, index as u64);
        let choice = choose(engine, ids)?;
        add_muted(&mut muted, &choice, choice.muted(engine, ids)?);
        let mut removed = Vec::with_capacity(ids.len());
        for position in 0..ids.len() {
            let rest: Vec<u32> = without(ids, &[position]);
            removed.push(choice.margin_of(&predict(engine, &rest)?));
        }
        let attributed = choice.attribute(engine, ids, &mut random)?;
        collected.resize_with(attributed.len(), Collected::default);
        for (one, collected) in attributed.iter().zip(&mut collected) {
            collected.add(engine, ids, &choice, &removed, one)?;
        }
        progress();
    }
    Ok(Faithfulness {
        model: engine.name().to_string(),
        texts: texts.len(),
        tokens: texts.iter().map(Vec::len).sum(),
        seed,
        muted,
        methods: collected.iter().map(|one| one.row(seed)).collect(),
    })
}

fn add_muted(row: &mut Option<MutedRow>, choice: &Choice, pairs: Vec<(f64, f64)>) {
    if pairs.is_empty() {
        return;
    }
    let row = row.get_or_insert(MutedRow {
        removals: 0,
        largest_error: 0.0,
        relative_error: 0.0,
        flips: 0,
        predicted: 0,
        false_alarms: 0,
    });
    let largest = pairs.iter().map(|pair| pair.1.abs()).fold(0.0, f64::max);
    for (predicted, observed) in pairs {
        let error = (predicted - observed).abs();
        row.removals += 1;
        row.largest_error = row.largest_error.max(error);
        row.relative_error = row
            .relative_error
            .max(error / largest.max(f64::MIN_POSITIVE));
        let (flips, foreseen) = (observed > choice.margin, predicted > choice.margin);
        row.flips += usize::from(flips);
        row.predicted += usize::from(flips && foreseen);
        row.false_alarms += usize::from(!flips && foreseen);
    }
}

impl Collected {
    fn add(
        &mut self,
        engine: &Engine,
        ids: &[u32],
        choice: &Choice,
        removed: &[f64],
        attributed: &Attributed,
    ) -> Result<()> {
        self.method = attributed.method;
        let values = &attributed.values;
        for (value, margin) in values.iter().zip(removed) {
            let (flips, foreseen) = (*margin < 0.0, *value > choice.margin);
            self.flips[0] += usize::from(flips);
            self.flips[1] += usize::from(flips && foreseen);
            self.flips[2] += usize::from(!flips && foreseen);
            self.flips[3] += 1;
        }
        let lost: Vec<f64> = removed
            .iter()
            .map(|margin| choice.margin - margin)
            .collect();
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
        // An empty text predicts nothing: the last token that is left stays.
        let probability = |positions: &[usize], keep: bool| -> Result<f64> {
            let mut rest = if keep {
                kept(ids, positions)
            } else {
                without(ids, positions)
            };
            if rest.is_empty() {
                rest.push(ids[order[if keep { 0 } else { ids.len() - 1 }]]);
            }
            Ok(choice.probability(&predict(engine, &rest)?))
        };
        let whole = probability(&[], false)?;
        let (mut comprehensiveness, mut sufficiency) = (0.0, 0.0);
        for share in SHARES {
            let count = ((share * ids.len() as f64).ceil() as usize).max(1);
            comprehensiveness += whole - probability(&order[..count], false)?;
            sufficiency += whole - probability(&order[..count], true)?;
        }
        let curve = |keep: bool| -> Result<f64> {
            let points = (0..POINTS).map(|point| {
                let count = point * ids.len() / (POINTS - 1);
                probability(&order[..count], keep)
            });
            Ok(area(&points.collect::<Result<Vec<f64>>>()?))
        };
        let figures = [
            correlation(values, &lost),
            comprehensiveness / SHARES.len() as f64,
            sufficiency / SHARES.len() as f64,
            curve(false)?,
            curve(true)?,
        ];
        for (list, figure) in self.values.iter_mut().zip(figures) {
            list.push(figure);
        }
        Ok(())
    }

    fn row(&self, seed: u64) -> MethodRow {
        let interval = |index: usize| Interval::of(&self.values[index], seed);
        MethodRow {
            method: self.method,
            flips: self.flips[0],
            predicted: self.flips[1],
            false_alarms: self.flips[2],
            removals: self.flips[3],
            correlation: interval(0),
            comprehensiveness: interval(1),
            sufficiency: interval(2),
            deletion: interval(3),
            insertion: interval(4),
        }
    }
}

/// The tokens at positions other than these.
fn without(ids: &[u32], positions: &[usize]) -> Vec<u32> {
    let others = ids.iter().enumerate();
    let others = others.filter(|(position, _)| !positions.contains(position));
    others.map(|(_, &id)| id).collect()
}

/// The tokens at these positions, in the order of the text.
fn kept(ids: &[u32], positions: &[usize]) -> Vec<u32> {
    let kept = ids.iter().enumerate();
    let kept = kept.filter(|(position, _)| positions.contains(position));
    kept.map(|(_, &id)| id).collect()
}
