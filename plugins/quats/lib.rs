//! A temperature per question: low for determinate answers, high for open ones.
//!
//! A reconstruction of QuATS (Yang, Zhao, "Are LLMs Aware that Some Questions are not Open-ended?", EMNLP 2024 Findings), from
//! the paper's abstract and reviews; the formula of the temperature and the shape of the module are ours, so it is not the
//! original. Alternatives for comparison: EDT (arXiv 2403.14541), min-p (arXiv 2407.01082) and a fixed temperature.

mod answers;
mod distribution;
mod head;
mod learning;
mod questions;

use std::path::Path;

use brillm_plugin::{
    Activations, Host, Plugin, PluginError, ProbeHook, Prompt, Result, SampleHook, Setting, Step,
    Tap, export,
};
use serde_json::{Value, json};

use answers::{Answer, Answers};
use distribution::Distribution;
use head::{Head, Training};
use learning::Example;
use questions::Question;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Quats,
    Edt,
    MinP,
    Fixed,
}

/// The estimator of a question's determinacy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Judge {
    Head,
    Entropy,
    Random,
    Oracle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Features {
    Pooled,
    Hidden,
    Logits,
    All,
}

impl Features {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Pooled, "pooled"),
        (Self::Hidden, "hidden"),
        (Self::Logits, "scores"),
        (Self::All, "all"),
    ];

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(features, _)| *features == self)
            .map_or("all", |(_, name)| name)
    }

    fn named(name: &str) -> Result<Self> {
        Self::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(features, _)| *features)
            .ok_or_else(|| {
                PluginError::option(format!(
                    "unknown features {name:?} in the head: expected pooled, hidden, scores or all"
                ))
            })
    }

    /// Compute a head's input for a prompt: hidden states with mean 0 and deviation 1, and the model-free features.
    fn of(self, prompt: &Prompt, first: &Distribution) -> Result<Vec<f32>> {
        let mut row = Vec::new();
        if matches!(self, Self::Pooled | Self::All) {
            row.extend(normalise(prompt.pooled));
        }
        if matches!(self, Self::Hidden | Self::All) {
            row.extend(normalise(prompt.hidden));
        }
        if matches!(self, Self::Logits | Self::All) {
            row.extend(first.features());
        }
        if row.iter().all(|number| number.is_finite()) && !row.is_empty() {
            Ok(row)
        } else {
            Err(PluginError::new(
                "the prompt's hidden states are missing or not finite",
            ))
        }
    }
}

/// Layer normalisation; gain and bias would be absorbed by the linear layer that follows.
fn normalise(hidden: &[f32]) -> Vec<f32> {
    let count = hidden.len().max(1) as f32;
    let mean = hidden.iter().sum::<f32>() / count;
    let squares: f32 = hidden.iter().map(|x| (x - mean) * (x - mean)).sum();
    let scale = 1.0 / (squares / count + 1e-5).sqrt();
    hidden.iter().map(|x| (x - mean) * scale).collect()
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Options {
    mode: Mode,
    judge: Option<Judge>,
    head: Option<String>,
    low: f64,
    high: f64,
    temperature: f64,
    edt_base: f64,
    edt_theta: f64,
    min_p: f64,
    questions: Option<String>,
    learn: bool,
    features: Features,
    hidden: usize,
    epochs: usize,
    rate: f64,
    decay: f64,
    batch: usize,
    held_out: f64,
    log: Option<String>,
}

/// The lowest temperature that EDT sets.
const FLOOR: f64 = 0.05;

struct Quats {
    options: Options,
    judge: Judge,
    head: Option<(Head, Features)>,
    questions: Vec<Question>,
    examples: Vec<Example>,
    answers: Answers,
}

impl Plugin for Quats {
    type Options = Options;

    fn create(options: Options) -> Result<Self> {
        let questions = match &options.questions {
            Some(path) => questions::read(Path::new(path))?,
            None => Vec::new(),
        };
        let judge = options.judge.unwrap_or(match options.head {
            Some(_) => Judge::Head,
            None => Judge::Entropy,
        });
        let head = match (&options.head, options.learn) {
            (None, true) => {
                return Err(PluginError::option(
                    "learn=true needs the option head: the file to write",
                ));
            }
            (Some(path), false) if judge == Judge::Head => {
                let head = Head::open(Path::new(path))?;
                let features = Features::named(&head.features)?;
                Some((head, features))
            }
            (None, false) if judge == Judge::Head && options.mode == Mode::Quats => {
                return Err(PluginError::option(
                    "judge=head needs the option head: a file written with learn=true",
                ));
            }
            _ => None,
        };
        if questions.is_empty() && (options.learn || judge == Judge::Oracle) {
            return Err(PluginError::option(
                "learn=true and judge=oracle need the option questions: a file with labels",
            ));
        }
        if options.low > options.high {
            return Err(PluginError::option("low is above high"));
        }
        Ok(Self {
            answers: Answers::new(options.log.as_deref())?,
            examples: Vec::new(),
            options,
            judge,
            head,
            questions,
        })
    }
}

/// T = high^(1 − det) · low^det.
fn between(low: f64, high: f64, determinacy: f64) -> f64 {
    high.powf(1.0 - determinacy) * low.powf(determinacy)
}

/// EDT: T = T₀ · N^(θ / H), not below a floor.
fn edt(temperature: f64, base: f64, theta: f64, entropy: f64) -> f64 {
    let exponent = theta / entropy.max(f64::MIN_POSITIVE);
    (temperature * base.powf(exponent)).max(FLOOR.min(temperature))
}

/// Apply min-p: exclude tokens less than `fraction` times as probable as the most probable, at a temperature.
fn truncate(logits: &mut [f32], fraction: f64, temperature: f64) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let least = f64::from(most) + fraction.ln() * temperature.max(0.0);
    for logit in logits {
        if f64::from(*logit) < least {
            *logit = f32::NEG_INFINITY;
        }
    }
}

