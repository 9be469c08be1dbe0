//! Owners of fans: which rank holds and computes the own edges of each node.
//!
//! A node costs what its fan and its visits cost, and both follow Zipf's law: the heaviest node of an English text has a
//! tenth of all work. Nodes are therefore assigned by cost, largest first, each to the rank with least work so far (Graham
//! 1969), within a limit on edges, which are memory; the heaviest fans are cut by target first. Equal inputs give equal
//! owners: every rank computes the same table.

use crate::{Error, ErrorKind, Result};

/// Largest share of edges of one rank, as a multiple of an equal share.
pub const FULLEST: f64 = 1.10;

/// Own edges of a block. Fans are cut between blocks, whose borders depend on nothing but the fan: training rounds what it
/// sums over the edges of a block, so that results do not depend on where fans are cut.
pub const FAN_BLOCK: usize = 16;

/// Width at which the times of [`FanCost`] were fitted.
const FITTED_WIDTH: usize = 32;

/// Expected time of the fan of a node in a training step, on one core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FanCost {
    /// Seconds for each edge that the step touches: its moments and weights pass through memory.
    touched: f64,
    /// Seconds for each pair of a row and an edge.
    pair: f64,
    /// Rows of a step.
    rows: usize,
}

impl FanCost {
    /// Return the cost at signals of `width` numbers, in steps of `rows` predictions. The two times were fitted to the
    /// measured speeds of training at width 32; they grow as the parameters of an edge do.
    pub fn new(width: usize, rows: usize) -> Self {
        let parameters = |width: usize| (width * width + width) as f64;
        let scale = parameters(width) / parameters(FITTED_WIDTH);
        Self {
            touched: 2.75e-6 * scale,
            pair: 0.309e-6 * scale,
            rows,
        }
    }

    /// Return the expected seconds of a step for `edges` edges of a node that has the share `share` of all visits. With
    /// `shared`, the shared edge is scored too, as it is for every row.
    pub fn expected(&self, edges: usize, shared: bool, share: f64) -> f64 {
        // The chance that the step visits the node at all: 1 − (1 − p)ⁿ.
        let visited = 1.0 - power(1.0 - share, self.rows);
        let rows = share * self.rows as f64;
        let scored = (edges + usize::from(shared)) as f64;
        edges as f64 * self.touched * visited + scored * self.pair * rows
    }

    /// Return the seconds of a step with `rows` visits of the node.
    pub fn of_rows(&self, edges: usize, shared: bool, rows: usize) -> f64 {
        let touched = if rows > 0 { self.touched } else { 0.0 };
        let scored = (edges + usize::from(shared)) as f64;
        edges as f64 * touched + scored * self.pair * rows as f64
    }
}

/// Raise to a whole power by squaring: products alone, so that all machines get the same bits, which `powf` of different
/// C libraries does not promise.
fn power(mut base: f64, mut exponent: usize) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// Consecutive own edges of one node, by ascending target, that one rank owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Source of the edges.
    pub node: u32,
    /// Own edges of the node before these.
    pub first: u32,
    /// Number of edges; 0 for a node without own edges.
    pub edges: u32,
    /// The owner.
    pub rank: u32,
}

/// The owner of each own edge of a graph.
///
/// ```
/// use brillm::graph::{FanCost, Owners};
/// // Three nodes with 4, 2 and 2 own edges, visited equally often; two ranks.
/// let owners = Owners::assign(&[4, 2, 2], &[10, 10, 10], &FanCost::new(32, 100), 2, 0)?;
/// assert_eq!([0, 1, 2].map(|node| owners.rank_of(node)), [0, 1, 1]);
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners {
    ranks: usize,
    /// In the order of nodes, then of edges; each node has one at least.
    pieces: Vec<Piece>,
    /// Offset of the pieces of each node. `[V + 1]`
    starts: Vec<u32>,
}

