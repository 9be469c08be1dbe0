//! The head that estimates the determinacy of a question's answer: features → linear → GELU → linear → sigmoid.

use std::path::Path;

use brillm_plugin::{PluginError, RandomStream, Result};
use serde::{Deserialize, Serialize};

/// A small network, trained separately; the language model's weights do not change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub technique: String,
    /// The features it reads.
    pub features: String,
    /// Mean of each feature over the questions it learned from, and 1 / standard deviation. `[F]`
    mean: Vec<f32>,
    scale: Vec<f32>,
    /// `[H, F]`, `[H]`, `[H]`, and one number.
    first: Vec<f32>,
    first_bias: Vec<f32>,
    second: Vec<f32>,
    second_bias: f32,
}

/// How a head is trained.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Training {
    pub hidden: usize,
    pub epochs: usize,
    pub rate: f64,
    pub decay: f64,
    pub batch: usize,
    pub seed: u64,
}

/// √(2/π), of GELU's usual form with a tanh.
const ROOT: f32 = 0.797_884_6;

/// GELU and its derivative.
fn gelu(x: f32) -> (f32, f32) {
    let inner = ROOT * (x + 0.044_715 * x * x * x);
    let tanh = inner.tanh();
    let slope = ROOT * (1.0 + 3.0 * 0.044_715 * x * x);
    (
        0.5 * x * (1.0 + tanh),
        0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope,
    )
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gradients of a batch, one after the other as [`Head::each`] walks the weights.
#[derive(Clone)]
struct Gradient {
    first: Vec<f32>,
    first_bias: Vec<f32>,
    second: Vec<f32>,
    second_bias: f32,
}

impl Head {
    pub const TECHNIQUE: &'static str = "quats";

    fn new(features: &str, rows: &[&[f32]], hidden: usize, random: &mut RandomStream) -> Self {
        let width = rows.first().map_or(0, |row| row.len());
        let count = rows.len().max(1) as f64;
        let column = |at: usize| rows.iter().map(move |row| f64::from(row[at]));
        let mean: Vec<f64> = (0..width)
            .map(|at| column(at).sum::<f64>() / count)
            .collect();
        let scale = (0..width).map(|at| {
            let squares: f64 = column(at).map(|x| (x - mean[at]).powi(2)).sum();
            let deviation = (squares / count).sqrt();
            // A constant feature carries no information.
            if deviation > 1e-6 {
                (1.0 / deviation) as f32
            } else {
                0.0
            }
        });
        let scale = scale.collect();
        let mut uniform = |count: usize, bound: f64| -> Vec<f32> {
            (0..count)
                .map(|_| ((2.0 * random.uniform() - 1.0) * bound) as f32)
                .collect()
        };
        Self {
            technique: Self::TECHNIQUE.into(),
            features: features.into(),
            mean: mean.into_iter().map(|mean| mean as f32).collect(),
            scale,
            first: uniform(hidden * width, (1.0 / width.max(1) as f64).sqrt()),
            first_bias: vec![0.0; hidden],
            second: uniform(hidden, (1.0 / hidden as f64).sqrt()),
            second_bias: 0.0,
        }
    }

    /// Features it reads.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    fn standardise(&self, row: &[f32]) -> Vec<f32> {
        row.iter()
            .zip(self.mean.iter().zip(&self.scale))
            .map(|(x, (mean, scale))| (x - mean) * scale)
            .collect()
    }

    /// How determinate the answer is, 0 (open) to 1 (closed).
    ///
    /// # Errors
    /// For features of another number.
    pub fn determinacy(&self, row: &[f32]) -> Result<f64> {
        if row.len() != self.width() {
            return Err(PluginError::new(format!(
                "the head reads {} features of {}, the model gives {}: train it on this model",
                self.width(),
                self.features,
                row.len()
            )));
        }
        let row = self.standardise(row);
        let mut logit = self.second_bias;
        for (unit, weights) in self.first.chunks_exact(row.len().max(1)).enumerate() {
            let (value, _) = gelu(dot(weights, &row) + self.first_bias[unit]);
            logit += self.second[unit] * value;
        }
        Ok(f64::from(sigmoid(logit)))
    }

    /// Adds a question's gradient of the binary cross-entropy, and returns the loss.
    fn back(&self, row: &[f32], label: f32, gradient: &mut Gradient) -> f64 {
        let width = row.len();
        let units: Vec<(f32, f32)> = self
            .first
            .chunks_exact(width)
            .zip(&self.first_bias)
            .map(|(weights, bias)| gelu(dot(weights, row) + bias))
            .collect();
        let logit: f32 = units
            .iter()
            .zip(&self.second)
            .map(|((value, _), weight)| value * weight)
            .sum::<f32>()
            + self.second_bias;
        let error = sigmoid(logit) - label;
        gradient.second_bias += error;
        for (unit, (value, slope)) in units.into_iter().enumerate() {
            gradient.second[unit] += error * value;
            let error = error * self.second[unit] * slope;
            gradient.first_bias[unit] += error;
            let sums = &mut gradient.first[unit * width..(unit + 1) * width];
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += error * x;
            }
        }
        // ln(1 + e^x) − y x, without overflow.
        let logit = f64::from(logit);
        logit.max(0.0) + (-logit.abs()).exp().ln_1p() - f64::from(label) * logit
    }

    /// Trains a head and returns it with the mean loss of each epoch.
    ///
    /// Binary cross-entropy with labels from 0 to 1; AdamW (β .9 and .999) without decay on the biases.
    pub fn train(
        features: &str,
        rows: &[&[f32]],
        labels: &[f32],
        training: &Training,
    ) -> (Self, Vec<f64>) {
        let mut random = RandomStream::new(training.seed);
        let mut head = Self::new(features, rows, training.hidden, &mut random);
        let rows: Vec<Vec<f32>> = rows.iter().map(|row| head.standardise(row)).collect();
        let mut optimiser = Optimiser::new(head.weights(), training);
        let empty = Gradient {
            first: vec![0.0; head.first.len()],
            first_bias: vec![0.0; head.first_bias.len()],
            second: vec![0.0; head.second.len()],
            second_bias: 0.0,
        };
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let mut losses = Vec::new();
        for _ in 0..training.epochs {
            random.shuffle(&mut order);
            let mut total = 0.0;
            for batch in order.chunks(training.batch.max(1)) {
                let mut gradient = empty.clone();
                for &at in batch {
                    total += head.back(&rows[at], labels[at], &mut gradient);
                }
                optimiser.step(&mut head, &gradient, batch.len());
            }
            losses.push(total / rows.len().max(1) as f64);
        }
        (head, losses)
    }

    fn weights(&self) -> usize {
        self.first.len() + self.first_bias.len() + self.second.len() + 1
    }

    /// Reads a head.
    ///
    /// # Errors
    /// For a file that cannot be read, or is none.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| {
            PluginError::option(format!("head {}: {error}", path.display()))
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
        let head: Self = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|error| failed(&error))?;
        let (width, hidden) = (head.mean.len(), head.first_bias.len());
        let whole = head.technique == Self::TECHNIQUE
            && head.scale.len() == width
            && head.first.len() == hidden * width
            && head.second.len() == hidden
            && width > 0;
        if !whole {
            return Err(failed(&"it is not a head of this plugin"));
        }
        Ok(head)
    }

    /// Writes the head whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed =
            |error: std::io::Error| PluginError::new(format!("head {}: {error}", path.display()));
        brillm_file::write(path, serde_json::to_string(self)?).map_err(failed)
    }
}

