//! Perplexity of a model on held-out tokens, over the full vocabulary.
//!
//! Windows: the state is reset at each window, as in the bench's protocol. Streaming: one context runs on.

use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use crate::hook::Hooks;
use crate::measure::Perplexity;
use crate::path::{Charges, GraphSession, HookRunner, Sampling};
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
    fn of(nats: f64, tokens: usize, candidates: usize) -> Self {
        let mean = nats / tokens.max(1) as f64;
        Self {
            perplexity: mean.exp(),
            nats_per_token: mean,
            tokens,
            candidates,
        }
    }
}

/// Measures windows of `length` tokens, `length − 1` predictions each, whose first tokens are `stride`
/// apart; window w begins at token `stride · w`.
///
/// `windows` are the windows measured; those beyond the text are left out. With `hooks` they are measured one
/// after the other, each as a sequence of its own.
///
/// # Errors
/// [`ErrorKind::Input`] when no window fits, or a token is outside the vocabulary.
pub fn evaluate_windows(
    mechanism: &Arc<Mechanism>,
    tokens: &[u32],
    length: usize,
    windows: std::ops::Range<usize>,
    hooks: &Hooks,
) -> Result<Evaluation> {
    let windows = fitting(tokens, length, windows)?;
    let stride = length - 1;
    let one = |&window: &usize| {
        let tokens = &tokens[window * stride..window * stride + length];
        let mut session = begin(mechanism, tokens[0], HookRunner::new(hooks, window as u64))?;
        tokens[1..].iter().try_fold(0.0, |sum, &next| {
            predict(&mut session, next).map(|nats| sum + nats)
        })
    };
    // Hooks keep state: they are asked in an order that replays.
    let nats: Vec<f64> = if hooks.is_empty() {
        windows.par_iter().map(one).collect::<Result<_>>()?
    } else {
        windows.iter().map(one).collect::<Result<_>>()?
    };
    Ok(Evaluation::of(
        nats.iter().sum(),
        windows.len() * stride,
        mechanism.nodes(),
    ))
}

/// As [`evaluate_windows`], many windows side by side on a device.
///
/// # Errors
/// As [`evaluate_windows`], and those of the device.
#[cfg(feature = "gpu")]
pub fn evaluate_windows_on(
    device: &Arc<crate::signal::DeviceMechanism>,
    tokens: &[u32],
    length: usize,
    windows: std::ops::Range<usize>,
) -> Result<Evaluation> {
    use crate::kernel::random::Random;
    use crate::kernel::softmax;
    use crate::path::Decoder;
    /// Windows side by side.
    const LANES: usize = 64;
    let mechanism = device.mechanism();
    let windows = fitting(tokens, length, windows)?;
    let stride = length - 1;
    let mut decoder = Decoder::new(
        device.clone(),
        LANES.min(windows.len()),
        1,
        Sampling::greedy(),
        &[],
        0,
    )?;
    let random = Random::new(0);
    let mut nats = 0.0;
    for group in windows.chunks(LANES) {
        decoder.clear();
        let mut flows = group
            .iter()
            .map(|&window| mechanism.begin(tokens[window * stride], &Start::Profile))
            .collect::<Result<Vec<_>>>()?;
        for step in 1..length {
            for (sequence, flow) in flows.iter().enumerate() {
                decoder.set(sequence, flow, &random, &[])?;
            }
            let (_, logits) = decoder.look()?;
            for ((flow, &window), mut logits) in flows.iter_mut().zip(group).zip(logits) {
                let next = tokens[window * stride + step];
                mechanism.check_node(next)?;
                let score = f64::from(logits[next as usize]);
                nats += finite(softmax::softmax(&mut logits) - score, flow.step)?;
                mechanism.hop(flow, next)?;
            }
        }
    }
    Ok(Evaluation::of(
        nats,
        windows.len() * stride,
        mechanism.nodes(),
    ))
}

/// Measures `tokens[from..]` with a context that runs on from the first token.
///
/// ```
/// let model = brillm::Model::open("models/english.bril".as_ref(), Default::default())?;
/// let tokens = model.tokenizer().encode("Once upon a time there was a little girl.")?;
/// let measured = brillm::run::evaluate_stream(model.mechanism(), &tokens, 1, None, &Default::default())?;
/// assert_eq!(measured.tokens, tokens.len() - 1);
/// assert!(measured.perplexity < 4000.0); // better than guessing among all tokens
/// # Ok::<(), brillm::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Input`] when there is nothing to predict, or a token is outside the vocabulary.
pub fn evaluate_stream(
    mechanism: &Arc<Mechanism>,
    tokens: &[u32],
    from: usize,
    charges: Option<Charges>,
    hooks: &Hooks,
) -> Result<Evaluation> {
    if tokens.len() < 2 || from >= tokens.len() {
        return Err(Error::new(ErrorKind::Input, "there is nothing to predict"));
    }
    let mut session = begin(mechanism, tokens[0], HookRunner::new(hooks, 0))?;
    if let Some(charges) = charges {
        session.set_charges(charges);
    }
    let mut nats = 0.0;
    for (place, &next) in tokens.iter().enumerate().skip(1) {
        if place >= from {
            nats += predict(&mut session, next)?;
        } else {
            session.force(next)?;
        }
    }
    Ok(Evaluation::of(
        nats,
        tokens.len() - from.max(1),
        mechanism.nodes(),
    ))
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

/// The windows that lie within the text.
fn fitting(tokens: &[u32], length: usize, windows: std::ops::Range<usize>) -> Result<Vec<usize>> {
    if length < 2 {
        return Err(Error::new(
            ErrorKind::Input,
            "a window needs at least 2 tokens",
        ));
    }
    let stride = length - 1;
    let fits = tokens.len().saturating_sub(1) / stride;
    let windows: Vec<usize> = (windows.start..windows.end.min(fits)).collect();
    if windows.is_empty() {
        return Err(Error::new(
            ErrorKind::Input,
            format!("{} tokens hold no window of {length}", tokens.len()),
        ));
    }
    Ok(windows)
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
    match nats.is_finite() {
        true => Ok(nats),
        false => Err(
            Error::new(ErrorKind::Numeric, "the probability is not a number")
                .at(format!("step {step}")),
        ),
    }
}
