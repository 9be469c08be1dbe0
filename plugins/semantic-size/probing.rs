//! How well a linear function of a model's states tells semantic size: nested splits, permuted ratings, controls.

use brillm_plugin::{RandomStream, Result};

use crate::solve::{self, Rows};
use crate::statistics::{area, mean, partial_spearman, spearman};

/// Folds outside, which are predicted, and inside, which choose the strength of the ridge.
const OUTER: usize = 5;
const INNER: usize = 3;
/// Strengths of the ridges, a word.
const RIDGES: [f64; 5] = [0.003, 0.03, 0.3, 3.0, 30.0];
const LOGISTIC: [f64; 4] = [0.001, 0.01, 0.1, 1.0];
/// Permutations of the labels for the area under the curve, at most.
const PERMUTED_AREAS: usize = 3;
/// Features beyond this many are projected at random to this many: without a look at any rating.
const WIDEST: usize = 256;

/// Properties of the words besides their states.
pub(crate) struct Ratings {
    pub size: Vec<f64>,
    /// The model's own surprise at the word, its tokens, its letters, and ln(1 + its count) where it was counted.
    pub form: Vec<Vec<f64>>,
    /// Arousal and concreteness.
    pub meaning: Vec<Vec<f64>>,
}

/// Figures of one set of features; all on words that the fits did not see.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Figures {
    pub features: String,
    pub width: usize,
    /// Rank correlation of predicted and rated size.
    pub spearman: f64,
    /// With surprise, tokens, letters and frequency taken out.
    pub partial_form: f64,
    /// With arousal and concreteness taken out too.
    pub partial_all: f64,
    /// 1 − the share of the variance that is left.
    pub r2: f64,
    /// Biggest against smallest third, by logistic regression.
    pub area: f64,
    /// The same with permuted ratings: means, and the share of permutations at least as good (this one is counted in).
    pub permuted_spearman: f64,
    pub permuted_p: f64,
    pub permuted_area: f64,
}

/// Projects wide rows; narrow ones stay as they are.
fn narrowed(rows: Rows, seed: u64) -> Rows {
    if rows.width <= WIDEST {
        return rows;
    }
    let mut random = RandomStream::new(seed);
    let signs: Vec<f64> = (0..rows.width * WIDEST)
        .map(|_| if random.bits() & 1 == 0 { 1.0 } else { -1.0 })
        .collect();
    let all: Vec<usize> = (0..rows.values.len() / rows.width).collect();
    let scale = solve::Scale::of(&rows, &all);
    let scaled = scale.apply(&rows, &all);
    let mut values = vec![0.0; all.len() * WIDEST];
    for (row, out) in scaled
        .chunks_exact(rows.width)
        .zip(values.chunks_exact_mut(WIDEST))
    {
        for (x, signs) in row.iter().zip(signs.chunks_exact(WIDEST)) {
            out.iter_mut().zip(signs).for_each(|(o, s)| *o += x * s);
        }
    }
    Rows {
        values,
        width: WIDEST,
    }
}

/// The folds of a list, as equal as they can be.
fn folds(list: &[usize], count: usize) -> Vec<(Vec<usize>, Vec<usize>)> {
    (0..count)
        .map(|fold| {
            let part = |own: bool| {
                list.iter()
                    .enumerate()
                    .filter(|(place, _)| (place % count == fold) == own)
                    .map(|(_, &at)| at)
                    .collect()
            };
            (part(false), part(true))
        })
        .collect()
}

fn pick<T: Copy>(values: &[T], from: &[usize]) -> Vec<T> {
    from.iter().map(|&at| values[at]).collect()
}

