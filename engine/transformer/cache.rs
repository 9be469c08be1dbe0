//! What a network remembers of the tokens it has seen: for each sequence and owning layer, slots.

use crate::transformer::cache_slots::Slots;
use crate::transformer::eviction::{
    CacheView, Eviction, EvictionPolicy, HeadGroup, Phase, Statistics,
};
use crate::transformer::{Configuration, Plan};
use crate::{Error, ErrorKind, Result};

/// Keys and values of a batch of sequences.
///
/// Each layer has its own length, and each sequence its own lengths. A clone is a fork.
#[derive(Clone, Debug)]
pub struct Cache {
    pub(super) plan: Plan,
    heads: usize,
    width: usize,
    pub(super) sequences: Vec<Sequence>,
}

/// One sequence's memory.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    /// Lanes of each layer; none where the layer reads another's.
    pub(super) layers: Vec<Vec<Slots>>,
    /// The position of the next token.
    pub(super) next: u32,
    prompt: usize,
    pub(super) statistics: Vec<Statistics>,
    checks: Vec<Option<usize>>,
}

/// Bytes and lengths of a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CacheReport {
    /// Bytes of keys and values of kept tokens, those that several layers share counted once.
    pub live_bytes: usize,
    /// Bytes of keys and values that are allocated.
    pub allocated_bytes: usize,
    /// Bytes of remembered attention.
    pub attention_bytes: usize,
    /// Tokens kept by each layer of the first sequence (the mean of its lanes, rounded up; 0 without a cache).
    pub retained: Vec<usize>,
    /// Rows of the prompt that each layer computed, of the first sequence: what pruning the stream saves.
    pub computed: Vec<usize>,
}

