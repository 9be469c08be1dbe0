//! Masking ratio decay (Yang, Zhang, Zhao, "Learning Better Masking for Better Language Model Pre-training", ACL 2023):
//! the fraction of tokens that masked training hides falls during training.

use brillm_plugin::{Host, MaskHook, MaskMoment, MaskSchedule, Plugin, Result, export};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    schedule: MaskSchedule,
    ratio: f64,
    minimum: f64,
}

struct Decay(Options);

impl Plugin for Decay {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        Ok(Self(options))
    }
}

impl Decay {
    fn at(&self, step: u64, steps: u64) -> f64 {
        let ratio = self.0.schedule.ratio(self.0.ratio, step, steps);
        // A ratio of 0 masks nothing and gives no loss; a ratio above 1 is not defined.
        ratio.clamp(self.0.minimum, 1.0)
    }
}

impl MaskHook for Decay {
    fn ratio(&mut self, _: &mut Host, moment: &MaskMoment) -> Result<Option<f64>> {
        Ok(Some(self.at(moment.step, moment.steps)))
    }
}

export! {
    Decay {
        id: "org.brillm.mask-decay",
        about: "Hides fewer tokens as masked training proceeds (masking ratio decay).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "schedule": {"enum": ["fixed", "linear", "cosine", "reversed", "square-above", "square-below", "peak",
                "valley", "warm-linear", "bend", "elliptical"], "default": "cosine",
                "description": "curve of the ratio over the steps; fixed and reversed are controls"},
            "ratio": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.15,
                "description": "base ratio p: decay begins near 2p"},
            "minimum": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.01,
                "description": "lower bound of the ratio"}}}"#,
        hooks: [MaskHook],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_follow_the_curve_within_limits() {
        let decay = |schedule, ratio| {
            Decay(Options {
                schedule,
                ratio,
                minimum: 0.01,
            })
        };
        for (schedule, ratio, golden) in [
            (
                MaskSchedule::Linear,
                0.15,
                [0.300, 0.225, 0.150, 0.075, 0.01],
            ),
            (
                MaskSchedule::Cosine,
                0.15,
                [0.320, 0.27607, 0.170, 0.06393, 0.020],
            ),
            (MaskSchedule::Fixed, 0.30, [0.30; 5]),
            (
                MaskSchedule::Reversed,
                0.15,
                [0.01, 0.075, 0.150, 0.225, 0.300],
            ),
            (MaskSchedule::Linear, 0.8, [1.0, 1.0, 0.8, 0.4, 0.01]),
        ] {
            for (quarter, golden) in golden.into_iter().enumerate() {
                let ratio = decay(schedule, ratio).at(250 * quarter as u64, 1000);
                assert!(
                    (ratio - golden).abs() < 1e-5,
                    "{schedule:?} {quarter}: {ratio}"
                );
            }
        }
    }
}
