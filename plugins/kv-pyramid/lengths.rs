//! The number of tokens that each layer sees.

use std::f64::consts::PI;

/// How a ratio falls from 1 at the first layer over the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Curve {
    Cosine,
    Linear,
    /// The last ratio everywhere, the first layer included.
    Constant,
}

impl Curve {
    /// Compute the ratio of a layer; the curve falls to `last`.
    pub fn ratio(self, last: f64, layer: usize, layers: usize) -> f64 {
        let depth = layer as f64 / layers.max(1) as f64;
        match self {
            Self::Cosine => last + (1.0 - last) * ((PI * depth).cos() + 1.0) / 2.0,
            Self::Linear => last + (1.0 - last) * (1.0 - depth),
            Self::Constant => last,
        }
    }
}

/// Count the rows at the end of a prompt whose queries choose and that are always kept: the recent ones and the last.
pub(crate) fn tail(recent: f64, prompt: usize) -> usize {
    ((prompt as f64 * recent) as usize + 1).min(prompt.max(1))
}

/// The rule by which the context shrinks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    pub recent: f64,
    pub ratio: f64,
    pub curve: Curve,
    pub minimum: usize,
    pub clamp: bool,
    pub interval: usize,
}

impl Lengths {
    /// Count the rows that continue to the next layer, of the `rows` that a layer saw.
    pub fn after(&self, layer: usize, layers: usize, prompt: usize, rows: usize) -> usize {
        let tail = tail(self.recent, prompt).min(rows);
        let context = rows - tail;
        let minimum = self.minimum.min(prompt - tail.min(prompt));
        let ratio = self.curve.ratio(self.ratio, layer, layers);
        if layer % self.interval != 0 || context <= minimum || ratio >= 1.0 {
            return rows;
        }
        let kept = (context as f64 * ratio) as usize;
        tail + if kept > minimum {
            kept
        } else if self.clamp {
            minimum
        } else {
            // As in the authors' code: a context that would fall below the minimum is not pruned.
            context
        }
    }

    /// Count the tokens of a prompt that each layer sees. `[L]`
    pub fn all(&self, layers: usize, prompt: usize) -> Vec<usize> {
        let mut rows = prompt;
        (0..layers)
            .map(|layer| {
                let seen = rows;
                rows = self.after(layer, layers, prompt, rows);
                seen
            })
            .collect()
    }

    /// Find the ratio for which the layers' mean held fraction of the prompt is nearest to `fraction`.
    ///
    /// The mean is not monotonic where a context reaches the minimum, so a grid of ratios is searched.
    pub fn solve(&self, layers: usize, prompt: usize, fraction: f64) -> f64 {
        let off = |ratio: f64| {
            let held: usize = Self { ratio, ..*self }.all(layers, prompt).iter().sum();
            (held as f64 / (layers * prompt).max(1) as f64 - fraction).abs()
        };
        let steps = 1000;
        let ratios = (0..=steps).map(|step| 1.0 - f64::from(step) / f64::from(steps));
        ratios
            .min_by(|&a, &b| off(a).total_cmp(&off(b)))
            .unwrap_or(self.ratio)
    }
}
