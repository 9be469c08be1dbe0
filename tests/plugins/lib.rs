//! Plugins for tests: one for each hook, one that declines every question, and one that misbehaves on demand.

use brillm_plugin::{
    Activations, Answer, Canvas, CodecAxis, CodecFormat, CodecHook, CodecQuestion, CorpusHook,
    Direction, Distance, EdgeHook, Eviction, Fan, Fill, Hop, Host, HostReference, HostTrial,
    KeepHook, KeepQuestion, KvShape, MaskHook, MaskMoment, MaskOutcome, MaskTokens, OrderHook,
    PathHook, PlanHook, Planned, Plugin, PluginError, ProbeHook, Prompt, Records, Result,
    SampleHook, Setting, ShaderSource, SignalHook, Step, Tap, export, highest,
};
use serde::Deserialize;
use serde_json::{Value, json};

mod faulty;

use faulty::{Faulty, HALF, Half};

/// Declines every question.
struct Decline;

impl Plugin for Decline {
    type Options = serde::de::IgnoredAny;
    fn create(_: Self::Options) -> Result<Self> {
        Ok(Self)
    }
}

impl EdgeHook for Decline {
    fn resist(&mut self, _: &mut Host, _: &Fan, resistance: &mut [f32]) -> Result<Answer> {
        // What is written beside a refusal does not count.
        resistance.fill(7.0);
        Ok(Answer::Declined)
    }
}

impl SignalHook for Decline {
    fn start(&mut self, _: &mut Host, _: &[u32], signal: &mut [f32]) -> Result<Answer> {
        signal.fill(7.0);
        Ok(Answer::Declined)
    }
}

impl PathHook for Decline {
    const RANK: bool = false;
    fn hop(&mut self, _: &mut Host, _: &Hop) -> Result<()> {
        Ok(())
    }
}

impl SampleHook for Decline {
    const PROMPT: bool = true;
    const STEP: bool = true;
    const CHOOSE: bool = true;
    fn step(
        &mut self,
        _: &mut Host,
        _: &Step,
        logits: &mut [f32],
        setting: &mut Setting,
    ) -> Result<Answer> {
        logits.fill(0.0);
        setting.temperature = Some(9.0);
        Ok(Answer::Declined)
    }
}

impl OrderHook for Decline {
    fn next(&mut self, _: &mut Host, _: &Canvas) -> Result<Option<Fill>> {
        Ok(None)
    }
}

impl MaskHook for Decline {}

impl ProbeHook for Decline {
    fn taps(&self) -> Vec<Tap> {
        Vec::new()
    }
    fn see(&mut self, _: &mut Host, _: &Activations) -> Result<()> {
        Ok(())
    }
    fn report(&mut self, _: &mut Host) -> Result<Option<Value>> {
        Ok(None)
    }
}

impl PlanHook for Decline {
    fn plan(
        &mut self,
        _: &mut Host,
        _: &KvShape,
        _: Option<HostTrial>,
        storage: Planned,
    ) -> Result<Answer> {
        storage.source.fill(9);
        Ok(Answer::Declined)
    }
}

impl KeepHook for Decline {
    fn keep(&mut self, _: &mut Host, _: &KeepQuestion) -> Result<Option<Eviction>> {
        Ok(None)
    }
}

impl CodecHook for Decline {
    fn plan(&mut self, _: &mut Host, _: &CodecQuestion) -> Result<Option<CodecFormat>> {
        Ok(None)
    }
}

/// The same without order/1, which changes what a command does even when nobody has an opinion.
struct Quiet(Decline);

impl Plugin for Quiet {
    type Options = serde::de::IgnoredAny;
    fn create(_: Self::Options) -> Result<Self> {
        Ok(Self(Decline))
    }
}

impl EdgeHook for Quiet {
    fn resist(&mut self, host: &mut Host, fan: &Fan, resistance: &mut [f32]) -> Result<Answer> {
        let _ = (host, fan, resistance, &self.0);
        Ok(Answer::Declined)
    }
}

impl SampleHook for Quiet {
    const STEP: bool = true;
}

/// Makes the way to one node free, and starts signals with all numbers alike.
struct Steer(SteerOptions);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SteerOptions {
    to: u32,
    bonus: f32,
    start: Option<f32>,
}

