//! Speed of a network: prefill, decoding in batches, and training.

use std::time::Instant;

use serde::Serialize;

use crate::Result;
use crate::hook::Phase;
use crate::kernel::random::Random;
use crate::transformer::advance::{LogitsFor, Taps};
use crate::transformer::batch::{TokenBatch, cross_entropy};
use crate::transformer::eviction::EvictionPolicy;
use crate::transformer::{Cache, HookAdapter, Network, Plan};

/// Speed of a batch of sequences with prompts of one length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BatchSpeed {
    /// Sequences in the batch.
    pub batch: usize,
    /// Tokens of each prompt.
    pub prompt: usize,
    /// Milliseconds for all prompts, the best of three runs.
    pub prefill_ms: f64,
    /// Prompt tokens per second.
    pub prefill_tokens_per_second: f64,
    /// New tokens of each sequence.
    pub new_tokens: usize,
    /// New tokens per second of all sequences together, without prompts.
    pub tokens_per_second: f64,
    /// Milliseconds for a step of the whole batch, median.
    pub ms_per_step: f64,
    /// Bytes of keys and values of kept tokens at the end.
    pub kv_live_bytes: usize,
    /// Bytes of keys and values that are allocated at the end.
    pub kv_allocated_bytes: usize,
    /// Bytes of weights that a step reads, independent of the batch.
    pub weight_bytes: usize,
}

type Policy = Option<EvictionPolicy>;

/// Measure prefill and decoding of `batch` random prompts, with the hooks' decisions about their cache.
///
/// # Errors
/// As [`Network::advance`].
pub fn batch_speed(
    network: &Network,
    hooks: &HookAdapter,
    batch: usize,
    prompt: usize,
    new: usize,
) -> Result<BatchSpeed> {
    let shape = network.configuration();
    let (plan, _) = hooks.cache(shape, 0, batch, prompt)?;
    let plan = plan.unwrap_or_else(|| Plan::full(shape.layers));
    let for_plan = network.for_plan(&plan)?;
    let mut random = Random::new(17);
    let mut draw = |count: usize| -> Vec<Vec<u32>> {
        let token = |_| random.below(shape.vocabulary as u64) as u32;
        let tokens: Vec<u32> = (0..batch * count).map(token).collect();
        tokens.chunks(count.max(1)).map(<[u32]>::to_vec).collect()
    };
    let advance = |cache: &mut Cache, eviction: &mut Policy, tokens: &[Vec<u32>], phase| {
        let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        let mut taps = Taps {
            eviction: eviction.as_mut(),
            probe: None,
        };
        let start = Instant::now();
        for_plan.advance(cache, &tokens, phase, LogitsFor::Last, &mut taps)?;
        Ok::<f64, crate::Error>(start.elapsed().as_secs_f64())
    };
    let prompts = draw(prompt);
    // The best of three prefills: the first warms up caches and threads.
    let mut best = f64::INFINITY;
    let mut cache = Cache::new(shape, plan.clone(), batch)?;
    let mut eviction = None;
    for _ in 0..3 {
        cache = Cache::new(shape, plan.clone(), batch)?;
        eviction = hooks.cache(shape, 0, batch, prompt)?.1;
        let seconds = advance(&mut cache, &mut eviction, &prompts, Phase::Prefill)?;
        best = best.min(seconds);
    }
    let mut steps = Vec::with_capacity(new);
    for _ in 0..new {
        steps.push(advance(&mut cache, &mut eviction, &draw(1), Phase::Decode)?);
    }
    let total: f64 = steps.iter().sum();
    steps.sort_by(f64::total_cmp);
    let report = cache.report();
    Ok(BatchSpeed {
        batch,
        prompt,
        prefill_ms: best * 1e3,
        prefill_tokens_per_second: (batch * prompt) as f64 / best,
        new_tokens: new,
        tokens_per_second: (batch * new) as f64 / total.max(1e-9),
        // The median, which a few interrupted steps do not move.
        ms_per_step: steps.get(new / 2).copied().unwrap_or(0.0) * 1e3,
        kv_live_bytes: report.live_bytes,
        kv_allocated_bytes: report.allocated_bytes,
        weight_bytes: for_plan.bytes_per_token(),
    })
}

/// Run one forward and backward pass over random tokens, for timing. Returns the number of predictions.
///
/// # Errors
/// As [`Network::forward`].
pub fn training_pass(network: &Network, sequences: usize, length: usize) -> Result<usize> {
    let vocabulary = network.configuration().vocabulary as u64;
    let mut random = Random::new(19);
    let mut draw = || -> Vec<u32> {
        (0..sequences * length)
            .map(|_| random.below(vocabulary) as u32)
            .collect()
    };
    let (tokens, targets) = (draw(), draw());
    let input = TokenBatch::new(tokens, length);
    let x = network.forward(&input, None, None)?;
    cross_entropy(&network.logits(&x)?, &targets)?
        .mean_all()?
        .backward()?;
    Ok(targets.len())
}
