//! Keys and values of one head group of one layer and sequence, in slots that are reused.
//!
//! Attention does not depend on the order of keys: their rotary embedding holds their positions, and visibility
//! follows from each slot's position. So evicting a token frees its slot, the next token takes it, and nothing is
//! moved. Slots form pages; a page's keys are stored component by component, so that the products of one query
//! component with all keys of a page run over neighbouring numbers.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

use crate::kernel::attention;
use crate::kernel::vector::add_scaled;
use crate::transformer::packed::Packed;
use crate::transformer::{Axis, LayerPlan, Storage};

/// Slots in a page, unless a codec groups tokens otherwise.
const PAGE: usize = 64;

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

/// Sums of one layer's attention to each slot.
#[derive(Clone, Debug)]
pub(super) struct AttentionSums {
    /// The attending layer.
    pub(super) layer: usize,
    /// Rows of sums: one for all heads, or one for each key head.
    pub(super) heads: usize,
    /// Sums over all queries so far. `[slots][heads]`
    pub(super) accumulated: Vec<f32>,
    /// Attention of the last queries, newest last. Each `[heads][slots at that time]`
    pub(super) recent: VecDeque<Vec<f32>>,
}

impl AttentionSums {
    /// Clear a slot's sums when another token takes it.
    fn clear(&mut self, slot: usize) {
        if let Some(sums) = self
            .accumulated
            .get_mut(slot * self.heads..(slot + 1) * self.heads)
        {
            sums.fill(0.0);
        }
        for row in &mut self.recent {
            let columns = row.len() / self.heads;
            if slot < columns {
                for head in 0..self.heads {
                    row[head * columns + slot] = 0.0;
                }
            }
        }
    }

    /// Add one query's attention `[heads][slots]`: to the sums over all queries if `accumulate`, and to the last
    /// `window` queries.
    pub(super) fn add(&mut self, row: Vec<f32>, accumulate: bool, window: usize) {
        let slots = row.len() / self.heads;
        if accumulate {
            self.accumulated.resize(slots * self.heads, 0.0);
            for (head, row) in row.chunks_exact(slots).enumerate() {
                for (slot, &p) in row.iter().enumerate() {
                    self.accumulated[slot * self.heads + head] += p;
                }
            }
        }
        if window > 0 {
            while self.recent.len() >= window {
                self.recent.pop_front();
            }
            self.recent.push_back(row);
        }
    }

    /// Sum the last queries' attention to each of `slots`, weighted linearly from `from` (oldest query) to `to`
    /// (newest). `[heads][slots.len()]`
    pub(super) fn column_sums(&self, slots: &[u32], from: f32, to: f32) -> Vec<f32> {
        let mut sums = vec![0.0; self.heads * slots.len()];
        let steps = self.recent.len().saturating_sub(1).max(1) as f32;
        for (age, row) in self.recent.iter().enumerate() {
            let weight = from + (to - from) * age as f32 / steps;
            let columns = row.len() / self.heads;
            for head in 0..self.heads {
                for (at, &slot) in slots.iter().enumerate() {
                    if (slot as usize) < columns {
                        sums[head * slots.len() + at] +=
                            weight * row[head * columns + slot as usize];
                    }
                }
            }
        }
        sums
    }

    /// Return the sums over all queries for each of `slots`. `[heads][slots.len()]`
    pub(super) fn totals(&self, slots: &[u32]) -> Vec<f32> {
        let mut sums = Vec::with_capacity(self.heads * slots.len());
        for head in 0..self.heads {
            sums.extend(slots.iter().map(|&slot| {
                let at = slot as usize * self.heads + head;
                self.accumulated.get(at).copied().unwrap_or(0.0)
            }));
        }
        sums
    }

    fn bytes(&self) -> usize {
        (self.accumulated.len() + self.recent.iter().map(Vec::len).sum::<usize>()) * 4
    }
}

#[derive(Clone, Debug)]
struct Page {
    keys: Block,
    values: Block,
    /// Occupied slots.
    live: usize,
}

/// One page's keys `[heads][width][page]` or values `[heads][page][width]`.
#[derive(Clone, Debug)]
enum Block {
    Open(Vec<f32>),
    Packed {
        packed: Packed,
        /// Whether the last two axes were exchanged before packing.
        transposed: bool,
    },
}

impl Block {
    fn bytes(&self) -> usize {
        match self {
            Self::Open(values) => values.len() * 4,
            Self::Packed { packed, .. } => packed.bytes(),
        }
    }

    /// Return the numbers in the layout of an open block.
    fn read(&self, rows: usize, columns: usize) -> Cow<'_, [f32]> {
        match self {
            Self::Open(values) => Cow::Borrowed(values),
            Self::Packed { packed, transposed } => {
                let values = packed.unpack();
                Cow::Owned(if *transposed {
                    transpose(&values, columns, rows)
                } else {
                    values
                })
            }
        }
    }
}

