//! From logits to the next node: temperature, truncation, penalties, and the draw.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kernel::random::Random;
use crate::kernel::select::top_k;
use crate::kernel::softmax;
use crate::path::{SamplerChain, StepContext};
use crate::{Error, ErrorKind, Result};

static NO_COUNTS: BTreeMap<u32, u32> = BTreeMap::new();

/// The nodes of a path that penalties apply to; none by default.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// Nodes of the penalty window, prompt included, for the repetition penalty.
    pub recent: &'a [u32],
    /// How often each node was chosen, for presence and frequency penalties. The prompt does not count.
    pub counts: &'a BTreeMap<u32, u32>,
}

impl Default for History<'_> {
    fn default() -> Self {
        Self {
            recent: &[],
            counts: &NO_COUNTS,
        }
    }
}

/// How the next node is chosen.
///
/// ```
/// use brillm::path::Sampling;
/// let sampling = Sampling::default().temperature(0.8).top_k(40).seed(7);
/// assert!(sampling.check().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct Sampling {
    /// Divides the logits before the softmax; 0 always takes the node of the highest logit (greedy).
    pub temperature: f32,
    /// Only the `k` likeliest nodes; 0 for all.
    pub top_k: usize,
    /// Only the likeliest nodes that together reach this probability; 1 for all, 0 for the likeliest (greedy).
    pub top_p: f32,
    /// Only nodes at least this fraction as likely as the likeliest; 0 for all.
    pub min_p: f32,
    /// How many times less likely a node in the penalty window becomes; 1 for no penalty.
    pub repetition_penalty: f32,
    /// How many of the last nodes are penalised.
    pub penalty_window: usize,
    /// Subtracted from the logit of every node that was chosen before; -2 to 2, 0 for none.
    pub presence_penalty: f32,
    /// Subtracted from a node's logit for each time it was chosen before; -2 to 2, 0 for none.
    pub frequency_penalty: f32,
    /// Nodes with the value that is added to their logits, -100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
    /// Nodes that are never chosen.
    pub banned: Vec<u32>,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            penalty_window: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            banned: Vec::new(),
            seed: 0,
        }
    }
}

impl Sampling {
    /// Return greedy sampling: always the node of the highest logit; ties go to the lowest id.
    pub fn greedy() -> Self {
        Self::default()
    }