impl Plugin for Steer {
    type Options = SteerOptions;
    fn create(options: SteerOptions) -> Result<Self> {
        Ok(Self(options))
    }
}

impl EdgeHook for Steer {
    fn resist(&mut self, _: &mut Host, _: &Fan, resistance: &mut [f32]) -> Result<Answer> {
        match resistance.get_mut(self.0.to as usize) {
            Some(to) if self.0.bonus != 0.0 => {
                *to -= self.0.bonus;
                Ok(Answer::Given)
            }
            _ => Ok(Answer::Declined),
        }
    }
}

impl SignalHook for Steer {
    fn start(&mut self, _: &mut Host, _: &[u32], signal: &mut [f32]) -> Result<Answer> {
        match self.0.start {
            Some(value) => {
                signal.fill(value);
                Ok(Answer::Given)
            }
            None => Ok(Answer::Declined),
        }
    }
}

/// Watches a path and looks at its taps.
#[derive(Default)]
struct Watch {
    hops: Vec<(u32, u32, Option<u64>)>,
    least: Option<f64>,
    signals: u64,
    energies: u64,
    width: usize,
}

impl Plugin for Watch {
    type Options = serde::de::IgnoredAny;
    fn create(_: Self::Options) -> Result<Self> {
        Ok(Self::default())
    }
}

impl PathHook for Watch {
    fn hop(&mut self, _: &mut Host, hop: &Hop) -> Result<()> {
        self.hops.push((hop.source, hop.target, hop.rank));
        if hop.rank.is_some() {
            self.least = Some(
                self.least
                    .map_or(hop.resistance, |least| least.min(hop.resistance)),
            );
        }
        Ok(())
    }
}

impl ProbeHook for Watch {
    fn taps(&self) -> Vec<Tap> {
        vec![Tap::Signal, Tap::Energy]
    }

    fn see(&mut self, _: &mut Host, activations: &Activations) -> Result<()> {
        match activations.tap {
            Tap::Signal => self.signals += 1,
            _ => self.energies += 1,
        }
        self.width = self.width.max(activations.values.len());
        Ok(())
    }

    fn report(&mut self, _: &mut Host) -> Result<Option<Value>> {
        Ok(Some(json!({
            "hops": self.hops,
            "least_resistance": self.least,
            "signals": self.signals,
            "energies": self.energies,
            "width": self.width,
        })))
    }
}

/// A temperature for each prompt, and a choice by the host's random numbers.
struct Choose(ChooseOptions);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChooseOptions {
    temperature: Option<f32>,
    uniform: bool,
    hidden: bool,
}

impl Plugin for Choose {
    type Options = ChooseOptions;
    fn create(options: ChooseOptions) -> Result<Self> {
        Ok(Self(options))
    }
}

impl SampleHook for Choose {
    const PROMPT: bool = true;
    const STEP: bool = true;
    const CHOOSE: bool = true;
    const HIDDEN: bool = true;
    const HISTORY: bool = true;

    fn prompt(&mut self, _: &mut Host, prompt: &Prompt) -> Result<Setting> {
        if self.0.hidden && (prompt.pooled.is_empty() || prompt.hidden.len() != prompt.pooled.len())
        {
            return Err(PluginError::new("the hidden states are not there"));
        }
        Ok(Setting {
            temperature: self.0.temperature,
        })
    }

    fn step(
        &mut self,
        _: &mut Host,
        step: &Step,
        _: &mut [f32],
        _: &mut Setting,
    ) -> Result<Answer> {
        if self.0.hidden && step.history.last() != Some(&step.token) {
            return Err(PluginError::new(
                "the history does not end with the current token",
            ));
        }
        Ok(Answer::Declined)
    }

    fn choose(&mut self, host: &mut Host, _: &Step, probabilities: &[f32]) -> Result<Option<u32>> {
        if !self.0.uniform {
            return Ok(None);
        }
        let left: Vec<u32> = (0..probabilities.len() as u32)
            .filter(|&token| probabilities[token as usize] > 0.0)
            .collect();
        Ok(left
            .get((host.random() % left.len().max(1) as u64) as usize)
            .copied())
    }
}

/// Grows a text to the left and to the right in turn.
struct Outward;

impl Plugin for Outward {
    type Options = serde::de::IgnoredAny;
    fn create(_: Self::Options) -> Result<Self> {
        Ok(Self)
    }
}