/// AdamW.
struct Optimiser {
    moments: Vec<(f32, f32)>,
    steps: i32,
    rate: f32,
    decay: f32,
}

impl Optimiser {
    fn new(weights: usize, training: &Training) -> Self {
        Self {
            moments: vec![(0.0, 0.0); weights],
            steps: 0,
            rate: training.rate as f32,
            decay: training.decay as f32,
        }
    }

    fn step(&mut self, head: &mut Head, gradient: &Gradient, batch: usize) {
        self.steps += 1;
        let (mean, square) = (
            1.0 - 0.9f32.powi(self.steps),
            1.0 - 0.999f32.powi(self.steps),
        );
        let scale = 1.0 / batch as f32;
        let (rate, decay) = (self.rate, self.decay);
        let mut moments = self.moments.iter_mut();
        let mut walk = |values: &mut [f32], gradients: &[f32], decay: f32| {
            for ((value, gradient), moment) in values.iter_mut().zip(gradients).zip(&mut moments) {
                let gradient = gradient * scale;
                moment.0 += 0.1 * (gradient - moment.0);
                moment.1 += 0.001 * (gradient * gradient - moment.1);
                let direction = moment.0 / mean / ((moment.1 / square).sqrt() + 1e-8);
                *value -= rate * (direction + decay * *value);
            }
        };
        walk(&mut head.first, &gradient.first, decay);
        walk(&mut head.second, &gradient.second, decay);
        walk(&mut head.first_bias, &gradient.first_bias, 0.0);
        walk(
            std::slice::from_mut(&mut head.second_bias),
            &[gradient.second_bias],
            0.0,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAINING: Training = Training {
        hidden: 16,
        epochs: 30,
        rate: 1e-2,
        decay: 0.01,
        batch: 16,
        seed: 3,
    };

    #[test]
    fn gradients_are_those_of_the_loss() {
        let mut random = RandomStream::new(5);
        let row: Vec<f32> = (0..4).map(|_| random.uniform() as f32 - 0.5).collect();
        let head = Head::new("test", &[&row, &[0.3, -1.0, 0.2, 0.9]], 3, &mut random);
        let empty = Gradient {
            first: vec![0.0; 12],
            first_bias: vec![0.0; 3],
            second: vec![0.0; 3],
            second_bias: 0.0,
        };
        let loss = |head: &Head| head.back(&row, 0.3, &mut empty.clone());
        let mut gradient = empty.clone();
        head.back(&row, 0.3, &mut gradient);
        let difference = |change: &dyn Fn(&mut Head, f32)| {
            let (mut up, mut down) = (head.clone(), head.clone());
            change(&mut up, 1e-2);
            change(&mut down, -1e-2);
            (loss(&up) - loss(&down)) / 2e-2
        };
        for at in 0..12 {
            let measured = difference(&|head, by| head.first[at] += by);
            assert!((measured - f64::from(gradient.first[at])).abs() < 2e-4);
        }
        for at in 0..3 {
            let measured = difference(&|head, by| head.first_bias[at] += by);
            assert!((measured - f64::from(gradient.first_bias[at])).abs() < 2e-4);
            let measured = difference(&|head, by| head.second[at] += by);
            assert!((measured - f64::from(gradient.second[at])).abs() < 2e-4);
        }
        let measured = difference(&|head, by| head.second_bias += by);
        assert!((measured - f64::from(gradient.second_bias)).abs() < 2e-4);
    }

    #[test]
    fn a_bent_boundary_is_learned() {
        let mut random = RandomStream::new(9);
        let rows: Vec<Vec<f32>> = (0..400)
            .map(|_| {
                (0..2)
                    .map(|_| random.uniform() as f32 * 20.0 + 100.0)
                    .collect()
            })
            .collect();
        // Closed where both features are on the same side of their middle: no straight line tells them apart.
        let labels: Vec<f32> = rows
            .iter()
            .map(|row| f32::from((row[0] > 110.0) == (row[1] > 110.0)))
            .collect();
        let views: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let (head, losses) = Head::train("test", &views, &labels, &TRAINING);
        assert!(losses[29] < 0.5 * losses[0], "{losses:?}");
        let right = rows
            .iter()
            .zip(&labels)
            .filter(|(row, label)| (head.determinacy(row).unwrap() > 0.5) == (**label > 0.5));
        assert!(right.count() > 360);
        assert_eq!(
            Head::train("test", &views, &labels, &TRAINING).0,
            head,
            "training replays"
        );
        assert!(head.determinacy(&[1.0]).is_err());
    }

    #[test]
    fn heads_are_saved() {
        let rows: [&[f32]; 2] = [&[1.0, 2.0], &[0.5, -1.0]];
        let (head, _) = Head::train("scores", &rows, &[0.0, 1.0], &TRAINING);
        let path = std::env::temp_dir().join(format!("quats-{}.json", std::process::id()));
        head.save(&path).unwrap();
        assert_eq!(Head::open(&path).unwrap(), head);
        std::fs::write(&path, "{}").unwrap();
        assert!(Head::open(&path).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