    /// Set the temperature.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = temperature;
        self
    }

    /// Keep the `k` likeliest nodes.
    #[must_use]
    pub fn top_k(mut self, k: usize) -> Self {
        self.top_k = k;
        self
    }

    /// Keep the likeliest nodes that together reach probability `p`.
    #[must_use]
    pub fn top_p(mut self, p: f32) -> Self {
        self.top_p = p;
        self
    }

    /// Keep nodes at least `p` times as likely as the likeliest.
    #[must_use]
    pub fn min_p(mut self, p: f32) -> Self {
        self.min_p = p;
        self
    }

    /// Make the last `window` nodes `penalty` times less likely.
    #[must_use]
    pub fn repetition_penalty(mut self, penalty: f32, window: usize) -> Self {
        self.repetition_penalty = penalty;
        self.penalty_window = window;
        self
    }

    /// Subtract `presence` from the logits of nodes chosen before, and `frequency` for each time they were.
    #[must_use]
    pub fn presence_and_frequency(mut self, presence: f32, frequency: f32) -> Self {
        self.presence_penalty = presence;
        self.frequency_penalty = frequency;
        self
    }

    /// Add values to the logits of nodes.
    #[must_use]
    pub fn logit_bias(mut self, biases: impl IntoIterator<Item = (u32, f32)>) -> Self {
        self.logit_bias.extend(biases);
        self
    }

    /// Exclude these nodes.
    #[must_use]
    pub fn banned(mut self, nodes: impl IntoIterator<Item = u32>) -> Self {
        self.banned.extend(nodes);
        self
    }

    /// Seed the draws.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Check that every value is in its range.
    ///
    /// # Errors
    /// [`ErrorKind::Input`], naming the option.
    pub fn check(&self) -> Result<()> {
        let invalid = |name: &str, value: f32, expected: &str| {
            let what = format!("invalid {name} {value}: expected a number {expected}");
            Err(Error::new(ErrorKind::Input, what))
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return invalid("temperature", self.temperature, "of at least 0");
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return invalid("top-p", self.top_p, "from 0 to 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return invalid("min-p", self.min_p, "from 0 to 1");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return invalid("repetition penalty", self.repetition_penalty, "above 0");
        }
        let penalties = -2.0..=2.0;
        if !penalties.contains(&self.presence_penalty) {
            return invalid("presence penalty", self.presence_penalty, "from -2 to 2");
        }
        if !penalties.contains(&self.frequency_penalty) {
            return invalid("frequency penalty", self.frequency_penalty, "from -2 to 2");
        }
        let biases = -100.0..=100.0;
        if let Some((node, bias)) = self.logit_bias.iter().find(|one| !biases.contains(&one.1)) {
            let name = format!("logit bias of token {node}");
            return invalid(&name, *bias, "from -100 to 100");
        }
        Ok(())
    }

    /// Whether presence or frequency penalties need the counts of chosen nodes.
    pub(super) fn counts_nodes(&self) -> bool {
        self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// Name an option that a device does not support.
    pub fn unsupported_on_device(&self) -> Option<&'static str> {
        if self.counts_nodes() {
            Some("presence and frequency penalties")
        } else if !self.logit_bias.is_empty() {
            Some("logit biases")
        } else {
            None
        }
    }

    /// Choose a node without hooks. `logits [V]` are overwritten with the probabilities that were drawn from.
    ///
    /// `history` are the nodes that penalties apply to. Returns `None` when no node is left to choose.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] for logits without a softmax.
    pub fn choose(
        &self,
        logits: &mut [f32],
        history: &History<'_>,
        random: &mut Random,
    ) -> Result<Option<u32>> {
        self.choose_with(logits, history, random, None)
    }

    /// Choose a node: biases, penalties and bans, then the hooks' changes to the logits and temperature, temperature,
    /// truncation, and last the hooks' own choice or a draw. The CPU chooses every token here.
    pub(super) fn choose_with(
        &self,
        logits: &mut [f32],
        history: &History<'_>,
        random: &mut Random,
        mut hooks: Option<(&mut SamplerChain, &StepContext<'_>)>,
    ) -> Result<Option<u32>> {
        crate::path::sampler::check_logits(logits)?;
        self.penalise(logits, history);
        let set = match &mut hooks {
            Some((chain, context)) => chain.sample(context, logits)?.temperature,
            None => None,
        };
        let Some(best) = self.distribution(logits, set.unwrap_or(self.temperature)) else {
            return Ok(None);
        };
        if let Some((chain, context)) = &hooks
            && chain.chooses()
        {
            // Greedy decoding leaves logits; a hook chooses among probabilities.
            if best.is_some() {
                softmax::softmax(logits);
            }
            if let Some(token) = chain.choose(context, logits)? {
                return Ok(Some(token));
            }
        }
        Ok(best.or_else(|| draw(logits, random)))
    }

    /// Apply biases, penalties and bans. `logits [V]`
    ///
    /// A node that was chosen c times gets the logit
    ///
    /// ```text
    /// y − c · frequency − [c > 0] · presence + bias − [recent] · ln repetition
    /// ```
    ///
    /// The first three terms are those of OpenAI's interface; a banned node gets −∞.
    fn penalise(&self, logits: &mut [f32], history: &History<'_>) {
        let mut add = |node: u32, value: f32| {
            if let Some(logit) = logits.get_mut(node as usize) {
                *logit += value;
            }
        };
        for &(node, bias) in &self.logit_bias {
            add(node, bias);
        }
        if self.counts_nodes() {
            for (&node, &count) in history.counts {
                add(
                    node,
                    -(count as f32 * self.frequency_penalty + self.presence_penalty),
                );
            }
        }
        if self.repetition_penalty != 1.0 {
            // Dividing a probability by the penalty is subtracting its logarithm from the logit. Each node is penalised
            // once.
            let penalty = self.repetition_penalty.ln();
            let mut recent = history.recent.to_vec();
            recent.sort_unstable();
            recent.dedup();
            recent.into_iter().for_each(|node| add(node, -penalty));
        }
        for &node in &self.banned {
            if let Some(logit) = logits.get_mut(node as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    /// Turn logits into the probabilities that temperature and truncation leave. `logits [V]`
    ///
    /// The outer `None` when no node is left to choose; the inner node when the temperature is 0, which takes the
    /// likeliest and leaves the logits as they are.
    pub fn distribution(&self, logits: &mut [f32], temperature: f32) -> Option<Option<u32>> {
        let best = likeliest(logits)?;
        if temperature == 0.0 {
            return Some(Some(best));
        }
        let top = logits[best as usize];
        for logit in logits.iter_mut() {
            // The largest becomes 0 at any temperature; a product with 1/T would not, where 1/T is infinite.
            *logit = (*logit - top) / temperature;
        }
        softmax::softmax(logits);
        self.truncate(logits, best);
        Some(None)
    }

    /// Set to zero every probability that top-k, top-p or min-p leaves out.
    fn truncate(&self, probabilities: &mut [f32], best: u32) {
        if self.min_p > 0.0 {
            // min-p (Nguyen et al. 2024): the threshold follows the confidence of the model.
            let floor = probabilities[best as usize] * self.min_p;
            for p in probabilities.iter_mut().filter(|p| **p < floor) {
                *p = 0.0;
            }
        }
        let all = self.top_k == 0 || self.top_k >= probabilities.len();
        if all && self.top_p >= 1.0 {
            return;
        }
        let count = if all { usize::MAX } else { self.top_k };
        let everything: f32 = probabilities.iter().sum();
        // Nodes below the floor have at most half of what top-p leaves out: it never keeps one, and few are left to sort.
        let floor = everything * (1.0 - self.top_p) / (2 * probabilities.len()) as f32;
        let floor = if all { floor } else { 0.0 };
        let of = |node: u32| probabilities[node as usize];
        let mut order = top_k(probabilities, count, |node| of(node) > floor);
        if self.top_p < 1.0 {
            // Nucleus sampling (Holtzman et al. 2020): the node that reaches p is kept too. p is relative to what top-k
            // left.
            let mut sum = 0.0;
            let some: f32 = order.iter().map(|&node| of(node)).sum();
            let total = if all { everything } else { some };
            let kept = order.iter().take_while(|&&node| {
                let wanted = sum < self.top_p * total;
                sum += of(node);
                wanted
            });
            let kept = kept.count().max(1);
            order.truncate(kept);
        }
        order.sort_unstable();
        let mut kept = order.into_iter().peekable();
        for (node, p) in (0..).zip(probabilities) {
            if kept.next_if_eq(&node).is_none() {
                *p = 0.0;
            }
        }
    }
}

/// Draw a node by probabilities that need not add up to 1. `probabilities [V]`
pub fn draw(probabilities: &[f32], random: &mut Random) -> Option<u32> {
    // Inversion: the draw falls into the interval of one node. In f64, so that the tail of V small numbers counts.
    let total: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
    let mut left = random.uniform() * total;
    let mut last = None;
    for (node, &p) in probabilities.iter().enumerate() {
        if p > 0.0 {
            last = Some(node as u32);
            left -= f64::from(p);
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

/// Return the node of the highest logit, the lowest id among equals; `None` when none is above −∞.
pub fn likeliest(logits: &[f32]) -> Option<u32> {
    let mut best: Option<usize> = None;
    for (node, &logit) in logits.iter().enumerate() {
        if logit > best.map_or(f32::NEG_INFINITY, |best| logits[best]) {
            best = Some(node);
        }
    }
    best.map(|node| node as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(sampling: &Sampling, logits: &[f32], recent: &[u32], chosen: &[u32]) -> Option<u32> {
        let mut counts = BTreeMap::new();
        for &node in chosen {
            *counts.entry(node).or_default() += 1;
        }
        let history = History {
            recent,
            counts: &counts,
        };
        let chosen = sampling.choose(&mut logits.to_vec(), &history, &mut Random::new(1));
        chosen.unwrap()
    }

    fn frequencies(sampling: &Sampling, logits: &[f32]) -> Vec<f64> {
        let mut random = Random::new(9);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..40_000 {
            let node = sampling
                .choose(&mut logits.to_vec(), &History::default(), &mut random)
                .unwrap()
                .expect("a node is left");
            counts[node as usize] += 1.0 / 40_000.0;
        }
        counts
    }

    #[test]
    fn draws_follow_the_softmax_at_a_temperature() {
        let logits = [0.0f32, 1.0, 2.0];
        let found = frequencies(&Sampling::default().temperature(2.0), &logits);
        let total: f64 = logits.iter().map(|s| f64::from(s / 2.0).exp()).sum();
        for (found, logit) in found.iter().zip(logits) {
            assert!((found - f64::from(logit / 2.0).exp() / total).abs() < 0.01);
        }
    }

    #[test]
    fn truncations_leave_only_what_they_say() {
        let logits = [0.0f32, 3.0, 2.0, 1.0];
        let sampled = Sampling::default().temperature(1.0);
        let one = frequencies(&sampled.clone().top_k(1), &logits);
        assert!(one[1] > 0.999 && one[0] + one[2] + one[3] == 0.0);
        let two = frequencies(&sampled.clone().top_k(2), &logits);
        assert!(two[0] == 0.0 && two[3] == 0.0 && two[1] > two[2]);
        let nucleus = frequencies(&sampled.clone().top_p(0.7), &logits);
        assert!(nucleus[0] == 0.0 && nucleus[3] == 0.0 && nucleus[2] > 0.0);
        let floor = frequencies(&sampled.clone().min_p(0.3), &logits);
        assert!(floor[0] == 0.0 && floor[3] == 0.0 && floor[2] > 0.0);
        let banned = frequencies(&sampled.banned([1]), &logits);
        assert!(banned[1] == 0.0);
    }

    #[test]
    fn greedy_takes_the_lowest_of_equals_and_none_of_nothing() {
        let greedy = Sampling::greedy;
        assert_eq!(choose(&greedy(), &[1.0, 2.0, 2.0], &[], &[]), Some(1));
        assert_eq!(choose(&greedy().banned([0]), &[1.0], &[], &[]), None);
        let penalised = greedy().repetition_penalty(10.0, 4);
        assert_eq!(choose(&penalised, &[1.0, 2.0], &[1, 1], &[]), Some(0));
    }

    #[test]
    fn top_p_of_zero_takes_the_likeliest() {
        let sampling = Sampling::default().temperature(2.0).top_p(0.0);
        assert!(sampling.check().is_ok());
        assert_eq!(frequencies(&sampling, &[1.0, 1.1, 0.9])[1].round(), 1.0);
    }

    #[test]
    fn biases_and_penalties_follow_their_formula() {
        let sampling = Sampling::greedy()
            .presence_and_frequency(0.5, 0.25)
            .logit_bias([(3, 100.0), (0, -1.5), (99, 1.0)]);
        let counts = BTreeMap::from([(1, 1), (2, 3)]);
        let history = History {
            recent: &[2],
            counts: &counts,
        };
        let mut logits = [2.0f32, 2.0, 2.0, -10.0];
        sampling.penalise(&mut logits, &history);
        assert_eq!(logits, [0.5, 1.25, 0.75, 90.0]);
        // A ban is stronger than any bias.
        sampling.banned([3]).penalise(&mut logits, &history);
        assert_eq!(logits[3], f32::NEG_INFINITY);
    }

    #[test]
    fn options_out_of_range_are_named() {
        let cases = [
            (Sampling::greedy().top_p(1.5), "top-p"),
            (
                Sampling::greedy().presence_and_frequency(2.5, 0.0),
                "presence",
            ),
            (
                Sampling::greedy().presence_and_frequency(0.0, f32::NAN),
                "frequency",
            ),
            (Sampling::greedy().logit_bias([(7, 101.0)]), "token 7"),
        ];
        for (sampling, name) in cases {
            let error = sampling.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
