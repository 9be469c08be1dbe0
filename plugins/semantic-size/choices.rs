//! What a model prefers, by likelihood: a metaphor's concrete word, a product's title.

use brillm_plugin::{HostModel, RandomStream, Result};

use crate::statistics::{mean, sign_flips};
use crate::words::{Headline, Metaphor, STYLES, article};

/// Mean ln p of a text's tokens after a prompt, less the same after a prompt that says nothing of the matter.
fn preference(subject: &mut HostModel, prompt: &str, neutral: &str, text: &str) -> Result<f64> {
    let told = mean(&subject.resist(prompt, text)?);
    let prior = mean(&subject.resist(neutral, text)?);
    Ok(prior - told)
}

/// The place of the highest.
fn best(scores: &[f64]) -> usize {
    (0..scores.len())
        .max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)))
        .unwrap_or(0)
}

/// The scores of one question.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Asked {
    pub about: String,
    /// Whether what it is about is of large semantic size.
    pub big: bool,
    /// `varied` or `matched`.
    pub set: &'static str,
    pub words: [String; 3],
    pub scores: [f64; 3],
    pub chosen: usize,
}

/// Shares of choices, and what tells them from chance.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Choices {
    pub set: &'static str,
    /// Share of the first, second and third word chosen for big things, and for small ones.
    pub big: [f64; 3],
    pub small: [f64; 3],
    /// Highest share less the mean share.
    pub certainty_big: f64,
    pub certainty_small: f64,
    /// Mean of (first − third | big) − (first − third | small) in nats a token, and the chance of one as far from 0.
    pub contrast: f64,
    pub contrast_p: f64,
}

pub(crate) fn metaphors(subject: &mut HostModel, items: &[Metaphor]) -> Result<Vec<Asked>> {
    let mut all = Vec::new();
    for item in items {
        for (set, words) in [("varied", &item.varied), ("matched", &item.matched)] {
            for (about, big) in [(&item.big, true), (&item.small, false)] {
                let mut scores = [0.0; 3];
                for (score, word) in scores.iter_mut().zip(words) {
                    let article = article(word);
                    *score = preference(
                        subject,
                        &format!("Thinking of {about} is like {article}"),
                        &format!("This is like {article}"),
                        &format!(" {word}"),
                    )?;
                }
                all.push(Asked {
                    about: about.clone(),
                    big,
                    set,
                    words: words.clone(),
                    chosen: best(&scores),
                    scores,
                });
            }
        }
    }
    Ok(all)
}

fn attribution<'a, const N: usize>(chosen: impl Iterator<Item = &'a usize>) -> [f64; N] {
    let mut counts = [0.0; N];
    let mut all = 0.0;
    for &place in chosen {
        counts[place] += 1.0;
        all += 1.0;
    }
    counts.map(|count| count / f64::max(all, 1.0))
}

pub(crate) fn summary(asked: &[Asked], set: &'static str, random: &mut RandomStream) -> Choices {
    let of = |big: bool| {
        asked
            .iter()
            .filter(move |one| one.set == set && one.big == big)
    };
    let differences: Vec<f64> = of(true)
        .zip(of(false))
        .map(|(big, small)| (big.scores[0] - big.scores[2]) - (small.scores[0] - small.scores[2]))
        .collect();
    let (big, small) = (
        attribution(of(true).map(|one| &one.chosen)),
        attribution(of(false).map(|one| &one.chosen)),
    );
    let certainty = |attribution: &[f64; 3]| {
        attribution.iter().copied().fold(0.0, f64::max) - mean(attribution)
    };
    Choices {
        set,
        certainty_big: certainty(&big),
        certainty_small: certainty(&small),
        big,
        small,
        contrast: mean(&differences),
        contrast_p: sign_flips(&differences, 9999, random),
    }
}

/// The scores of a product's titles.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Shopped {
    pub product: String,
    pub scores: [f64; 4],
    pub chosen: usize,
}

pub(crate) fn headlines(subject: &mut HostModel, items: &[Headline]) -> Result<Vec<Shopped>> {
    let mut all = Vec::new();
    for item in items {
        let mut scores = [0.0; STYLES.len()];
        for (score, title) in scores.iter_mut().zip(&item.titles) {
            let title = format!(" {title}");
            *score = preference(subject, "The one I want to buy is", "There is", &title)?;
        }
        all.push(Shopped {
            product: item.product.clone(),
            chosen: best(&scores),
            scores,
        });
    }
    Ok(all)
}

/// The share of each style of title chosen; one fourth by chance.
pub(crate) fn styles(shopped: &[Shopped]) -> [f64; 4] {
    attribution(shopped.iter().map(|one| &one.chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(big: bool, scores: [f64; 3]) -> Asked {
        Asked {
            about: "love".into(),
            big,
            set: "varied",
            words: ["ocean", "table", "screw"].map(String::from),
            chosen: best(&scores),
            scores,
        }
    }

    #[test]
    fn a_sense_of_size_is_a_contrast() {
        let mut random = RandomStream::new(1);
        let all: Vec<Asked> = (0..12)
            .flat_map(|at| {
                // A bias to the first word is in both, and cancels.
                let bias = 2.0 + 0.01 * f64::from(at);
                [
                    asked(true, [bias + 0.5, 0.0, 0.0]),
                    asked(false, [bias, 0.0, 0.5]),
                ]
            })
            .collect();
        let seen = summary(&all, "varied", &mut random);
        assert_eq!(seen.big, [1.0, 0.0, 0.0]);
        assert!((seen.certainty_big - 2.0 / 3.0).abs() < 1e-12);
        assert!(
            (seen.contrast - 1.0).abs() < 1e-9 && seen.contrast_p < 0.01,
            "{seen:?}"
        );
        let biased: Vec<Asked> = (0..12)
            .flat_map(|_| [asked(true, [2.0, 0.0, 0.0]), asked(false, [2.0, 0.0, 0.0])])
            .collect();
        let seen = summary(&biased, "varied", &mut random);
        assert_eq!((seen.contrast, seen.contrast_p), (0.0, 1.0));
    }
}