impl Cache {
    /// An empty cache for so many sequences.
    ///
    /// # Errors
    /// As [`Plan::check`]; [`ErrorKind::Unsupported`] for a network that sees both sides.
    pub fn new(shape: &Configuration, plan: Plan, sequences: usize) -> Result<Self> {
        plan.check(shape)?;
        if !shape.causal() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a network that sees both sides has no cache",
            ));
        }
        let mut cache = Self {
            plan,
            heads: shape.kv_heads,
            width: shape.head_width,
            sequences: Vec::new(),
        };
        cache.sequences = (0..sequences).map(|_| cache.fresh()).collect();
        Ok(cache)
    }

    fn fresh(&self) -> Sequence {
        let layer =
            |(index, plan): (usize, &crate::transformer::LayerPlan)| match plan.source == index {
                false => Vec::new(),
                true if plan.per_head => (0..self.heads)
                    .map(|_| Slots::new(1, self.width, *plan))
                    .collect(),
                true => vec![Slots::new(self.heads, self.width, *plan)],
            };
        let layers = self.plan.layers.len();
        Sequence {
            layers: self.plan.layers.iter().enumerate().map(layer).collect(),
            next: 0,
            prompt: 0,
            statistics: vec![Statistics::default(); layers],
            checks: vec![None; layers],
        }
    }

    /// The plan it was made by.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Sequences.
    pub fn sequences(&self) -> usize {
        self.sequences.len()
    }

    /// Tokens a sequence has seen, dropped ones among them.
    pub fn length(&self, sequence: usize) -> usize {
        self.sequences
            .get(sequence)
            .map_or(0, |sequence| sequence.next as usize)
    }

    /// Empties a sequence, for another text.
    pub fn reset(&mut self, sequence: usize) {
        let fresh = self.fresh();
        if let Some(sequence) = self.sequences.get_mut(sequence) {
            *sequence = fresh;
        }
    }

    /// Adds a copy of a sequence and returns its number.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a sequence that is not there.
    pub fn fork(&mut self, sequence: usize) -> Result<usize> {
        let Some(copy) = self.sequences.get(sequence).cloned() else {
            return Err(Error::new(
                ErrorKind::Input,
                format!("sequence {sequence} of {}", self.sequences.len()),
            ));
        };
        self.sequences.push(copy);
        Ok(self.sequences.len() - 1)
    }

    /// Original positions that a layer keeps, ascending, for each lane; the owner's for an aliased layer.
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

    /// Drops the tokens of an owning layer whose positions `keep` refuses; the newest stays in any case.
    pub fn retain(&mut self, sequence: usize, layer: usize, keep: impl Fn(u32) -> bool) {
        for slots in &mut self.sequences[sequence].layers[layer] {
            let order = slots.ordered();
            let newest = order.len().saturating_sub(1);
            for (position, slot) in &order[..newest] {
                if !keep(*position) {
                    slots.drop_slot(*slot as usize);
                }
            }
        }
    }

    /// Bytes and lengths.
    pub fn report(&self) -> CacheReport {
        let all = || self.sequences.iter().flat_map(|s| &s.layers).flatten();
        let retained = self.sequences.first().map_or_else(Vec::new, |sequence| {
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

    /// Begins a prompt of so many tokens: the keeper says what it will want to know.
    pub(super) fn begin(
        &mut self,
        sequence: usize,
        prompt: usize,
        eviction: Option<&mut dyn EvictionPolicy>,
    ) -> Result<()> {
        let index = sequence;
        let sequence = &mut self.sequences[index];
        sequence.prompt = prompt;
        if let Some(eviction) = eviction {
            sequence.statistics.fill(eviction.begin(index, prompt)?);
        }
        Ok(())
    }

    /// Asks the keeper about a layer, drops what it leaves out, and says which of the sequence's rows go on.
    pub(super) fn ask(
        &mut self,
        eviction: &mut dyn EvictionPolicy,
        sequence: usize,
        layer: usize,
        phase: Phase,
        stream: Vec<u32>,
    ) -> Result<Option<Vec<u32>>> {
        let plan = &self.plan.layers;
        let (source, layers, owner) = (plan[layer].source, plan.len(), plan[layer].source == layer);
        let index = sequence;
        let sequence = &mut self.sequences[index];
        if phase == Phase::Decode {
            let due = sequence.checks[layer].is_some_and(|check| {
                sequence.layers[source]
                    .iter()
                    .any(|slots| slots.live() >= check)
            });
            if !due {
                return Ok(None);
            }
        }
        let statistics = sequence.statistics[layer];
        let orders: Vec<Vec<(u32, u32)>> =
            sequence.layers[source].iter().map(Slots::ordered).collect();
        let head_groups = sequence.layers[source]
            .iter()
            .zip(&orders)
            .map(|(slots, order)| head_group(slots, order, layer, &statistics))
            .collect();
        let view = CacheView {
            sequence: index,
            layer,
            layers,
            owner,
            phase,
            prompt: sequence.prompt,
            length: sequence.next as usize,
            head_groups,
            stream,
        };
        let decision: Eviction = eviction.decide(&view)?;
        decision.check(&view)?;
        if let Some(keep) = &decision.keep {
            for (head_group, (slots, order)) in
                sequence.layers[layer].iter_mut().zip(&orders).enumerate()
            {
                let mut kept = keep[if keep.len() == 1 { 0 } else { head_group }]
                    .iter()
                    .peekable();
                for (index, (_, slot)) in order.iter().enumerate() {
                    if kept.next_if(|&&kept| kept as usize == index).is_none() {
                        slots.drop_slot(*slot as usize);
                    }
                }
            }
        }
        sequence.checks[layer] = decision.next_check;
        Ok(decision.stream)
    }
}

/// What a keeper sees of a lane.
fn head_group(
    slots: &Slots,
    order: &[(u32, u32)],
    layer: usize,
    statistics: &Statistics,
) -> HeadGroup {
    let places: Vec<u32> = order.iter().map(|&(_, slot)| slot).collect();
    let scores = slots.scores.iter().find(|scores| scores.layer == layer);
    let (from, to) = statistics.weights;
    let key_norms = match statistics.key_norms {
        false => Vec::new(),
        true => {
            let norms = slots.key_norms();
            let heads = norms.len() / slots.capacity().max(1);
            (0..heads)
                .flat_map(|head| places.iter().map(move |&slot| (slot as usize, head)))
                .map(|(slot, head)| norms[slot * heads + head])
                .collect()
        }
    };
    HeadGroup {
        positions: order.iter().map(|&(position, _)| position).collect(),
        column_sums: scores
            .filter(|_| statistics.window > 0)
            .map_or_else(Vec::new, |scores| scores.column_sums(&places, from, to)),
        accumulated: scores
            .filter(|_| statistics.accumulated)
            .map_or_else(Vec::new, |scores| scores.totals(&places)),
        key_norms,
        rows: scores.map_or(1, |scores| scores.heads),
    }
}
