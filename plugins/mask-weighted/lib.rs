//! Weighted masking by tag (Yang, Zhang, Zhao, "Learning Better Masking for Better Language Model Pre-training", ACL
//! 2023: POS-tagging weighted masking): tags whose tokens the model still predicts badly are masked more often.

mod scores;

use brillm_plugin::{
    Answer, Host, MaskHook, MaskMoment, MaskOutcome, MaskSchedule, MaskTokens, Plugin, PluginError,
    Result, export,
};

use scores::Scores;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    tags: usize,
    memory: f64,
    corrected: bool,
    weigh: bool,
    schedule: Option<MaskSchedule>,
    ratio: f64,
}

struct Weighted {
    options: Options,
    scores: Scores,
}

impl Plugin for Weighted {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        let scores = Scores::new(options.tags, options.memory, options.corrected);
        Ok(Self { options, scores })
    }
}

impl Weighted {
    fn untagged(&self) -> PluginError {
        PluginError::new(
            "the run gives no tags: set network.mask-tags in the run file to a file of tags, or to deciles",
        )
    }
}

impl MaskHook for Weighted {
    fn ratio(&mut self, _: &mut Host, moment: &MaskMoment) -> Result<Option<f64>> {
        // The curve may end at 0, where no token would be masked and there would be no loss.
        Ok(self.options.schedule.map(|schedule| {
            schedule
                .ratio(self.options.ratio, moment.step, moment.steps)
                .clamp(0.01, 1.0)
        }))
    }

    fn weigh(&mut self, _: &mut Host, tokens: &MaskTokens, weights: &mut [f32]) -> Result<Answer> {
        if !self.options.weigh || weights.is_empty() {
            return Ok(Answer::Declined);
        }
        if tokens.tags.len() != weights.len() {
            return Err(self.untagged());
        }
        let of_tag = self.scores.weights();
        for (weight, &tag) in weights.iter_mut().zip(tokens.tags) {
            *weight = match tag {
                // Untagged tokens get the weight of a tag of mean difficulty.
                MaskTokens::UNTAGGED => 0.5,
                tag => *of_tag
                    .get(tag as usize)
                    .ok_or_else(|| self.scores.unknown(tag))? as f32,
            };
        }
        Ok(Answer::Given)
    }

    fn learn(&mut self, _: &mut Host, outcome: &MaskOutcome) -> Result<()> {
        if outcome.losses.is_empty() || !self.options.weigh {
            return Ok(());
        }
        if outcome.tags.len() != outcome.losses.len() {
            return Err(self.untagged());
        }
        self.scores.learn(outcome.tags, outcome.losses)
    }

    fn save(&mut self, _: &mut Host) -> Result<Vec<u8>> {
        Ok(self.scores.save())
    }

    fn restore(&mut self, _: &mut Host, state: &[u8]) -> Result<()> {
        self.scores.restore(state)
    }
}

export! {
    Weighted {
        id: "org.brillm.mask-weighted",
        about: "Mask tags that are still predicted badly more often (weighted masking).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "tags": {"type": "integer", "minimum": 2, "maximum": 65536, "default": 17,
                "description": "number of tags; 17 for universal parts of speech"},
            "memory": {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": 0.999,
                "description": "decay of a tag's running mean per step"},
            "corrected": {"type": "boolean", "default": false,
                "description": "correct the running means for their start at 0, so that rare tags do not look easy"},
            "weigh": {"type": "boolean", "default": true,
                "description": "weigh by tag; false weighs all tokens equally, as a control"},
            "schedule": {"enum": ["fixed", "linear", "cosine", "reversed", "square-above", "square-below", "peak",
                "valley", "warm-linear", "bend", "elliptical"],
                "description": "curve of the masking ratio, as in mask-decay [default: the recipe's ratio]"},
            "ratio": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.15,
                "description": "base ratio of the curve"}}}"#,
        hooks: [MaskHook],
    }
}