/// Exchange the last two axes of `[…][rows][columns]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut output = vec![0.0; values.len()];
    let size = rows * columns;
    for (from, to) in values.chunks_exact(size).zip(output.chunks_exact_mut(size)) {
        for row in 0..rows {
            for column in 0..columns {
                to[column * rows + row] = from[row * columns + column];
            }
        }
    }
    output
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
        let mut page = PAGE;
        for storage in [plan.keys, plan.values] {
            if let Storage::Quantised(codec) = storage
                && codec.axis == Axis::Channel
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

    /// Bytes of scores that are kept for decisions about what to keep.
    pub(super) fn attention_bytes(&self) -> usize {
        self.sums.iter().map(AttentionSums::bytes).sum()
    }

    /// Return the attention sums of a layer, new ones if there are none.
    pub(super) fn sums_of(&mut self, layer: usize, heads: usize) -> &mut AttentionSums {
        let found = self.sums.iter().position(|sums| sums.layer == layer);
        let index = found.unwrap_or_else(|| {
            self.sums.push(AttentionSums {
                layer,
                heads,
                accumulated: Vec::new(),
                recent: VecDeque::new(),
            });
            self.sums.len() - 1
        });
        &mut self.sums[index]
    }

    /// Store a token's key and value, `[heads · width]` each, and return the slot.
    pub(super) fn push(&mut self, position: u32, key: &[f32], value: &[f32]) -> usize {
        let slot = match self.free.pop_first() {
            Some(slot) => slot as usize,
            None => {
                let first = self.positions.len();
                let block = || Block::Open(vec![0.0; self.heads * self.width * self.page]);
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
        let packed = matches!(page.keys, Block::Packed { .. })
            || matches!(page.values, Block::Packed { .. });
        if !packed {
            self.free.insert(slot as u32);
        } else if page.live == 0 {
            let block = || Block::Open(vec![0.0; self.heads * self.width * self.page]);
            (page.keys, page.values) = (block(), block());
            self.free
                .extend((index * self.page) as u32..((index + 1) * self.page) as u32);
        }
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
            let newest = self.positions[span].iter().copied().max().unwrap_or(FREE);
            if page.live < self.page || (newest as usize) + self.plan.residual >= next as usize {
                continue;
            }
            let close =
                |block: &mut Block, rows: usize, columns: usize, along_columns: bool, codec| {
                    if let Block::Open(open) = block {
                        let packed = if along_columns {
                            Packed::new(open, columns, codec)
                        } else {
                            Packed::new(&transpose(open, rows, columns), rows, codec)
                        };
                        *block = Block::Packed {
                            packed,
                            transposed: !along_columns,
                        };
                    }
                };
            if let Some(codec) = keys {
                let tokens_run = codec.axis == Axis::Channel;
                close(&mut page.keys, self.width, self.page, tokens_run, codec);
            }
            if let Some(codec) = values {
                let channels_run = codec.axis == Axis::Token;
                close(&mut page.values, self.page, self.width, channels_run, codec);
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
    /// Groups of query heads share a key head, whose keys and values are not copied for them. O(slots · H · width)
    pub(super) fn attend(
        &self,
        read: &[Pairs<'_>],
        queries: &[f32],
        scale: f32,
        visibility: Visibility,
        output: &mut [f32],
        probabilities: &mut Vec<f32>,
    ) {
        let slots = self.positions.len();
        let group = queries.len() / self.width / self.heads;
        probabilities.clear();
        probabilities.resize(slots * group * self.heads, 0.0);
        output.fill(0.0);
        // logits = scale · q·k. Pages outside, heads inside: each page is read from memory once for the keys and once
        // for the values.
        for (index, (keys, _)) in read.iter().enumerate() {
            for (head, query) in queries.chunks_exact(self.width).enumerate() {
                let first = head * slots + index * self.page;
                let logits = &mut probabilities[first..first + self.page];
                let keys = &keys[head / group * self.width * self.page..];
                attention::add_logits(query, keys, self.page, 0..self.page, scale, logits);
            }
        }
        // Free and invisible slots get probability 0.
        for logits in probabilities.chunks_exact_mut(slots.max(1)) {
            for (logit, &position) in logits.iter_mut().zip(&self.positions) {
                if position == FREE || !visibility.sees(position) {
                    *logit = f32::NEG_INFINITY;
                }
            }
            crate::kernel::softmax::softmax(logits);
        }
        // output = Σ p v over the slots that are visible.
        for (index, (_, values)) in read.iter().enumerate() {
            for (head, output) in output.chunks_exact_mut(self.width).enumerate() {
                let first = head * slots + index * self.page;
                let kv = head / group;
                for at in 0..self.page {
                    let p = probabilities[first + at];
                    if p > 0.0 {
                        let row = (kv * self.page + at) * self.width;
                        add_scaled(p, &values[row..row + self.width], output);
                    }
                }
            }
        }
    }
}
