//! Perplexity on held-out tokens, by the same protocols as for a graph.

use std::ops::Range;

use crate::kernel::random::Random;
use crate::measure::{Perplexity, Windows};
use crate::path::{Sampling, Session};
use crate::transformer::batch::{TokenBatch, cross_entropy};
use crate::transformer::masking::{MASK_FRACTION, Masking, mask_tokens};
use crate::transformer::model::Body;
use crate::transformer::operation::to_vec;
use crate::transformer::{Architecture, Transformer, TransformerSession};
use crate::{Error, ErrorKind, Result};

/// Most rows in a batch: the logits of all V tokens are in memory for each.
const ROWS: usize = 2048;

/// Seed of the masks when a masked model is measured: the same for every model.
const HIDDEN: u64 = 0x6d61_736b;

/// Compute −ln p of the targets of a batch. `[B · T]`
fn losses(model: &Transformer, input: &TokenBatch, targets: &[u32]) -> Result<Vec<f32>> {
    let body = model.body();
    let x = body.forward(input, None)?;
    Ok(to_vec(&cross_entropy(&body.logits(&x)?, targets)?)?)
}

fn add(sum: &mut Perplexity, losses: &[f32]) -> Result<()> {
    if losses.iter().any(|loss| !loss.is_finite()) {
        return Err(Error::new(
            ErrorKind::Numeric,
            "a probability is not a number",
        ));
    }
    sum.add_sum(
        losses.iter().map(|&loss| f64::from(loss)).sum(),
        losses.len() as u64,
    );
    Ok(())
}

/// Measure perplexity over windows, each a context of its own. Of a masked language model 15 % of each window's
/// tokens are masked, the same for every model, and predicted.
///
/// # Errors
/// [`ErrorKind::Input`] when no window fits the text, or a window exceeds the model's context.
pub fn evaluate_windows(
    model: &Transformer,
    tokens: &[u32],
    windows: &Windows,
) -> Result<Perplexity> {
    let spans: Vec<Range<usize>> = windows.spans(tokens.len())?.collect();
    // A window of n tokens has n − 1 predictions, each from the tokens of the window before it.
    let stride = windows.length - 1;
    let mut sum = Perplexity::new(model.configuration().vocabulary as u64);
    if !model.configuration().causal() {
        // Masks depend on the window's number, so every model predicts the same tokens.
        for (window, span) in (windows.first..).zip(spans) {
            let length = span.len();
            let input = TokenBatch::new(tokens[span].to_vec(), length);
            add(&mut sum, &masked(model, &input, window as u64)?)?;
        }
        return Ok(sum);
    }
    // Windows have one length: several are one batch without padding.
    for group in spans.chunks((ROWS / stride).max(1)) {
        let gather = |from: usize| -> Vec<u32> {
            group
                .iter()
                .flat_map(|span| &tokens[span.start + from..][..stride])
                .copied()
                .collect()
        };
        let input = TokenBatch::new(gather(0), stride);
        add(&mut sum, &losses(model, &input, &gather(1))?)?;
    }
    Ok(sum)
}

/// Compute −ln p of the masked tokens of text number `index`.
fn masked(model: &Transformer, input: &TokenBatch, index: u64) -> Result<Vec<f32>> {
    let shape = model.configuration();
    let Body::Network(network) = &**model.body() else {
        return Err(Error::new(ErrorKind::Unsupported, "the model has no mask"));
    };
    let mask = mask_token(model)?;
    let mut random = Random::stream(HIDDEN, 0, index);
    let (before, after) = model.tokenizer().frame();
    let fixed: Vec<u32> = before.into_iter().chain(after).collect();
    let masking = Masking {
        fraction: MASK_FRACTION,
        fixed: &fixed,
        ..Masking::default()
    };
    let masked = mask_tokens(input, &masking, mask, shape.vocabulary, &mut random);
    Ok(to_vec(&network.masked_losses(&masked, None)?)?)
}

/// Return the id of the mask token.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a model without one.
pub fn mask_token(model: &Transformer) -> Result<u32> {
    model
        .configuration()
        .mask
        .or_else(|| model.tokenizer().vocabulary().id("[MASK]"))
        .filter(|&mask| (mask as usize) < model.configuration().vocabulary)
        .ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the model has no mask token")
                .advice("set mask_token_id in config.json")
        })
}

/// Measure `tokens[from..]` with a context that runs on: a recurrent net's without end, a transformer's over
/// blocks of its context that overlap by half, each token predicted from at least half a context where the
/// text has one.
///
/// # Errors
/// [`ErrorKind::Input`] when there is nothing to predict.
pub fn evaluate_stream(model: &Transformer, tokens: &[u32], from: usize) -> Result<Perplexity> {
    let from = from.max(1);
    if from >= tokens.len() {
        return Err(Error::new(ErrorKind::Input, "no tokens to predict")
            .advice("measure a text of at least two tokens"));
    }
    let shape = model.configuration();
    let mut sum = Perplexity::new(shape.vocabulary as u64);
    if shape.architecture == Architecture::Lstm {
        let mut session = TransformerSession::begin(model, &tokens[..1], Sampling::greedy())?;
        for (index, &next) in tokens.iter().enumerate().skip(1) {
            if index >= from {
                add(&mut sum, &[session.resistance(next)? as f32])?;
            }
            session.force(next)?;
        }
        return Ok(sum);
    }
    let context = shape.context.clamp(2, ROWS);
    if !shape.causal() {
        for (index, block) in tokens[from - 1..].chunks(context).enumerate() {
            let input = TokenBatch::new(block.to_vec(), block.len());
            add(&mut sum, &masked(model, &input, index as u64)?)?;
        }
        return Ok(sum);
    }
    let mut next = from;
    while next < tokens.len() {
        // The first block may be full of predictions; later ones keep half of the context before them.
        let start = next.saturating_sub(context / 2);
        let end = (start + context).min(tokens.len() - 1);
        let input = TokenBatch::new(tokens[start..end].to_vec(), end - start);
        let losses = losses(model, &input, &tokens[start + 1..=end])?;
        add(&mut sum, &losses[next - start - 1..])?;
        next = end + 1;
    }
    Ok(sum)
}

/// Measure texts one by one, each seen from its begin mark and cut to the model's context.
///
/// # Errors
/// [`ErrorKind::Input`] when no text has two tokens.
pub fn evaluate_documents(model: &Transformer, documents: &[Vec<u32>]) -> Result<Perplexity> {
    let shape = model.configuration();
    let mut sum = Perplexity::new(shape.vocabulary as u64);
    let context = match shape.context {
        0 => usize::MAX,
        context => context,
    };
    let cut = documents.iter().filter(|document| document.len() > context);
    if let (cut @ 1.., all) = (cut.count(), documents.len()) {
        tracing::warn!("{cut} of {all} texts are cut to the model's {context} positions");
    }
    for (index, document) in documents.iter().enumerate() {
        let document = &document[..document.len().min(context)];
        if document.len() < 2 {
            continue;
        }
        let bert = !shape.causal();
        // A causal model reads all but the last token and predicts all but the first.
        let seen = document.len() - usize::from(!bert);
        let input = TokenBatch::new(document[..seen].to_vec(), seen);
        let losses = if bert {
            masked(model, &input, index as u64)?
        } else {
            losses(model, &input, &document[1..])?
        };
        add(&mut sum, &losses)?;
    }
    match sum.tokens() {
        0 => Err(Error::new(ErrorKind::Input, "no text has two tokens")
            .advice("measure texts of at least two tokens")),
        _ => Ok(sum),
    }
}
