//! Scores of how well a reference supports a turn.

use std::collections::HashSet;

use crate::language::Language;

/// Scores of a turn; all but the last from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Grounding {
    /// Fraction of its words (in Chinese: pairs of characters) that occur in the reference.
    pub overlap: f64,
    /// Fraction of its sentences with at least four fifths of their words in the reference.
    pub sentences: f64,
    /// Fraction of its numbers that occur in the reference; 1 without numbers.
    pub numbers: f64,
    /// Length of the longest run of words that also occurs in the reference.
    pub longest: usize,
}

/// Extract the numbers as written: digits with points and commas between them.
fn numbers(text: &str) -> Vec<String> {
    text.split(|letter: char| !(letter.is_ascii_digit() || matches!(letter, '.' | ',')))
        .map(|number| number.trim_matches(['.', ',']).to_string())
        .filter(|number| !number.is_empty())
        .collect()
}

fn fraction(known: &HashSet<&String>, units: &[String]) -> f64 {
    if units.is_empty() {
        1.0
    } else {
        units.iter().filter(|unit| known.contains(unit)).count() as f64 / units.len() as f64
    }
}

/// Find the length of the longest common run. O(a b)
fn longest(a: &[String], b: &[String]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut most = 0;
    for x in a {
        let mut now = vec![0; b.len() + 1];
        for (at, y) in b.iter().enumerate() {
            if x == y {
                now[at + 1] = before[at] + 1;
                most = most.max(now[at + 1]);
            }
        }
        before = now;
    }
    most
}

pub(crate) fn score(text: &str, reference: &str, language: Language) -> Grounding {
    let (own, theirs) = (language.units(text), language.units(reference));
    let known: HashSet<&String> = theirs.iter().collect();
    let sentences = language.sentences(text);
    let grounded = sentences
        .iter()
        .filter(|sentence| fraction(&known, &language.units(sentence)) >= 0.8)
        .count();
    let written = numbers(reference);
    let written: HashSet<&String> = written.iter().collect();
    Grounding {
        overlap: fraction(&known, &own),
        sentences: grounded as f64 / sentences.len().max(1) as f64,
        numbers: fraction(&written, &numbers(text)),
        longest: longest(&own, &theirs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_is_grounded_and_what_is_invented_is_not() {
        let reference = "The tower was built in 1889. It is 330 metres tall.";
        let copied = score("It is 330 metres tall.", reference, Language::En);
        assert_eq!(
            (
                copied.overlap,
                copied.sentences,
                copied.numbers,
                copied.longest
            ),
            (1.0, 1.0, 1.0, 5)
        );
        let invented = score("Built in 1789 by dragons.", reference, Language::En);
        assert!(invented.overlap < 0.5 && invented.numbers == 0.0 && invented.sentences == 0.0);
        let zh = score("塔高330米。", "这座塔高330米，建于1889年。", Language::Zh);
        assert_eq!((zh.overlap, zh.numbers), (1.0, 1.0));
    }
}
