//! Who decides which tokens a layer keeps: asked after a layer's prefill, and in decoding when a layer has
//! grown to a length that was named before.
//!
//! The host reduces attention to sums before it asks, drops what the answer leaves out, and checks the answer:
//! a keeper never sees a matrix and never touches memory of the cache.

use crate::{Error, ErrorKind, Result};

/// How attention of several query heads becomes one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeadReduction {
    /// The mean over all query heads: one row for the layer.
    #[default]
    Layer,
    /// The mean over the query heads that share a key head: one row for each.
    GroupMean,
    /// The maximum over them.
    GroupMax,
}

/// What a keeper wants to know. Only what is asked for is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Queries, from the newest back, whose attention is summed; 0 for none.
    pub window: usize,
    /// The weight of the oldest of them and of the newest; those between in even steps.
    pub weights: (f32, f32),
    /// Whether attention is summed over all queries so far.
    pub accumulated: bool,
    /// Whether layers that read another's cache add to the owner's sums.
    pub dependants: bool,
    /// Whether the norms of keys are wanted.
    pub key_norms: bool,
    /// How heads are reduced.
    pub heads: HeadReduction,
}

impl Statistics {
    /// Whether attention has to be remembered at all.
    pub(super) fn remembers(&self) -> bool {
        self.window > 0 || self.accumulated
    }
}

/// When a keeper is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// After a layer has seen the prompt.
    Prefill,
    /// While text is made, one token at a time.
    Decode,
}

/// The tokens that one lane of a layer holds: all heads together, or one key head.
#[derive(Clone, Debug)]
pub struct HeadGroup {
    /// Original positions, ascending. `[n]`
    pub positions: Vec<u32>,
    /// Weighted sums of the last queries' attention. `[rows][n]`, or empty
    pub column_sums: Vec<f32>,
    /// Sums of all queries' attention. `[rows][n]`, or empty
    pub accumulated: Vec<f32>,
    /// Norms of keys. `[key heads of the head_group][n]`, or empty
    pub key_norms: Vec<f32>,
    /// Rows of the sums: 1, or the key heads of the lane.
    pub rows: usize,
}

/// What a keeper sees of a layer.
#[derive(Clone, Debug)]
pub struct CacheView {
    /// The sequence of the batch.
    pub sequence: usize,
    /// The layer.
    pub layer: usize,
    /// Layers in all.
    pub layers: usize,
    /// Whether the layer owns a cache; if not, only the stream can be pruned.
    pub owner: bool,
    /// When.
    pub phase: Phase,
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Tokens the sequence has seen, dropped ones among them.
    pub length: usize,
    /// What is kept: one lane, or one for each key head.
    pub head_groups: Vec<HeadGroup>,
    /// Positions of the rows that go on to the next layer. `[rows of this sequence]`
    pub stream: Vec<u32>,
}

/// What a keeper answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eviction {
    /// For each lane (or once, for all of them), indices into its positions, ascending; `None` keeps all.
    pub keep: Option<Vec<Vec<u32>>>,
    /// Indices into the stream, ascending, of the rows that go on; `None` for all.
    pub stream: Option<Vec<u32>>,
    /// In decoding, the number of kept tokens at which to ask again; `None` for never.
    pub next_check: Option<usize>,
}

/// Decides which tokens a layer keeps.
pub trait EvictionPolicy: Send {
    /// What it wants to know of a sequence's layers, for a prompt of so many tokens.
    ///
    /// # Errors
    /// Whatever the keeper reports: nothing has been taken then.
    fn begin(&mut self, sequence: usize, prompt: usize) -> Result<Statistics>;

    /// What to keep.
    ///
    /// # Errors
    /// Whatever the keeper reports: the cache is then as it was before the question.
    fn decide(&mut self, view: &CacheView) -> Result<Eviction>;
}

impl Eviction {
    /// Whether indices ascend, are in range, and leave what cannot be missed.
    pub(super) fn check(&self, view: &CacheView) -> Result<()> {
        let fault = |what: String| {
            Err(Error::new(ErrorKind::Input, what).at(format!(
                "keeper, sequence {}, layer {}",
                view.sequence, view.layer
            )))
        };
        let ascending = |list: &[u32], length: usize| {
            list.windows(2).all(|pair| pair[0] < pair[1])
                && list.last().is_none_or(|&last| (last as usize) < length)
        };
        if let Some(keep) = &self.keep {
            if !view.owner {
                return fault("a layer that reads another's cache keeps nothing of its own".into());
            }
            if keep.len() != 1 && keep.len() != view.head_groups.len() {
                return fault(format!(
                    "{} lists for {} lanes",
                    keep.len(),
                    view.head_groups.len()
                ));
            }
            for (index, head_group) in view.head_groups.iter().enumerate() {
                let list = &keep[if keep.len() == 1 { 0 } else { index }];
                let newest = head_group.positions.len().checked_sub(1);
                if !ascending(list, head_group.positions.len()) {
                    return fault("the kept tokens do not ascend, or are not there".into());
                }
                if list.last().map(|&last| last as usize) != newest {
                    return fault("the newest token must be kept".into());
                }
            }
        }
        if let Some(stream) = &self.stream {
            if !ascending(stream, view.stream.len()) {
                return fault("the rows that go on do not ascend, or are not there".into());
            }
            if stream.last().map(|&last| last as usize) != view.stream.len().checked_sub(1) {
                return fault("the last row must go on: the next token follows from it".into());
            }
        }
        Ok(())
    }
}
