//! How a masking ratio changes in the course of training: [`MaskSchedule`].

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// A curve of masking ratios over training, from a base ratio p; `x` is the share of the steps taken.
///
/// Formulas are those of the code published with "Learning Better Masking for Better Language Model Pre-training" (ACL 2023), except
/// the elliptical one, which a later paper (PoemBERT) gives beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskSchedule {
    /// p throughout: the control.
    Fixed,
    /// 2p (1 − x): masking ratio decay.
    Linear,
    /// p (1 + cos πx) + 0.02: masking ratio decay, never reaching zero.
    #[default]
    Cosine,
    /// 2p x: decay reversed, a control.
    Reversed,
    /// 2p (1 − x²) + 0.01.
    SquareAbove,
    /// 2p (x − 1)².
    SquareBelow,
    /// 0 to 2p at half time and back to 0.
    Peak,
    /// 2p to 0 at half time and back, plus 0.01.
    Valley,
    /// Up to 2p in the first 8 % of the steps (80,000 of a million), then straight down to 0.
    WarmLinear,
    /// 0.2 + 0.1 cos(πx / 0.4) up to x = 0.4, then 0.1 − (0.5 (x − 0.4))²; knows no p.
    Bend,
    /// 2p √(1 − 3x²) up to half time, then 2p (1 − √(1 − 3(1 − x)²)).
    Elliptical,
}

impl MaskSchedule {
    /// Share of the steps in which [`Self::WarmLinear`] rises.
    const WARM: f64 = 0.08;

    /// The ratio after `step` of `steps` steps with base ratio `base`, not limited in any way.
    ///
    /// ```
    /// use brillm_plugin::MaskSchedule;
    /// assert!((MaskSchedule::Linear.ratio(0.15, 1, 4) - 0.225).abs() < 1e-9);
    /// ```
    pub fn ratio(self, base: f64, step: u64, steps: u64) -> f64 {
        let x = (step as f64 / steps.max(1) as f64).min(1.0);
        let twice = 2.0 * base;
        match self {
            Self::Fixed => base,
            Self::Linear => twice * (1.0 - x),
            Self::Cosine => base * (1.0 + (PI * x).cos()) + 0.02,
            Self::Reversed => twice * x,
            Self::SquareAbove => twice + 0.01 - twice * x * x,
            Self::SquareBelow => twice * (x - 1.0) * (x - 1.0),
            Self::Peak => twice * (1.0 - (2.0 * x - 1.0).abs()),
            Self::Valley => twice * (2.0 * x - 1.0).abs() + 0.01,
            Self::WarmLinear if x < Self::WARM => twice * x / Self::WARM,
            Self::WarmLinear => twice * (1.0 - x) / (1.0 - Self::WARM),
            Self::Bend if x < 0.4 => 0.2 + 0.1 * (PI * x / 0.4).cos(),
            Self::Bend => 0.1 - (0.5 * (x - 0.4)).powi(2),
            Self::Elliptical if x <= 0.5 => twice * (1.0 - 3.0 * x * x).sqrt(),
            Self::Elliptical => twice * (1.0 - (1.0 - 3.0 * (1.0 - x) * (1.0 - x)).sqrt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_have_the_published_values() {
        // At x = 0, .25, .5, .75, 1 with p = .15.
        for (schedule, golden) in [
            (MaskSchedule::Fixed, [0.15; 5]),
            (MaskSchedule::Linear, [0.300, 0.225, 0.150, 0.075, 0.0]),
            (
                MaskSchedule::Cosine,
                [0.320, 0.27607, 0.170, 0.06393, 0.020],
            ),
            (MaskSchedule::Reversed, [0.0, 0.075, 0.150, 0.225, 0.300]),
            (
                MaskSchedule::SquareAbove,
                [0.31, 0.29125, 0.235, 0.14125, 0.01],
            ),
            (
                MaskSchedule::SquareBelow,
                [0.3, 0.16875, 0.075, 0.01875, 0.0],
            ),
            (MaskSchedule::Peak, [0.0, 0.15, 0.3, 0.15, 0.0]),
            (MaskSchedule::Valley, [0.31, 0.16, 0.01, 0.16, 0.31]),
            (
                MaskSchedule::WarmLinear,
                [0.0, 0.244565, 0.163043, 0.081522, 0.0],
            ),
            (MaskSchedule::Bend, [0.3, 0.161732, 0.0975, 0.069375, 0.01]),
            (
                MaskSchedule::Elliptical,
                [0.3, 0.270416, 0.15, 0.029584, 0.0],
            ),
        ] {
            for (quarter, golden) in golden.into_iter().enumerate() {
                let ratio = schedule.ratio(0.15, quarter as u64, 4);
                assert!(
                    (ratio - golden).abs() < 1e-5,
                    "{schedule:?} {quarter}: {ratio}"
                );
            }
        }
    }

    #[test]
    fn runs_without_steps_are_at_their_beginning() {
        assert_eq!(MaskSchedule::Linear.ratio(0.15, 0, 0), 0.3);
        assert_eq!(MaskSchedule::Linear.ratio(0.15, 9, 4), 0.0);
    }
}