/// Predictions of every target for words outside the fit. `[target][N]`
fn ridge_predictions(
    rows: &Rows,
    targets: &[Vec<f64>],
    order: &[usize],
    alive: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Vec<f64>>> {
    let mut predictions = vec![vec![0.0; rows.values.len() / rows.width]; targets.len()];
    for (train, test) in folds(order, OUTER) {
        alive()?;
        // The sum of squared errors of each strength and target, on words inside that the fit does not see.
        let mut errors = vec![vec![0.0; targets.len()]; RIDGES.len()];
        for (fit, validate) in folds(&train, INNER) {
            alive()?;
            let fits = solve::ridge(rows, targets, &fit, &RIDGES);
            for (errors, fits) in errors.iter_mut().zip(&fits) {
                for ((error, fit), target) in errors.iter_mut().zip(fits).zip(targets) {
                    *error += validate
                        .iter()
                        .map(|&at| (fit.of(rows.row(at)) - target[at]).powi(2))
                        .sum::<f64>();
                }
            }
        }
        let fits = solve::ridge(rows, targets, &train, &RIDGES);
        for (target, predictions) in predictions.iter_mut().enumerate() {
            let best = (0..RIDGES.len())
                .min_by(|&a, &b| errors[a][target].total_cmp(&errors[b][target]))
                .unwrap_or(0);
            for &at in &test {
                predictions[at] = fits[best][target].of(rows.row(at));
            }
        }
    }
    Ok(predictions)
}

/// The area under the curve over all outer folds, of words that are in `order`.
fn logistic_area(
    rows: &Rows,
    labels: &[bool],
    order: &[usize],
    alive: &mut dyn FnMut() -> Result<()>,
) -> Result<f64> {
    let mut scores = vec![0.0; labels.len()];
    for (train, test) in folds(order, OUTER) {
        alive()?;
        let mut areas = [0.0; LOGISTIC.len()];
        for (fit, validate) in folds(&train, INNER) {
            alive()?;
            for (area_sum, strength) in areas.iter_mut().zip(LOGISTIC) {
                let probe = solve::logistic(rows, labels, &fit, strength);
                let scores: Vec<f64> = validate.iter().map(|&at| probe.of(rows.row(at))).collect();
                *area_sum += area(&scores, &pick(labels, &validate));
            }
        }
        let best = (0..LOGISTIC.len())
            .max_by(|&a, &b| areas[a].total_cmp(&areas[b]))
            .unwrap_or(0);
        let probe = solve::logistic(rows, labels, &train, LOGISTIC[best]);
        for &at in &test {
            scores[at] = probe.of(rows.row(at));
        }
    }
    Ok(area(&pick(&scores, order), &pick(labels, order)))
}

/// Probes a set of features. `permutations` of the ratings say what chance gives; `alive` is called again and again, and
/// its error ends the work.
pub(crate) fn probe(
    features: &str,
    rows: Rows,
    ratings: &Ratings,
    permutations: usize,
    seed: u64,
    alive: &mut dyn FnMut() -> Result<()>,
) -> Result<Figures> {
    let width = rows.width;
    let rows = narrowed(rows, seed);
    let count = ratings.size.len();
    let mut random = RandomStream::new(seed);
    let mut order: Vec<usize> = (0..count).collect();
    random.shuffle(&mut order);
    let mut targets = vec![ratings.size.clone()];
    for _ in 0..permutations {
        let mut permuted = ratings.size.clone();
        random.shuffle(&mut permuted);
        targets.push(permuted);
    }
    let predictions = ridge_predictions(&rows, &targets, &order, alive)?;
    let chance: Vec<f64> = predictions[1..]
        .iter()
        .zip(&targets[1..])
        .map(|(predicted, target)| spearman(predicted, target))
        .collect();
    let predicted = &predictions[0];
    let found = spearman(predicted, &ratings.size);
    let average = mean(&ratings.size);
    let left: f64 = predicted
        .iter()
        .zip(&ratings.size)
        .map(|(p, y)| (p - y).powi(2))
        .sum();
    let whole: f64 = ratings.size.iter().map(|y| (y - average).powi(2)).sum();
    let all: Vec<Vec<f64>> = ratings
        .form
        .iter()
        .chain(&ratings.meaning)
        .cloned()
        .collect();

    let mut sorted = ratings.size.clone();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[count / 3], sorted[2 * count / 3]);
    let ends: Vec<usize> = order
        .iter()
        .copied()
        .filter(|&at| ratings.size[at] < low || ratings.size[at] >= high)
        .collect();
    let labels: Vec<bool> = ratings.size.iter().map(|&size| size >= high).collect();
    let mut permuted_areas = Vec::new();
    for _ in 0..permutations.min(PERMUTED_AREAS) {
        let mut drawn = pick(&labels, &ends);
        random.shuffle(&mut drawn);
        let mut permuted = labels.clone();
        ends.iter()
            .zip(drawn)
            .for_each(|(&at, label)| permuted[at] = label);
        permuted_areas.push(logistic_area(&rows, &permuted, &ends, alive)?);
    }
    Ok(Figures {
        features: features.to_string(),
        width,
        spearman: found,
        partial_form: partial_spearman(predicted, &ratings.size, &ratings.form),
        partial_all: partial_spearman(predicted, &ratings.size, &all),
        r2: 1.0 - left / whole.max(1e-12),
        area: logistic_area(&rows, &labels, &ends, alive)?,
        permuted_spearman: mean(&chance),
        permuted_p: (chance.iter().filter(|chance| **chance >= found).count() + 1) as f64
            / (chance.len() + 1) as f64,
        permuted_area: mean(&permuted_areas),
    })
}

