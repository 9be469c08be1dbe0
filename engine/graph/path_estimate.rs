//! Estimation of a path graph from a text.

use crate::graph::context_tree::{self, Level};
use crate::graph::path_level::PathLevel;
use crate::graph::{NodeId, PathGraph, PathSettings, Resistance, TokenGraph};
use crate::kernel::numbers::Numbers;
use crate::{Error, ErrorKind, Result};

/// The n-grams of one order, as the next order needs them.
struct Shorter {
    /// p of each n-gram. `[N]`
    probabilities: Vec<f64>,
    /// What its lifts are short of where entries were left out: longer walks make up for it. `[N]`
    missing: Vec<f64>,
}

/// The entries of one order that are kept.
struct Kept {
    /// For each context the targets that are kept, as offsets. `[C + 1]`
    fans: Vec<u32>,
    targets: Vec<u32>,
    lifts: Vec<f32>,
    counts: Vec<u32>,
}

impl PathGraph {
    /// Estimate the path graph of the text that `graph` was counted from.
    ///
    /// A text shorter than the order has no walks.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for an order outside 3 to 5 or a threshold that is not a number;
    /// [`ErrorKind::Input`] for a token outside the graph; [`ErrorKind::Resource`] for 2³² tokens or more.
    ///
    /// # Complexity
    /// O(order · T log T) time and about 100 bytes per token at the peak, for T tokens.
    pub fn estimate(graph: &TokenGraph, tokens: &[u32], settings: &PathSettings) -> Result<Self> {
        let order = settings.order;
        let refuse = |kind, what: String| Err(Error::new(kind, what).at("path graph"));
        if !(3..=Self::MAXIMUM_ORDER).contains(&order) {
            let what = format!(
                "invalid order {order}: expected 3 to {}",
                Self::MAXIMUM_ORDER
            );
            return refuse(ErrorKind::Configuration, what);
        }
        if !settings.prune.is_finite() || settings.prune < 0.0 {
            let what = format!(
                "invalid threshold {}: expected 0 or more nats",
                settings.prune
            );
            return refuse(ErrorKind::Configuration, what);
        }
        if let Some(token) = tokens
            .iter()
            .find(|&&token| token as usize >= graph.nodes())
        {
            let what = format!(
                "token {token} is outside a graph of {} nodes",
                graph.nodes()
            );
            return refuse(ErrorKind::Input, what);
        }
        if u32::try_from(tokens.len()).is_err() {
            let what = format!("{} tokens are too many to count", tokens.len());
            return refuse(ErrorKind::Resource, what);
        }
        let tree = match tokens.len() < order {
            true => vec![Level::empty(); order],
            false => context_tree::count_levels(tokens, order),
        };
        let parents: Vec<Vec<u32>> = tree.iter().map(Level::parents_of_children).collect();
        let (continuations, walked) = edge_counts(graph, &tree, tokens);
        let resistance =
            Resistance::smoothed(graph.rows(), graph.targets(), &continuations, &|edge| {
                walked[edge]
            });
        let occurrences = occurrences(&tree, &parents, tokens);
        let mut shorter = edges(graph, &tree, &resistance);
        let mut kept = Vec::with_capacity(order - 2);
        for depth in 2..order {
            let (level, next) = longer(
                &tree,
                &parents,
                depth,
                &shorter,
                &occurrences[depth],
                settings,
            );
            kept.push(level);
            shorter = next;
        }
        Ok(Self {
            continuations,
            resistance,
            levels: compact(&tree, kept, graph.nodes(), settings.exact),
        })
    }
}

/// Return the number of different nodes before each edge of the graph, and whether the text contains it. `[E]`, `[E]`
fn edge_counts(graph: &TokenGraph, tree: &[Level], tokens: &[u32]) -> (Vec<u32>, Vec<bool>) {
    let (mut counts, mut walked) = (vec![0; graph.edges()], vec![false; graph.edges()]);
    let mut set = |source: u32, target: u32, count: u32| {
        if let Some(edge) = graph.edge(NodeId(source), NodeId(target)) {
            counts[edge.index()] = count;
            walked[edge.index()] = true;
        }
    };
    // Nothing precedes the first edge of the text: where it does not occur again, its count stays 0.
    if let [source, target, ..] = tokens {
        set(*source, *target, 0);
    }
    for (context, &source) in tree[0].child_tokens.iter().enumerate() {
        for gram in tree[1].fan(context) {
            set(source, tree[1].targets[gram], tree[1].counts[gram]);
        }
    }
    (counts, walked)
}

/// Count how often each n-gram of each order occurs: the tree has continuation counts below the highest order.
fn occurrences(tree: &[Level], parents: &[Vec<u32>], tokens: &[u32]) -> Vec<Vec<u32>> {
    let mut all = vec![tree[tree.len() - 1].counts.clone()];
    for depth in (1..tree.len()).rev() {
        let (level, shorter) = (&tree[depth], &tree[depth - 1]);
        let mut counts = vec![0u32; shorter.len()];
        for (context, &parent) in parents[depth - 1].iter().enumerate() {
            for gram in level.fan(context) {
                if let Some(found) = shorter.find(parent as usize, level.targets[gram]) {
                    counts[found] += all[all.len() - 1][gram];
                }
            }
        }
        // The n-gram that the text begins with is the end of no longer one; nor does the tree contain the longer one that
        // the text begins with, if that does not occur again.
        if let Some(gram) = find(tree, &tokens[..depth.min(tokens.len())]) {
            counts[gram] += 1;
        }
        if let Some(longer) = tokens.get(..=depth)
            && find(tree, longer).is_none()
            && let Some(gram) = find(tree, &longer[1..])
        {
            counts[gram] += 1;
        }
        all.push(counts);
    }
    all.reverse();
    all
}

