//! Fans on the device: all of them or the recently used ones, in buffers that a kernel can bind.
//!
//! Row 0 of every buffer is the shared edge. A fan never lies in two buffers, and a kernel binds several of them: as many as
//! there are, or as the adapter allows. Where memory does not hold all fans, they are paged: the least recently used ones
//! are evicted.

use std::collections::BTreeMap;
use std::ops::Range;

use super::device::{Buffer, Device, Purpose};
use super::pipeline::Access::{self, Read, Uniform, Write};
use super::sequences::FanTable;
use super::table::{padded_rows, row_words, scales_of};
use crate::kernel::element::Element;
use crate::kernel::table::Table;
use crate::{Error, ErrorKind, Result};

/// Buffer of a fan that is not on the device.
pub const ABSENT: u32 = u32::MAX;

/// Buffers of fans that a kernel binds: there is a kernel for each of these numbers.
pub const BOUND: [usize; 3] = [1, 4, 20];

/// Bindings of a kernel that reads fans: its parameters, floats and integers, then everything that it only reads.
#[rustfmt::skip]
const BINDINGS: &[Access] = &[
    Uniform, Write, Write, Read, Read, Read, Read, Read, Read, Read, Read, Read, Read, Read, Read, Read, Read, Read,
    Read, Read, Read, Read, Read, Read, Read, Read, Read, Read,
];

/// The bindings of a kernel that binds `buffers` buffers of fans after `others` others.
pub(super) const fn bindings(others: usize, buffers: usize) -> &'static [Access] {
    BINDINGS.split_at(others + buffers).0
}

/// Declarations of buffers of fans, from a binding on, and a function that reads the one with a given number: `word`, a word
/// of 4 bytes, or `fetch`, a chunk of words of 16 bytes.
macro_rules! bound_fans {
    ($kind:ident $first:literal 1) => {
        $crate::kernel::gpu::fans::bound_fans!(@ $kind $first: 0)
    };
    ($kind:ident $first:literal 4) => {
        $crate::kernel::gpu::fans::bound_fans!(@ $kind $first: 0 1 2 3)
    };
    ($kind:ident $first:literal 20) => {
        $crate::kernel::gpu::fans::bound_fans!(@ $kind $first: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19)
    };
    (@ word $first:literal: $($n:literal)+) => {
        concat!(
            $("// [rows, row]\n@group(0) @binding(", $first, " + ", $n, ") var<storage, read> words_", $n,
                ": array<u32>;\n",)+
            "\n// A word of 4 bytes of a buffer of fans.\nfn word(buffer: u32, at: u32) -> u32 {\n    switch buffer {\n",
            $("        case ", $n, "u: { return words_", $n, "[at]; }\n",)+
            "        default: { return 0u; }\n    }\n}\n"
        )
    };
    (@ fetch $first:literal: $($n:literal)+) => {
        concat!(
            $("// [rows, row]\n@group(0) @binding(", $first, " + ", $n, ") var<storage, read> words_", $n,
                ": array<vec4<u32>>;\n",)+
            "\n// Words of 16 bytes that `fetch` loads.\nconst CHUNK: u32 = 11u;\nvar<private> chunk: array<vec4<u32>, CHUNK>;\n\n",
            "// Load words at `at` and every `stride` after it, `last` of them; the last one again where there are fewer.\n",
            "fn fetch(buffer: u32, at: u32, stride: u32, last: u32) {\n    switch buffer {\n",
            $("        case ", $n, "u: {\n", $crate::kernel::gpu::fans::bound_fans!(@ chunk $n: 0 1 2 3 4 5 6 7 8 9 10),
                "        }\n",)+
            "        default: {}\n    }\n}\n"
        )
    };
    (@ chunk $n:literal: $($i:literal)+) => {
        concat!($("            chunk[", $i, "] = words_", $n, "[at + min(", $i, "u, last) * stride];\n",)+)
    };
}
pub(super) use bound_fans;

/// The index in [`BOUND`] of the kernel for so many buffers of fans, on a device whose kernels bind `others` other storage
/// buffers: the smallest that binds all, or else the largest that the device allows.
pub fn variant(device: &Device, others: usize, buffers: usize) -> usize {
    let most = (device.storage_buffers() as usize).saturating_sub(others);
    let allowed = BOUND.iter().filter(|&&bound| bound <= most).count().max(1);
    let wanted = BOUND.iter().position(|&bound| bound >= buffers);
    wanted.unwrap_or(BOUND.len() - 1).min(allowed - 1)
}