impl Quats {
    fn question(&self, sequence: u64) -> Option<&Question> {
        usize::try_from(sequence)
            .ok()
            .and_then(|at| self.questions.get(at))
    }

    fn determinacy(&self, host: &mut Host, prompt: &Prompt, first: &Distribution) -> Result<f64> {
        match (self.judge, &self.head) {
            (Judge::Head, Some((head, features))) => head.determinacy(&features.of(prompt, first)?),
            (Judge::Random, _) => Ok(host.uniform()),
            (Judge::Oracle, _) => self
                .question(host.sequence)
                .and_then(|question| question.determinacy)
                .map(f64::from)
                .ok_or_else(|| {
                    PluginError::new(format!(
                        "the questions have no label for sequence {}",
                        host.sequence
                    ))
                }),
            _ => Ok(1.0 - first.normalised_entropy()),
        }
    }

    fn collect(&mut self, sequence: u64, prompt: &Prompt, first: &Distribution) -> Result<()> {
        if self.question(sequence).is_none() {
            return Err(PluginError::new(format!(
                "sequence {sequence} is not one of the {} questions: probe the file that the option questions names",
                self.questions.len()
            )));
        }
        self.examples.push(Example {
            question: sequence as usize,
            features: self.options.features.of(prompt, first)?,
            entropy: first.normalised_entropy(),
        });
        Ok(())
    }
}

impl SampleHook for Quats {
    const PROMPT: bool = true;
    const STEP: bool = true;
    const HIDDEN: bool = true;

    fn prompt(&mut self, host: &mut Host, prompt: &Prompt) -> Result<Setting> {
        let Some(first) = Distribution::of(prompt.logits)? else {
            return Ok(Setting::default());
        };
        let mut answer = Answer::default();
        if self.options.learn {
            self.collect(host.sequence, prompt, &first)?;
        } else {
            match self.options.mode {
                Mode::Quats => {
                    let determinacy = self.determinacy(host, prompt, &first)?;
                    let (low, high) = (self.options.low, self.options.high);
                    answer.determinacy = Some(determinacy);
                    answer.temperature = Some(between(low, high, determinacy));
                }
                Mode::MinP | Mode::Fixed => answer.temperature = Some(self.options.temperature),
                Mode::Edt => {}
            }
        }
        let temperature = answer.temperature.map(|temperature| temperature as f32);
        self.answers.begin(host.sequence, answer);
        Ok(Setting { temperature })
    }

    fn step(
        &mut self,
        host: &mut Host,
        step: &Step,
        logits: &mut [f32],
        setting: &mut Setting,
    ) -> Result<brillm_plugin::Answer> {
        let Some(seen) = Distribution::of(logits)? else {
            return Ok(brillm_plugin::Answer::Declined);
        };
        let options = &self.options;
        let mut temperature = None;
        let mut answer = brillm_plugin::Answer::Declined;
        if !options.learn {
            match options.mode {
                Mode::Edt => {
                    let (base, theta) = (options.edt_base, options.edt_theta);
                    let chosen = edt(options.temperature, base, theta, seen.entropy);
                    temperature = Some(chosen);
                    setting.temperature = Some(chosen as f32);
                    answer = brillm_plugin::Answer::Given;
                }
                Mode::MinP => {
                    truncate(logits, options.min_p, options.temperature);
                    answer = brillm_plugin::Answer::Given;
                }
                Mode::Quats | Mode::Fixed => {}
            }
        }
        self.answers.step(
            host.sequence,
            step.generated,
            step.token,
            &seen,
            temperature,
        )?;
        Ok(answer)
    }
}

impl ProbeHook for Quats {
    fn taps(&self) -> Vec<Tap> {
        Vec::new()
    }

    fn see(&mut self, _: &mut Host, _: &Activations) -> Result<()> {
        Ok(())
    }

