//! The KV cache: keys and values of the tokens seen so far, for each sequence and layer that owns a cache.

use std::ops::Range;

use crate::hook::{KeepNeeds, KeepQuestion, Phase};
use crate::path::CacheReport;
use crate::transformer::cache_slots::Slots;
use crate::transformer::eviction::{EvictionPolicy, window};
use crate::transformer::{Configuration, Plan, Row};
use crate::{Error, ErrorKind, Result};

/// Keys and values of a batch of sequences.
///
/// Lengths differ between layers, where an eviction policy drops tokens, and between sequences.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(super) plan: Plan,
    heads: usize,
    width: usize,
    pub(super) sequences: Vec<Sequence>,
}

/// Keys and values of one sequence.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    /// Head groups of each layer; none where the layer reads another layer's cache.
    pub(super) layers: Vec<Vec<Slots>>,
    /// The position of the next token.
    pub(super) next: u32,
    /// Tokens of the prompt.
    prompt: usize,
    /// Statistics that the eviction policy asked for. `[L]`
    pub(super) statistics: Vec<KeepNeeds>,
    /// Kept tokens above which the policy is asked again; `None` for never. `[L]`
    checks: Vec<Option<u64>>,
}

impl Sequence {
    /// Copy the first `length` tokens. No token was evicted, and nothing observes the copy.
    pub(super) fn prefix(&self, length: usize) -> Self {
        let copy = |slots: &Slots| slots.prefix(length as u32);
        let layers = self.layers.iter();
        Self {
            layers: layers
                .map(|layer| layer.iter().map(copy).collect())
                .collect(),
            next: length as u32,
            prompt: self.prompt,
            statistics: vec![KeepNeeds::default(); self.layers.len()],
            checks: vec![None; self.layers.len()],
        }
    }

    /// Return the number of tokens seen.
    pub(super) fn length(&self) -> usize {
        self.next as usize
    }

    /// Forget the tokens from `length` on.
    pub(super) fn truncate(&mut self, length: usize) {
        for slots in self.layers.iter_mut().flatten() {
            slots.truncate(length as u32);
        }
        self.next = self.next.min(length as u32);
    }

    /// Return the bytes allocated for keys and values.
    pub(super) fn allocated_bytes(&self) -> usize {
        let all = self.layers.iter().flatten();
        all.map(Slots::allocated_bytes).sum()
    }

    /// Forget the attention that no later question to the policy about a layer can depend on.
    fn forget_sums(&mut self, layer: usize, source: usize) {
        // A policy that is not asked again needs no sums; those of a source may be what its readers add to.
        if self.checks[layer].or(self.checks[source]).is_none() {
            self.statistics[layer] = KeepNeeds::default();
        }
        let head_groups = &mut self.layers[source];
        let live = head_groups.iter().map(Slots::live).max().unwrap_or(0) as u64;
        // Each token until the next question takes a slot, and its query the place of the oldest in the window.
        let queries = match self.checks[layer] {
            Some(check) => check.saturating_add(1).saturating_sub(live),
            None => u64::MAX,
        };
        let statistics = self.statistics[layer];
        let needed = (window(&statistics) as u64).saturating_sub(queries) as usize;
        for slots in head_groups {
            slots.sums.retain_mut(|sums| {
                if sums.layer == layer {
                    sums.forget(needed);
                }
                sums.layer != layer || statistics != KeepNeeds::default()
            });
        }
    }

    /// Evict all tokens of a layer but those with the indices `keep` in the `orders` of its head groups. One list may
    /// serve all head groups.
    fn evict_others(&mut self, layer: usize, orders: &[Vec<(u32, u32)>], keep: &[Vec<u32>]) {
        let head_groups = self.layers[layer].iter_mut().zip(orders);
        for (head_group, (slots, order)) in head_groups.enumerate() {
            // Both lists ascend: one pass evicts every token that is not the next kept one.
            let list = keep.get(head_group).unwrap_or(&keep[0]);
            let mut next = list.iter().peekable();
            for (index, (_, slot)) in order.iter().enumerate() {
                if next.next_if(|&&next| next as usize == index).is_none() {
                    slots.evict(*slot as usize);
                }
            }
        }
    }
}

