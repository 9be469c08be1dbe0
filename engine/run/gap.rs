//! Filling a gap from both sides: candidates of a forward and a backward model, scored by both.
//!
//! `score(x) = ln p_f(x, right | left) + α · ln p_b(left, x | right)`: each model sees the gap and reads on into the
//! text beyond it. Candidates are the forward model's beam from the left, the backward model's from the right, and
//! their halves joined in the middle. The search is this project's own; BatGPT's is not published.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::run::Reader;
use crate::{Error, ErrorKind, Result};

/// Tokens beyond the gap that each model scores as well.
const BEYOND: usize = 16;
/// Halves of each side that are joined, for each length.
const JOINED: usize = 4;

/// Texts of one length, each with its ln p, the likeliest first.
type Beam = Vec<(Vec<u32>, f64)>;

/// How a gap is filled.
#[derive(Clone, Copy, Debug)]
pub struct GapSearch {
    /// Fewest tokens.
    pub least: usize,
    /// Most tokens.
    pub most: usize,
    /// Paths of each beam.
    pub width: usize,
    /// The weight of the backward model's ln p, α.
    pub weight: f64,
}

impl Default for GapSearch {
    fn default() -> Self {
        Self {
            least: 1,
            most: 4,
            width: 8,
            weight: 1.0,
        }
    }
}

/// A candidate for a gap.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GapFill {
    /// The tokens.
    pub ids: Vec<u32>,
    /// ln p of them and the text after them, given the text before.
    pub forward: f64,
    /// ln p of them and the text before them, given the text after; none without a backward model.
    pub backward: Option<f64>,
    /// The sum that ranks candidates.
    pub score: f64,
}

/// Fill the gap between `left` and `right`, the best first. Without `backward` only the forward model scores,
/// which still reads the text after the gap.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty side or a search without candidates; [`ErrorKind::Vocabulary`] for models with
/// other tokens; as [`Reader::likelihoods`].
///
/// # Complexity
/// For each length two beams; then a pass of each model over each candidate, at most `(2 W + 16 K)` of length K.
pub fn fill_gap(
    forward: &Reader,
    backward: Option<&Reader>,
    left: &[u32],
    right: &[u32],
    search: &GapSearch,
) -> Result<Vec<GapFill>> {
    if left.is_empty() || right.is_empty() {
        return Err(
            Error::new(ErrorKind::Input, "the gap must have text on both sides")
                .advice("extend a text at its end with brillm generate PROMPT"),
        );
    }
    if search.width == 0 || search.least > search.most {
        return Err(Error::new(
            ErrorKind::Input,
            "the maximum length of a gap must be at least its minimum, and the number of paths at least 1",
        ));
    }
    if let Some(backward) = backward {
        same_tokens(forward, backward)?;
    }
    let beams = |reader: &Reader, context: &[u32]| -> Result<Vec<Beam>> {
        (0..=search.most)
            .map(|length| match length {
                0 => Ok(vec![(Vec::new(), 0.0)]),
                _ => reader.likeliest(context, length, search.width),
            })
            .collect()
    };
    let from_left = beams(forward, left)?;
    let from_right = backward
        .map(|backward| beams(backward, right))
        .transpose()?;
    let mut candidates = BTreeSet::new();
    for length in search.least..=search.most {
        candidates.extend(from_left[length].iter().map(|(ids, _)| ids.clone()));
        let Some(from_right) = &from_right else {
            continue;
        };
        candidates.extend(from_right[length].iter().map(|(ids, _)| ids.clone()));
        for middle in 1..length {
            for (head, _) in from_left[middle].iter().take(JOINED) {
                for (tail, _) in from_right[length - middle].iter().take(JOINED) {
                    candidates.insert([head.as_slice(), tail].concat());
                }
            }
        }
    }
    let candidates: Vec<Vec<u32>> = candidates.into_iter().collect();
    let after = &right[..right.len().min(BEYOND)];
    let before = &left[left.len().saturating_sub(BEYOND)..];
    let with = |head: &[u32], tail: &[u32]| [head, tail].concat();
    let ahead: Vec<Vec<u32>> = candidates.iter().map(|ids| with(ids, after)).collect();
    let ahead = forward.likelihoods(left, &ahead)?;
    let back = match backward {
        Some(backward) => {
            let texts: Vec<Vec<u32>> = candidates.iter().map(|ids| with(before, ids)).collect();
            Some(backward.likelihoods(right, &texts)?)
        }
        None => None,
    };
    let mut fills: Vec<GapFill> = candidates
        .into_iter()
        .enumerate()
        .map(|(index, ids)| {
            let backward = back.as_ref().map(|back| back[index]);
            GapFill {
                ids,
                forward: ahead[index],
                backward,
                score: ahead[index] + search.weight * backward.unwrap_or(0.0),
            }
        })
        .collect();
    if fills.is_empty() {
        return Err(Error::new(
            ErrorKind::Input,
            "no candidate fits into the gap",
        ));
    }
    fills.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.ids.cmp(&b.ids)));
    Ok(fills)
}

/// Check that two models have the same tokens, except for marks at the end.
///
/// # Errors
/// [`ErrorKind::Vocabulary`].
pub fn same_tokens(one: &Reader, other: &Reader) -> Result<()> {
    let (a, b) = (
        one.engine().tokenizer().vocabulary(),
        other.engine().tokenizer().vocabulary(),
    );
    let common = a.len().min(b.len()) as u32;
    let differs = (0..common).any(|id| a.token(id) != b.token(id));
    if differs || a.len().abs_diff(b.len()) > 2 {
        Err(Error::new(
            ErrorKind::Vocabulary,
            format!(
                "the tokens of {} differ from those of {}",
                other.engine().name(),
                one.engine().name()
            ),
        )
        .advice("train both with one tokenizer: data.tokenizer, or the same text and vocabulary"))
    } else {
        Ok(())
    }
}
