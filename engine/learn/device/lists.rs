//! What a batch tells the kernels: lists of rows by node and edge, all in one array of integers.

/// The integers of one batch.
#[derive(Default)]
pub(super) struct Lists {
    pub all: Vec<u32>,
}

/// Rows by group; places in the integers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    /// Where each group's members begin. `[groups + 1]`
    pub bounds: u32,
    /// The members; `NONE` where they are 0, 1, 2, …
    pub members: u32,
    /// What each group belongs to, ascending; `NONE` where that is its number. `[groups]`
    pub targets: u32,
    /// Number of groups.
    pub count: usize,
}

/// Marks what a kernel leaves out.
pub(super) const NONE: u32 = u32::MAX;
/// Rows that one thread adds up, when all rows are added up.
const PIECE: usize = 64;

impl Lists {
    /// Appends integers and returns their place.
    pub fn put(&mut self, values: &[u32]) -> u32 {
        let place = self.all.len() as u32;
        self.all.extend_from_slice(values);
        place
    }

    /// Rows by key: `(key, row)` in any order; rows of a key stay in theirs.
    pub fn by_key(&mut self, pairs: impl Iterator<Item = (u32, u32)>) -> Groups {
        let mut pairs: Vec<(u32, u32)> = pairs.collect();
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

    /// All of so many rows, in pieces; then all pieces as one group.
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
    /// A region of so many numbers, aligned to four.
    pub fn take(&mut self, count: usize) -> u32 {
        let place = self.end;
        self.end += count.next_multiple_of(4);
        place as u32
    }
}
