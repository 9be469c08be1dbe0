//! Counting the edges of a token stream, and building a graph from the counts.

use crate::graph::TokenGraph;
use crate::graph::token_graph::check_node_count;
use crate::ranks::Ranks;
use crate::{Error, ErrorKind, Result};

/// Pairs buffered before they are merged into the counted edges.
const BUFFER: usize = 1 << 22;

/// Builder of a [`TokenGraph`] from a token stream.
///
/// Memory grows with the number of distinct edges, not with the length of the text.
///
/// ```
/// use brillm::graph::GraphBuilder;
/// let mut builder = GraphBuilder::new(3);
/// builder.walk([0, 1, 2, 0, 1])?;
/// let graph = builder.minimum_count(2).build()?;
/// assert_eq!(graph.edges(), 1); // only 0 -> 1 was walked twice
/// # Ok::<(), brillm::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GraphBuilder {
    nodes: usize,
    minimum_count: u32,
    maximum_fan: usize,
    buffer: Vec<u64>,
    counted: Vec<(u64, u32)>,
}

impl GraphBuilder {
    /// Create an empty builder for a vocabulary of `nodes` tokens.
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes,
            minimum_count: 1,
            maximum_fan: usize::MAX,
            buffer: Vec::new(),
            counted: Vec::new(),
        }
    }

    /// Leave out edges with a count below `count`.
    #[must_use]
    pub fn minimum_count(mut self, count: u32) -> Self {
        self.minimum_count = count.max(1);
        self
    }

    /// Keep only the `fan` edges of highest count of each node; ties go to the lower target.
    #[must_use]
    pub fn maximum_fan(mut self, fan: usize) -> Self {
        self.maximum_fan = fan;
        self
    }

    /// Count the edges between consecutive tokens; no edge joins them to the tokens of an earlier call.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when a token is not below the number of nodes.
    pub fn walk(&mut self, tokens: impl IntoIterator<Item = u32>) -> Result<()> {
        let mut previous = None;
        for token in tokens {
            if token as usize >= self.nodes {
                return Err(Error::new(
                    ErrorKind::Input,
                    format!("token {token} is outside the vocabulary of {}", self.nodes),
                ));
            }
            if let Some(source) = previous {
                self.buffer.push(u64::from(source) << 32 | u64::from(token));
                if self.buffer.len() >= BUFFER {
                    self.settle();
                }
            }
            previous = Some(token);
        }
        Ok(())
    }

    /// Count the edges of a text that all ranks have: each walks a part of it, and all get the counts of the whole.
    ///
    /// # Errors
    /// As [`Self::walk`], and those of an exchange.
    pub fn walk_over(&mut self, ranks: &dyn Ranks, tokens: &[u32]) -> Result<()> {
        let (rank, size) = (ranks.rank(), ranks.size());
        if size == 1 {
            return self.walk(tokens.iter().copied());
        }
        let mut part = Self::new(self.nodes);
        // A part ends with the first token of the next one, so that it counts the edge between them.
        let border = |rank: usize| (tokens.len() as u128 * rank as u128 / size as u128) as usize;
        let end = (border(rank + 1) + 1).min(tokens.len());
        part.walk(tokens[border(rank)..end].iter().copied())?;
        part.settle();
        let mut bytes = Vec::with_capacity(part.counted.len() * 12);
        for (edge, count) in part.counted {
            bytes.extend_from_slice(&edge.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        let all = ranks.gather("counts of edges".into(), &bytes)?;
        self.settle();
        let own = std::mem::take(&mut self.counted);
        let mut counts: Vec<(u64, u32)> = all
            .iter()
            .flat_map(|bytes| bytes.as_chunks::<12>().0)
            .map(|bytes| {
                let [a, b, c, d, e, f, g, h, count @ ..] = *bytes;
                let edge = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                (edge, u32::from_le_bytes(count))
            })
            .chain(own)
            .collect();
        counts.sort_unstable();
        // A sum in 64 bits that saturates once has the value that saturates at every addition.
        let sum = |run: &[(u64, u32)]| run.iter().map(|&(_, count)| u64::from(count)).sum::<u64>();
        self.counted = counts
            .chunk_by(|a, b| a.0 == b.0)
            .map(|run| (run[0].0, u32::try_from(sum(run)).unwrap_or(u32::MAX)))
            .collect();
        Ok(())
    }

    /// Add `count` to an edge.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] when source or target is not below the number of nodes.
    pub fn add(&mut self, source: u32, target: u32, count: u32) -> Result<()> {
        if source.max(target) as usize >= self.nodes {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "edge {source} -> {target} is outside a graph of {} nodes",
                    self.nodes
                ),
            ));
        }
        if count > 0 {
            self.settle();
            let key = u64::from(source) << 32 | u64::from(target);
            match self.counted.binary_search_by_key(&key, |&(edge, _)| edge) {
                Ok(index) => self.counted[index].1 = self.counted[index].1.saturating_add(count),
                Err(index) => self.counted.insert(index, (key, count)),
            }
        }
        Ok(())
    }

    /// Build the graph. O(E log E).
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when there are more than 2³² − 1 edges; [`ErrorKind::Input`] when the
    /// size of the vocabulary exceeds 32 bits.
    pub fn build(mut self) -> Result<TokenGraph> {
        self.settle();
        self.counted
            .retain(|&(_, count)| count >= self.minimum_count);
        if self.counted.len() >= u32::MAX as usize {
            return Err(Error::new(ErrorKind::Resource, "more than 2^32 - 1 edges")
                .advice("raise the minimum count or lower the maximum fan"));
        }
        check_node_count(self.nodes)?;
        let mut rows = vec![0u32; self.nodes + 1];
        let mut targets = Vec::with_capacity(self.counted.len());
        let mut counts = Vec::with_capacity(self.counted.len());
        for fan in self.counted.chunk_by(|a, b| a.0 >> 32 == b.0 >> 32) {
            let source = (fan[0].0 >> 32) as usize;
            let mut kept = fan.to_vec();
            if kept.len() > self.maximum_fan {
                kept.sort_by_key(|&(edge, count)| (std::cmp::Reverse(count), edge));
                kept.truncate(self.maximum_fan);
                kept.sort_unstable_by_key(|&(edge, _)| edge);
            }
            rows[source + 1] = kept.len() as u32;
            targets.extend(kept.iter().map(|&(edge, _)| edge as u32));
            counts.extend(kept.iter().map(|&(_, count)| count));
        }
        for node in 0..self.nodes {
            rows[node + 1] += rows[node];
        }
        TokenGraph::from_rows(rows, targets, counts)
    }

    /// Merge the buffered pairs into the counted edges.
    fn settle(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        self.buffer.sort_unstable();
        let old = std::mem::take(&mut self.counted);
        let mut merged = Vec::with_capacity(old.len() + self.buffer.len() / 4);
        let mut old = old.into_iter().peekable();
        for run in self.buffer.chunk_by(|a, b| a == b) {
            let (edge, mut count) = (run[0], run.len() as u32);
            while let Some(&(other, _)) = old.peek() {
                if other > edge {
                    break;
                }
                let (other, times) = old.next().expect("peeked");
                if other == edge {
                    count = count.saturating_add(times);
                } else {
                    merged.push((other, times));
                }
            }
            merged.push((edge, count));
        }
        merged.extend(old);
        self.counted = merged;
        self.buffer.clear();
    }
}
