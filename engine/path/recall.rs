//! Recall: a continuous cache over a bounded window of past signals, for streams.
//!
//! After Grave et al., "Improving neural language models with a continuous cache" (2017). Each hop u→v remembers the
//! key of u, a unit vector ([`Mechanism::key`](crate::signal::Mechanism::key)), and the node v that followed. With q the
//! key of the current node:
//!
//! ```text
//! n_i  = e^(θ (q·q_i − 1))                           1 for a past node with the same key, towards 0 for others
//! r(v) = Σ_{i: v_i = v} n_i / N,   N = Σ_i n_i
//! p(v) = (1 − μ_t) p_model(v) + μ_t r(v),   μ_t / (1 − μ_t) = N^slope · μ / (1 − μ)
//! ```
//!
//! A slope of 0 gives every step the same μ; above 0, steps with many similar pasts rely more on them (the gated form,
//! a sigmoid of a + b ln N). What an earlier position adds to p(v) is exactly `μ_t n_i / N`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kernel::{softmax, vector};
use crate::{Error, ErrorKind, Result};

/// Longest window, in tokens.
const LONGEST: usize = 1 << 16;

/// Constants of [`Recall`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RecallSettings {
    /// Number of past tokens remembered; 0 for none.
    pub window: usize,
    /// Factor θ of the cosine of two keys: 0 weights all past tokens alike.
    pub theta: f32,
    /// Weight μ of the remembered tokens against the model, in [0, 1).
    pub mu: f32,
    /// Exponent of N in the odds of μ_t; 0 for the same μ at every step.
    #[serde(default)]
    pub slope: f32,
}

impl RecallSettings {
    /// Check that every number is in its range.
    ///
    /// # Errors
    /// [`ErrorKind::Input`], naming the number.
    pub fn check(&self) -> Result<()> {
        let Self {
            window,
            theta,
            mu,
            slope,
        } = *self;
        let invalid = |what| {
            Err(Error::new(
                ErrorKind::Input,
                format!("invalid recall {what}"),
            ))
        };
        if window > LONGEST {
            return invalid(format!("window {window}: expected at most {LONGEST}"));
        }
        if !(theta.is_finite() && theta >= 0.0) {
            return invalid(format!("theta {theta}: expected a number of at least 0"));
        }
        if !(0.0..1.0).contains(&mu) {
            return invalid(format!("mu {mu}: expected a number from 0 to below 1"));
        }
        if !slope.is_finite() {
            return invalid(format!("slope {slope}: expected a finite number"));
        }
        Ok(())
    }
}

impl FromStr for RecallSettings {
    type Err = Error;

    /// Parse `WINDOW,THETA,MU[,SLOPE]`.
    fn from_str(text: &str) -> Result<Self> {
        let (window, rest) = text.split_once(',').unwrap_or((text, ""));
        let window = window.trim().parse().ok();
        let numbers = rest.split(',').map(|number| number.trim().parse().ok());
        let numbers: Option<Vec<f32>> = numbers.collect();
        let settings = match (window, numbers.as_deref()) {
            (Some(window), Some(&[theta, mu])) => Some((window, theta, mu, 0.0)),
            (Some(window), Some(&[theta, mu, slope])) => Some((window, theta, mu, slope)),
            _ => None,
        };
        let Some((window, theta, mu, slope)) = settings else {
            let what = format!("invalid recall {text:?}: expected WINDOW,THETA,MU[,SLOPE]");
            return Err(Error::new(ErrorKind::Input, what));
        };
        let settings = Self {
            window,
            theta,
            mu,
            slope,
        };
        settings.check().map(|()| settings)
    }
}

impl std::fmt::Display for RecallSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{},{},{}", self.window, self.theta, self.mu)?;
        match self.slope {
            0.0 => Ok(()),
            slope => write!(formatter, ",{slope}"),
        }
    }
}

/// What one remembered token adds to the probabilities of the next one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecallShare {
    /// How many tokens back it is, from 1 for the last token.
    pub back: usize,
    /// The token.
    pub node: u32,
    /// Its part `μ_t n_i / N` of the probability of `node`.
    pub share: f64,
}

/// Keys of past nodes with the nodes that followed; the default remembers nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recall {
    settings: RecallSettings,
    /// Index of the oldest entry: the next one replaces it once the window is full.
    oldest: usize,
    /// `[n, D]`
    keys: Vec<f32>,
    /// `[n]`
    nodes: Vec<u32>,
}

impl Recall {
    /// Create an empty memory.
    ///
    /// # Errors
    /// As [`RecallSettings::check`].
    pub fn new(settings: RecallSettings) -> Result<Self> {
        Self::default().with_settings(settings)
    }

    /// Change the constants; as much as the new window holds stays remembered.
    ///
    /// # Errors
    /// As [`RecallSettings::check`].
    pub fn with_settings(mut self, settings: RecallSettings) -> Result<Self> {
        settings.check()?;
        let count = self.nodes.len();
        if settings.window != self.settings.window && count > 0 {
            // In the order of the text, the oldest first.
            let width = self.keys.len() / count;
            self.nodes.rotate_left(self.oldest);
            self.keys.rotate_left(self.oldest * width);
            let excess = count.saturating_sub(settings.window);
            self.nodes.drain(..excess);
            self.keys.drain(..excess * width);
            self.oldest = 0;
        }
        self.settings = settings;
        Ok(self)
    }

