//! The document `brillm-trace/1`, and the request for a trace.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::step::Step;
use super::token::ShownToken;
use super::{Intervention, NAME};
use crate::path::{RecallSettings, Sampling};
use crate::run::{Engine, EngineKind};
use crate::signal::Start;
use crate::{Error, ErrorKind, Result};

/// A whole trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Always `brillm-trace/1`.
    pub schema: String,
    /// The engine's version.
    pub version: String,
    /// The model.
    pub model: TraceModel,
    /// How tokens were chosen.
    #[serde(alias = "sampler")]
    pub sampling: TraceSampling,
    /// Constants of recall; absent without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<RecallSettings>,
    /// Seed of the draws.
    pub seed: u64,
    /// The plugins with their versions, checksums and effective options.
    #[serde(default)]
    pub plugins: Value,
    /// Reports of probes; null without any.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub probes: Value,
    /// Interventions during the run.
    #[serde(default)]
    pub interventions: Vec<Intervention>,
    /// Number of `tokens` that belong to the prompt.
    pub prompt_tokens: usize,
    /// The path: the prompt, then the chosen tokens.
    pub tokens: Vec<ShownToken>,
    /// One for each new token.
    pub steps: Vec<Step>,
    /// Why it ended; null while it runs.
    pub finish: Option<TraceFinish>,
    /// The new text.
    pub text: String,
    /// A reader's annotations.
    #[serde(default)]
    pub annotations: Annotations,
}

/// The model of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceModel {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: EngineKind,
    /// sha256 of the file, or over the files of the folder; null where it was not formed.
    pub sha256: Option<String>,
    /// The profile's name, or the transformer's `model_type`.
    pub profile: String,
    /// Tokens, `V`.
    pub vocabulary: usize,
    /// Signal width, `D`.
    pub width: usize,
    /// Layers of a transformer or of layered edges, `L`.
    pub layers: Option<usize>,
    /// Order of a graph's static resistances in use; absent on a transformer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<usize>,
}

/// Sampling options, as a trace records them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSampling {
    /// See [`Sampling::temperature`].
    pub temperature: f32,
    /// See [`Sampling::top_k`].
    pub top_k: usize,
    /// See [`Sampling::top_p`].
    pub top_p: f32,
    /// See [`Sampling::min_p`].
    pub min_p: f32,
    /// See [`Sampling::repetition_penalty`].
    pub repetition_penalty: f32,
    /// See [`Sampling::penalty_window`].
    pub penalty_window: usize,
    /// See [`Sampling::presence_penalty`].
    #[serde(skip_serializing_if = "is_zero")]
    pub presence_penalty: f32,
    /// See [`Sampling::frequency_penalty`].
    #[serde(skip_serializing_if = "is_zero")]
    pub frequency_penalty: f32,
    /// See [`Sampling::logit_bias`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that are never chosen.
    #[serde(alias = "ban")]
    pub banned: Vec<u32>,
}

fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

impl Default for TraceSampling {
    fn default() -> Self {
        Self::of(&Sampling::default().top_p(0.95))
    }
}

impl TraceSampling {
    /// Convert from sampling options.
    pub fn of(sampling: &Sampling) -> Self {
        Self {
            temperature: sampling.temperature,
            top_k: sampling.top_k,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            penalty_window: sampling.penalty_window,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            logit_bias: sampling.logit_bias.clone(),
            banned: sampling.banned.clone(),
        }
    }

    /// Convert to sampling options.
    pub fn sampling(&self, seed: u64) -> Sampling {
        Sampling::default()
            .temperature(self.temperature)
            .top_k(self.top_k)
            .top_p(self.top_p)
            .min_p(self.min_p)
            .repetition_penalty(self.repetition_penalty, self.penalty_window)
            .presence_and_frequency(self.presence_penalty, self.frequency_penalty)
            .logit_bias(self.logit_bias.iter().copied())
            .banned(self.banned.iter().copied())
            .seed(seed)
    }
}

/// Why a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceFinish {
    /// The requested number of tokens was reached.
    Length,
    /// A stop token was chosen.
    Stop,
    /// The caller cancelled.
    Cancelled,
    /// No candidate was left.
    Exhausted,
    /// The context is full.
    Context,
}

/// A reader's annotations of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Annotations {
    /// A title.
    pub title: String,
    /// Notes.
    pub notes: String,
    /// Marked candidates.
    pub pins: Vec<Pin>,
    /// Named groups of candidates.
    pub groups: Vec<Group>,
}

/// A candidate of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The step's index.
    pub step: usize,
    /// The candidate.
    pub node: u32,
}

