//! The walks of one length, and the nodes that followed them.

use std::ops::Range;

use crate::kernel::element::Element;
use crate::kernel::numbers::Numbers;
use crate::{Error, ErrorKind, Result};

/// The walks of one length in a [`PathGraph`](crate::graph::PathGraph): `C` walks with `N` targets in all.
///
/// A walk is the walk one node shorter, its parent, with one more node before it. Children of one parent are adjacent,
/// in the order of that node.
#[derive(Clone, Debug, Default)]
pub struct PathLevel {
    /// Offsets of the children of each parent. `[parents + 1]`
    pub(crate) rows: Numbers,
    /// The node that each walk begins with, ascending among children of one parent. `[C]`
    pub(crate) nodes: Numbers,
    /// Offsets of the targets of each walk. `[C + 1]`
    pub(crate) fans: Numbers,
    /// Nodes that followed, ascending within a fan. `[N]`
    pub(crate) targets: Numbers,
    /// How far the walk lifts the log probability of each target above what its parent gives. `[N]`
    pub(crate) lifts: Numbers,
    /// How often each target followed the walk; empty in training. `[N]`
    pub(crate) counts: Numbers,
}

/// The blocks of a level in a model file, in order.
pub(crate) const BLOCKS: [&str; 6] = ["rows", "nodes", "fans", "targets", "lifts", "counts"];

impl PathLevel {
    /// Create the level of an order from its arrays in the order of the fields, after checking them. `parents` is the
    /// number of walks one node shorter, `nodes` that of the graph.
    ///
    /// # Errors
    /// [`ErrorKind::Format`], naming the block, when they contradict each other.
    pub(crate) fn new(
        arrays: [Numbers; 6],
        order: usize,
        parents: usize,
        nodes: usize,
    ) -> Result<Self> {
        let [rows, starts, fans, targets, lifts, counts] = arrays;
        let level = Self {
            rows,
            nodes: starts,
            fans,
            targets,
            lifts,
            counts,
        };
        for (block, array) in level.arrays().into_iter().enumerate() {
            let checked = match (block, array.element()) {
                (4, Element::F16 | Element::F32) => level.check(block, parents, nodes),
                (0..=3 | 5, Element::U16 | Element::U32) => level.check(block, parents, nodes),
                (_, other) => Err(format!("unexpected element type {other}")),
            };
            checked.map_err(|what| {
                let at = format!("block path.{order}.{}", BLOCKS[block]);
                Error::new(ErrorKind::Format, what).at(at)
            })?;
        }
        Ok(level)
    }

    /// Check a block, once those before it are checked.
    fn check(&self, block: usize, parents: usize, nodes: usize) -> std::result::Result<(), String> {
        let count = self.targets.len();
        let as_long = |values: &Numbers| match values.len() == count {
            true => Ok(()),
            false => Err(format!("{} values for {count} targets", values.len())),
        };
        match block {
            0 => check_offsets(&self.rows, parents, self.nodes.len()),
            1 => check_ascending(&self.rows, &self.nodes, nodes),
            2 => check_offsets(&self.fans, self.nodes.len(), count),
            3 => check_ascending(&self.fans, &self.targets, nodes),
            4 => {
                as_long(&self.lifts)?;
                match (0..count).find(|&index| !self.lifts.cells().real(index).is_finite()) {
                    Some(index) => Err(format!("the value at index {index} is not finite")),
                    None => Ok(()),
                }
            }
            _ => as_long(&self.counts),
        }
    }

    /// The arrays in the order of [`BLOCKS`].
    pub(crate) fn arrays(&self) -> [&Numbers; 6] {
        [
            &self.rows,
            &self.nodes,
            &self.fans,
            &self.targets,
            &self.lifts,
            &self.counts,
        ]
    }

    /// Rows, nodes, fans and targets, and the bits of lifts in f32, for a device.
    #[cfg(feature = "gpu")]
    pub(crate) fn numbers(&self) -> [Vec<u32>; 5] {
        let whole = |array: &Numbers| (0..array.len()).map(|i| array.cells().whole(i)).collect();
        let bits = |i| self.lifts.cells().real(i).to_bits();
        [
            whole(&self.rows),
            whole(&self.nodes),
            whole(&self.fans),
            whole(&self.targets),
            (0..self.entries()).map(bits).collect(),
        ]
    }

    /// Number of walks.
    pub fn walks(&self) -> usize {
        self.nodes.len()
    }

    /// Number of targets of all walks.
    pub fn entries(&self) -> usize {
        self.targets.len()
    }

    /// Bytes of the arrays.
    pub fn bytes(&self) -> usize {
        self.arrays().iter().map(|array| array.bytes().len()).sum()
    }

    /// The child of `parent` that begins with `node`. O(log C).
    pub(super) fn child(&self, parent: usize, node: u32) -> Option<usize> {
        self.nodes.find(range(&self.rows, parent), node)
    }

    /// The walk with number `index`, of `length` nodes.
    pub(super) fn walk(&self, index: usize, length: usize) -> Walk<'_> {
        Walk {
            length,
            range: range(&self.fans, index),
            level: self,
        }
    }
}

/// A walk of the text that ends at the current node, with the targets that it lifts.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    /// Its number of nodes, at least 2.
    pub length: usize,
    range: Range<usize>,
    level: &'a PathLevel,
}

impl<'a> Walk<'a> {
    /// Iterate over the targets and their lifts.
    pub fn lifts(self) -> impl Iterator<Item = (u32, f32)> + 'a {
        let (targets, lifts) = (self.level.targets.cells(), self.level.lifts.cells());
        self.range
            .map(move |index| (targets.whole(index), lifts.real(index)))
    }

    /// The lift of one target and how often it followed the walk, if the walk lifts it. O(log N).
    pub fn target(&self, target: u32) -> Option<(f32, u32)> {
        let index = self.level.targets.find(self.range.clone(), target)?;
        let counts = &self.level.counts;
        let count = if counts.is_empty() {
            0
        } else {
            counts.cells().whole(index)
        };
        Some((self.level.lifts.cells().real(index), count))
    }
}

fn range(offsets: &Numbers, index: usize) -> Range<usize> {
    let offsets = offsets.cells();
    offsets.whole(index) as usize..offsets.whole(index + 1) as usize
}

fn check_offsets(offsets: &Numbers, rows: usize, items: usize) -> std::result::Result<(), String> {
    if offsets.len() != rows + 1 {
        return Err(format!("{} offsets for {rows} rows", offsets.len()));
    }
    let offsets = offsets.cells();
    let (first, last) = (offsets.whole(0), offsets.whole(rows));
    if first != 0 || last as usize != items {
        return Err(format!("offsets from {first} to {last} for {items} items"));
    }
    match (0..rows).find(|&row| offsets.whole(row) > offsets.whole(row + 1)) {
        Some(row) => Err(format!("the offsets decrease after row {row}")),
        None => Ok(()),
    }
}

/// Check that the items of each row ascend and are below `limit`.
fn check_ascending(
    offsets: &Numbers,
    items: &Numbers,
    limit: usize,
) -> std::result::Result<(), String> {
    let (offsets, rows, items) = (offsets.cells(), offsets.len() - 1, items.cells());
    for row in 0..rows {
        let mut least = 0;
        for index in offsets.whole(row)..offsets.whole(row + 1) {
            let item = items.whole(index as usize);
            if item < least || item as usize >= limit {
                return Err(format!(
                    "node {item} at index {index} is out of order or not below {limit}"
                ));
            }
            least = item + 1;
        }
    }
    Ok(())
}