impl Cache {
    /// Create an empty cache for a number of sequences.
    ///
    /// # Errors
    /// As [`Plan::check`]; [`ErrorKind::Unsupported`] for a network with attention in both directions.
    pub fn new(shape: &Configuration, plan: Plan, sequences: usize) -> Result<Self> {
        plan.check(shape)?;
        if !shape.causal() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a network with attention in both directions has no KV cache",
            ));
        }
        let mut cache = Self {
            plan,
            heads: shape.kv_heads,
            width: shape.head_width,
            sequences: Vec::new(),
        };
        for _ in 0..sequences {
            cache.append_sequence();
        }
        Ok(cache)
    }

    /// Append an empty sequence and return its number.
    pub(super) fn append_sequence(&mut self) -> usize {
        let empty = self.empty_sequence();
        self.sequences.push(empty);
        self.sequences.len() - 1
    }

    fn empty_sequence(&self) -> Sequence {
        let layers = self.plan.layers.iter().enumerate().map(|(index, plan)| {
            // One group of all key heads, or one group per key head if they keep different tokens.
            let (groups, heads) = match (plan.source == index, plan.per_head) {
                (false, _) => (0, 0),
                (true, true) => (self.heads, 1),
                (true, false) => (1, self.heads),
            };
            (0..groups)
                .map(|_| Slots::new(heads, self.width, *plan))
                .collect()
        });
        Sequence {
            layers: layers.collect(),
            next: 0,
            prompt: 0,
            statistics: vec![KeepNeeds::default(); self.plan.layers.len()],
            checks: vec![None; self.plan.layers.len()],
        }
    }

    /// Return the plan of the cache.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Return the number of sequences.
    pub fn sequences(&self) -> usize {
        self.sequences.len()
    }

    /// Return the number of tokens a sequence has seen, evicted ones included.
    pub fn length(&self, sequence: usize) -> usize {
        self.sequences.get(sequence).map_or(0, Sequence::length)
    }

    /// Empty a sequence for another text.
    pub fn reset(&mut self, sequence: usize) {
        let empty = self.empty_sequence();
        if let Some(sequence) = self.sequences.get_mut(sequence) {
            *sequence = empty;
        }
    }

    /// Append a copy of a sequence and return its number.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a sequence that does not exist.
    pub fn fork(&mut self, sequence: usize) -> Result<usize> {
        let Some(copy) = self.sequences.get(sequence).cloned() else {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "sequence {sequence} is outside a cache of {}",
                    self.sequences.len()
                ),
            ));
        };
        self.sequences.push(copy);
        Ok(self.sequences.len() - 1)
    }

    /// Replace a sequence, and return what it was.
    pub(super) fn replace(&mut self, index: usize, by: Option<Sequence>) -> Sequence {
        let by = by.unwrap_or_else(|| self.empty_sequence());
        std::mem::replace(&mut self.sequences[index], by)
    }

    /// Return the positions that a layer keeps, ascending, for each head group; those of its source for a layer that
    /// reads another layer's cache.
    pub fn positions(&self, sequence: usize, layer: usize) -> Vec<Vec<u32>> {
        let source = self.plan.layers[layer].source;
        self.sequences[sequence].layers[source]
            .iter()
            .map(|slots| {
                slots
                    .ordered()
                    .into_iter()
                    .map(|(position, _)| position)
                    .collect()
            })
            .collect()
    }

    /// Evict the tokens of a layer whose positions `keep` rejects; the newest token always stays.
    pub fn retain(&mut self, sequence: usize, layer: usize, keep: impl Fn(u32) -> bool) {
        for slots in &mut self.sequences[sequence].layers[layer] {
            let order = slots.ordered();
            let newest = order.len().saturating_sub(1);
            for (position, slot) in &order[..newest] {
                if !keep(*position) {
                    slots.evict(*slot as usize);
                }
            }
        }
    }

    /// Measure bytes, and the lengths of the first sequence.
    pub fn report(&self) -> CacheReport {
        self.report_of(0..self.sequences.len())
    }

    /// Measure bytes of a range of sequences, and the lengths of the first of them.
    pub(super) fn report_of(&self, range: Range<usize>) -> CacheReport {
        let sequences = &self.sequences[range];
        let all = || sequences.iter().flat_map(|s| &s.layers).flatten();
        let retained = sequences.first().map_or_else(Vec::new, |sequence| {
            sequence
                .layers
                .iter()
                .map(|head_groups| {
                    let tokens: usize = head_groups.iter().map(Slots::live).sum();
                    tokens.div_ceil(head_groups.len().max(1))
                })
                .collect()
        });
        CacheReport {
            live_bytes: all().map(Slots::live_bytes).sum(),
            allocated_bytes: all().map(Slots::allocated_bytes).sum(),
            attention_bytes: all().map(Slots::attention_bytes).sum(),
            retained,
            computed: Vec::new(),
        }
    }

    /// Store the rows' keys and values in their sequences' slots. `keys`, `values`: `[N, Hkv·d]`
    pub(super) fn store(&mut self, layer: usize, rows: &[Row], keys: &[f32], values: &[f32]) {
        let stride = self.heads * self.width;
        let pairs = keys.chunks_exact(stride).zip(values.chunks_exact(stride));
        for (row, (keys, values)) in rows.iter().zip(pairs) {
            let head_groups = &mut self.sequences[row.sequence].layers[layer];
            // With one group per key head, each takes its own columns; otherwise one group takes all.
            let width = stride / head_groups.len();
            let pairs = keys.chunks_exact(width).zip(values.chunks_exact(width));
            for (slots, (key, value)) in head_groups.iter_mut().zip(pairs) {
                slots.push(row.position, key, value);
            }
        }
    }

    /// Quantise full pages that are old enough, where the plan stores them quantised.
    pub(super) fn pack(&mut self) {
        for sequence in &mut self.sequences {
            for slots in sequence.layers.iter_mut().flatten() {
                slots.pack(sequence.next);
            }
        }
    }

    /// Begin a prompt of `prompt` tokens, and ask the policy which statistics it needs.
    pub(super) fn begin_prompt(
        &mut self,
        index: usize,
        prompt: usize,
        eviction: &mut Option<&mut EvictionPolicy>,
    ) -> Result<()> {
        let sequence = &mut self.sequences[index];
        sequence.prompt = prompt;
        if let Some(eviction) = eviction {
            sequence.statistics.fill(eviction.begin(index, prompt)?);
        }
        Ok(())
    }

    /// Ask the policy about a layer and evict the tokens it does not keep. Returns the indices of the sequence's rows
    /// that continue to the next layer, `None` for all.
    pub(super) fn evict(
        &mut self,
        eviction: &EvictionPolicy,
        index: usize,
        layer: usize,
        phase: Phase,
        stream: Vec<u32>,
    ) -> Result<Option<Vec<u32>>> {
        let plan = &self.plan.layers;
        let (source, layers, owner) = (plan[layer].source, plan.len(), plan[layer].source == layer);
        let sequence = &mut self.sequences[index];
        // In decoding the policy is asked only at the length it named, so that a step costs nothing else.
        if phase == Phase::Decode {
            let due = sequence.checks[layer].is_some_and(|check| {
                sequence.layers[source]
                    .iter()
                    .any(|slots| slots.live() as u64 > check)
            });
            if !due {
                return Ok(None);
            }
        }
        let statistics = sequence.statistics[layer];
        let kept = KeptTokens::of(&sequence.layers[source], layer, &statistics);
        let question = KeepQuestion {
            phase,
            layer,
            layers,
            heads: kept.orders.len(),
            prompt: sequence.prompt,
            length: sequence.next as usize,
            positions: &kept.positions,
            stream: if phase == Phase::Prefill {
                &stream
            } else {
                &[]
            },
            column: &kept.column,
            accumulated: &kept.accumulated,
            key_norm: &kept.key_norm,
        };
        let answer = eviction.decide(index, owner, &question)?;
        if let Some(keep) = &answer.slots {
            sequence.evict_others(layer, &kept.orders, keep);
        }
        sequence.checks[layer] = answer.next_check;
        sequence.forget_sums(layer, source);
        Ok(answer.stream)
    }
}

