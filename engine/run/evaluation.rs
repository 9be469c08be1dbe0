//! Perplexity of a graph on held-out tokens, over the full vocabulary.
//!
//! Windows: the state is reset at each window. Streaming: one context continues through the text.

use std::sync::Arc;

use serde::Serialize;

use crate::hook::Hooks;
use crate::learn::{DynamicLearner, DynamicSettings};
use crate::measure::{Perplexity, Windows};
use crate::model::ChargeSettings;
use crate::path::{GraphSession, HookRunner, RecallSettings, Sampling, Session};
use crate::run::SequenceRanks;
use crate::signal::{Mechanism, Start};
use crate::{Error, ErrorKind, Result};

/// The outcome of an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// exp of the nats per token.
    pub perplexity: f64,
    /// Mean −ln p.
    pub nats_per_token: f64,
    /// Predictions made.
    pub tokens: usize,
    /// Targets each prediction chose among: all V.
    pub candidates: usize,
}

impl Evaluation {
    pub(super) fn of(nats: f64, tokens: usize, candidates: usize) -> Self {
        let mean = nats / tokens.max(1) as f64;
        Self {
            perplexity: mean.exp(),
            nats_per_token: mean,
            tokens,
            candidates,
        }
    }
}

/// Measure perplexity over windows, with a flow of its own in each.
///
/// With `hooks`, windows are measured one after the other, each as a sequence of its own.
///
/// # Errors
/// [`ErrorKind::Input`] when no window fits, or a token is outside the vocabulary.
pub fn evaluate_windows(
    mechanism: &Arc<Mechanism>,
    tokens: &[u32],
    windows: &Windows,
    hooks: &Hooks,
) -> Result<Evaluation> {
    let sequences = SequenceRanks::one_process();
    evaluate_windows_over(&sequences, mechanism, tokens, windows, hooks)
}

/// Measure windows as [`evaluate_windows`] does, with the same result, each on one of several ranks. The mechanism is that of
/// the model that [`SequenceRanks::new`] has returned.
///
/// # Errors
/// As [`evaluate_windows`], and those of an exchange.
pub fn evaluate_windows_over(
    sequences: &SequenceRanks,
    mechanism: &Arc<Mechanism>,
    tokens: &[u32],
    windows: &Windows,
    hooks: &Hooks,
) -> Result<Evaluation> {
    let spans: Vec<_> = windows.spans(tokens.len())?.collect();
    let one = |index: usize| {
        let sequence = (windows.first + index) as u64;
        let tokens = &tokens[spans[index].clone()];
        let mut session = begin(mechanism, tokens[0], HookRunner::new(hooks, sequence))?;
        tokens[1..].iter().try_fold(0.0, |sum, &next| {
            predict(&mut session, next).map(|nats| sum + nats)
        })
    };
    let nats = sequences.numbers(spans.len(), !hooks.is_empty(), &one)?;
    Ok(Evaluation::of(
        nats.iter().sum(),
        spans.len() * (windows.length - 1),
        mechanism.nodes(),
    ))
}

/// Measure windows as [`evaluate_windows`] does, many at once on a device.
///
/// # Errors
/// As [`evaluate_windows`], and those of the device.
#[cfg(feature = "gpu")]
pub fn evaluate_windows_on(
    device: &Arc<crate::signal::DeviceMechanism>,
    tokens: &[u32],
    windows: &Windows,
) -> Result<Evaluation> {
    use crate::kernel::random::Random;
    use crate::kernel::softmax;
    use crate::path::Decoder;
    /// Windows at once.
    const SEQUENCES: usize = 64;
    let mechanism = device.mechanism();
    let spans: Vec<_> = windows.spans(tokens.len())?.collect();
    let sequences = SEQUENCES.min(spans.len());
    let mut decoder = Decoder::new(device.clone(), sequences, 1, Sampling::greedy(), &[], 0)?;
    let random = Random::new(0);
    let mut nats = 0.0;
    for group in spans.chunks(SEQUENCES) {
        decoder.clear();
        let mut flows = group
            .iter()
            .map(|span| mechanism.begin(tokens[span.start], &Start::Profile))
            .collect::<Result<Vec<_>>>()?;
        for step in 1..windows.length {
            for (sequence, flow) in flows.iter().enumerate() {
                decoder.set(sequence, flow, &random, &[])?;
            }
            let (_, logits) = decoder.look()?;
            for ((flow, span), mut logits) in flows.iter_mut().zip(group).zip(logits) {
                let next = tokens[span.start + step];
                mechanism.check_node(next)?;
                let logit = f64::from(logits[next as usize]);
                nats += finite(softmax::softmax(&mut logits) - logit, flow.step)?;
                mechanism.hop(flow, next)?;
            }
        }
    }
    Ok(Evaluation::of(
        nats,
        spans.len() * (windows.length - 1),
        mechanism.nodes(),
    ))
}