/// The rows of all fans on the host.
#[derive(Clone, Debug)]
pub struct FanRows {
    /// The rows; edge row e is row `e − first_row`, or that modulo their number where there are fewer.
    pub table: Table,
    /// 0 where row 0 is the shared edge, 1 where there is no shared edge.
    pub first_row: usize,
    /// Columns that are padded together.
    pub width: usize,
    /// Edge rows of each node. `[V]`
    pub edge_rows: Vec<Range<usize>>,
}

impl FanRows {
    /// Columns of a run, and those of a padded one, which fills whole words of 16 bytes.
    fn runs(&self) -> [usize; 2] {
        let numbers = 16 / self.table.element().size();
        [self.width, self.width.next_multiple_of(numbers)]
    }
}

/// One buffer of fans.
#[derive(Clone, Debug)]
pub struct FanBuffer {
    /// `[rows, words]`
    pub words: Buffer,
    /// Free runs of rows, ascending.
    free: Vec<Range<usize>>,
}

/// Counts of paging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PageCounts {
    /// Hops of all sequences.
    pub hops: u64,
    /// Fans that were uploaded for them.
    pub misses: u64,
}

impl PageCounts {
    /// Fraction of hops whose fan was on the device. Several sequences may need one missing fan.
    pub fn hit_rate(&self) -> f64 {
        self.hops.saturating_sub(self.misses) as f64 / self.hops.max(1) as f64
    }
}

/// The fans of a mechanism on a device.
pub struct Fans {
    device: Device,
    rows: FanRows,
    row_words: usize,
    /// The buffers.
    pub buffers: Vec<FanBuffer>,
    /// Scales of int8 rows, else one dummy. `[buffers, buffer_rows]`
    pub scales: Buffer,
    /// Rows of the largest buffer.
    buffer_rows: usize,
    /// Buffer, first row in it, own edges and first edge row of each fan. `[V, 4]`
    pub locations: Buffer,
    host_locations: Vec<[u32; 4]>,
    /// Fans on the device by the time of their last use; empty unless fans are paged.
    used: BTreeMap<u64, u32>,
    stamps: Vec<u64>,
    clock: u64,
    paged: bool,
    counts: PageCounts,
}

impl Fans {
    /// Upload all fans where they fit; otherwise allocate their buffers, for paging. `verify` checks a fan's rows.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when a single fan is larger than a kernel of this adapter can bind;
    /// errors of `verify`.
    pub fn upload(
        device: &Device,
        rows: FanRows,
        verify: &dyn Fn(u32) -> Result<()>,
    ) -> Result<Self> {
        let words = row_words(&rows.table, rows.runs());
        let capacity = (device.binding_bytes() / 4) as usize / words.max(1);
        let widest = rows
            .edge_rows
            .iter()
            .map(ExactSizeIterator::len)
            .max()
            .unwrap_or(0);
        if widest + 1 > capacity {
            return Err(Error::new(
                ErrorKind::Resource,
                format!(
                    "a fan of {widest} edges takes {} bytes, and a kernel of this adapter can bind {}",
                    (widest + 1) * words * 4,
                    device.binding_bytes()
                ),
            )
            .advice("store the model in f16 or int8, or use --backend cpu"));
        }
        let host_locations = rows
            .edge_rows
            .iter()
            .map(|edge_rows| {
                let buffer = if edge_rows.is_empty() { 0 } else { ABSENT };
                [buffer, 0, edge_rows.len() as u32, edge_rows.start as u32]
            })
            .collect();
        let nodes = rows.edge_rows.len();
        let locations =
            device.buffer((nodes * 16) as u64, Purpose::Storage, "locations of fans")?;
        let mut fans = Self {
            device: device.clone(),
            row_words: words,
            buffers: Vec::new(),
            scales: device.upload(&[1.0f32], "scales of fans")?,
            buffer_rows: 0,
            locations,
            host_locations,
            used: BTreeMap::new(),
            stamps: vec![0; nodes],
            clock: 0,
            paged: false,
            counts: PageCounts::default(),
            rows,
        };
        fans.allocate(capacity)?;
        if !fans.paged {
            for node in 0..nodes as u32 {
                fans.upload_fan(node, &[], verify)?;
            }
            fans.counts = PageCounts::default();
        }
        device.write(&fans.locations, 0, &fans.host_locations);
        Ok(fans)
    }