/// Tokens that a layer keeps, with the statistics that its policy asked for.
#[derive(Default)]
struct KeptTokens {
    /// Position and slot of each token of each head group, in the order of the positions: slots are in any order.
    orders: Vec<Vec<(u32, u32)>>,
    /// Positions, head group after head group.
    positions: Vec<u32>,
    column: Vec<f32>,
    accumulated: Vec<f32>,
    key_norm: Vec<f32>,
}

impl KeptTokens {
    fn of(head_groups: &[Slots], layer: usize, statistics: &KeepNeeds) -> Self {
        let mut kept = Self::default();
        for slots in head_groups {
            let order = slots.ordered();
            let (positions, list): (Vec<u32>, Vec<u32>) = order.iter().copied().unzip();
            kept.positions.extend(positions);
            kept.orders.push(order);
            if statistics.key_norm {
                kept.key_norm.extend(key_norms(slots, &list));
            }
            // Layers that share a cache have sums of their own queries.
            let Some(sums) = slots.sums.iter().find(|sums| sums.layer == layer) else {
                continue;
            };
            if let Some(needs) = &statistics.column {
                let sums = sums.column_sums(&list, needs.oldest, needs.newest);
                kept.column.extend(sums);
            }
            if statistics.accumulated {
                kept.accumulated.extend(sums.totals(&list));
            }
        }
        kept
    }
}

/// Return the norms of the keys in slots. `[key heads of the group][slots.len()]`
fn key_norms(group: &Slots, slots: &[u32]) -> Vec<f32> {
    let (norms, heads) = (group.key_norms(), group.heads());
    (0..heads)
        .flat_map(|head| slots.iter().map(move |&slot| (slot as usize, head)))
        .map(|(slot, head)| norms[slot * heads + head])
        .collect()
}
