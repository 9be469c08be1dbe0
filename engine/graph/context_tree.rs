//! Counts of the walks of a text, with their discounts: a tree of reversed contexts.
//!
//! [`PathGraph`](crate::graph::PathGraph) is estimated from it, and so is the n-gram baseline `measure::KneserNey`.
//!
//! The children of the empty context are the last tokens of contexts, their children the tokens before them. One descent
//! visits every order of a context, shortest first. Each node has a fan: the tokens that followed, sorted, with their
//! counts. All nodes of a depth are stored in one [`Level`], siblings adjacent, in compressed rows: 8 bytes per n-gram
//! and 24 per context.

use crate::graph::discount::Discounts;
use rayon::prelude::*;

/// Lower bound of discounts, so that every context leaves some probability to shorter ones.
const LEAST_DISCOUNT: f64 = 1e-3;

/// The contexts of one length. `C` contexts, `N` n-grams.
#[derive(Clone, Debug, Default)]
pub(crate) struct Level {
    /// Discounts of n-grams seen once, twice, and three or more times.
    discounts: [f64; 3],
    /// Offset of the fan of each context. `[C + 1]`
    rows: Vec<u32>,
    /// The tokens of each fan, ascending. `[N]`
    pub(super) targets: Vec<u32>,
    /// Their counts: occurrences at the highest order, distinct preceding tokens at lower ones. `[N]`
    pub(super) counts: Vec<u32>,
    /// Sum of the counts of each fan. `[C]`
    totals: Vec<u32>,
    /// λ of each context: the probability left to the next shorter context. `[C]`
    pub(super) backoffs: Vec<f64>,
    /// Offsets of the contexts that are one token longer, in the next level. `[C + 1]`, empty at the last level
    child_rows: Vec<u32>,
    /// The additional first token of each of them, ascending. `[contexts of the next level]`
    pub(super) child_tokens: Vec<u32>,
}

/// Count the n-grams of a text for a model of `order`.
///
/// The text has at least `order` and fewer than 2³² tokens.
pub(crate) fn count_levels(tokens: &[u32], order: usize) -> Vec<Level> {
    let mut levels = vec![Level::default(); order];
    let contexts = grow_contexts(tokens, &mut levels);
    let mut grams: Vec<u64> = contexts
        .iter()
        .zip(&tokens[order - 1..])
        .map(|(&context, &token)| pair(context, token))
        .collect();
    drop(contexts);
    for depth in (0..order).rev() {
        let contexts = match depth {
            0 => 1,
            _ => levels[depth - 1].child_tokens.len(),
        };
        levels[depth].count(&mut grams, contexts);
        if depth > 0 {
            // Each distinct n-gram of this order is one continuation of the next lower order.
            let parents = levels[depth - 1].parents_of_children();
            grams = levels[depth].grams(&parents);
            grams.extend(opening(tokens, &levels, &parents, depth));
        }
    }
    for level in &mut levels {
        level.estimate();
    }
    levels
}

impl Level {
    /// Number of distinct n-grams with contexts of this level.
    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// A level of a text without n-grams.
    pub(super) fn empty() -> Self {
        Self {
            rows: vec![0, 0],
            totals: vec![0],
            backoffs: vec![1.0],
            child_rows: vec![0, 0],
            ..Self::default()
        }
    }

    /// The n-gram of a context that ends with `token`.
    pub(super) fn find(&self, context: usize, token: u32) -> Option<usize> {
        let fan = self.fan(context);
        let offset = self.targets[fan.clone()].binary_search(&token).ok()?;
        Some(fan.start + offset)
    }

    /// The contexts of the next level that are one token longer than `context`.
    pub(super) fn children(&self, context: usize) -> std::ops::Range<usize> {
        self.child_rows[context] as usize..self.child_rows[context + 1] as usize
    }

    /// The context of this level that each context of the next level is one token longer than.
    pub(super) fn parents_of_children(&self) -> Vec<u32> {
        expand(&self.child_rows)
    }

    /// Compute p(token | context) from the probability with the next shorter context.
    pub(crate) fn interpolate(&self, context: usize, token: u32, shorter: f64) -> f64 {
        let own = match self.find(context, token) {
            Some(gram) => self.kept(context, gram),
            None => 0.0,
        };
        own + self.backoffs[context] * shorter
    }

    /// [`interpolate`](Self::interpolate) for every token, in place. `[V]`
    pub(crate) fn interpolate_all(&self, context: usize, distribution: &mut [f64]) {
        for probability in distribution.iter_mut() {
            *probability *= self.backoffs[context];
        }
        for gram in self.fan(context) {
            distribution[self.targets[gram] as usize] += self.kept(context, gram);
        }
    }

    /// Fill the fans from n-grams as (context, token) pairs in any order, and sort the pairs.
    fn count(&mut self, grams: &mut [u64], contexts: usize) {
        grams.par_sort_unstable();
        let mut sizes = vec![0u32; contexts];
        for group in grams.chunk_by(|left, right| left == right) {
            let (context, token) = unpair(group[0]);
            sizes[context as usize] += 1;
            self.targets.push(token);
            // Lossless: `train` refuses texts of 2³² tokens.
            self.counts.push(group.len() as u32);
        }
        self.targets.shrink_to_fit();
        self.counts.shrink_to_fit();
        self.rows = rows(sizes);
    }