    /// Allocate buffers: as many as all fans need, or as memory allows.
    fn allocate(&mut self, capacity: usize) -> Result<()> {
        // The sizes of the buffers when fans are put one after another.
        let mut sizes = vec![1];
        for edge_rows in &self.rows.edge_rows {
            let last = sizes.len() - 1;
            if sizes[last] + edge_rows.len() > capacity {
                sizes.push(1 + edge_rows.len());
            } else {
                sizes[last] += edge_rows.len();
            }
        }
        let row_bytes = self.row_words * 4;
        if let Some(budget) = self.device.options().fan_bytes {
            let rows = (budget as usize / row_bytes).max(2);
            if sizes.iter().sum::<usize>() > rows {
                self.paged = true;
                let pieces = rows.div_ceil(capacity);
                sizes = vec![(rows / pieces).min(capacity); pieces];
            }
        }
        for size in sizes {
            match self.buffer(size) {
                Ok(buffer) => self.buffers.push(buffer),
                // Memory is exhausted: page fans in the buffers so far, without the last, which leaves room for the rest.
                Err(error) if error.kind() == ErrorKind::Resource && self.buffers.len() > 1 => {
                    self.buffers.pop();
                    self.paged = true;
                    break;
                }
                Err(error) => return Err(error),
            }
            self.buffer_rows = self.buffer_rows.max(size);
        }
        if self.rows.table.element() == Element::I8 {
            let bytes = (self.buffers.len() * self.buffer_rows * 4) as u64;
            let what = "scales of fans";
            self.scales = self.device.buffer(bytes, Purpose::Storage, what)?;
        }
        // Every buffer has a copy of the shared edge as row 0: an edge lies in the buffer of its fan, whichever it is.
        if self.rows.first_row == 0 {
            for buffer in 0..self.buffers.len() {
                self.write_rows(buffer, 0, 0..1)?;
            }
        }
        Ok(())
    }

    fn buffer(&self, rows: usize) -> Result<FanBuffer> {
        let bytes = (rows * self.row_words * 4) as u64;
        Ok(FanBuffer {
            words: self.device.buffer(bytes, Purpose::Storage, "fans")?,
            free: std::iter::once(1..rows).collect(),
        })
    }

    /// Write rows of the table to a buffer, from its row `at` on. A table with fewer rows than edges is repeated.
    fn write_rows(&self, buffer: usize, at: usize, rows: Range<usize>) -> Result<()> {
        let (table, stored) = (&self.rows.table, self.rows.table.rows());
        let (mut words, mut scales) = (Vec::with_capacity(rows.len() * self.row_words), Vec::new());
        let mut row = rows.start;
        while row < rows.end {
            let first = row % stored;
            let held = first..(first + rows.end - row).min(stored);
            row += held.len();
            padded_rows(table, held.clone(), self.rows.runs(), &mut words);
            scales.extend(scales_of(table, held)?);
        }
        let offset = |rows: usize, numbers: usize| (rows * numbers * 4) as u64;
        let target = &self.buffers[buffer].words;
        self.device
            .write(target, offset(at, self.row_words), &words);
        if table.element() == Element::I8 {
            let at = buffer * self.buffer_rows + at;
            self.device.write(&self.scales, offset(at, 1), &scales);
        }
        Ok(())
    }

    /// Words of 4 bytes of a padded run of a row.
    pub fn run_words(&self) -> u32 {
        (self.rows.runs()[1] * self.element().size() / 4) as u32
    }

    /// The buffers as a kernel binds them, `bound` at a time: what it has to know, and the buffers.
    pub fn groups(&self, bound: usize) -> Vec<(FanTable, Vec<&Buffer>)> {
        let groups = self.buffers.chunks(bound).enumerate();
        groups
            .map(|(index, group)| {
                let table = FanTable {
                    first: (index * bound) as u32,
                    rows: self.buffer_rows as u32,
                    paged: u32::from(self.paged),
                    bound: group.len() as u32,
                };
                let mut words: Vec<&Buffer> = group.iter().map(|buffer| &buffer.words).collect();
                // A binding must have a buffer, also one that is not read.
                words.resize(bound, words[0]);
                (table, words)
            })
            .collect()
    }

    /// Whether fans are paged.
    pub fn paged(&self) -> bool {
        self.paged
    }

    /// How the rows are stored.
    pub fn element(&self) -> Element {
        self.rows.table.element()
    }

    /// Own edges of the widest fan.
    pub fn widest(&self) -> usize {
        self.rows
            .edge_rows
            .iter()
            .map(ExactSizeIterator::len)
            .max()
            .unwrap_or(0)
    }

