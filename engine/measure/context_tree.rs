//! The counts behind [`KneserNey`](crate::measure::KneserNey): a tree of contexts that grows backwards.
//!
//! From the empty context a branch leads to the last token, then to the token before it. So one walk down the
//! tree meets every order of a context, shortest first, and each node carries its fan: the tokens that
//! followed, sorted, with their counts. All nodes of one depth lie in one [`Level`], siblings side by side,
//! in compressed rows: 8 bytes an n-gram and 24 a context.

use crate::graph::Discounts;
use rayon::prelude::*;

/// No discount is smaller, so that no context keeps all of its probability to itself.
const LEAST_DISCOUNT: f64 = 1e-3;

/// The contexts of one length. `C` contexts, `N` n-grams.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    /// What an n-gram seen once, twice, or three and more times gives up.
    discounts: [f64; 3],
    /// Where the fan of each context begins. `[C + 1]`
    rows: Vec<u32>,
    /// The tokens of each fan, ascending. `[N]`
    targets: Vec<u32>,
    /// Their counts: of occurrences at the highest order, of different tokens before them below. `[N]`
    counts: Vec<u32>,
    /// The sum of each fan's counts. `[C]`
    totals: Vec<u32>,
    /// λ of each context: the probability it leaves to the next shorter one. `[C]`
    backoffs: Vec<f64>,
    /// Where the contexts one token longer begin, in the next level. `[C + 1]`, empty at the last level
    child_rows: Vec<u32>,
    /// The token each of them has in front, ascending. `[contexts of the next level]`
    child_tokens: Vec<u32>,
}

/// Counts a text into the levels of a model of `order`.
///
/// The text has at least `order` and fewer than 2³² tokens.
pub(super) fn count_levels(tokens: &[u32], order: usize) -> Vec<Level> {
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
            // Each different n-gram of this order is one continuation of the next lower order.
            let parents = expand(&levels[depth - 1].child_rows);
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
    /// How many different n-grams have this level's contexts.
    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// p(token | context), given the same with the context one shorter.
    pub(super) fn interpolate(&self, context: usize, token: u32, shorter: f64) -> f64 {
        let fan = self.fan(context);
        let own = match self.targets[fan.clone()].binary_search(&token) {
            Ok(offset) => self.kept(context, fan.start + offset),
            Err(_) => 0.0,
        };
        own + self.backoffs[context] * shorter
    }

    /// [`interpolate`](Self::interpolate) for every token, in place. `[V]`
    pub(super) fn interpolate_all(&self, context: usize, distribution: &mut [f64]) {
        for probability in distribution.iter_mut() {
            *probability *= self.backoffs[context];
        }
        for gram in self.fan(context) {
            distribution[self.targets[gram] as usize] += self.kept(context, gram);
        }
    }

    /// Fills the fans from n-grams as (context, token) pairs in any order; leaves them sorted.
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

    /// Estimates the discounts of this order, then each context's total and back-off.
    fn estimate(&mut self) {
        let mut counts_of_counts = [0u64; 4];
        for &count in &self.counts {
            if let Some(slot) = counts_of_counts.get_mut(count as usize - 1) {
                *slot += 1;
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
            // The first tokens of a text may stand in no fan: they leave everything to shorter contexts.
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

    fn fan(&self, context: usize) -> std::ops::Range<usize> {
        self.rows[context] as usize..self.rows[context + 1] as usize
    }

    /// What an n-gram keeps of its context's probability after the discount.
    fn kept(&self, context: usize, gram: usize) -> f64 {
        let count = self.counts[gram];
        (f64::from(count) - self.discount(count)) / f64::from(self.totals[context])
    }

    /// What an n-gram with this count, at least 1, gives up to the unseen ones; never more than the count.
    fn discount(&self, count: u32) -> f64 {
        self.discounts[count.min(3) as usize - 1]
    }

    /// The context in the next level that has `token` before this one.
    pub(super) fn child(&self, context: usize, token: u32) -> Option<usize> {
        let start = *self.child_rows.get(context)? as usize;
        let end = *self.child_rows.get(context + 1)? as usize;
        let offset = self.child_tokens[start..end].binary_search(&token).ok()?;
        Some(start + offset)
    }
}

/// Builds the tree of contexts; returns which longest context each token from `order − 1` on follows.
fn grow_contexts(tokens: &[u32], levels: &mut [Level]) -> Vec<u32> {
    let mut contexts = vec![0u32; tokens.len()];
    let mut sizes = vec![0u32; 1];
    for length in 1..levels.len() {
        // A token at position i follows the context that its context one shorter has tokens[i − length]
        // before it: contexts are numbered in the order of these pairs, so children lie side by side.
        let mut pairs: Vec<(u64, u32)> = contexts[1..]
            .iter()
            .zip(tokens)
            .enumerate()
            .map(|(slot, (&context, &token))| (pair(context, token), slot as u32))
            .collect();
        pairs.par_sort_unstable();
        contexts = vec![0; pairs.len()];
        let level = &mut levels[length - 1];
        for group in pairs.chunk_by(|left, right| left.0 == right.0) {
            let (parent, token) = unpair(group[0].0);
            sizes[parent as usize] += 1;
            let child = level.child_tokens.len() as u32;
            level.child_tokens.push(token);
            for &(_, slot) in group {
                contexts[slot as usize] = child;
            }
        }
        level.child_tokens.shrink_to_fit();
        let children = level.child_tokens.len();
        level.child_rows = rows(std::mem::replace(&mut sizes, vec![0; children]));
    }
    contexts
}

/// The n-gram that the text begins with, if it is missing from the level of its order.
///
/// Nothing stands before it, so below the highest order it has a count of zero unless it occurs again;
/// yet it still shows one more token before the n-gram one shorter.
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

/// Row pointers from row sizes, one longer.
fn rows(sizes: Vec<u32>) -> Vec<u32> {
    let mut end = 0;
    let mut rows = Vec::with_capacity(sizes.len() + 1);
    rows.push(0);
    rows.extend(sizes.into_iter().map(|size| {
        end += size;
        end
    }));
    rows
}

/// The row of each item, from row pointers.
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