/// Find an n-gram in the level of its order.
fn find(tree: &[Level], gram: &[u32]) -> Option<usize> {
    let (&last, context) = gram.split_last()?;
    let mut levels = tree.iter().zip(context.iter().rev());
    let context = levels.try_fold(0, |node, (level, &token)| level.child(node, token));
    tree[gram.len() - 1].find(context?, last)
}

/// Compute the probabilities of edges, and how far the lifts of `resistance` fall short of theirs: in full for edges
/// that the graph does not list.
fn edges(graph: &TokenGraph, tree: &[Level], resistance: &Resistance) -> Shorter {
    let mut unigram = vec![1.0 / graph.nodes() as f64; graph.nodes()];
    tree[0].interpolate_all(0, &mut unigram);
    let level = &tree[1];
    let mut probabilities = Vec::with_capacity(level.len());
    let mut missing = Vec::with_capacity(level.len());
    for (context, &source) in tree[0].child_tokens.iter().enumerate() {
        for gram in level.fan(context) {
            let target = level.targets[gram];
            let left = level.backoffs[context] * unigram[target as usize];
            let p = level.kept(context, gram) + left;
            let edge = graph.edge(NodeId(source), NodeId(target));
            let listed = edge.map_or(0.0, |edge| resistance.lift(source, target, edge.index()));
            probabilities.push(p);
            missing.push((p / left).ln() - f64::from(listed));
        }
    }
    Shorter {
        probabilities,
        missing,
    }
}

/// Compute probabilities and lifts of the n-grams with contexts of `depth` tokens, and keep those that gain enough.
fn longer(
    tree: &[Level],
    parents: &[Vec<u32>],
    depth: usize,
    shorter: &Shorter,
    occurrences: &[u32],
    settings: &PathSettings,
) -> (Kept, Shorter) {
    let (level, below) = (&tree[depth], &tree[depth - 1]);
    let mut next = Shorter {
        probabilities: Vec::with_capacity(level.len()),
        missing: Vec::with_capacity(level.len()),
    };
    let mut kept = Kept {
        fans: vec![0],
        targets: Vec::new(),
        lifts: Vec::new(),
        counts: Vec::new(),
    };
    for (context, &parent) in parents[depth - 1].iter().enumerate() {
        let visits: u32 = occurrences[level.fan(context)].iter().sum();
        for gram in level.fan(context) {
            let target = level.targets[gram];
            let found = below.find(parent as usize, target);
            let found = found.expect("the end of an n-gram continues its first token");
            let (p, missing) = (shorter.probabilities[found], shorter.missing[found]);
            let left = level.backoffs[context] * p;
            let p = level.kept(context, gram) + left;
            let lift = (p / left).ln() + missing;
            let count = occurrences[gram];
            // Nats that the entry saves in another text of this length: the discount is what its count is expected to
            // be too high by. Undiscounted counts keep twice as many entries for the same perplexity.
            let gain = f64::from(visits) * level.kept(context, gram) * lift.abs();
            let keep = gain >= settings.prune && count >= settings.minimum_count;
            if keep {
                kept.targets.push(target);
                kept.lifts.push(lift as f32);
                kept.counts.push(count);
            }
            next.probabilities.push(p);
            next.missing.push(if keep { 0.0 } else { lift });
        }
        kept.fans.push(kept.targets.len() as u32);
    }
    (kept, next)
}

/// Store the kept entries, without contexts that have neither targets nor longer contexts.
fn compact(tree: &[Level], kept: Vec<Kept>, nodes: usize, exact: bool) -> Vec<PathLevel> {
    // Which contexts are stored, from the longest to the shortest.
    let mut stored: Vec<Vec<bool>> = Vec::new();
    for (index, level) in kept.iter().enumerate().rev() {
        let longer = stored.last();
        let has_child = |context: usize| {
            longer.is_some_and(|longer| longer[tree[index + 2].children(context)].contains(&true))
        };
        let contexts = level.fans.windows(2).enumerate();
        stored.push(
            contexts
                .map(|(context, fan)| fan[0] < fan[1] || has_child(context))
                .collect(),
        );
    }
    stored.reverse();
    // The parents of contexts of two tokens are nodes; those of longer ones are the stored contexts of the level before.
    let mut parents: Vec<(usize, usize)> = tree[0]
        .child_tokens
        .iter()
        .copied()
        .enumerate()
        .map(|(context, node)| (context, node as usize))
        .collect();
    let mut count = nodes;
    let mut levels = Vec::with_capacity(kept.len());
    for (index, (level, stored)) in kept.into_iter().zip(&stored).enumerate() {
        let shorter = &tree[index + 1];
        let (mut sizes, mut starts, mut fans) = (vec![0u32; count], Vec::new(), vec![0u32]);
        let mut next = Vec::new();
        for &(context, parent) in &parents {
            for child in shorter.children(context).filter(|&child| stored[child]) {
                sizes[parent] += 1;
                next.push((child, starts.len()));
                starts.push(shorter.child_tokens[child]);
                // The entries of contexts that are not stored are none, so offsets stay valid.
                fans.push(level.fans[child + 1]);
            }
        }
        levels.push(PathLevel {
            rows: Numbers::whole(&context_tree::rows(sizes)),
            nodes: Numbers::whole(&starts),
            fans: Numbers::whole(&fans),
            targets: Numbers::whole(&level.targets),
            lifts: Numbers::real(&level.lifts, exact),
            counts: Numbers::whole(&level.counts),
        });
        (parents, count) = (next, starts.len());
    }
    levels
}
