//! Training of a head on the questions of a run, and its controls.

use std::path::Path;

use brillm_plugin::{PluginError, RandomStream, Result};
use serde_json::{Value, json};

use crate::head::{Head, Training};
use crate::questions::{Part, Question, auroc, words};

/// A question with what the model made of it.
pub(crate) struct Example {
    /// Its index in the file.
    pub question: usize,
    /// What the head reads.
    pub features: Vec<f32>,
    /// Normalised entropy of the first scores.
    pub entropy: f64,
}

/// Train a head, write it, and report how well it separates closed from open questions on held-out ones.
///
/// Controls, each on the same questions: labels shuffled before training (about one half means that nothing leaks), the
/// beginnings of the questions alone (what needs no model), and the entropy of the first scores alone (what needs
/// no training).
///
/// # Errors
/// Where a part has no question of one kind, or the head cannot be written.
pub(crate) fn learn(
    questions: &[Question],
    examples: &[Example],
    features: &str,
    held_out: f64,
    training: &Training,
    path: &Path,
) -> Result<Value> {
    let mut random = RandomStream::new(training.seed);
    let mut parts: [Vec<&Example>; 2] = Default::default();
    for example in examples {
        let question = &questions[example.question];
        let drawn = if random.uniform() < held_out {
            Part::HeldOut
        } else {
            Part::Train
        };
        if question.determinacy.is_some() {
            parts[(question.part.unwrap_or(drawn) == Part::HeldOut) as usize].push(example);
        }
    }
    let [train, test] = parts;
    let label = |example: &&Example| questions[example.question].determinacy.unwrap_or(0.5);
    let closed = |example: &&Example| label(example) > 0.5;
    for (name, part) in [("train", &train), ("held-out", &test)] {
        let count = part.iter().filter(|example| closed(example)).count();
        if count == 0 || count == part.len() {
            return Err(PluginError::new(format!(
                "of {} {name} questions {count} are closed: there must be closed and open ones",
                part.len()
            )));
        }
    }
    let labels: Vec<f32> = train.iter().map(label).collect();
    let kinds: Vec<bool> = test.iter().map(closed).collect();
    let try_head = |name: &str, rows: &[&[f32]], labels: &[f32], unseen: &[&[f32]]| {
        let (head, losses) = Head::train(name, rows, labels, training);
        let logits: Result<Vec<f64>> = unseen.iter().map(|row| head.determinacy(row)).collect();
        logits.map(|logits| (head, losses, area(&logits, &kinds)))
    };
    let rows = |part: &[&'_ Example]| -> Vec<Vec<f32>> {
        part.iter()
            .map(|example| example.features.clone())
            .collect()
    };
    fn views(rows: &[Vec<f32>]) -> Vec<&[f32]> {
        rows.iter().map(Vec::as_slice).collect()
    }
    let (seen, unseen) = (rows(&train), rows(&test));
    let (head, losses, found) = try_head(features, &views(&seen), &labels, &views(&unseen))?;
    head.save(path)?;
    let mut shuffled = labels.clone();
    random.shuffle(&mut shuffled);
    let (_, _, by_chance) = try_head("control", &views(&seen), &shuffled, &views(&unseen))?;
    let beginnings = |part: &[&'_ Example]| -> Vec<Vec<f32>> {
        part.iter()
            .map(|example| words(&questions[example.question].prompt))
            .collect()
    };
    let (begun, unbegun) = (beginnings(&train), beginnings(&test));
    let (_, _, by_words) = try_head("control", &views(&begun), &labels, &views(&unbegun))?;
    let sureness: Vec<f64> = test.iter().map(|example| -example.entropy).collect();
    Ok(json!({
        "head": path,
        "features": features,
        "width": head.width(),
        "train": train.len(),
        "held_out": test.len(),
        "held_out_closed": kinds.iter().filter(|&&closed| closed).count(),
        "losses": losses,
        "auroc": found,
        "auroc_shuffled_labels": by_chance,
        "auroc_first_words": by_words,
        "auroc_entropy": area(&sureness, &kinds),
    }))
}

fn area(logits: &[f64], kinds: &[bool]) -> Option<f64> {
    let scored: Vec<(f64, bool)> = logits.iter().copied().zip(kinds.iter().copied()).collect();
    auroc(&scored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_difference_is_found_and_controls_find_none() {
        let mut random = RandomStream::new(4);
        let (mut questions, mut examples) = (Vec::new(), Vec::new());
        for question in 0..600 {
            let closed = random.uniform() < 0.5;
            questions.push(Question {
                // Nothing in the words.
                prompt: format!("question {}", random.bits() % 50),
                determinacy: Some(f32::from(closed)),
                part: (question % 3 == 0)
                    .then_some(Part::HeldOut)
                    .or(Some(Part::Train)),
                category: None,
            });
            let mut features: Vec<f32> = (0..8).map(|_| random.uniform() as f32).collect();
            features[3] += if closed { 0.7 } else { 0.0 };
            examples.push(Example {
                question,
                features,
                entropy: random.uniform(),
            });
        }
        let training = Training {
            hidden: 16,
            epochs: 10,
            rate: 3e-3,
            decay: 0.01,
            batch: 32,
            seed: 1,
        };
        let path = std::env::temp_dir().join(format!("quats-learn-{}.json", std::process::id()));
        let report = learn(&questions, &examples, "test", 0.2, &training, &path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let number = |key: &str| report[key].as_f64().unwrap();
        assert_eq!((number("train"), number("held_out")), (400.0, 200.0));
        assert!(number("auroc") > 0.9, "{report}");
        for control in [
            "auroc_shuffled_labels",
            "auroc_first_words",
            "auroc_entropy",
        ] {
            // A standard error of chance is 1 / √(3 · 200) or so.
            assert!((number(control) - 0.5).abs() < 0.17, "{control}: {report}");
        }
        let one_kind: Vec<Question> = questions
            .iter()
            .map(|question| Question {
                determinacy: Some(1.0),
                ..question.clone()
            })
            .collect();
        assert!(learn(&one_kind, &examples, "test", 0.2, &training, &path).is_err());
    }
}
