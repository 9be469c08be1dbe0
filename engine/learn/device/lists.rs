//! Lists of a batch for the kernels, rows by node and edge, all in one array of integers; regions of the workspace.

use crate::learn::batch::Batch;
use crate::learn::prior::Walks;

/// The integers of one batch.
#[derive(Default)]
pub(super) struct Lists {
    pub all: Vec<u32>,
}

/// Rows by group; offsets in the integers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    /// First member of each group. `[groups + 1]`
    pub bounds: u32,
    /// The members; `NONE` where they are 0, 1, 2, …
    pub members: u32,
    /// Key of each group, ascending; `NONE` where that is its number. `[groups]`
    pub targets: u32,
    /// Number of groups.
    pub count: usize,
}

impl Groups {
    /// One group of the first `count` rows.
    pub fn first(count: usize) -> Self {
        // Without bounds, `members` counts the rows.
        Self {
            bounds: NONE,
            members: count as u32,
            targets: NONE,
            count: 1,
        }
    }
}

/// Marks an absent list or offset.
pub(super) const NONE: u32 = u32::MAX;
/// Logits that are stored at once.
pub(super) const LOGITS: usize = 16 << 20;
/// Rows that one thread sums, when all rows are summed.
const PIECE: usize = 64;

/// The node of a row of the batch.
pub(super) fn source(batch: &Batch, row: usize) -> u32 {
    batch.sequence(row / batch.steps)[row % batch.steps]
}

/// The token after a row of the batch.
pub(super) fn next(batch: &Batch, row: usize) -> u32 {
    batch.sequence(row / batch.steps)[row % batch.steps + 1]
}

/// The rows of a batch sorted by node, and each node with its number of rows.
pub(super) fn sorted_by_node(batch: &Batch) -> (Vec<u32>, Vec<(u32, usize)>) {
    let node = |row: u32| source(batch, row as usize);
    let mut order: Vec<u32> = (0..(batch.sequences() * batch.steps) as u32).collect();
    order.sort_by_key(|&row| node(row));
    let groups = order.chunk_by(|&a, &b| node(a) == node(b));
    let groups = groups.map(|group| (node(group[0]), group.len())).collect();
    (order, groups)
}

impl Lists {
    /// Append integers and return their offset.
    pub fn put(&mut self, values: &[u32]) -> u32 {
        let offset = self.all.len() as u32;
        self.all.extend_from_slice(values);
        offset
    }

    /// Group rows by key: `(key, row)` in any order; the rows of a key keep their order.
    pub fn by_key(&mut self, pairs: impl Iterator<Item = (u32, u32)>) -> Groups {
        let mut pairs: Vec<(u32, u32)> = pairs.collect();
        // Stable: sums run over the rows of a key in their order, as on the CPU.
        pairs.sort_by_key(|&(key, _)| key);
        let (mut bounds, mut targets) = (vec![0], Vec::new());
        for group in pairs.chunk_by(|a, b| a.0 == b.0) {
            targets.push(group[0].0);
            bounds.push(bounds[bounds.len() - 1] + group.len() as u32);
        }
        let members: Vec<u32> = pairs.iter().map(|&(_, row)| row).collect();
        Groups {
            count: targets.len(),
            bounds: self.put(&bounds),
            members: self.put(&members),
            targets: self.put(&targets),
        }
    }

    /// Append the targets that longer walks lift at each row, as pairs of a target and the bits of its lift, and return
    /// the offset of where the pairs of each row begin.
    pub fn walks(&mut self, walks: &Walks, batch: &Batch) -> u32 {
        let mut begins = Vec::with_capacity(batch.sequences() * batch.steps + 1);
        begins.push(self.all.len() as u32);
        let mut lifts: Vec<(u32, f32)> = Vec::new();
        for sequence in 0..batch.sequences() {
            for step in 0..batch.steps {
                let fold = batch.folds[sequence] as usize;
                lifts.clear();
                lifts.extend(walks.lifts(fold, batch.walk(sequence, step)));
                // One sum for each target: threads add to different ones.
                lifts.sort_by_key(|&(target, _)| target);
                for group in lifts.chunk_by(|a, b| a.0 == b.0) {
                    let lift: f32 = group.iter().map(|&(_, lift)| lift).sum();
                    self.all.extend([group[0].0, lift.to_bits()]);
                }
                begins.push(self.all.len() as u32);
            }
        }
        self.put(&begins)
    }

    /// Cut rows into pieces, a group each; and all pieces as one group.
    pub fn pieces(&mut self, rows: usize) -> [Groups; 2] {
        let count = rows.div_ceil(PIECE);
        let bounds: Vec<u32> = (0..=count)
            .map(|piece| (piece * PIECE).min(rows) as u32)
            .collect();
        let group = |bounds, count| Groups {
            bounds,
            members: NONE,
            targets: NONE,
            count,
        };
        let (bounds, whole) = (self.put(&bounds), self.put(&[0, count as u32]));
        [group(bounds, count), group(whole, 1)]
    }
}

/// Regions of the workspace; counts of floats.
#[derive(Default)]
pub(super) struct Regions {
    pub end: usize,
}

impl Regions {
    /// Take a region of so many numbers, aligned to four.
    pub fn take(&mut self, count: usize) -> u32 {
        let offset = self.end;
        self.end += count.next_multiple_of(4);
        offset as u32
    }
}