    /// Estimate the discounts of this order, then each context's total and back-off.
    fn estimate(&mut self) {
        let mut counts_of_counts = [0u64; 4];
        for &count in &self.counts {
            if let Some(number) = counts_of_counts.get_mut(count as usize - 1) {
                *number += 1;
            }
        }
        self.discounts = Discounts::estimate(counts_of_counts)
            .by_count
            .map(|discount| discount.max(LEAST_DISCOUNT));
        let contexts = self.rows.len() - 1;
        self.totals = Vec::with_capacity(contexts);
        self.backoffs = Vec::with_capacity(contexts);
        for context in 0..contexts {
            let counts = &self.counts[self.fan(context)];
            let total: u32 = counts.iter().sum();
            let given: f64 = counts.iter().map(|&count| self.discount(count)).sum();
            self.totals.push(total);
            // The last context of a text may have no fan: its probabilities are those of the shorter context.
            self.backoffs.push(match total {
                0 => 1.0,
                _ => given / f64::from(total),
            });
        }
    }

    /// The n-grams as (parent of the context, token) pairs, each once.
    fn grams(&self, parents: &[u32]) -> Vec<u64> {
        let mut grams = Vec::with_capacity(self.targets.len());
        for (context, &parent) in parents.iter().enumerate() {
            let targets = &self.targets[self.fan(context)];
            grams.extend(targets.iter().map(|&token| pair(parent, token)));
        }
        grams
    }

    /// The n-grams of a context.
    pub(super) fn fan(&self, context: usize) -> std::ops::Range<usize> {
        self.rows[context] as usize..self.rows[context + 1] as usize
    }

    /// The discounted probability of an n-gram in its context.
    pub(super) fn kept(&self, context: usize, gram: usize) -> f64 {
        let count = self.counts[gram];
        (f64::from(count) - self.discount(count)) / f64::from(self.totals[context])
    }

    /// The discount of an n-gram with this count, at least 1; at most the count.
    fn discount(&self, count: u32) -> f64 {
        self.discounts[count.min(3) as usize - 1]
    }

    /// The context in the next level that has `token` before this one.
    pub(crate) fn child(&self, context: usize, token: u32) -> Option<usize> {
        let start = *self.child_rows.get(context)? as usize;
        let end = *self.child_rows.get(context + 1)? as usize;
        let offset = self.child_tokens[start..end].binary_search(&token).ok()?;
        Some(start + offset)
    }
}

/// Build the tree of contexts, and return the longest context of each token from `order − 1` on.
fn grow_contexts(tokens: &[u32], levels: &mut [Level]) -> Vec<u32> {
    let mut contexts = vec![0u32; tokens.len()];
    let mut sizes = vec![0u32; 1];
    for length in 1..levels.len() {
        // A token at position i follows the context that its context one shorter has tokens[i − length]
        // before it: contexts are numbered in the order of these pairs, so that children are adjacent.
        let mut pairs: Vec<(u64, u32)> = contexts[1..]
            .iter()
            .zip(tokens)
            .enumerate()
            .map(|(index, (&context, &token))| (pair(context, token), index as u32))
            .collect();
        pairs.par_sort_unstable();
        contexts = vec![0; pairs.len()];
        let level = &mut levels[length - 1];
        for group in pairs.chunk_by(|left, right| left.0 == right.0) {
            let (parent, token) = unpair(group[0].0);
            sizes[parent as usize] += 1;
            let child = level.child_tokens.len() as u32;
            level.child_tokens.push(token);
            for &(_, index) in group {
                contexts[index as usize] = child;
            }
        }
        level.child_tokens.shrink_to_fit();
        let children = level.child_tokens.len();
        level.child_rows = rows(std::mem::replace(&mut sizes, vec![0; children]));
    }
    contexts
}

/// Find the n-gram at the start of the text, if it is missing from the level of its order.
///
/// No token precedes it, so below the highest order its count is zero unless it occurs again; yet it is one more
/// continuation of the next shorter n-gram.
fn opening(tokens: &[u32], levels: &[Level], parents: &[u32], depth: usize) -> Option<u64> {
    let mut context = 0;
    for (level, &token) in levels.iter().zip(tokens[..depth].iter().rev()) {
        context = level.child(context, token)?;
    }
    let level = &levels[depth];
    let token = tokens[depth];
    match level.targets[level.fan(context)].binary_search(&token) {
        Ok(_) => None,
        Err(_) => Some(pair(parents[context], token)),
    }
}

/// Convert row sizes to row offsets, which are one longer.
pub(super) fn rows(sizes: Vec<u32>) -> Vec<u32> {
    let mut end = 0;
    let mut rows = Vec::with_capacity(sizes.len() + 1);
    rows.push(0);
    rows.extend(sizes.into_iter().map(|size| {
        end += size;
        end
    }));
    rows
}

/// The row of each item, from row offsets.
fn expand(rows: &[u32]) -> Vec<u32> {
    let mut expanded = Vec::with_capacity(rows.last().map_or(0, |&end| end as usize));
    for (row, bounds) in rows.windows(2).enumerate() {
        expanded.resize(bounds[1] as usize, row as u32);
    }
    expanded
}

fn pair(context: u32, token: u32) -> u64 {
    u64::from(context) << 32 | u64::from(token)
}

fn unpair(pair: u64) -> (u32, u32) {
    ((pair >> 32) as u32, pair as u32)
}