/// What changes the predictions of a stream besides the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StreamOptions {
    /// Charges of visited nodes and edges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charges: Option<ChargeSettings>,
    /// Recall of past signals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall: Option<RecallSettings>,
    /// Learning from the stream: the model is scored on 32 tokens, then learns from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<DynamicSettings>,
}

impl StreamOptions {
    /// Name an option that is set.
    #[cfg(feature = "transformer")]
    pub(super) fn used(&self) -> Option<&'static str> {
        let options = [
            (self.charges.is_some(), "charges"),
            (self.recall.is_some(), "recall"),
            (self.dynamic.is_some(), "dynamic evaluation"),
        ];
        options
            .iter()
            .find(|option| option.0)
            .map(|option| option.1)
    }
}

/// Measure `tokens[from..]` with one flow that continues from the first token.
///
/// ```
/// let model = brillm::Model::open("models/english.bril".as_ref(), Default::default())?;
/// let tokens = model.tokenizer().encode("Once upon a time there was a little girl.")?;
/// let options = Default::default();
/// let measured = brillm::run::evaluate_stream(model.mechanism(), &tokens, 1, &options, &Default::default())?;
/// assert_eq!(measured.tokens, tokens.len() - 1);
/// assert!(measured.perplexity < 4000.0); // better than guessing among all tokens
/// # Ok::<(), brillm::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Input`] when there is nothing to predict, a token is outside the vocabulary, or an option out of range;
/// those of [`DynamicLearner`].
pub fn evaluate_stream(
    mechanism: &Arc<Mechanism>,
    tokens: &[u32],
    from: usize,
    options: &StreamOptions,
    hooks: &Hooks,
) -> Result<Evaluation> {
    if tokens.len() < 2 || from >= tokens.len() {
        return Err(Error::new(ErrorKind::Input, "no tokens to predict")
            .advice("measure a text of at least two tokens"));
    }
    let mut session = begin(mechanism, tokens[0], HookRunner::new(hooks, 0))?;
    if let Some(charges) = &options.charges {
        session.set_charges(charges.charges());
    }
    session.set_recall(options.recall.unwrap_or_default())?;
    let learner = |settings| DynamicLearner::new(mechanism, settings);
    let mut learner = options.dynamic.map(learner).transpose()?;
    let mut nats = 0.0;
    for (position, &next) in tokens.iter().enumerate().skip(1) {
        let predicted = match position >= from {
            true => predict(&mut session, next),
            false => session.force(next).map(|()| 0.0),
        };
        nats += predicted.map_err(|error| match error.kind() {
            ErrorKind::Numeric if learner.is_some() => {
                error.advice("lower the rate of dynamic evaluation")
            }
            _ => error,
        })?;
        if let Some(learner) = &mut learner
            && let Some(changed) = learner.learn(&tokens[..=position])?
        {
            session.set_mechanism(changed);
        }
    }
    Ok(Evaluation::of(
        nats,
        tokens.len() - from.max(1),
        mechanism.nodes(),
    ))
}