    /// Bytes of a node's own edges on the device.
    pub fn fan_bytes(&self, node: u32) -> u64 {
        (self.rows.edge_rows[node as usize].len() * self.row_words * 4) as u64
    }

    /// Counts so far.
    pub fn counts(&self) -> PageCounts {
        self.counts
    }

    /// Count hops from these nodes, whose fans were on the device.
    pub fn touch(&mut self, nodes: impl Iterator<Item = u32>) {
        for node in nodes {
            self.counts.hops += 1;
            self.stamp(node);
        }
    }

    /// Make a fan the most recently used one.
    fn stamp(&mut self, node: u32) {
        if !self.paged || self.rows.edge_rows[node as usize].is_empty() {
            return;
        }
        self.used.remove(&self.stamps[node as usize]);
        self.clock += 1;
        self.stamps[node as usize] = self.clock;
        self.used.insert(self.clock, node);
    }

    /// Whether the fan of a node is on the device.
    pub fn is_present(&self, node: u32) -> bool {
        self.host_locations[node as usize][0] != ABSENT
    }

    /// Upload the missing fans of these nodes, without evicting one of them. Returns how many were missing.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when they do not fit together; errors of `verify`.
    pub fn ensure(&mut self, nodes: &[u32], verify: &dyn Fn(u32) -> Result<()>) -> Result<usize> {
        let mut missing = 0;
        for &node in nodes {
            if !self.is_present(node) {
                missing += 1;
                self.upload_fan(node, nodes, verify)?;
            }
        }
        Ok(missing)
    }

    fn upload_fan(
        &mut self,
        node: u32,
        kept: &[u32],
        verify: &dyn Fn(u32) -> Result<()>,
    ) -> Result<()> {
        let edge_rows = self.rows.edge_rows[node as usize].clone();
        verify(node)?;
        if edge_rows.is_empty() {
            return Ok(());
        }
        let (buffer, start) = loop {
            if let Some(found) = self.take(edge_rows.len()) {
                break found;
            }
            // The least recently used fan that no waiting sequence needs.
            let victim = self.used.iter().find(|(_, node)| !kept.contains(node));
            let Some((_, &victim)) = victim else {
                return Err(Error::new(
                    ErrorKind::Resource,
                    format!(
                        "the fans of {} sequences do not fit on the device together",
                        kept.len()
                    ),
                )
                .advice("decode fewer prompts together, or store the model in f16 or int8"));
            };
            self.evict(victim);
        };
        let rows = edge_rows.start - self.rows.first_row..edge_rows.end - self.rows.first_row;
        self.write_rows(buffer, start, rows)?;
        self.host_locations[node as usize][0] = buffer as u32;
        self.host_locations[node as usize][1] = start as u32;
        if self.paged {
            self.counts.misses += 1;
            self.write_location(node);
            self.stamp(node);
        }
        Ok(())
    }

    fn write_location(&self, node: u32) {
        let location = self.host_locations[node as usize];
        self.device
            .write(&self.locations, u64::from(node) * 16, &location);
    }

    /// Take a free run of rows: its buffer and first row.
    fn take(&mut self, rows: usize) -> Option<(usize, usize)> {
        for (index, buffer) in self.buffers.iter_mut().enumerate() {
            if let Some(at) = buffer.free.iter().position(|run| run.len() >= rows) {
                let start = buffer.free[at].start;
                buffer.free[at].start += rows;
                if buffer.free[at].is_empty() {
                    buffer.free.remove(at);
                }
                return Some((index, start));
            }
        }
        None
    }

    /// Free the rows of a fan.
    fn evict(&mut self, node: u32) {
        self.used.remove(&self.stamps[node as usize]);
        let [buffer, start, count, _] = self.host_locations[node as usize];
        let free = &mut self.buffers[buffer as usize].free;
        let run = start as usize..(start + count) as usize;
        let at = free.partition_point(|other| other.start < run.start);
        free.insert(at, run);
        // Merge with neighbouring runs.
        if at + 1 < free.len() && free[at].end == free[at + 1].start {
            free[at].end = free[at + 1].end;
            free.remove(at + 1);
        }
        if at > 0 && free[at - 1].end == free[at].start {
            free[at - 1].end = free[at].end;
            free.remove(at);
        }
        self.host_locations[node as usize][0] = ABSENT;
        self.write_location(node);
    }
}