/// The direction along which size grows, fitted on all words at the middle strength.
pub(crate) fn direction(rows: &Rows, size: &[f64]) -> Vec<f64> {
    let all: Vec<usize> = (0..size.len()).collect();
    solve::ridge(rows, &[size.to_vec()], &all, &[RIDGES[2]])[0][0].direction()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words whose features carry size, or nothing.
    fn planted(width: usize, strength: f64) -> (Rows, Ratings) {
        let mut random = RandomStream::new(7);
        let normal =
            |random: &mut RandomStream| (0..6).map(|_| random.uniform()).sum::<f64>() - 3.0;
        let size: Vec<f64> = (0..240).map(|_| 4.0 + normal(&mut random)).collect();
        let along: Vec<f64> = (0..width).map(|_| normal(&mut random)).collect();
        let values = size
            .iter()
            .flat_map(|size| {
                along
                    .iter()
                    .map(|a| strength * a * (size - 4.0) + normal(&mut random))
                    .collect::<Vec<_>>()
            })
            .collect();
        let noise: Vec<f64> = (0..240).map(|_| normal(&mut random)).collect();
        let ratings = Ratings {
            size,
            form: vec![noise],
            meaning: Vec::new(),
        };
        (Rows { values, width }, ratings)
    }

    #[test]
    fn a_planted_signal_is_found_and_permuted_ratings_are_not() {
        let (rows, ratings) = planted(32, 1.0);
        let found = probe("planted", rows, &ratings, 9, 1, &mut || Ok(())).unwrap();
        assert!(found.area > 0.95, "{found:?}");
        assert!(
            found.spearman > 0.9 && found.partial_form > 0.9,
            "{found:?}"
        );
        assert!((found.permuted_area - 0.5).abs() < 0.15, "{found:?}");
        assert!(
            found.permuted_spearman.abs() < 0.15 && found.permuted_p <= 0.1,
            "{found:?}"
        );
    }

    #[test]
    fn noise_tells_nothing_however_wide() {
        let (rows, ratings) = planted(400, 0.0);
        let found = probe("noise", rows, &ratings, 9, 1, &mut || Ok(())).unwrap();
        assert_eq!(found.width, 400);
        assert!((found.area - 0.5).abs() < 0.15, "{found:?}");
        assert!(found.spearman.abs() < 0.2, "{found:?}");
    }
}