    /// The constants.
    pub fn settings(&self) -> &RecallSettings {
        &self.settings
    }

    /// Number of tokens remembered.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no token is remembered.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether tokens are remembered from now on.
    pub fn is_active(&self) -> bool {
        self.settings.window > 0
    }

    /// Whether nothing is remembered, now or later.
    pub(super) fn is_off(&self) -> bool {
        !self.is_active() && self.is_empty()
    }

    /// Bytes of what is remembered.
    pub(super) fn bytes(&self) -> usize {
        4 * (self.keys.len() + self.nodes.len())
    }

    /// Whether every number is finite.
    pub(super) fn is_finite(&self) -> bool {
        let settings = [self.settings.theta, self.settings.mu, self.settings.slope];
        let mut values = self.keys.iter().chain(&settings);
        values.all(|value| value.is_finite())
    }

    /// Whether constants and sizes are in range, for keys of `width` numbers and nodes below `nodes`.
    pub(super) fn fits(&self, nodes: u32, width: usize) -> bool {
        let (count, window) = (self.nodes.len(), self.settings.window);
        self.settings.check().is_ok()
            && count <= window
            && self.keys.len() == count * width
            && (self.oldest == 0 || self.oldest < count && count == window)
            && self.nodes.iter().all(|&node| node < nodes)
    }

    /// Remember that `node` followed a node with this key. `key [D]`
    pub fn remember(&mut self, key: &[f32], node: u32) {
        let window = self.settings.window;
        if self.nodes.len() < window {
            self.keys.extend_from_slice(key);
            self.nodes.push(node);
        } else if window > 0 {
            let index = self.oldest;
            self.keys[index * key.len()..(index + 1) * key.len()].copy_from_slice(key);
            self.nodes[index] = node;
            self.oldest = (index + 1) % window;
        }
    }

    /// Replace the model's distribution by its mixture with that of the remembered nodes. `key [D]`, `logits [V]`
    pub fn apply(&self, key: &[f32], logits: &mut [f32]) {
        let Some((weights, odds)) = self.weigh(key) else {
            return;
        };
        let mut recalled = vec![0.0f64; logits.len()];
        for (&node, weight) in self.nodes.iter().zip(weights) {
            recalled[node as usize] += weight;
        }
        // (1 − μ) p + μ r is proportional to e^y + e^(Z + odds) r, with Z = ln Σ e^y: only recalled logits change.
        let level = odds + softmax::softmax(&mut logits.to_vec());
        for (logit, weight) in logits.iter_mut().zip(recalled) {
            if weight > 0.0 {
                *logit = ln_add(f64::from(*logit), level + weight.ln()) as f32;
            }
        }
    }

    /// Return what each remembered token adds to the probabilities, the last token first. `key [D]`
    pub fn shares(&self, key: &[f32]) -> Vec<RecallShare> {
        let Some((weights, odds)) = self.weigh(key) else {
            return Vec::new();
        };
        let mu = 1.0 / (1.0 + (-odds).exp());
        let count = self.nodes.len();
        let newest_first = (1..=count).map(|back| (back, (self.oldest + count - back) % count));
        newest_first
            .map(|(back, index)| RecallShare {
                back,
                node: self.nodes[index],
                share: mu * weights[index],
            })
            .collect()
    }

    /// Compute `n_i / N` of every entry, and ln μ_t / (1 − μ_t); `None` where the model's distribution stays as it is.
    fn weigh(&self, key: &[f32]) -> Option<(Vec<f64>, f64)> {
        let mu = f64::from(self.settings.mu);
        if self.nodes.is_empty() || mu <= 0.0 {
            return None;
        }
        let mut weights = self.similarities(key);
        let ln_n = similar(&mut weights, f64::from(self.settings.theta));
        Some((weights, odds(mu, f64::from(self.settings.slope), ln_n)))
    }

    /// Return q·q_i − 1 of every entry, in no particular order. `key [D]`
    pub(crate) fn similarities(&self, key: &[f32]) -> Vec<f64> {
        let keys = self.keys.chunks_exact(key.len());
        keys.map(|other| f64::from(vector::dot(key, other)) - 1.0)
            .collect()
    }

    /// The nodes of all entries, in the order of [`Self::similarities`].
    pub(crate) fn nodes(&self) -> &[u32] {
        &self.nodes
    }
}

/// Turn q·q_i − 1 into `n_i / N` in place, and return ln N.
pub(crate) fn similar(similarities: &mut [f64], theta: f64) -> f64 {
    similarities.iter_mut().for_each(|value| *value *= theta);
    softmax::reference(similarities)
}

/// Return ln μ_t / (1 − μ_t).
fn odds(mu: f64, slope: f64, ln_n: f64) -> f64 {
    (mu / (1.0 - mu)).ln() + slope * ln_n
}

/// Return ln (e^a + e^b).
fn ln_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    high + (low - high).exp().ln_1p()
}