impl OrderHook for Outward {
    fn next(&mut self, host: &mut Host, canvas: &Canvas) -> Result<Option<Fill>> {
        if host.step % 2 == 1 || canvas.left == 0 || canvas.left_resistance.is_nan() {
            return Ok(None);
        }
        Ok(Some(Fill {
            position: canvas.left - 1,
            direction: Direction::Backward,
        }))
    }
}

/// One record a reference: how it begins, and how the model goes on.
struct Pairs;

impl Plugin for Pairs {
    type Options = serde::de::IgnoredAny;
    fn create(_: Self::Options) -> Result<Self> {
        Ok(Self)
    }
}

impl CorpusHook for Pairs {
    fn write(
        &mut self,
        _: &mut Host,
        reference: &HostReference,
        records: &mut Records,
    ) -> Result<()> {
        let begin: String = reference.text.chars().take(20).collect();
        let answer = if reference.has_model() && !begin.is_empty() {
            Some(reference.generate(&begin, 5)?)
        } else {
            None
        };
        records.add(&json!({"reference": reference.id, "begin": begin, "answer": answer}))
    }
}

/// The questions about memory and masks.
struct Memory {
    losses: f64,
    told: u64,
}

impl Plugin for Memory {
    type Options = serde::de::IgnoredAny;
    fn create(_: Self::Options) -> Result<Self> {
        Ok(Self {
            losses: 0.0,
            told: 0,
        })
    }
}

impl PlanHook for Memory {
    const TRIAL: bool = true;

    /// Has the layer most distant from layer 0 read it, when that leaves the model like itself.
    fn plan(
        &mut self,
        _: &mut Host,
        question: &KvShape,
        trial: Option<HostTrial>,
        storage: Planned,
    ) -> Result<Answer> {
        let Some(mut trial) = trial else {
            return Ok(Answer::Declined);
        };
        let (keys, values) = trial.distances(Distance::MeanOfNorms)?;
        let distance =
            |layer: usize| keys[layer * question.layers] + values[layer * question.layers];
        let Some(far) = (1..question.layers).max_by(|&a, &b| distance(a).total_cmp(&distance(b)))
        else {
            return Ok(Answer::Declined);
        };
        storage.source[far] = 0;
        if trial.similarity(storage.source)? < 0.5 {
            return Ok(Answer::Declined);
        }
        storage.storage.fill(16);
        Ok(Answer::Given)
    }
}

impl KeepHook for Memory {
    fn begin(&mut self, _: &mut Host, prompt: usize) -> Result<brillm_plugin::KeepNeeds> {
        Ok(brillm_plugin::KeepNeeds {
            column: (prompt > 4).then_some(brillm_plugin::ColumnSum {
                window: prompt / 4,
                oldest: 1.0,
                newest: 1.2,
                heads: brillm_plugin::HeadReduction::GroupMean,
            }),
            accumulated: true,
            key_norm: false,
        })
    }

    /// Each head keeps its heavier half; every second row of the stream goes on.
    fn keep(&mut self, _: &mut Host, question: &KeepQuestion) -> Result<Option<Eviction>> {
        let slots = question.slots();
        let half = slots.div_ceil(2);
        if half == 0 || question.accumulated.len() != question.heads * slots {
            return Ok(None);
        }
        let lists = question
            .accumulated
            .chunks(slots)
            .map(|weights| {
                let (newest, older) = (slots - 1, &weights[..slots - 1]);
                let mut order = highest(older, half - 1);
                order.push(newest as u32);
                order
            })
            .collect();
        let rows = question.stream.len() as u32;
        let stream = (rows > 0).then(|| {
            (0..rows)
                .filter(|row| row % 2 == 0 || row + 1 == rows)
                .collect()
        });
        Ok(Some(Eviction {
            slots: Some(lists),
            stream,
            next_check: Some(half as u64 + 8),
        }))
    }
}

impl CodecHook for Memory {
    fn plan(&mut self, _: &mut Host, question: &CodecQuestion) -> Result<Option<CodecFormat>> {
        let axis = if question.side == brillm_plugin::CodecSide::Key {
            CodecAxis::Channel
        } else {
            CodecAxis::Token
        };
        Ok(Some(CodecFormat {
            bits: 4,
            group: 32,
            axis,
            residual: 32,
        }))
    }
}