/// Measure a text as [`evaluate_stream`] does, with the same result, on rank 0 with the own edges of all ranks; see
/// [`evaluate_windows_over`].
///
/// # Errors
/// As [`evaluate_stream`], and those of an exchange.
pub fn evaluate_stream_over(
    sequences: &SequenceRanks,
    mechanism: &Arc<Mechanism>,
    tokens: &[u32],
    from: usize,
    options: &StreamOptions,
) -> Result<Evaluation> {
    let predictions = tokens.len().saturating_sub(from.max(1));
    let one = |_| {
        let measured = evaluate_stream(mechanism, tokens, from, options, &Hooks::default())?;
        Ok(measured.nats_per_token)
    };
    let means = sequences.numbers(1, true, &one)?;
    let nats_per_token = means.iter().sum::<f64>();
    Ok(Evaluation {
        perplexity: nats_per_token.exp(),
        nats_per_token,
        tokens: predictions,
        candidates: mechanism.nodes(),
    })
}

/// Measure documents, each with a flow of its own.
///
/// # Errors
/// [`ErrorKind::Input`] when no document has two tokens, or a token is outside the vocabulary.
pub fn evaluate_documents(
    mechanism: &Arc<Mechanism>,
    documents: &[Vec<u32>],
    hooks: &Hooks,
) -> Result<Evaluation> {
    let sequences = SequenceRanks::one_process();
    evaluate_documents_over(&sequences, mechanism, documents, hooks)
}

/// Measure documents as [`evaluate_documents`] does, with the same result, each on one of several ranks; see
/// [`evaluate_windows_over`].
///
/// # Errors
/// As [`evaluate_documents`], and those of an exchange.
pub fn evaluate_documents_over(
    sequences: &SequenceRanks,
    mechanism: &Arc<Mechanism>,
    documents: &[Vec<u32>],
    hooks: &Hooks,
) -> Result<Evaluation> {
    let mut sum = Perplexity::new(mechanism.nodes() as u64);
    let options = StreamOptions::default();
    let measured = documents.iter().filter(|document| document.len() > 1);
    let measured: Vec<&Vec<u32>> = measured.collect();
    let one = |index: usize| {
        let measured = evaluate_stream(mechanism, measured[index], 1, &options, hooks)?;
        Ok(measured.nats_per_token * measured.tokens as f64)
    };
    let nats = sequences.numbers(measured.len(), !hooks.is_empty(), &one)?;
    for (document, nats) in measured.iter().zip(nats) {
        sum.add_sum(nats, document.len() as u64 - 1);
    }
    if sum.tokens() == 0 {
        return Err(Error::new(ErrorKind::Input, "no text has two tokens")
            .advice("measure texts of at least two tokens"));
    }
    Ok(sum.into())
}

impl From<Perplexity> for Evaluation {
    fn from(measured: Perplexity) -> Self {
        Self::of(
            measured.nats(),
            measured.tokens() as usize,
            measured.candidates() as usize,
        )
    }
}

fn begin(
    mechanism: &Arc<Mechanism>,
    first: u32,
    hook_runner: Option<Box<HookRunner>>,
) -> Result<GraphSession> {
    GraphSession::begin_with_hooks(
        mechanism.clone(),
        &[first],
        &Start::Profile,
        Sampling::greedy(),
        hook_runner,
    )
}

fn predict(session: &mut GraphSession, next: u32) -> Result<f64> {
    if next as usize >= session.mechanism().nodes() {
        return Err(Error::new(
            ErrorKind::Input,
            format!(
                "token {next} is outside the vocabulary of {}",
                session.mechanism().nodes()
            ),
        ));
    }
    let nats = finite(session.resistance(next)?, session.flow().step)?;
    session.force(next)?;
    Ok(nats)
}

fn finite(nats: f64, step: u64) -> Result<f64> {
    if nats.is_finite() {
        return Ok(nats);
    }
    Err(
        Error::new(ErrorKind::Numeric, "the probability is not a number")
            .at(format!("step {step}")),
    )
}
