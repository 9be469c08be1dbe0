//! Reranking of samples by forward plus weighted backward likelihood.
//!
//! `score(y) = ln p_f(y | x) / |y| + α · ln p_b(x | y) / |x|`. The backward term measures how well the answer explains the
//! prompt ("reverse reward", LEDOM, arXiv 2507.01335: the idea; the means over tokens are this project's).

use serde::Serialize;

use crate::run::{Reader, same_tokens};
use crate::{Error, ErrorKind, Result};

/// A sample with its likelihoods.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked {
    /// Its index among the samples.
    pub sample: usize,
    /// New tokens.
    pub ids: Vec<u32>,
    /// Mean ln p of its tokens given the prompt.
    pub forward: f64,
    /// Mean ln p of the prompt's tokens given the sample.
    pub backward: f64,
    /// The sum that ranks samples.
    pub score: f64,
}

/// Rank continuations of a prompt, the best first; equal ones keep their order.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty prompt; [`ErrorKind::Vocabulary`] for models with other tokens; as
/// [`Reader::likelihoods`].
pub fn rerank(
    forward: &Reader,
    backward: &Reader,
    prompt: &[u32],
    samples: &[Vec<u32>],
    weight: f64,
) -> Result<Vec<Ranked>> {
    same_tokens(forward, backward)?;
    if prompt.is_empty() {
        return Err(Error::new(ErrorKind::Input, "the prompt is empty"));
    }
    let ahead = forward.likelihoods(prompt, samples)?;
    let mut ranked = Vec::with_capacity(samples.len());
    for (sample, ids) in samples.iter().enumerate() {
        // An empty sample ranks last.
        let (forward, backward) = if ids.is_empty() {
            (f64::NEG_INFINITY, f64::NEG_INFINITY)
        } else {
            let back = backward.likelihoods(ids, &[prompt.to_vec()])?[0];
            (ahead[sample] / ids.len() as f64, back / prompt.len() as f64)
        };
        ranked.push(Ranked {
            sample,
            ids: ids.clone(),
            forward,
            backward,
            score: forward + weight * backward,
        });
    }
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(ranked)
}
