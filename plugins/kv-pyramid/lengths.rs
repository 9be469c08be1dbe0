//! How many tokens each layer sees.

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
    /// The ratio of a layer, where `last` is what the curve falls to.
    pub fn ratio(self, last: f64, layer: usize, layers: usize) -> f64 {
        let depth = layer as f64 / layers.max(1) as f64;
        match self {
            Self::Cosine => last + (1.0 - last) * ((PI * depth).cos() + 1.0) / 2.0,
            Self::Linear => last + (1.0 - last) * (1.0 - depth),
            Self::Constant => last,
        }
    }
}

/// Rows at the end of a prompt that choose and always go on: the recent ones and the last.
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
    /// How many of the `rows` that a layer saw go on to the next.
    pub fn after(&self, layer: usize, layers: usize, prompt: usize, rows: usize) -> usize {
        let tail = tail(self.recent, prompt).min(rows);
        let context = rows - tail;
        let minimum = self.minimum.min(prompt - tail.min(prompt));
        let ratio = self.curve.ratio(self.ratio, layer, layers);
        if layer % self.interval != 0 || context <= minimum || ratio >= 1.0 {
            return rows;
        }
        let eviction = (context as f64 * ratio) as usize;
        tail + match eviction > minimum {
            true => eviction,
            false if self.clamp => minimum,
            // As the authors' code has it: what would fall below the minimum stays as it is.
            false => context,
        }
    }

    /// Tokens of a prompt that each layer sees. `[L]`
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

    /// The ratio with which layers hold `share` of the prompt in the mean, as nearly as one does.
    ///
    /// The mean does not fall evenly where a context reaches the minimum, so the best of many ratios is taken.
    pub fn solve(&self, layers: usize, prompt: usize, share: f64) -> f64 {
        let off = |ratio: f64| {
            let held: usize = Self { ratio, ..*self }.all(layers, prompt).iter().sum();
            (held as f64 / (layers * prompt).max(1) as f64 - share).abs()
        };
        let steps = 1000;
        let ratios = (0..=steps).map(|step| 1.0 - f64::from(step) / f64::from(steps));
        ratios
            .min_by(|&a, &b| off(a).total_cmp(&off(b)))
            .unwrap_or(self.ratio)
    }
}