impl Owners {
    /// Assign the own edges of each node to `ranks` ranks. `fans[u]` is the number of own edges of node u, `visits[u]` how
    /// often a text visits it. A fan that costs more than 1/(`cut` · `ranks`) of all, or has more than 1/(2 · `ranks`) of all
    /// edges, is cut into pieces whose sizes differ by one block of [`FAN_BLOCK`] edges at most; 0 cuts none.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] without ranks; [`ErrorKind::Input`] where the lists have different lengths.
    ///
    /// # Complexity
    /// O(pieces · ranks).
    pub fn assign(
        fans: &[usize],
        visits: &[u64],
        cost: &FanCost,
        ranks: usize,
        cut: usize,
    ) -> Result<Self> {
        if ranks == 0 {
            return Err(Error::new(
                ErrorKind::Configuration,
                "edges need at least one rank",
            ));
        }
        if fans.len() != visits.len() {
            let what = format!("{} fans, and visits of {}", fans.len(), visits.len());
            return Err(Error::new(ErrorKind::Input, what));
        }
        let shares = shares(visits);
        let costs = fans.iter().zip(&shares);
        let costs: Vec<f64> = costs
            .map(|(&edges, &share)| cost.expected(edges, true, share))
            .collect();
        let (whole, edges) = (costs.iter().sum::<f64>(), fans.iter().sum::<usize>());
        let mut pieces = Vec::with_capacity(fans.len());
        let mut starts = Vec::with_capacity(fans.len() + 1);
        for (node, (&fan, &seconds)) in fans.iter().zip(&costs).enumerate() {
            starts.push(pieces.len() as u32);
            let blocks = fan.div_ceil(FAN_BLOCK);
            let count = match cut {
                0 => 1,
                // Work above 1/(cut · ranks), or more edges than half of an equal share, which would not fit in well.
                _ => {
                    let by_cost = (seconds / whole * cut as f64 * ranks as f64).ceil();
                    let by_edges = (fan * 2 * ranks).div_ceil(edges.max(1));
                    (by_cost as usize).max(by_edges).min(blocks).max(1)
                }
            };
            let border = |piece: usize| (blocks * piece / count * FAN_BLOCK).min(fan);
            pieces.extend((0..count).map(|piece| Piece {
                node: node as u32,
                first: border(piece) as u32,
                edges: (border(piece + 1) - border(piece)) as u32,
                rank: 0,
            }));
        }
        starts.push(pieces.len() as u32);
        let mut owners = Self {
            ranks,
            pieces,
            starts,
        };
        owners.place_pieces(&shares, cost, edges);
        Ok(owners)
    }

    /// Place each piece, the most expensive first, on the rank with least work among those below the limit on edges.
    fn place_pieces(&mut self, shares: &[f64], cost: &FanCost, edges: usize) {
        let mut order: Vec<(f64, usize)> = self
            .pieces
            .iter()
            .map(|piece| expected_cost(piece, cost, shares))
            .zip(0..)
            .collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let limit = (edges as f64 * FULLEST / self.ranks as f64) as usize;
        let (mut work, mut held) = (vec![0.0; self.ranks], vec![0usize; self.ranks]);
        for (seconds, index) in order {
            let piece = &mut self.pieces[index];
            let wanted = piece.edges as usize;
            let below = (0..self.ranks).filter(|&rank| held[rank] + wanted <= limit);
            let least = below.min_by(|&a, &b| f64::total_cmp(&work[a], &work[b]));
            // Where it fits nowhere, memory decides. `min_by` and `min_by_key` return the first of equals.
            let rank = least.or_else(|| (0..self.ranks).min_by_key(|&rank| held[rank]));
            let rank = rank.unwrap_or(0);
            piece.rank = rank as u32;
            work[rank] += seconds;
            held[rank] += wanted;
        }
    }

    /// Number of ranks.
    pub fn ranks(&self) -> usize {
        self.ranks
    }

    /// All pieces, in the order of nodes, then of edges.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The pieces of a node's fan, in the order of targets. One at least.
    pub fn of(&self, node: u32) -> &[Piece] {
        let range = self.starts[node as usize]..self.starts[node as usize + 1];
        &self.pieces[range.start as usize..range.end as usize]
    }

    /// The rank that owns the first edges of a node, and all of them if its fan is not cut.
    pub fn rank_of(&self, node: u32) -> usize {
        self.of(node)[0].rank as usize
    }

    /// The rank that owns one edge of a node, the `index`-th of its own edges by ascending target.
    pub fn rank_of_edge(&self, node: u32, index: usize) -> usize {
        let pieces = self.of(node);
        let after = pieces.partition_point(|piece| piece.first as usize <= index);
        pieces[after.saturating_sub(1)].rank as usize
    }

    /// Number of own edges of each rank.
    pub fn edges(&self) -> Vec<usize> {
        let mut edges = vec![0; self.ranks];
        for piece in &self.pieces {
            edges[piece.rank as usize] += piece.edges as usize;
        }
        edges
    }

