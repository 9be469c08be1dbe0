//! Questions with labels: closed ones, which have few right answers, and open ones.

use std::path::Path;

use brillm_plugin::{PluginError, Result};
use serde::Deserialize;

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "text")]
    prompt: String,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    det: Option<f32>,
    #[serde(default)]
    split: Option<String>,
    #[serde(default)]
    category: Option<String>,
}

/// To which part of the data a question belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    HeldOut,
}

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Question {
    pub prompt: String,
    /// Determinacy of its answer, 0 (open) to 1 (closed); `None` if the file has none.
    pub determinacy: Option<f32>,
    /// Its split, if the file names one.
    pub part: Option<Part>,
    /// Its kind, if the file names one.
    pub category: Option<String>,
}

impl Question {
    /// Whether it is closed.
    pub fn closed(&self) -> Option<bool> {
        self.determinacy.map(|determinacy| determinacy > 0.5)
    }
}

/// Read JSON Lines. Blank lines are skipped; a question's number is its index among the questions.
pub(crate) fn read(path: &Path) -> Result<Vec<Question>> {
    let failed = |error: &dyn std::fmt::Display| {
        PluginError::option(format!("questions {}: {error}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    let mut questions = Vec::new();
    for (number, line) in text
        .trim_start_matches('\u{feff}')
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        questions.push(
            question(line).map_err(|error| failed(&format!("line {}: {error}", number + 1)))?,
        );
    }
    if questions.is_empty() {
        return Err(failed(&"the file contains no question"));
    }
    Ok(questions)
}

fn question(line: &str) -> Result<Question> {
    let line: Line = serde_json::from_str(line)?;
    let determinacy = match (line.det, line.label.as_deref()) {
        (Some(det), _) if (0.0..=1.0).contains(&det) => Some(det),
        (Some(det), _) => return Err(PluginError::new(format!("det is {det}, not from 0 to 1"))),
        (None, Some("closed")) => Some(1.0),
        (None, Some("open")) => Some(0.0),
        (None, Some(other)) => {
            return Err(PluginError::new(format!(
                "the label {other:?} is neither closed nor open"
            )));
        }
        (None, None) => None,
    };
    let part = match line.split.as_deref() {
        None => None,
        Some("train") => Some(Part::Train),
        Some("test" | "held-out") => Some(Part::HeldOut),
        Some(other) => {
            return Err(PluginError::new(format!(
                "the split {other:?} is neither train nor test"
            )));
        }
    };
    Ok(Question {
        prompt: line.prompt,
        determinacy,
        part,
        category: line.category,
    })
}

/// Chance that a closed question is scored above an open one, ties counted half (area under the ROC curve).
///
/// `None` without questions of both kinds. O(n log n)
pub(crate) fn auroc(scored: &[(f64, bool)]) -> Option<f64> {
    let closed = scored.iter().filter(|(_, closed)| *closed).count();
    let open = scored.len() - closed;
    if closed == 0 || open == 0 {
        return None;
    }
    let mut order = scored.to_vec();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Mean rank of equals, from 1.
    let (mut ranks, mut from) = (0.0, 0);
    while from < order.len() {
        let equals = order[from..]
            .iter()
            .take_while(|one| one.0 == order[from].0)
            .count();
        let rank = from as f64 + (equals as f64 + 1.0) / 2.0;
        let of_closed = order[from..from + equals]
            .iter()
            .filter(|(_, closed)| *closed);
        ranks += rank * of_closed.count() as f64;
        from += equals;
    }
    let (closed, open) = (closed as f64, open as f64);
    Some((ranks - closed * (closed + 1.0) / 2.0) / (closed * open))
}

/// Buckets of [`words`].
const BUCKETS: usize = 128;

/// The control that needs no model: which words a question begins with and how long it is, hashed into buckets.
pub(crate) fn words(prompt: &str) -> Vec<f32> {
    let mut features = vec![0.0; BUCKETS + 1];
    let lower = prompt.to_lowercase();
    let words: Vec<&str> = lower
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    for (index, word) in words.iter().take(3).enumerate() {
        let hash = word
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64 + index as u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        features[(hash % BUCKETS as u64) as usize] = 1.0;
    }
    features[BUCKETS] = (words.len() as f32).ln_1p();
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let read = |line: &str| question(line).unwrap();
        let one = read(r#"{"id": 1, "prompt": "Who?", "label": "closed", "category": "WDK"}"#);
        assert_eq!(
            (one.prompt.as_str(), one.closed(), one.part),
            ("Who?", Some(true), None)
        );
        let one = read(r#"{"text": "Why?", "det": 0.2, "split": "test"}"#);
        assert_eq!((one.closed(), one.part), (Some(false), Some(Part::HeldOut)));
        assert_eq!(read(r#"{"text": "Eh?"}"#).closed(), None);
        for broken in [
            "{}",
            r#"{"text": "a", "label": "ajar"}"#,
            r#"{"text": "a", "det": 2}"#,
            r#"{"text": "a", "split": "dev"}"#,
        ] {
            assert!(question(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn auroc_counts_pairs() {
        for (scored, expected) in [
            (vec![(0.9, true), (0.1, false)], Some(1.0)),
            (vec![(0.1, true), (0.9, false)], Some(0.0)),
            (vec![(0.5, true), (0.5, false)], Some(0.5)),
            (
                vec![(0.8, true), (0.3, true), (0.5, false), (0.1, false)],
                Some(0.75),
            ),
            (vec![(0.8, true)], None),
            (vec![], None),
        ] {
            assert_eq!(auroc(&scored), expected, "{scored:?}");
        }
    }

    #[test]
    fn beginnings_are_told_apart() {
        assert_eq!(
            words("How many moons has Mars?"),
            words("how MANY moons has Pluto")
        );
        assert_ne!(words("How many moons"), words("Many how moons"));
        assert_eq!(words("").iter().sum::<f32>(), 0.0);
    }
}
