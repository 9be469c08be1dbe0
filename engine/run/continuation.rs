//! Prompts and their true continuations, predicted with the cache as plugins leave it.

use serde::Serialize;

use crate::kernel::softmax;
use crate::measure::{Continuations, Perplexity};
use crate::path::{Sampling, Session, likeliest};
use crate::run::{Engine, Evaluation, HookedEngine, SequenceOptions};
use crate::{Error, ErrorKind, Result};

/// Perplexity of continuations, and what a cache kept for it. Means are over texts.
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
    /// Bytes of kept keys and values after the last token, those shared by layers counted once; of a graph the bytes of
    /// its state.
    pub kv_live_bytes: f64,
    /// Tokens kept by each layer right after the prompt. `[L]`, empty on a graph
    pub retained_after_prompt: Vec<f64>,
    /// Tokens kept by each layer after the last token. `[L]`, empty on a graph
    pub retained: Vec<f64>,
    /// Rows of the prompt that each layer computed. `[L]`, empty on a graph
    pub computed: Vec<f64>,
    /// Mean Kullback-Leibler divergence from the unmodified model, in nats, where that ran as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    /// Fraction of predictions whose likeliest token is that of the unmodified model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

/// Sums over the texts measured so far.
struct Sums {
    perplexity: Perplexity,
    /// Retained after the prompt, retained at the end, computed. `[3][L]`
    layers: [Vec<f64>; 3],
    bytes: f64,
    divergence: f64,
    agreed: u64,
}

impl HookedEngine {
    /// Measure continuations; with `unmodified`, compares each distribution with the model's without hooks.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when no text fits, or a text exceeds the context; those of the hooks.
    pub fn continuations(
        &self,
        tokens: &[u32],
        texts: &Continuations,
        unmodified: bool,
    ) -> Result<ContinuationReport> {
        let mut reports = measure(&[self], tokens, texts, unmodified)?;
        Ok(reports.swap_remove(0))
    }
}

/// Measure the same continuations with several hooks of one model, and compare each distribution with the model's without
/// hooks, which runs once for all of them.
///
/// # Errors
/// As [`HookedEngine::continuations`].
pub fn compare_continuations(
    engines: &[&HookedEngine],
    tokens: &[u32],
    texts: &Continuations,
) -> Result<Vec<ContinuationReport>> {
    measure(engines, tokens, texts, true)
}

fn measure(
    engines: &[&HookedEngine],
    tokens: &[u32],
    texts: &Continuations,
    unmodified: bool,
) -> Result<Vec<ContinuationReport>> {
    let starts: Vec<usize> = texts.starts(tokens.len()).collect();
    if starts.is_empty() {
        return Err(Error::new(
            ErrorKind::Input,
            format!(
                "{} tokens are too few for texts of {texts} tokens",
                tokens.len()
            ),
        )
        .advice("use a longer text or shorter continuations"));
    }
    let mut all: Vec<Sums> = engines
        .iter()
        .map(|hooked| Sums::new(hooked.engine()))
        .collect();
    for (index, &start) in starts.iter().enumerate() {
        let text = &tokens[start..start + texts.prompt + texts.new];
        let (prompt, new) = text.split_at(texts.prompt);
        let options = SequenceOptions {
            sequence: index as u64,
            ..SequenceOptions::default()
        };
        let plain = match engines.first() {
            Some(hooked) if unmodified => Some(predictions(hooked.engine(), prompt, new)?),
            _ => None,
        };
        for (hooked, sums) in engines.iter().zip(&mut all) {
            let mut session = hooked.session(prompt, &options)?;
            sums.add(&mut *session, plain.as_deref(), new)
                .map_err(|error| error.at(format!("text {index}")))?;
        }
    }
    let report = |sums: Sums| sums.report(starts.len(), unmodified);
    Ok(all.into_iter().map(report).collect())
}

