//! Perplexity of the true continuations of prompts while hooks manage the KV cache.

use serde::Serialize;

use crate::kernel::softmax;
use crate::measure::{Continuations, Perplexity};
use crate::path::{Sampling, Session};
use crate::transformer::{HookAdapter, Transformer, TransformerSession};
use crate::{Error, ErrorKind, Result};

/// Result of [`evaluate_continuations`]. Means are over texts.
#[derive(Clone, Debug, Serialize)]
pub struct ContinuationReport {
    /// Perplexity of the continuations' tokens.
    pub perplexity: f64,
    /// Mean −ln p of them.
    pub nats_per_token: f64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Texts.
    pub texts: usize,
    /// Bytes of keys and values of kept tokens after the last token, those shared by layers counted once.
    pub kv_live_bytes: f64,
    /// Tokens kept by each layer right after the prompt. `[L]`
    pub retained_after_prompt: Vec<f64>,
    /// Tokens kept by each layer after the last token. `[L]`
    pub retained: Vec<f64>,
    /// Rows of the prompt that each layer computed. `[L]`
    pub computed: Vec<f64>,
    /// Mean Kullback-Leibler divergence from the model without hooks, in nats, where that was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    /// Fraction of predictions with the same likeliest token as the model without hooks, where that was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

/// Measure the continuations of `texts`; with `compare`, also against the model without hooks.
///
/// # Errors
/// [`ErrorKind::Input`] when no text fits, or a text not the context; whatever a hook meets.
pub fn evaluate_continuations(
    model: &Transformer,
    tokens: &[u32],
    texts: &Continuations,
    hooks: &HookAdapter,
    compare: bool,
) -> Result<ContinuationReport> {
    let shape = model.configuration();
    let starts: Vec<usize> = texts.starts(tokens.len()).collect();
    if starts.is_empty() {
        return Err(Error::new(
            ErrorKind::Input,
            format!("{} tokens are fewer than a text of {texts}", tokens.len()),
        ));
    }
    let mut sum = Perplexity::new(shape.vocabulary as u64);
    let layers = shape.layers;
    let mut means = [vec![0.0; layers], vec![0.0; layers], vec![0.0; layers]];
    let (mut bytes, mut divergence, mut agreed) = (0.0, 0.0, 0u64);
    let weight = 1.0 / starts.len() as f64;
    let mut add = |which: usize, lengths: &[usize]| {
        for (mean, &length) in means[which].iter_mut().zip(lengths) {
            *mean += weight * length as f64;
        }
    };
    for (index, start) in starts.iter().enumerate() {
        let text = &tokens[*start..start + texts.prompt + texts.new];
        let (prompt, new) = text.split_at(texts.prompt);
        let options = hooks.options(shape, index as u64, prompt.len())?;
        let mut session =
            TransformerSession::begin_with(model, prompt, Sampling::greedy(), options)?;
        let mut plain = compare
            .then(|| TransformerSession::begin(model, prompt, Sampling::greedy()))
            .transpose()?;
        let report = session.report();
        add(0, &report.retained);
        add(2, &report.computed);
        for (offset, &next) in new.iter().enumerate() {
            let nats = session.resistance(next)?;
            if !nats.is_finite() {
                return Err(
                    Error::new(ErrorKind::Numeric, "a probability is not a number")
                        .at(format!("text {index}, token {offset}")),
                );
            }
            sum.add_sum(nats, 1);
            if let Some(plain) = &plain {
                let (kl, same) = divergence_of(plain.logits(), session.logits());
                divergence += kl;
                agreed += u64::from(same);
            }
            // Nothing is predicted after the last token.
            if offset + 1 < new.len() {
                session.force(next)?;
                if let Some(plain) = &mut plain {
                    plain.force(next)?;
                }
            }
        }
        let report = session.report();
        add(1, &report.retained);
        bytes += weight * report.live_bytes as f64;
    }
    let [retained_after_prompt, retained, computed] = means;
    Ok(ContinuationReport {
        perplexity: sum.perplexity(),
        nats_per_token: sum.nats() / sum.tokens() as f64,
        tokens: sum.tokens(),
        texts: starts.len(),
        kv_live_bytes: bytes,
        retained_after_prompt,
        retained,
        computed,
        divergence: compare.then(|| divergence / sum.tokens() as f64),
        agreement: compare.then(|| agreed as f64 / sum.tokens() as f64),
    })
}

/// Compute KL(p ‖ q) of the softmax of two rows of logits, and whether their likeliest tokens are the same.
fn divergence_of(p: &[f32], q: &[f32]) -> (f64, bool) {
    let best = |row: &[f32]| {
        (0..row.len()).fold(
            0,
            |best, index| if row[index] > row[best] { index } else { best },
        )
    };
    let same = best(p) == best(q);
    let (mut a, mut b) = (p.to_vec(), q.to_vec());
    let (of_p, of_q) = (softmax::softmax(&mut a), softmax::softmax(&mut b));
    let kl = a
        .iter()
        .zip(p.iter().zip(q))
        .filter(|(probability, _)| **probability > 0.0)
        .map(|(&probability, (&p, &q))| {
            f64::from(probability) * ((f64::from(p) - of_p) - (f64::from(q) - of_q))
        })
        .sum();
    (kl, same)
}
