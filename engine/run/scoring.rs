//! How likely a text is to a model, token by token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::hook::Hooks;
use crate::kernel::select::top_k;
use crate::kernel::softmax;
use crate::run::{Engine, SequenceOptions};
use crate::{Error, ErrorKind, Result};

/// How likely one token was, and what was likelier.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub id: u32,
    /// ln p of it after those before it, over all V; the first token of a text has none before it.
    pub ln_probability: Option<f64>,
    /// The likeliest tokens there, with ln p.
    pub top: Vec<(u32, f64)>,
}

impl TokenScore {
    /// Score a token by the logits of all V, and lists the `top` likeliest. `logits [V]`
    pub fn of(id: u32, logits: &[f32], top: usize) -> Self {
        let normaliser = softmax::softmax(&mut logits.to_vec());
        let ln = |id: u32| f64::from(logits[id as usize]) - normaliser;
        let likeliest = top_k(logits, top, |_| true);
        Self {
            id,
            ln_probability: Some(ln(id)),
            top: likeliest.into_iter().map(|id| (id, ln(id))).collect(),
        }
    }

    /// A token without a probability: the first of a text, or one that is not measured.
    pub fn unscored(id: u32) -> Self {
        Self {
            id,
            ln_probability: None,
            top: Vec::new(),
        }
    }
}

/// Score every token of a text except the first, and lists the `top` likeliest tokens at each.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty text or a token outside the vocabulary; [`ErrorKind::Cancelled`] once the flag is
/// set; [`ErrorKind::Unsupported`] for a masked language model, whose tokens have no order; those of the hooks.
pub fn score_tokens(
    engine: &Engine,
    tokens: &[u32],
    top: usize,
    hooks: &Hooks,
    cancel: Option<&Arc<AtomicBool>>,
) -> Result<Vec<TokenScore>> {
    let Some((&first, rest)) = tokens.split_first() else {
        return Err(
            Error::new(ErrorKind::Input, "no tokens to score").advice("pass at least one token")
        );
    };
    crate::measure::check_ids(tokens, engine.vocabulary())?;
    if !engine.is_causal() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a masked language model has no left-to-right probabilities",
        )
        .at(engine.name()));
    }
    let hooked = engine.with_hooks(hooks, 0)?;
    let options = SequenceOptions {
        alone: true,
        ..SequenceOptions::default()
    };
    let mut session = hooked.session(&[first], &options)?;
    let mut scored = vec![TokenScore::unscored(first)];
    session.predict(rest, &mut |index, logits| {
        if cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            return Err(Error::new(
                ErrorKind::Cancelled,
                "the scoring was cancelled",
            ));
        }
        let score = TokenScore::of(rest[index], logits, top);
        if score.ln_probability.is_some_and(f64::is_nan) {
            return Err(
                Error::new(ErrorKind::Numeric, "the probability is not a number")
                    .at(format!("token {}", index + 1)),
            );
        }
        scored.push(score);
        Ok(())
    })?;
    Ok(scored)
}