/// Compute the logits of each of the `new` tokens, by the model without hooks. `[new][V]`
fn predictions(engine: &Engine, prompt: &[u32], new: &[u32]) -> Result<Vec<Vec<f32>>> {
    let mut session = engine.session(prompt, Sampling::greedy())?;
    let mut all = vec![session.look()?.1.to_vec()];
    // Nothing is predicted after the last token.
    for &next in &new[..new.len() - 1] {
        session.force(next)?;
        all.push(session.look()?.1.to_vec());
    }
    Ok(all)
}

impl Sums {
    fn new(engine: &Engine) -> Self {
        let layers = match engine.as_graph() {
            // The state of a graph has no rows to count.
            Some(_) => Vec::new(),
            None => vec![0.0; engine.summary().layers.unwrap_or(0)],
        };
        Self {
            perplexity: Perplexity::new(engine.vocabulary() as u64),
            layers: [layers.clone(), layers.clone(), layers],
            bytes: 0.0,
            divergence: 0.0,
            agreed: 0,
        }
    }

    fn report(self, texts: usize, unmodified: bool) -> ContinuationReport {
        let count = texts as f64;
        let tokens = self.perplexity.tokens() as f64;
        let [retained_after_prompt, retained, computed] = self
            .layers
            .map(|layers| layers.iter().map(|sum| sum / count).collect());
        ContinuationReport {
            perplexity: self.perplexity.perplexity(),
            nats_per_token: self.perplexity.nats_per_token(),
            tokens: self.perplexity.tokens(),
            texts,
            kv_live_bytes: self.bytes / count,
            retained_after_prompt,
            retained,
            computed,
            divergence: unmodified.then(|| self.divergence / tokens),
            agreement: unmodified.then(|| self.agreed as f64 / tokens),
        }
    }

    fn add(
        &mut self,
        session: &mut dyn Session,
        plain: Option<&[Vec<f32>]>,
        new: &[u32],
    ) -> Result<()> {
        let add = |sums: &mut [f64], lengths: &[usize]| {
            for (sum, &length) in sums.iter_mut().zip(lengths) {
                *sum += length as f64;
            }
        };
        let report = session.cache().unwrap_or_default();
        add(&mut self.layers[0], &report.retained);
        add(&mut self.layers[2], &report.computed);
        for (index, &next) in new.iter().enumerate() {
            let nats = session.resistance(next)?;
            if !nats.is_finite() {
                return Err(
                    Error::new(ErrorKind::Numeric, "a probability is not a number")
                        .at(format!("token {index}")),
                );
            }
            self.perplexity.add_nats(nats);
            if let Some(plain) = plain {
                let (divergence, same) = compare(&plain[index], session.look()?.1);
                self.divergence += divergence;
                self.agreed += u64::from(same);
            }
            // Nothing is predicted after the last token.
            if index + 1 < new.len() {
                session.force(next)?;
            }
        }
        let report = session.cache().unwrap_or_default();
        add(&mut self.layers[1], &report.retained);
        self.bytes += session.state_bytes() as f64;
        Ok(())
    }
}

/// Return KL(p ‖ q) = Σ p (ln p − ln q) of two rows of logits, and whether their likeliest tokens are the same.
fn compare(p: &[f32], q: &[f32]) -> (f64, bool) {
    let (mut a, mut b) = (p.to_vec(), q.to_vec());
    let (of_p, of_q) = (softmax::softmax(&mut a), softmax::softmax(&mut b));
    let divergence = a
        .iter()
        .zip(p.iter().zip(q))
        .filter(|(probability, _)| **probability > 0.0)
        .map(|(&probability, (&p, &q))| {
            f64::from(probability) * ((f64::from(p) - of_p) - (f64::from(q) - of_q))
        })
        .sum();
    (divergence, likeliest(p) == likeliest(q))
}

impl ContinuationReport {
    /// The same as an evaluation over all V tokens.
    pub fn evaluation(&self, vocabulary: usize) -> Evaluation {
        Evaluation {
            perplexity: self.perplexity,
            nats_per_token: self.nats_per_token,
            tokens: self.tokens as usize,
            candidates: vocabulary,
        }
    }
}