impl MaskHook for Memory {
    fn ratio(&mut self, _: &mut Host, moment: &MaskMoment) -> Result<Option<f64>> {
        Ok(Some(
            0.3 * (1.0 - moment.step as f64 / moment.steps.max(1) as f64),
        ))
    }

    fn weigh(&mut self, _: &mut Host, tokens: &MaskTokens, weights: &mut [f32]) -> Result<Answer> {
        for (weight, &token) in weights.iter_mut().zip(tokens.tokens) {
            *weight = 1.0 / (1.0 + token as f32);
        }
        Ok(Answer::Given)
    }

    fn learn(&mut self, _: &mut Host, outcome: &MaskOutcome) -> Result<()> {
        self.losses += outcome
            .losses
            .iter()
            .filter(|loss| loss.is_finite())
            .map(|&loss| f64::from(loss))
            .sum::<f64>();
        self.told += outcome.losses.len() as u64;
        Ok(())
    }

    fn save(&mut self, _: &mut Host) -> Result<Vec<u8>> {
        let mut state = self.losses.to_le_bytes().to_vec();
        state.extend(self.told.to_le_bytes());
        Ok(state)
    }

    fn restore(&mut self, _: &mut Host, state: &[u8]) -> Result<()> {
        let (Some(Ok(losses)), Some(Ok(told))) = (
            state.get(..8).map(<[u8; 8]>::try_from),
            state.get(8..16).map(<[u8; 8]>::try_from),
        ) else {
            return Err(PluginError::state("16 bytes are expected"));
        };
        self.losses = f64::from_le_bytes(losses);
        self.told = u64::from_le_bytes(told);
        Ok(())
    }
}

export! {
    Decline {
        id: "org.brillm.test.decline",
        about: "Has no opinion about anything.",
        license: "MIT OR Apache-2.0",
        schema: "",
        hooks: [PlanHook, KeepHook, CodecHook, SampleHook, OrderHook, MaskHook, ProbeHook, EdgeHook, SignalHook, PathHook],
    }
    Quiet {
        id: "org.brillm.test.quiet",
        about: "Has no opinion about edges and samples.",
        license: "MIT OR Apache-2.0",
        schema: "",
        hooks: [SampleHook, EdgeHook],
    }
    Steer {
        id: "org.brillm.test.steer",
        about: "Makes the way to one node easier, and sets the start.",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "properties": {
            "to": {"type": "integer", "minimum": 0, "default": 0},
            "bonus": {"type": "number", "default": 0},
            "start": {"type": "number"}}}"#,
        hooks: [EdgeHook, SignalHook],
    }
    Watch {
        id: "org.brillm.test.watch",
        about: "Counts hops and looks at signals and energies.",
        license: "MIT OR Apache-2.0",
        schema: "",
        hooks: [PathHook, ProbeHook],
    }
    Choose {
        id: "org.brillm.test.choose",
        about: "Sets a temperature for each prompt, and may choose by itself.",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "properties": {
            "temperature": {"type": "number", "minimum": 0},
            "uniform": {"type": "boolean", "default": false},
            "hidden": {"type": "boolean", "default": false}}}"#,
        hooks: [SampleHook],
    }
    Outward {
        id: "org.brillm.test.outward",
        about: "Grows a text on both sides in turn.",
        license: "MIT OR Apache-2.0",
        schema: "",
        hooks: [OrderHook],
    }
    Pairs {
        id: "org.brillm.test.pairs",
        about: "Makes one record of each reference.",
        license: "MIT OR Apache-2.0",
        schema: "",
        hooks: [CorpusHook],
    }
    Memory {
        id: "org.brillm.test.memory",
        about: "Answers what is asked about caches and masks.",
        license: "MIT OR Apache-2.0",
        schema: "",
        hooks: [PlanHook, KeepHook, CodecHook, MaskHook],
    }
    Half {
        id: "org.brillm.test.half",
        about: "Halves resistances, also as a shader.",
        license: "MIT OR Apache-2.0",
        schema: "",
        hooks: [EdgeHook],
        shaders: [HALF],
    }
    Faulty {
        id: "org.brillm.test.faulty",
        about: "Misbehaves on demand.",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "properties": {
            "mode": {"type": "string", "default": "none"},
            "after": {"type": "integer", "minimum": 0, "default": 0}}}"#,
        hooks: [EdgeHook],
    }
}
