//! Keys and values of one head group of one layer and sequence, in slots that are reused.
//!
//! Attention does not depend on the order of keys: their rotary embedding holds their positions, and visibility
//! follows from each slot's position. So evicting a token frees its slot, the next token takes it, and nothing is
//! moved. Slots form pages; a page's keys are stored component by component, so that the products of one query
//! component with all keys of a page run over neighbouring numbers.

use std::borrow::Cow;
use std::collections::BTreeSet;

use rayon::prelude::*;

use crate::hook::CodecAxis;
use crate::kernel::attention;
use crate::kernel::attention_product::{Rows, add_products};
use crate::transformer::attention_sums::AttentionSums;
use crate::transformer::cache_page::{Block, Page};
use crate::transformer::{LayerPlan, Storage};

/// Slots in a page, unless a codec groups tokens otherwise.
pub(super) const PAGE: usize = 64;

/// Multiplications of queries with keys above which the key heads of one row are computed by several threads.
pub(super) const PARALLEL_HEADS: usize = 1 << 17;

/// Position of a free slot.
pub(super) const FREE: u32 = u32::MAX;

/// Keys and values of one head group.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    heads: usize,
    width: usize,
    /// Slots in a page.
    page: usize,
    plan: LayerPlan,
    pages: Vec<Page>,
    /// Position of each slot's token, or [`FREE`].
    pub(super) positions: Vec<u32>,
    free: BTreeSet<u32>,
    live: usize,
    /// Attention sums of each layer that reads these slots and whose policy asked for them.
    pub(super) sums: Vec<AttentionSums>,
}

/// A page's keys `[H · width, slots]` and values `[slots, H · width]`.
pub(super) type Pairs<'a> = (Cow<'a, [f32]>, Cow<'a, [f32]>);

/// Positions a query attends to: its own and earlier ones, at most `window` in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visibility {
    pub(super) position: u32,
    /// 0 for no limit.
    pub(super) window: usize,
}

impl Visibility {
    fn sees(self, position: u32) -> bool {
        position <= self.position
            && (self.window == 0 || ((self.position - position) as usize) < self.window)
    }
}

impl Slots {
    pub(super) fn new(heads: usize, width: usize, plan: LayerPlan) -> Self {
        // Groups along the tokens must fit a page.
        let mut page = PAGE;
        for storage in [plan.keys, plan.values] {
            if let Storage::Quantised(codec) = storage
                && codec.axis == CodecAxis::Channel
            {
                page = page.max(codec.group).next_multiple_of(codec.group);
            }
        }
        Self {
            heads,
            width,
            page,
            plan,
            pages: Vec::new(),
            positions: Vec::new(),
            free: BTreeSet::new(),
            live: 0,
            sums: Vec::new(),
        }
    }

    /// Return the number of key heads.
    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    /// Return the number of tokens kept.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Return the number of slots, free ones included.
    pub(super) fn capacity(&self) -> usize {
        self.positions.len()
    }

    /// Return the bytes of kept tokens' keys and values: whole packed pages, and the occupied slots of open ones.
    pub(super) fn live_bytes(&self) -> usize {
        let slot = self.heads * self.width * 4;
        self.pages
            .iter()
            .map(|page| {
                [&page.keys, &page.values]
                    .into_iter()
                    .map(|block| match block {
                        Block::Open(_) => page.live * slot,
                        packed => packed.bytes(),
                    })
                    .sum::<usize>()
            })
            .sum()
    }

