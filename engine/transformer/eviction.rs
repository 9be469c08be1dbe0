//! Eviction: calls the hook `kv.keep/1` after a layer's prefill, and in decoding when a layer exceeds the length that
//! the hook named.
//!
//! The engine reduces attention to sums before the call and drops the tokens that the answer omits, so a hook neither
//! receives attention matrices nor accesses the memory of the cache.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::hook::{Call, ColumnSum, Eviction, HeadReduction, Keep, KeepNeeds, KeepQuestion, Phase};
use crate::{Error, ErrorKind, Result};

/// The hook that decides which tokens the layers of a cache keep.
#[derive(Clone)]
pub struct EvictionPolicy {
    keep: Arc<dyn Keep>,
    seed: u64,
    /// Number of the cache's first sequence within the run.
    first: u64,
    cancel: Option<Arc<AtomicBool>>,
    /// Prompt length and needs of sequences that were prepared before their prompt.
    prepared: BTreeMap<usize, (usize, KeepNeeds)>,
    /// Whether the column sums of each head group are averaged over the layer.
    average_columns: bool,
}

impl EvictionPolicy {
    /// Create a policy for the sequences of a cache, the first of which is number `first` in a run with `seed`.
    pub fn new(keep: Arc<dyn Keep>, seed: u64, first: u64) -> Self {
        Self {
            keep,
            seed,
            first,
            cancel: None,
            prepared: BTreeMap::new(),
            average_columns: false,
        }
    }

    /// Set the flag that cancels the run.
    #[must_use]
    pub fn cancel(mut self, flag: Option<Arc<AtomicBool>>) -> Self {
        self.cancel = flag;
        self
    }

    fn call(&self, sequence: usize, step: usize) -> Call<'_> {
        let call = Call::new(self.seed, self.first + sequence as u64, step as u64);
        match &self.cancel {
            Some(flag) => call.cancel(flag),
            None => call,
        }
    }

    /// Ask for the needs of a sequence before its cache is allocated. Returns whether the `heads` key heads may keep
    /// different tokens.
    pub(super) fn prepare(&mut self, sequence: usize, prompt: usize, heads: usize) -> Result<bool> {
        let mut needs = self.keep.begin(&self.call(sequence, 0), prompt)?;
        needs.column = needs.column.filter(|column| column.window > 0);
        let reduction = needs.column.map(|column| column.heads);
        // Statistics by head may rank tokens differently: every key head then keeps its own.
        let per_head = heads > 1
            && (needs.accumulated
                || needs.key_norm
                || reduction.is_some_and(|heads| heads != HeadReduction::All));
        if needs.accumulated && reduction == Some(HeadReduction::GroupMaximum) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "accumulated attention together with a maximum over heads",
            )
            .at("kv.keep/1")
            .advice("ask for the mean over heads"));
        }
        self.average_columns = per_head && reduction == Some(HeadReduction::All);
        if let Some(column) = &mut needs.column
            && self.average_columns
        {
            // The sums are collected per head group; their mean is computed for the hook.
            column.heads = HeadReduction::GroupMean;
        }
        self.prepared.insert(sequence, (prompt, needs));
        Ok(per_head)
    }

    /// Begin the prompt of a sequence. Returns the statistics to collect, whose head reduction is [`reduction`].
    pub(super) fn begin(&mut self, sequence: usize, prompt: usize) -> Result<KeepNeeds> {
        let prepared = |policy: &mut Self| policy.prepared.remove(&sequence);
        match prepared(self) {
            Some((length, needs)) if length == prompt => Ok(needs),
            _ => {
                // The cache was not prepared: ask now, as for several key heads.
                self.prepare(sequence, prompt, 2)?;
                Ok(prepared(self).map_or_else(KeepNeeds::default, |(_, needs)| needs))
            }
        }
    }

    /// Decide what a layer keeps. `owner`: whether the layer has a cache of its own; otherwise it only drops rows.
    pub(super) fn decide(
        &self,
        sequence: usize,
        owner: bool,
        question: &KeepQuestion<'_>,
    ) -> Result<Eviction> {
        let column = self.column(question)?;
        let question = KeepQuestion {
            column: &column,
            ..*question
        };
        let call = self.call(sequence, question.length);
        let Some(mut eviction) = self.keep.keep(&call, &question)? else {
            return Ok(Eviction::default());
        };
        // A layer that reads another's cache has no slots to free, and a decoding step no row to drop.
        eviction.slots = eviction.slots.filter(|_| owner);
        eviction.stream = eviction.stream.filter(|_| question.phase == Phase::Prefill);
        eviction.check(&question).map_err(|what| {
            Error::new(ErrorKind::Input, what).at(format!(
                "kv.keep/1, sequence {sequence}, layer {}",
                question.layer
            ))
        })?;
        Ok(eviction)
    }

    /// Average the column sums over the heads of a layer if the hook asked for one row.
    fn column(&self, question: &KeepQuestion<'_>) -> Result<Vec<f32>> {
        let slots = question.slots();
        if !self.average_columns || slots == 0 {
            return Ok(question.column.to_vec());
        }
        let first = question.head(0);
        if question.positions.chunks(slots).any(|head| head != first) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "column sums over all heads of a layer whose heads hold different tokens",
            )
            .at("kv.keep/1")
            .advice("ask for sums per key head, or keep the same tokens in all heads"));
        }
        let mut mean = vec![0.0; slots];
        // One over the number of heads: `column` has a row for each.
        let weight = slots as f32 / question.column.len().max(1) as f32;
        for row in question.column.chunks_exact(slots) {
            crate::kernel::vector::add_scaled(weight, row, &mut mean);
        }
        Ok(mean)
    }
}

/// The head reduction of all collected attention. Without column sums only means are needed.
pub(super) fn reduction(needs: &KeepNeeds) -> HeadReduction {
    needs
        .column
        .map_or(HeadReduction::GroupMean, |column| column.heads)
}

/// Number of last queries whose attention is collected.
pub(super) fn window(needs: &KeepNeeds) -> usize {
    needs.column.map_or(0, |ColumnSum { window, .. }| window)
}