    fn report(&mut self, host: &mut Host) -> Result<Option<Value>> {
        if self.answers.is_empty() {
            return Ok(None);
        }
        let options = &self.options;
        let mut report = self.answers.report(&self.questions);
        report["mode"] = json!(options.mode);
        if options.learn {
            let training = Training {
                hidden: options.hidden,
                epochs: options.epochs,
                rate: options.rate,
                decay: options.decay,
                batch: options.batch,
                seed: host.random(),
            };
            let path = Path::new(options.head.as_deref().unwrap_or_default());
            report["learned"] = learning::learn(
                &self.questions,
                &self.examples,
                options.features.name(),
                options.held_out,
                &training,
                path,
            )?;
        } else if options.mode == Mode::Quats {
            report["judge"] = json!(self.judge);
            report["head"] = json!(options.head);
        }
        Ok(Some(report))
    }
}

export! {
    Quats {
        id: "org.brillm.quats",
        about: "Set the temperature per question: low where the answer is determinate (QuATS reconstructed, EDT, min-p).",
        license: "MIT OR Apache-2.0",
        schema: r#"{"type": "object", "additionalProperties": false, "properties": {
            "mode": {"enum": ["quats", "edt", "min-p", "fixed"], "default": "quats",
                "description": "quats: a temperature per question; edt: per token, by entropy; min-p: truncation; fixed: one temperature"},
            "judge": {"enum": ["head", "entropy", "random", "oracle"],
                "description": "estimator of determinacy [default: head if one is given, else the entropy of the first logits]; random and oracle are controls"},
            "head": {"type": "string", "description": "file of the head; read, or written with learn"},
            "low": {"type": "number", "exclusiveMinimum": 0, "maximum": 100, "default": 0.2,
                "description": "temperature of a determinate answer"},
            "high": {"type": "number", "exclusiveMinimum": 0, "maximum": 100, "default": 1.2,
                "description": "temperature of an open answer"},
            "temperature": {"type": "number", "minimum": 0, "maximum": 100, "default": 1,
                "description": "temperature of fixed and min-p; upper limit of edt"},
            "edt-base": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.8,
                "description": "N in T0 N^(theta/H)"},
            "edt-theta": {"type": "number", "minimum": 0, "maximum": 100, "default": 0.1, "description": "theta"},
            "min-p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.05,
                "description": "minimum probability of a token, as a fraction of the highest"},
            "questions": {"type": "string",
                "description": "JSON Lines with prompt or text, and label (closed or open) or det; one line per sequence of the run, in order"},
            "learn": {"type": "boolean", "default": false, "description": "train a head on the questions and write it"},
            "features": {"enum": ["pooled", "hidden", "scores", "all"], "default": "all",
                "description": "input of the head: mean hidden state, last hidden state, shape of the first logits, or all"},
            "hidden": {"type": "integer", "minimum": 1, "maximum": 4096, "default": 64, "description": "hidden units of the head"},
            "epochs": {"type": "integer", "minimum": 1, "maximum": 100000, "default": 10, "description": "training epochs"},
            "rate": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.001, "description": "learning rate (AdamW)"},
            "decay": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.01, "description": "weight decay"},
            "batch": {"type": "integer", "minimum": 1, "maximum": 100000, "default": 32, "description": "questions per step"},
            "held-out": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.2,
                "description": "fraction of the questions held out if they name no split"},
            "log": {"type": "string", "description": "file for a line of JSON a step"}}}"#,
        hooks: [SampleHook, ProbeHook],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperatures_follow_determinacy() {
        assert!((between(0.2, 1.2, 0.0) - 1.2).abs() < 1e-12);
        assert!((between(0.2, 1.2, 1.0) - 0.2).abs() < 1e-12);
        assert!((between(0.2, 1.2, 0.5) - 0.24f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn edt_rises_with_entropy_up_to_its_bound() {
        let of = |entropy| edt(1.0, 0.8, 0.1, entropy);
        assert_eq!(of(0.0), FLOOR);
        assert!((of(1.0) - 0.8f64.powf(0.1)).abs() < 1e-12);
        let temperatures: Vec<f64> = (0..50).map(|step| of(f64::from(step) * 0.1)).collect();
        assert!(temperatures.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(temperatures.iter().all(|&temperature| temperature <= 1.0));
        assert_eq!(edt(0.0, 0.8, 0.1, 1.0), 0.0, "greedy stays greedy");
    }

    #[test]
    fn min_p_leaves_what_is_near_the_best() {
        let logits = [0.5f32.ln(), 0.3f32.ln(), 0.15f32.ln(), 0.05f32.ln()];
        let left = |fraction, temperature| {
            let mut logits = logits;
            truncate(&mut logits, fraction, temperature);
            logits.iter().filter(|logit| logit.is_finite()).count()
        };
        assert_eq!(
            (
                left(0.09, 1.0),
                left(0.2, 1.0),
                left(0.5, 1.0),
                left(1.0, 1.0)
            ),
            (4, 3, 2, 1)
        );
        // At twice the temperature odds are the roots of what they were.
        assert_eq!((left(0.2, 2.0), left(0.5, 2.0)), (4, 3));
    }

    #[test]
    fn hidden_states_are_normalised() {
        let row = normalise(&[1.0, 2.0, 3.0, 4.0]);
        assert!(row.iter().sum::<f32>().abs() < 1e-5);
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 4.0).abs() < 1e-3);
        assert_eq!(normalise(&[3.0; 5]), [0.0; 5]);
    }
}
