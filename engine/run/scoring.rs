//! How likely a text is to a model, token by token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::hook::Hooks;
use crate::kernel::softmax;
use crate::path::{GraphSession, HookRunner, Sampling};
use crate::run::Engine;
use crate::signal::Start;
use crate::{Error, ErrorKind, Result};

/// Rows that a network scores at a time.
#[cfg(feature = "transformer")]
const ROWS: usize = 64;

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
    /// The score of a token among scores of all V.
    pub fn of(id: u32, scores: &[f32], top: usize) -> Self {
        let mut spent = scores.to_vec();
        let normaliser = softmax::softmax(&mut spent);
        let ln = |id: u32| f64::from(scores[id as usize]) - normaliser;
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        let likelier = |&a: &u32, &b: &u32| {
            scores[b as usize]
                .total_cmp(&scores[a as usize])
                .then(a.cmp(&b))
        };
        let top = top.min(order.len());
        if top > 0 && top < order.len() {
            order.select_nth_unstable_by(top - 1, likelier);
        }
        order.truncate(top);
        order.sort_unstable_by(likelier);
        Self {
            id,
            ln_probability: Some(ln(id)),
            top: order.into_iter().map(|id| (id, ln(id))).collect(),
        }
    }
}

/// Scores every token of a text, the first by `None`: what `eval` sums up. `top` likeliest tokens are listed at each.
///
/// # Errors
/// [`ErrorKind::Input`] for an empty text or a token outside the vocabulary; [`ErrorKind::Cancelled`] once the flag is
/// set; [`ErrorKind::Unsupported`] for a model that sees both sides, whose tokens have no order; whatever a hook meets.
///
/// # Complexity
/// One step a token; a network without hooks takes 64 tokens at a time.
pub fn score_tokens(
    engine: &Engine,
    tokens: &[u32],
    top: usize,
    hooks: &Hooks,
    cancel: Option<&Arc<AtomicBool>>,
) -> Result<Vec<TokenScore>> {
    let Some(&first) = tokens.first() else {
        return Err(Error::new(ErrorKind::Input, "there is nothing to score"));
    };
    crate::measure::check_ids(tokens, engine.vocabulary())?;
    let check = || match cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
        true => Err(Error::new(
            ErrorKind::Cancelled,
            "the scoring was cancelled",
        )),
        false => Ok(()),
    };
    let mut scored = vec![TokenScore {
        id: first,
        ln_probability: None,
        top: Vec::new(),
    }];
    match engine {
        Engine::Graph(model) => {
            let mut session = GraphSession::begin_with_hooks(
                model.mechanism().clone(),
                &tokens[..1],
                &Start::Profile,
                Sampling::greedy(),
                HookRunner::new(hooks, 0),
            )?;
            for &next in &tokens[1..] {
                check()?;
                scored.push(TokenScore::of(next, session.look()?.1, top));
                session.force(next)?;
            }
        }
        #[cfg(feature = "transformer")]
        Engine::Transformer(model) => {
            use crate::path::Session;
            use crate::transformer::{Cache, HookAdapter, LogitsFor, Phase, Plan, Taps};
            let causal = model
                .network()
                .is_none_or(|net| net.configuration().causal());
            if !causal {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the model sees both sides: its tokens have no probabilities one after the other",
                )
                .at(model.name()));
            }
            match model.network().filter(|_| hooks.is_empty()) {
                Some(network) => {
                    let plan = Plan::full(network.configuration().layers);
                    let mut cache = Cache::new(network.configuration(), plan, 1)?;
                    let mut phase = Phase::Prefill;
                    let before = &tokens[..tokens.len() - 1];
                    for (rows, chunk) in before.chunks(ROWS).enumerate() {
                        check()?;
                        let mut taps = Taps::default();
                        let passed = network.advance(
                            &mut cache,
                            &[chunk],
                            phase,
                            LogitsFor::All,
                            &mut taps,
                        )?;
                        for row in 0..chunk.len() {
                            let next = tokens[rows * ROWS + row + 1];
                            scored.push(TokenScore::of(next, passed.row(row), top));
                        }
                        phase = Phase::Decode;
                    }
                }
                None => {
                    let asked = HookAdapter::new(model, hooks, 0, None)?;
                    let options = asked.options(model.configuration(), 0, tokens.len())?;
                    let mut session = crate::transformer::TransformerSession::begin_with(
                        model,
                        &tokens[..1],
                        Sampling::greedy(),
                        options,
                    )?;
                    for &next in &tokens[1..] {
                        check()?;
                        scored.push(TokenScore::of(next, session.logits(), top));
                        session.force(next)?;
                    }
                }
            }
        }
    }
    match scored
        .iter()
        .position(|score| score.ln_probability.is_some_and(f64::is_nan))
    {
        None => Ok(scored),
        Some(place) => Err(
            Error::new(ErrorKind::Numeric, "the probability is not a number")
                .at(format!("token {place}")),
        ),
    }
}
