//! What happened while questions were answered: temperature, entropy and kurtosis, step by step.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use brillm_plugin::{PluginError, Result};
use serde_json::{Value, json};

use crate::distribution::Distribution;
use crate::questions::{Question, auroc};

/// One answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// Estimated determinacy of the question.
    pub determinacy: Option<f64>,
    /// The temperature that holds where no step sets another.
    pub temperature: Option<f64>,
    steps: u64,
    temperatures: (f64, u64),
    entropy: f64,
    kurtosis: (f64, u64),
}

/// All answers of a run.
#[derive(Default)]
pub(crate) struct Answers {
    all: BTreeMap<u64, Answer>,
    log: Option<File>,
}

/// Means over answers, each the mean over its steps.
#[derive(Default)]
struct Means {
    answers: u64,
    steps: u64,
    determinacy: (f64, u64),
    temperature: (f64, u64),
    entropy: (f64, u64),
    kurtosis: (f64, u64),
}

fn mean((sum, count): (f64, u64)) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

fn add(sum: &mut (f64, u64), value: Option<f64>) {
    if let Some(value) = value {
        sum.0 += value;
        sum.1 += 1;
    }
}

impl Means {
    fn take(&mut self, answer: &Answer) {
        self.answers += 1;
        self.steps += answer.steps;
        add(&mut self.determinacy, answer.determinacy);
        let temperature = mean(answer.temperatures).or(answer.temperature);
        add(&mut self.temperature, temperature);
        add(&mut self.entropy, mean((answer.entropy, answer.steps)));
        add(&mut self.kurtosis, mean(answer.kurtosis));
    }

    fn report(&self) -> Value {
        json!({
            "answers": self.answers,
            "steps": self.steps,
            "determinacy": mean(self.determinacy),
            "temperature": mean(self.temperature),
            "normalised_entropy": mean(self.entropy),
            "log_kurtosis": mean(self.kurtosis),
        })
    }
}

impl Answers {
    /// Answers that are also logged, one line of JSON a step.
    pub fn new(log: Option<&str>) -> Result<Self> {
        let log = log.map(|path| {
            brillm_file::restart_log(path)
                .map_err(|error| PluginError::option(format!("log {path}: {error}")))
        });
        Ok(Self {
            all: BTreeMap::new(),
            log: log.transpose()?,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A question begins; an earlier one of the same number is forgotten.
    pub fn begin(&mut self, sequence: u64, answer: Answer) {
        self.all.insert(sequence, answer);
    }

    /// A step of an answer; `temperature` where this step sets one.
    pub fn step(
        &mut self,
        sequence: u64,
        generated: u64,
        token: u32,
        seen: &Distribution,
        temperature: Option<f64>,
    ) -> Result<()> {
        let answer = self.all.entry(sequence).or_default();
        let temperature = temperature.or(answer.temperature);
        let kurtosis = seen.kurtosis.map(f64::ln);
        answer.steps += 1;
        answer.entropy += seen.normalised_entropy();
        add(&mut answer.temperatures, temperature);
        add(&mut answer.kurtosis, kurtosis);
        if let Some(log) = &mut self.log {
            let line = json!({
                "id": sequence,
                "t": generated,
                "token": token,
                "temperature": temperature,
                "entropy": seen.entropy,
                "normalised_entropy": seen.normalised_entropy(),
                "log_kurtosis": kurtosis,
                "highest": seen.highest,
                "candidates": seen.candidates,
            });
            writeln!(log, "{line}")?;
        }
        Ok(())
    }

    /// Means over all answers, and by label and category where the questions have them.
    pub fn report(&self, questions: &[Question]) -> Value {
        let mut all = Means::default();
        let mut labels: BTreeMap<&str, Means> = BTreeMap::new();
        let mut categories: BTreeMap<&str, Means> = BTreeMap::new();
        let mut scored = Vec::new();
        for (&sequence, answer) in &self.all {
            all.take(answer);
            let question = usize::try_from(sequence)
                .ok()
                .and_then(|at| questions.get(at));
            let Some(question) = question else {
                continue;
            };
            if let Some(closed) = question.closed() {
                let label = if closed { "closed" } else { "open" };
                labels.entry(label).or_default().take(answer);
                scored.extend(answer.determinacy.map(|determinacy| (determinacy, closed)));
            }
            if let Some(category) = &question.category {
                categories.entry(category).or_default().take(answer);
            }
        }
        let reports = |groups: BTreeMap<&str, Means>| -> serde_json::Map<String, Value> {
            groups
                .into_iter()
                .map(|(name, means)| (name.to_string(), means.report()))
                .collect()
        };
        json!({
            "all": all.report(),
            "labels": reports(labels),
            "categories": reports(categories),
            "auroc": auroc(&scored),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_over_answers() {
        let mut answers = Answers::new(None).unwrap();
        let seen = |logits: &[f32]| Distribution::of(logits).unwrap().unwrap();
        let (even, sure) = (seen(&[1.0, 1.0]), seen(&[0.0, 90.0]));
        let fixed = |temperature, determinacy| Answer {
            determinacy: Some(determinacy),
            temperature: Some(temperature),
            ..Answer::default()
        };
        answers.begin(0, fixed(0.2, 0.9));
        answers.begin(1, fixed(1.2, 0.1));
        for _ in 0..3 {
            answers.step(0, 0, 5, &sure, None).unwrap();
        }
        answers.step(1, 0, 5, &even, Some(0.8)).unwrap();
        let question = |determinacy: f32| Question {
            prompt: String::new(),
            determinacy: Some(determinacy),
            part: None,
            category: Some("WDK".into()),
        };
        let report = answers.report(&[question(1.0), question(0.0)]);
        let number = |at: &str| report.pointer(at).unwrap().as_f64().unwrap();
        assert!((number("/all/temperature") - 0.5).abs() < 1e-12);
        assert!((number("/all/normalised_entropy") - 0.5).abs() < 1e-12);
        assert_eq!(number("/labels/closed/steps"), 3.0);
        assert_eq!(number("/categories/WDK/answers"), 2.0);
        assert_eq!(number("/auroc"), 1.0);
        assert!(
            report
                .pointer("/labels/open/log_kurtosis")
                .unwrap()
                .is_null()
        );
    }
}
