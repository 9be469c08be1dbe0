//! The static resistance of an edge: −ln of its smoothed probability in the graph's counts.
//!
//! Interpolated modified Kneser-Ney smoothing of order 2 (Chen and Goodman 1999, equations 25 and 26),
//! over edges instead of strings: with `c(u,v)` the count of an edge, `c(u)` their sum over a fan and
//! `N(v)` the number of different nodes with an edge into `v`,
//!
//! ```text
//! p(v|u)  = max(c(u,v) − D(c(u,v)), 0)/c(u) + λ(u) p1(v)        λ(u) c(u) = Σ_v D(c(u,v))
//! p1(v)   = max(N(v) − D1(N(v)), 0)/Σ_v N(v) + λ1 / V           λ1 ΣN    = Σ_v D1(N(v))
//! ```
//!
//! so that all V targets have a probability above zero, unseen edges have different resistances, and a fan of
//! F listed edges describes all V: `ln p(v|u) = ln λ(u) + ln p1(v)` for an edge that is not listed.

use crate::graph::discount::Discounts;

/// −ln p(target | source) for all V² edges of a graph, in memory O(V + E).
#[derive(Clone, Debug, Default)]
pub struct Resistance {
    /// −ln p(v|u) of each listed edge. `[E]`
    seen: Vec<f32>,
    /// −ln p1(v) of each target reached over an edge that is not listed. `[V]`
    target: Vec<f32>,
    /// −ln λ(u): added for every edge of `u` that is not listed. `[V]`
    source: Vec<f32>,
}

impl Resistance {
    /// Smooth the counts of a graph in compressed rows (`rows [V+1]`, `targets [E]`, `counts [E]`).
    ///
    /// Edges with a count of zero (those of a held-out fold) are treated as unlisted.
    ///
    /// # Complexity
    /// O(V + E).
    pub fn kneser_ney(rows: &[u32], targets: &[u32], counts: &[u32]) -> Self {
        Self::smoothed(rows, targets, counts, &|edge| counts[edge] > 0)
    }

    /// Smooth counts of edges, each a new edge of its target where `walked` holds, whatever its count.
    pub(super) fn smoothed(
        rows: &[u32],
        targets: &[u32],
        counts: &[u32],
        walked: &dyn Fn(usize) -> bool,
    ) -> Self {
        let nodes = rows.len() - 1;
        let lower = continuation(nodes, targets, walked);
        let discounts = Discounts::estimate(counts_of_counts(
            counts.iter().map(|&count| u64::from(count)),
        ));

        let target: Vec<f64> = lower.iter().map(|&p| resistance_of(p)).collect();
        let mut source = Vec::with_capacity(nodes);
        let mut seen = Vec::with_capacity(targets.len());
        for node in 0..nodes {
            let range = rows[node] as usize..rows[node + 1] as usize;
            let total: f64 = counts[range.clone()]
                .iter()
                .map(|&count| f64::from(count))
                .sum();
            if total == 0.0 {
                source.push(0.0);
                seen.extend(range.map(|edge| target[targets[edge] as usize] as f32));
                continue;
            }
            let given: f64 = counts[range.clone()]
                .iter()
                .map(|&count| discounts.of(u64::from(count)))
                .sum();
            let backoff = given / total;
            // λ(u): a fan whose discounts are all zero (possible only in artificial counts) would leave unseen edges
            // without probability; the floor keeps every resistance finite.
            let backoff = backoff.max(1e-6);
            source.push(resistance_of(backoff) as f32);
            for edge in range {
                let count = f64::from(counts[edge]);
                let own = (count - discounts.of(u64::from(counts[edge]))).max(0.0) / total;
                let p = own + backoff * lower[targets[edge] as usize];
                seen.push(resistance_of(p) as f32);
            }
        }
        Self {
            seen,
            target: target.iter().map(|&value| value as f32).collect(),
            source,
        }
    }

    /// −ln p(v|u) of each listed edge, in CSR order. `[E]`
    pub fn seen(&self) -> &[f32] {
        &self.seen
    }

    /// −ln p1(v): the contribution of the target to the resistance of an unlisted edge. `[V]`
    pub fn target(&self) -> &[f32] {
        &self.target
    }

    /// −ln λ(u): the contribution of the source to the resistance of an unlisted edge. `[V]`
    pub fn source(&self) -> &[f32] {
        &self.source
    }

    /// How far the log probability of a listed edge exceeds that of an edge without counts to the same target.
    pub fn lift(&self, source: u32, target: u32, edge: usize) -> f32 {
        self.unseen(source, target) - self.seen[edge]
    }

    /// The resistance of an edge that is not listed.
    pub fn unseen(&self, source: u32, target: u32) -> f32 {
        self.source[source as usize] + self.target[target as usize]
    }
}

/// −ln of a probability, never negative: rounding can lift a sum of probabilities above 1, and −ln 1 is −0.
fn resistance_of(probability: f64) -> f64 {
    (-probability.ln()).max(0.0) + 0.0
}

/// Compute p1 over all nodes: the probability of each as the target of a *new* edge.
fn continuation(nodes: usize, targets: &[u32], walked: &dyn Fn(usize) -> bool) -> Vec<f64> {
    let mut sources = vec![0u64; nodes];
    for (edge, &target) in targets.iter().enumerate() {
        if walked(edge) {
            sources[target as usize] += 1;
        }
    }
    let total: u64 = sources.iter().sum();
    if total == 0 {
        return vec![1.0 / nodes.max(1) as f64; nodes];
    }
    let discounts = Discounts::estimate(counts_of_counts(sources.iter().copied()));
    let total = total as f64;
    let given: f64 = sources
        .iter()
        .map(|&count| discounts.of(count))
        .sum::<f64>()
        .max(1e-6 * total);
    let uniform = given / total / nodes as f64;
    sources
        .iter()
        .map(|&count| (count as f64 - discounts.of(count)).max(0.0) / total + uniform)
        .collect()
}

fn counts_of_counts(counts: impl Iterator<Item = u64>) -> [u64; 4] {
    let mut result = [0; 4];
    for count in counts {
        if (1..=4).contains(&count) {
            result[count as usize - 1] += 1;
        }
    }
    result
}
