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
/// [`ErrorKind::Input`] when the tokens are fewer than a text, or a text longer than the context; errors of hooks.
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
    let mut sums = Sums {
        nats: Perplexity::new(shape.vocabulary as u64),
        divergence: 0.0,
        agreed: 0,
    };
    let zeros = || vec![0.0; shape.layers];
    let (mut after_prompt, mut retained, mut computed) = (zeros(), zeros(), zeros());
    let mut bytes = 0.0;
    let weight = 1.0 / starts.len() as f64;
    let add = |means: &mut [f64], lengths: &[usize]| {
        for (mean, &length) in means.iter_mut().zip(lengths) {
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
        add(&mut after_prompt, &report.retained);
        add(&mut computed, &report.computed);
        sums.predict(&mut session, plain.as_mut(), new)
            .map_err(|error| error.at(format!("text {index}")))?;
        let report = session.report();
        add(&mut retained, &report.retained);
        bytes += weight * report.live_bytes as f64;
    }
    let predictions = sums.nats.tokens() as f64;
    Ok(ContinuationReport {
        perplexity: sums.nats.perplexity(),
        nats_per_token: sums.nats.nats() / predictions,
        tokens: sums.nats.tokens(),
        texts: starts.len(),
        kv_live_bytes: bytes,
        retained_after_prompt: after_prompt,
        retained,
        computed,
        divergence: compare.then(|| sums.divergence / predictions),
        agreement: compare.then(|| sums.agreed as f64 / predictions),
    })
}

/// Sums over all predictions.
struct Sums {
    nats: Perplexity,
    divergence: f64,
    agreed: u64,
}

impl Sums {
    /// Predict the tokens of a continuation, and compare each prediction with that of a session without hooks.
    fn predict(
        &mut self,
        session: &mut TransformerSession,
        mut plain: Option<&mut TransformerSession>,
        new: &[u32],
    ) -> Result<()> {
        for (offset, &next) in new.iter().enumerate() {
            let nats = session.resistance(next)?;
            if !nats.is_finite() {
                return Err(
                    Error::new(ErrorKind::Numeric, "a probability is not a number")
                        .at(format!("token {offset}")),
                );
            }
            self.nats.add_sum(nats, 1);
            if let Some(plain) = &plain {
                let (kl, same) = divergence_of(plain.logits(), session.logits());
                self.divergence += kl;
                self.agreed += u64::from(same);
            }
            // Nothing is predicted after the last token.
            if offset + 1 < new.len() {
                session.force(next)?;
                if let Some(plain) = &mut plain {
                    plain.force(next)?;
                }
            }
        }
        Ok(())
    }
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
    // KL(p ‖ q) = Σ p (ln p − ln q) with ln p = logit − ln Σ e^logit, which the softmax returns.
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
