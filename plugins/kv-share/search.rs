//! The search for a map: pairs of layers in order, each tried on top of the pairs accepted before.

use brillm_plugin::{RandomStream, Result};
use serde::{Deserialize, Serialize};

use crate::Order;

/// A layer, and an earlier layer whose cache it may read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    pub layer: usize,
    pub source: usize,
    /// Distance between the two layers' caches.
    pub distance: f64,
}

/// A pair that was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    pub layer: usize,
    pub source: usize,
    /// Its rank among all pairs, from 0.
    pub rank: usize,
    pub distance: f64,
    /// Cosine of the final hidden states with the map that includes it.
    pub similarity: f64,
}

/// The result of a search.
#[derive(Debug, PartialEq)]
pub(crate) struct Found {
    pub source: Vec<u32>,
    pub accepted: Vec<Accepted>,
    /// Maps that the model was run with.
    pub tried: usize,
}

/// Sort pairs: the most dissimilar first, the most similar first, or at random.
pub(crate) fn rank(pairs: &mut [Pair], order: Order, seed: u64) {
    match order {
        Order::Dissimilar => pairs.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
        Order::Similar => pairs.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
        Order::Random => RandomStream::new(seed).shuffle(pairs),
    }
}

/// Let one more layer of a map read another; every entry points at a layer that owns a cache.
pub(crate) fn redirect(map: &[u32], layer: usize, source: usize) -> Vec<u32> {
    let mut next = map.to_vec();
    next[layer] = source as u32;
    for at in 0..next.len() {
        // The source may read another layer itself: its readers then read that one.
        next[at] = next[next[at] as usize];
    }
    next
}

/// Accept pairs in order until `target` layers share; a map is accepted if its similarity is above `threshold`.
pub(crate) fn search(
    pairs: &[Pair],
    layers: usize,
    target: usize,
    threshold: f64,
    similarity: &mut dyn FnMut(&[u32]) -> Result<f64>,
) -> Result<Found> {
    let mut found = Found {
        source: (0..layers as u32).collect(),
        accepted: Vec::new(),
        tried: 0,
    };
    for (rank, pair) in pairs.iter().enumerate() {
        if found.accepted.len() >= target {
            break;
        }
        if found.source[pair.layer] as usize != pair.layer {
            continue;
        }
        let candidate = redirect(&found.source, pair.layer, pair.source);
        let left = similarity(&candidate)?;
        found.tried += 1;
        // False for NaN, so a map that breaks the model is never accepted.
        if left > threshold {
            found.source = candidate;
            found.accepted.push(Accepted {
                layer: pair.layer,
                source: pair.source,
                rank,
                distance: pair.distance,
                similarity: left,
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(usize, usize, f64)]) -> Vec<Pair> {
        list.iter()
            .map(|&(layer, source, distance)| Pair {
                layer,
                source,
                distance,
            })
            .collect()
    }

    #[test]
    fn pairs_are_ranked() {
        let list = [(1, 0, 2.0), (2, 0, 9.0), (2, 1, 5.0), (3, 0, 1.0)];
        let ranked = |order, seed: u64| {
            let mut pairs = pairs(&list);
            rank(&mut pairs, order, seed);
            pairs.iter().map(|pair| pair.distance).collect::<Vec<_>>()
        };
        assert_eq!(ranked(Order::Dissimilar, 0), [9.0, 5.0, 2.0, 1.0]);
        assert_eq!(ranked(Order::Similar, 0), [1.0, 2.0, 5.0, 9.0]);
        assert_eq!(ranked(Order::Random, 5), ranked(Order::Random, 5));
        assert!((0..9).any(|seed| ranked(Order::Random, seed) != ranked(Order::Random, 5)));
    }

    #[test]
    fn readers_of_a_replaced_source_read_its_source() {
        let map = redirect(&[0, 1, 2, 3, 4], 4, 2);
        assert_eq!(map, [0, 1, 2, 3, 2]);
        let map = redirect(&map, 2, 1);
        assert_eq!(map, [0, 1, 1, 3, 1]);
        // A pair whose source reads another layer ends at that one.
        assert_eq!(redirect(&map, 3, 2), [0, 1, 1, 1, 1]);
        let map = redirect(&map, 1, 0);
        assert_eq!(map, [0, 0, 0, 3, 0]);
    }

    #[test]
    fn the_search_accepts_similar_maps() {
        let ranked = pairs(&[
            (3, 0, 9.0),
            (3, 1, 8.0),
            (2, 0, 7.0),
            (1, 0, 6.0),
            (2, 1, 5.0),
        ]);
        let mut tried = Vec::new();
        let mut similarity = |map: &[u32]| {
            tried.push(map.to_vec());
            // Exactly the threshold is not above it.
            Ok(if map[2] == 0 { 0.5 } else { 0.9 })
        };
        let found = search(&ranked, 4, 2, 0.5, &mut similarity).unwrap();
        assert_eq!(found.source, [0, 0, 2, 0]);
        let taken: Vec<_> = found
            .accepted
            .iter()
            .map(|pair| (pair.layer, pair.source, pair.rank))
            .collect();
        assert_eq!(taken, [(3, 0, 0), (1, 0, 3)]);
        // (3, 1) was not tried, because layer 3 already reads another.
        assert_eq!(
            tried,
            [vec![0, 1, 2, 0], vec![0, 1, 0, 0], vec![0, 0, 2, 0]]
        );
        assert_eq!(found.tried, 3);
    }

    #[test]
    fn a_search_may_find_less_than_its_target() {
        let ranked = pairs(&[(2, 0, 3.0), (1, 0, 2.0), (2, 1, 1.0)]);
        let found = search(&ranked, 3, 2, 0.5, &mut |_| Ok(f64::NAN)).unwrap();
        assert_eq!(
            (found.source, found.accepted.len(), found.tried),
            (vec![0, 1, 2], 0, 3)
        );
        assert_eq!(search(&[], 0, 0, 0.5, &mut |_| Ok(1.0)).unwrap().tried, 0);
        let failed = search(&ranked, 3, 2, 0.5, &mut |_| Err("it broke".into()));
        assert!(failed.is_err());
    }
}