    /// Return the bytes allocated for keys and values.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.pages
            .iter()
            .map(|page| page.keys.bytes() + page.values.bytes())
            .sum()
    }

    /// Return the bytes of attention sums.
    pub(super) fn attention_bytes(&self) -> usize {
        self.sums.iter().map(AttentionSums::bytes).sum()
    }

    /// Return the attention sums of a layer, new ones if there are none.
    pub(super) fn sums_of(&mut self, layer: usize, heads: usize) -> &mut AttentionSums {
        let found = self.sums.iter().position(|sums| sums.layer == layer);
        let index = found.unwrap_or_else(|| {
            self.sums.push(AttentionSums::new(layer, heads));
            self.sums.len() - 1
        });
        &mut self.sums[index]
    }

    /// Store a token's key and value, `[heads · width]` each, and return the slot.
    pub(super) fn push(&mut self, position: u32, key: &[f32], value: &[f32]) -> usize {
        // The lowest free slot first: kept tokens stay in few pages.
        let slot = match self.free.pop_first() {
            Some(slot) => slot as usize,
            None => {
                // No slot is free: add a page and take its first slot.
                let first = self.positions.len();
                let block = || Block::open(self.heads * self.width * self.page);
                self.pages.push(Page {
                    keys: block(),
                    values: block(),
                    live: 0,
                });
                self.positions.resize(first + self.page, FREE);
                self.free
                    .extend(first as u32 + 1..(first + self.page) as u32);
                first
            }
        };
        self.positions[slot] = position;
        self.live += 1;
        for sums in &mut self.sums {
            sums.clear(slot);
        }
        let (page, at) = (&mut self.pages[slot / self.page], slot % self.page);
        page.live += 1;
        // A key is a column of `[heads · width][page]`, a value a row of each head's `[page][width]`. Free slots of packed
        // pages are not reused, so both blocks are open.
        if let Block::Open(keys) = &mut page.keys {
            for (component, &number) in key.iter().enumerate() {
                keys[component * self.page + at] = number;
            }
        }
        if let Block::Open(values) = &mut page.values {
            for (head, value) in value.chunks_exact(self.width).enumerate() {
                let start = (head * self.page + at) * self.width;
                values[start..start + self.width].copy_from_slice(value);
            }
        }
        slot
    }

    /// Free a slot. Slots of a packed page are reused once the page is empty.
    pub(super) fn evict(&mut self, slot: usize) {
        if self.positions[slot] == FREE {
            return;
        }
        self.positions[slot] = FREE;
        self.live -= 1;
        let index = slot / self.page;
        let page = &mut self.pages[index];
        page.live -= 1;
        // A packed block cannot store a single new token: its slots wait until all of the page is free.
        let packed = matches!(page.keys, Block::Packed { .. })
            || matches!(page.values, Block::Packed { .. });
        if !packed {
            self.free.insert(slot as u32);
        } else if page.live == 0 {
            let block = || Block::open(self.heads * self.width * self.page);
            (page.keys, page.values) = (block(), block());
            self.free
                .extend((index * self.page) as u32..((index + 1) * self.page) as u32);
        }
    }

    /// Copy the tokens of positions below `length`; attention sums are left out.
    pub(super) fn prefix(&self, length: u32) -> Self {
        // Tokens take the lowest free slot: where none was evicted, the pages beyond hold later positions alone.
        let in_order = self.free.len() + self.live == self.capacity()
            && (0..)
                .zip(&self.positions[..self.live])
                .all(|(slot, &position)| slot == position);
        let pages = match in_order {
            true => (length as usize).div_ceil(self.page).min(self.pages.len()),
            false => self.pages.len(),
        };
        let slots = pages * self.page;
        let mut copy = Self {
            pages: self.pages[..pages].to_vec(),
            positions: self.positions[..slots].to_vec(),
            free: self.free.range(..slots as u32).copied().collect(),
            live: self.pages[..pages].iter().map(|page| page.live).sum(),
            sums: Vec::new(),
            ..*self
        };
        copy.truncate(length);
        copy
    }

    /// Evict the tokens of positions from `length` on, and remove the pages at the end that are empty then.
    pub(super) fn truncate(&mut self, length: u32) {
        for slot in 0..self.positions.len() {
            if self.positions[slot] != FREE && self.positions[slot] >= length {
                self.evict(slot);
                // Nothing of a text stays where another continues.
                self.clear(slot);
            }
        }
        while self.pages.last().is_some_and(|page| page.live == 0) {
            self.pages.pop();
            self.positions.truncate(self.pages.len() * self.page);
        }
        self.free.split_off(&(self.positions.len() as u32));
    }

    /// Set the key and the value of a slot to 0.
    fn clear(&mut self, slot: usize) {
        let (page, at) = (&mut self.pages[slot / self.page], slot % self.page);
        let (components, width, size) = (self.heads * self.width, self.width, self.page);
        page.keys
            .clear((0..components).map(|component| component * size + at));
        page.values.clear(
            (0..components).map(|number| (number / width * size + at) * width + number % width),
        );
    }

    /// Quantise every full page whose tokens are all older than the plan's residual, where the plan asks for it.
    pub(super) fn pack(&mut self, next: u32) {
        let codec = |storage| match storage {
            Storage::F32 => None,
            Storage::Quantised(codec) => Some(codec),
        };
        let (keys, values) = (codec(self.plan.keys), codec(self.plan.values));
        if keys.is_none() && values.is_none() {
            return;
        }
        for (index, page) in self.pages.iter_mut().enumerate() {
            let span = index * self.page..(index + 1) * self.page;
            // Only full pages are packed: later tokens could not be stored in them.
            let newest = self.positions[span].iter().copied().max().unwrap_or(FREE);
            if page.live < self.page || (newest as usize) + self.plan.residual >= next as usize {
                continue;
            }
            // Keys are `[heads][width][page]`: a channel's tokens are neighbours. Values are `[heads][page][width]`.
            if let Some(codec) = keys {
                let tokens_run = codec.axis == CodecAxis::Channel;
                page.keys.pack(self.width, self.page, tokens_run, codec);
            }
            if let Some(codec) = values {
                let channels_run = codec.axis == CodecAxis::Token;
                page.values.pack(self.page, self.width, channels_run, codec);
            }
        }
    }

    /// Return kept tokens as (position, slot), the oldest first. O(n log n)
    pub(super) fn ordered(&self) -> Vec<(u32, u32)> {
        let mut order: Vec<(u32, u32)> = self
            .positions
            .iter()
            .enumerate()
            .filter(|&(_, &position)| position != FREE)
            .map(|(slot, &position)| (position, slot as u32))
            .collect();
        order.sort_unstable();
        order
    }

    /// Return all pages' keys and values, unpacked.
    pub(super) fn read(&self) -> Vec<Pairs<'_>> {
        self.pages
            .iter()
            .map(|page| {
                (
                    page.keys.read(self.width, self.page),
                    page.values.read(self.page, self.width),
                )
            })
            .collect()
    }

    /// Compute the Euclidean norm of each slot's key in each head. `[slots][heads]`
    pub(super) fn key_norms(&self) -> Vec<f32> {
        let mut norms = vec![0.0f32; self.positions.len() * self.heads];
        for (index, page) in self.pages.iter().enumerate() {
            let keys = page.keys.read(self.width, self.page);
            for head in 0..self.heads {
                for component in 0..self.width {
                    let row = &keys[(head * self.width + component) * self.page..][..self.page];
                    for (at, key) in row.iter().enumerate() {
                        norms[(index * self.page + at) * self.heads + head] += key * key;
                    }
                }
            }
        }
        norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
        norms
    }

    /// Compute the attention of one row of queries `[H · width]` over all slots. `output [H · width]`,
    /// `probabilities [H][slots]`
    ///
    /// Groups of query heads share a key head, whose keys and values are not copied for them; pages of which no slot is
    /// visible are not read. With `parallel`, key heads are computed by several threads where there is enough to do.
    /// O(slots · H · width)
    #[allow(clippy::too_many_arguments, reason = "what is read, and two results")]
    pub(super) fn attend(
        &self,
        read: &[Pairs<'_>],
        queries: &[f32],
        (scale, cap): (f32, f32),
        visibility: Visibility,
        parallel: bool,
        output: &mut [f32],
        probabilities: &mut Vec<f32>,
    ) {
        let slots = self.positions.len();
        let (heads, width) = (queries.len() / self.width, self.width);
        let group = heads / self.heads;
        probabilities.clear();
        probabilities.resize(slots * heads, 0.0);
        output.fill(0.0);
        // What is added to the logits of each slot: free and invisible ones get probability 0.
        let hidden = |&position: &u32| match position != FREE && visibility.sees(position) {
            true => 0.0,
            false => f32::NEG_INFINITY,
        };
        let hidden: Vec<f32> = self.positions.iter().map(hidden).collect();
        let seen = |index: &usize| hidden[index * self.page..][..self.page].contains(&0.0);
        let pages: Vec<usize> = (0..read.len()).filter(seen).collect();
        let (Some(first), Some(last)) = (pages.first(), pages.last()) else {
            return;
        };
        let span = first * self.page..(last + 1) * self.page;
        // Of one key head: `queries`, `output [group · width]`, `probabilities [group][slots]`.
        let key_head = |head: usize, queries: &[f32], output: &mut [f32], p: &mut [f32]| {
            for &index in &pages {
                let queries = Rows {
                    numbers: queries,
                    stride: width,
                };
                let keys = &read[index].0[head * width * self.page..][..width * self.page];
                let logits = &mut p[index * self.page..];
                add_products(queries, group, keys, self.page, logits, slots);
            }
            for p in p.chunks_exact_mut(slots) {
                let logits = &mut p[span.clone()];
                for logit in &mut *logits {
                    *logit *= scale;
                }
                attention::cap_logits(cap, logits);
                for (logit, hidden) in logits.iter_mut().zip(&hidden[span.clone()]) {
                    *logit = if *hidden == 0.0 { *logit } else { *hidden };
                }
                crate::kernel::softmax::softmax(logits);
            }
            for &index in &pages {
                let probabilities = Rows {
                    numbers: &p[index * self.page..],
                    stride: slots,
                };
                let values = &read[index].1[head * width * self.page..][..width * self.page];
                add_products(probabilities, group, values, width, output, width);
            }
        };
        let (each, each_p) = (group * width, group * slots);
        if parallel && queries.len() * span.len() > PARALLEL_HEADS {
            let parts = (
                queries.par_chunks_exact(each),
                output.par_chunks_exact_mut(each),
                probabilities.par_chunks_exact_mut(each_p),
            );
            let parts = parts.into_par_iter().enumerate();
            parts.for_each(|(head, (queries, output, p))| key_head(head, queries, output, p));
        } else {
            let parts = queries
                .chunks_exact(each)
                .zip(output.chunks_exact_mut(each))
                .zip(probabilities.chunks_exact_mut(each_p));
            for (head, ((queries, output), p)) in parts.enumerate() {
                key_head(head, queries, output, p);
            }
        }
    }
}