/// Candidates under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The name.
    pub name: String,
    /// The candidates.
    pub members: Vec<Pin>,
}

/// What to trace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TraceRequest {
    /// The prompt's tokens.
    pub prompt: Vec<u32>,
    /// Maximum number of new tokens.
    pub tokens: usize,
    /// Candidates listed for each step; the chosen one is always among them.
    pub candidates: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Where a graph's signal starts.
    pub start: Start,
    /// Recall of a graph; see [`Recall`](crate::path::Recall).
    pub recall: Option<RecallSettings>,
    /// Whether to continue after the model's stop tokens.
    pub ignore_eos: bool,
    /// Interventions during the run.
    pub interventions: Vec<Intervention>,
}

impl TraceRequest {
    /// Create a request for 24 new tokens, chosen greedily, with 24 candidates each.
    ///
    /// ```
    /// use brillm::run::trace::TraceRequest;
    /// let request = TraceRequest::new(vec![1, 2]).tokens(8);
    /// assert_eq!((request.tokens, request.candidates), (8, 24));
    /// ```
    pub fn new(prompt: Vec<u32>) -> Self {
        Self {
            prompt,
            tokens: 24,
            candidates: 24,
            sampling: Sampling::greedy(),
            start: Start::Profile,
            recall: None,
            ignore_eos: false,
            interventions: Vec::new(),
        }
    }

    /// Set the maximum number of new tokens.
    #[must_use]
    pub fn tokens(mut self, tokens: usize) -> Self {
        self.tokens = tokens;
        self
    }

    /// Set the number of candidates listed for each step.
    #[must_use]
    pub fn candidates(mut self, candidates: usize) -> Self {
        self.candidates = candidates;
        self
    }

    /// Set how tokens are chosen.
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Set where a graph's signal starts.
    #[must_use]
    pub fn start_signal(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Set the constants of recall.
    #[must_use]
    pub fn recall(mut self, recall: Option<RecallSettings>) -> Self {
        self.recall = recall;
        self
    }

    /// Continue after the model's stop tokens.
    #[must_use]
    pub fn ignore_eos(mut self, ignore: bool) -> Self {
        self.ignore_eos = ignore;
        self
    }

    /// Add an intervention.
    #[must_use]
    pub fn intervene(mut self, interventions: impl IntoIterator<Item = Intervention>) -> Self {
        self.interventions.extend(interventions);
        self
    }
}

impl Trace {
    /// Create a trace without steps.
    pub(super) fn head(engine: &Engine, request: &TraceRequest) -> Self {
        Self {
            schema: NAME.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            model: TraceModel::of(engine),
            sampling: TraceSampling::of(&request.sampling),
            recall: request.recall,
            seed: request.sampling.seed,
            plugins: Value::Array(Vec::new()),
            probes: Value::Null,
            interventions: request.interventions.clone(),
            prompt_tokens: request.prompt.len(),
            tokens: super::show_tokens(engine.tokenizer(), &request.prompt),
            steps: Vec::new(),
            finish: None,
            text: String::new(),
            annotations: Annotations::default(),
        }
    }

    /// Return the token ids of the path.
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    /// Check that the steps match the path.
    ///
    /// # Errors
    /// [`ErrorKind::Version`] for another schema; [`ErrorKind::Format`] for steps that are not those of its path.
    pub fn check(&self) -> Result<()> {
        if self.schema != NAME {
            return Err(Error::new(
                ErrorKind::Version,
                format!("the trace is of schema {:?}, not {NAME}", self.schema),
            ));
        }
        let invalid = |what: String| Err(Error::new(ErrorKind::Format, what).at("trace"));
        if self.prompt_tokens > self.tokens.len() {
            return invalid(format!(
                "{} prompt tokens of {}",
                self.prompt_tokens,
                self.tokens.len()
            ));
        }
        for (index, step) in self.steps.iter().enumerate() {
            let there = self.tokens.get(step.position).map(|token| token.id);
            if step.index != index || there != Some(step.chosen) {
                return invalid(format!("step {index} does not match the path"));
            }
            if !step.candidates.iter().any(|one| one.id == step.chosen) {
                return invalid(format!(
                    "step {index} chose a token that is not a candidate"
                ));
            }
        }
        Ok(())
    }
}

impl TraceModel {
    /// Describe an opened model.
    pub fn of(engine: &Engine) -> Self {
        let summary = engine.summary();
        Self {
            name: engine.name().into(),
            kind: summary.kind,
            sha256: None,
            profile: summary.profile,
            vocabulary: engine.vocabulary(),
            width: summary.width,
            layers: summary.layers,
            order: engine.order(),
        }
    }
}