    /// Expected seconds of a step on one core of each rank, for a text with these visits of nodes.
    pub fn expected(&self, visits: &[u64], cost: &FanCost) -> Vec<f64> {
        let shares = shares(visits);
        let mut work = vec![0.0; self.ranks];
        for piece in &self.pieces {
            work[piece.rank as usize] += expected_cost(piece, cost, &shares);
        }
        work
    }

    /// Seconds of one step on one core of each rank. `rows[u]` is how many rows of the step visit node u.
    pub fn of_step(&self, rows: &[u32], cost: &FanCost) -> Vec<f64> {
        let mut work = vec![0.0; self.ranks];
        for piece in &self.pieces {
            let rows = rows[piece.node as usize] as usize;
            work[piece.rank as usize] += cost.of_rows(piece.edges as usize, piece.first == 0, rows);
        }
        work
    }

    /// Mean number of pieces of the fan of a visited node.
    pub fn pieces_a_visit(&self, visits: &[u64]) -> f64 {
        let visits = visits.iter().zip(0..);
        let (pieces, all) = visits.fold((0.0, 0.0), |(pieces, all), (&visits, node)| {
            let visits = visits as f64;
            (pieces + visits * self.of(node).len() as f64, all + visits)
        });
        pieces / f64::max(all, 1.0)
    }
}

fn expected_cost(piece: &Piece, cost: &FanCost, shares: &[f64]) -> f64 {
    // The first piece of a fan scores the shared edge.
    let shared = piece.first == 0;
    cost.expected(piece.edges as usize, shared, shares[piece.node as usize])
}

/// The share of each node in all visits.
fn shares(visits: &[u64]) -> Vec<f64> {
    let all = visits.iter().sum::<u64>().max(1) as f64;
    visits.iter().map(|&visits| visits as f64 / all).collect()
}

