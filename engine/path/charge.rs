//! Charges: a cache language model over recent nodes and edges (the paper's recall activation, for streams).
//!
//! After Kuhn and De Mori, "A cache-based natural language model for speech recognition" (1990), and Grave et al.,
//! "Improving neural language models with a continuous cache" (2017).
//!
//! Each hop u→v adds 1 to the charge of node v and of edge u→v; charges decay by a factor per step. A
//! charged node's logit rises by `node_strength · ln(1 + q / scale)`, that of a charged edge by the same formula. Charges
//! below a floor are dropped, so memory stays bounded for a stream of any length.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Below this a charge is dropped.
const FLOOR: f64 = 1e-3;

/// Charges of visited nodes and edges; the default has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Charges {
    /// Factor of a charge for each step, in [0, 1).
    pub decay: f64,
    /// Weight of the charges of nodes.
    pub node_strength: f32,
    /// Weight of the charges of edges.
    pub edge_strength: f32,
    /// Charge from which the bonus grows more slowly.
    pub scale: f32,
    step: u64,
    #[serde(with = "pairs")]
    nodes: BTreeMap<u32, (f64, u64)>,
    #[serde(with = "pairs")]
    edges: BTreeMap<(u32, u32), (f64, u64)>,
}

impl Charges {
    /// Charges that decay by `decay` per step.
    pub fn new(decay: f64, node_strength: f32, edge_strength: f32, scale: f32) -> Self {
        Self {
            decay: decay.clamp(0.0, 0.999_999),
            node_strength,
            edge_strength,
            scale: scale.max(1e-3),
            ..Self::default()
        }
    }

    /// Change the constants to those of `other`; what has been visited keeps its charges.
    pub(crate) fn with_constants(self, other: Self) -> Self {
        Self {
            step: self.step,
            nodes: self.nodes,
            edges: self.edges,
            ..other
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.decay > 0.0 && (self.node_strength != 0.0 || self.edge_strength != 0.0)
    }

    /// Whether every number is finite.
    pub(crate) fn is_finite(&self) -> bool {
        let settings = [self.node_strength, self.edge_strength, self.scale];
        let mut charges = self.nodes.values().chain(self.edges.values());
        self.decay.is_finite()
            && settings.iter().all(|value| value.is_finite())
            && charges.all(|charge| charge.0.is_finite())
    }

    /// Whether all charges are of nodes below `nodes`, and from steps up to the last one, at most `steps`.
    pub(crate) fn fits(&self, nodes: u32, steps: u64) -> bool {
        let charge = |entry: &(f64, u64)| entry.0 >= 0.0 && entry.1 <= self.step;
        self.step <= steps
            && (0.0..1.0).contains(&self.decay)
            && self
                .nodes
                .iter()
                .all(|(&node, entry)| node < nodes && charge(entry))
            && self
                .edges
                .iter()
                .all(|(&(from, to), entry)| from < nodes && to < nodes && charge(entry))
    }

    /// Record a hop: add 1 to the charges of its target and its edge.
    pub fn visit(&mut self, source: u32, target: u32) {
        if !self.is_active() {
            return;
        }
        self.step += 1;
        let (step, decay) = (self.step, self.decay);
        // Charges decay when they are read: an entry is its value at its last visit, and the step of that visit.
        let charge =
            |entry: &mut (f64, u64)| *entry = (entry.0 * faded(decay, step - entry.1) + 1.0, step);
        charge(self.nodes.entry(target).or_insert((0.0, step)));
        charge(self.edges.entry((source, target)).or_insert((0.0, step)));
        // Dropping faded entries now and then bounds the memory at little cost for each step.
        if step % 1024 == 0 {
            let alive = |entry: &(f64, u64)| entry.0 * faded(decay, step - entry.1) > FLOOR;
            self.nodes.retain(|_, entry| alive(entry));
            self.edges.retain(|_, entry| alive(entry));
        }
    }

    /// Raise the logits of charged nodes, and of the targets of charged edges out of `source`. `logits [V]`
    pub fn apply(&self, source: u32, logits: &mut [f32]) {
        if !self.is_active() {
            return;
        }
        let bonus = |&(charge, step): &(f64, u64)| {
            let charge = charge * faded(self.decay, self.step - step);
            // The logarithm lets a frequent node gain little more than a recent one.
            (charge as f32 / self.scale).ln_1p()
        };
        for (&node, entry) in &self.nodes {
            logits[node as usize] += self.node_strength * bonus(entry);
        }
        // Edges are ordered by source: those that leave `source` are one range.
        for (&(_, node), entry) in self.edges.range((source, 0)..=(source, u32::MAX)) {
            logits[node as usize] += self.edge_strength * bonus(entry);
        }
    }
}

fn faded(decay: f64, steps: u64) -> f64 {
    decay.powi(steps.min(i32::MAX as u64) as i32)
}

/// Maps as lists of pairs: JSON has no keys but strings.
mod pairs {
    use std::collections::BTreeMap;

    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<
        'de,
        K: DeserializeOwned + Ord,
        V: DeserializeOwned,
        D: Deserializer<'de>,
    >(
        deserializer: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}
