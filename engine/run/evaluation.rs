//! Perplexity of a model on held-out tokens, over the full vocabulary.
//!
//! Windows: the state is reset at each window, as in the bench's protocol. Streaming: one context runs on.

use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use crate::measure::Perplexity;
use crate::path::{Charges, Sampling, Session};
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
/// `windows` are the windows measured; those beyond the text are left out.
///
/// # Errors
/// [`ErrorKind::Input`] when no window fits, or a token is outside the vocabulary.
pub fn evaluate_windows(
    mechanism: &Arc<Mechanism>,
    tokens: &[u32],
    length: usize,
    windows: std::ops::Range<usize>,
) -> Result<Evaluation> {
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
    let nats: Vec<f64> = windows
        .par_iter()
        .map(|&window| {
            let tokens = &tokens[window * stride..window * stride + length];
            let mut session = begin(mechanism, tokens[0])?;
            tokens[1..].iter().try_fold(0.0, |sum, &next| {
                predict(&mut session, next).map(|nats| sum + nats)
            })
        })
        .collect::<Result<_>>()?;
    Ok(Evaluation::of(
        nats.iter().sum(),
        windows.len() * stride,
        mechanism.nodes(),
    ))
}

/// Measures `tokens[from..]` with a context that runs on from the first token.
///
/// # Errors
/// [`ErrorKind::Input`] when there is nothing to predict, or a token is outside the vocabulary.
pub fn evaluate_stream(
    mechanism: &Arc<Mechanism>,
    tokens: &[u32],
    from: usize,
    charges: Option<Charges>,
) -> Result<Evaluation> {
    if tokens.len() < 2 || from >= tokens.len() {
        return Err(Error::new(ErrorKind::Input, "there is nothing to predict"));
    }
    let mut session = begin(mechanism, tokens[0])?;
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

fn begin(mechanism: &Arc<Mechanism>, first: u32) -> Result<Session> {
    Session::begin(
        mechanism.clone(),
        &[first],
        &Start::Profile,
        Sampling::greedy(),
    )
}

fn predict(session: &mut Session, next: u32) -> Result<f64> {
    if next as usize >= session.mechanism().nodes() {
        return Err(Error::new(
            ErrorKind::Input,
            format!(
                "token {next} is outside the vocabulary of {}",
                session.mechanism().nodes()
            ),
        ));
    }
    let nats = session.resistance(next);
    if !nats.is_finite() {
        return Err(
            Error::new(ErrorKind::Numeric, "the probability is not a number")
                .at(format!("step {}", session.flow().step)),
        );
    }
    session.force(next)?;
    Ok(nats)
}