/// Return the largest of some amounts of work divided by their mean; 1 for no work.
pub fn imbalance(work: &[f64]) -> f64 {
    let largest = work.iter().copied().fold(0.0, f64::max);
    let mean = work.iter().sum::<f64>() / work.len().max(1) as f64;
    if mean > 0.0 { largest / mean } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::random::Random;

    /// Fans and visits that follow Zipf's law, with some nodes that have neither.
    fn zipf(nodes: usize) -> (Vec<usize>, Vec<u64>) {
        let mut random = Random::stream(1, 0, 0);
        let visits: Vec<u64> = (0..nodes)
            .map(|node| (1_000_000 / (node + 2)) as u64 * u64::from(node % 17 != 3))
            .collect();
        let fan = |&visits: &u64| match visits {
            0 => 0,
            // A fan grows with the root of the visits, and has some chance in it.
            _ => ((visits as f64).sqrt() * (0.5 + random.uniform())) as usize % nodes,
        };
        (visits.iter().map(fan).collect(), visits)
    }

    fn assign(fans: &[usize], visits: &[u64], ranks: usize, cut: usize) -> Owners {
        Owners::assign(fans, visits, &FanCost::new(32, 7680), ranks, cut).unwrap()
    }

    #[test]
    fn every_own_edge_has_one_owner() {
        let (fans, visits) = zipf(500);
        for ranks in [1, 2, 3, 8, 64, 1000] {
            for cut in [0, 2, 8] {
                let owners = assign(&fans, &visits, ranks, cut);
                for (node, &fan) in fans.iter().enumerate() {
                    let mut next = 0;
                    for piece in owners.of(node as u32) {
                        assert_eq!((piece.node as usize, piece.first), (node, next));
                        assert!((piece.rank as usize) < ranks);
                        assert_eq!(piece.first as usize % FAN_BLOCK, 0, "between blocks");
                        for index in [next, next + piece.edges.saturating_sub(1)] {
                            let rank = owners.rank_of_edge(node as u32, index as usize);
                            assert_eq!(rank, piece.rank as usize);
                        }
                        next += piece.edges;
                    }
                    assert_eq!(next as usize, fan, "node {node}");
                    let pieces = owners.of(node as u32);
                    let sizes = || pieces.iter().map(|piece| piece.edges as usize);
                    // The last block of a fan may be shorter than the others.
                    let most = 2 * FAN_BLOCK - 1;
                    assert!(sizes().max().unwrap() - sizes().min().unwrap() <= most);
                    assert!(pieces.len() == 1 || sizes().min().unwrap() > 0);
                    assert!(cut > 0 || pieces.len() == 1, "no fan is cut without `cut`");
                }
                assert_eq!(
                    owners.edges().iter().sum::<usize>(),
                    fans.iter().sum::<usize>()
                );
                assert_eq!(owners, assign(&fans, &visits, ranks, cut), "deterministic");
            }
        }
    }

    #[test]
    fn cutting_balances_what_whole_fans_do_not() {
        let (fans, visits) = zipf(2000);
        let cost = FanCost::new(32, 7680);
        let balance = |ranks: usize, cut: usize| {
            let owners = assign(&fans, &visits, ranks, cut);
            let equal = fans.iter().sum::<usize>() as f64 / ranks as f64;
            let fullest = *owners.edges().iter().max().unwrap() as f64 / equal;
            (imbalance(&owners.expected(&visits, &cost)), fullest)
        };
        assert!(
            balance(64, 0).0 > 2.0,
            "the heaviest fan is more than a share"
        );
        for ranks in [2, 4, 8, 64] {
            let (work, edges) = balance(ranks, 8);
            assert!(work < 1.05 && edges <= FULLEST, "{ranks}: {work} {edges}");
        }
    }

    #[test]
    fn memory_limits_a_rank_before_work_does() {
        // One node has all the visits, the others have all the edges.
        let (mut fans, mut visits) = (vec![10; 101], vec![0; 101]);
        (fans[0], visits[0]) = (10, 1000);
        let owners = assign(&fans, &visits, 2, 0);
        let edges = owners.edges();
        assert!(edges.iter().all(|&edges| edges <= 555), "{edges:?}");
        assert_eq!(edges.iter().sum::<usize>(), 1010);
    }

    #[test]
    fn equal_nodes_go_to_ranks_in_the_order_of_ids() {
        let owners = assign(&[5; 6], &[1; 6], 3, 0);
        let ranks: Vec<usize> = (0..6).map(|node| owners.rank_of(node)).collect();
        assert_eq!(ranks, [0, 1, 2, 0, 1, 2]);
        // Nodes without own edges cost the shared edge, and are spread as well.
        let owners = assign(&[0; 6], &[1; 6], 2, 8);
        let ranks: Vec<usize> = (0..6).map(|node| owners.rank_of(node)).collect();
        assert_eq!(ranks, [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn expected_costs_are_the_mean_of_real_ones() {
        let (fans, visits) = zipf(300);
        let cost = FanCost::new(16, 400);
        let owners = Owners::assign(&fans, &visits, &cost, 4, 4).unwrap();
        let expected = owners.expected(&visits, &cost);
        // Draw steps of 400 rows from the distribution of the visits.
        let (mut random, all) = (Random::stream(2, 0, 0), visits.iter().sum::<u64>());
        let (steps, mut mean) = (2000, [0.0; 4]);
        let ends: Vec<u64> = visits
            .iter()
            .scan(0, |sum, &visits| {
                *sum += visits;
                Some(*sum)
            })
            .collect();
        for _ in 0..steps {
            let mut rows = vec![0u32; visits.len()];
            for _ in 0..400 {
                let drawn = random.below(all);
                rows[ends.partition_point(|&end| end <= drawn)] += 1;
            }
            for (mean, work) in mean.iter_mut().zip(owners.of_step(&rows, &cost)) {
                *mean += work / steps as f64;
            }
        }
        for (mean, expected) in mean.iter().zip(&expected) {
            assert!((mean / expected - 1.0).abs() < 0.01, "{mean} {expected}");
        }
    }

    #[test]
    fn wrong_numbers_are_errors() {
        let cost = FanCost::new(32, 100);
        assert!(Owners::assign(&[1], &[1], &cost, 0, 0).is_err());
        assert!(Owners::assign(&[1, 2], &[1], &cost, 1, 0).is_err());
        let empty = Owners::assign(&[], &[], &cost, 4, 8).unwrap();
        assert_eq!((empty.pieces().len(), empty.edges()), (0, vec![0; 4]));
        // No visits at all: edges are spread by memory.
        let unseen = Owners::assign(&[3; 8], &[0; 8], &cost, 4, 8).unwrap();
        assert_eq!(unseen.edges(), [6; 4]);
    }
}
