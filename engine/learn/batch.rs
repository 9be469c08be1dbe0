//! Batches: windows of text for one training step, the same in every run of a seed.

use crate::Result;
use crate::graph::{NodeId, TokenGraph};
use crate::kernel::random::Random;
use crate::ranks::Ranks;

/// Sequences of one training step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, sequence after sequence. `[B, before + T + 1]`
    pub tokens: Vec<u32>,
    /// Tokens stored before each sequence: the context of static resistances where the sequence continues.
    pub before: usize,
    /// Predictions in each sequence, `T`.
    pub steps: usize,
    /// Fold of the static resistances of each sequence; 0 is the full one. `[B]`
    pub folds: Vec<u32>,
    /// Whether each sequence continues where it ended in the batch before; empty where all begin anew. `[B]`
    pub continued: Vec<bool>,
    /// Sampled targets, scored instead of all V (own edges only).
    pub candidates: Option<Candidates>,
    /// Index of the training step, and so of its random streams.
    pub index: u64,
}

/// Sampled targets of each prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates {
    /// Targets of each prediction, the true one first. `[B · T, count]`
    pub targets: Vec<u32>,
    /// Number of targets of one prediction.
    pub count: usize,
}

impl Candidates {
    /// Return the targets of prediction `row`, the true one first.
    pub fn of(&self, row: usize) -> &[u32] {
        &self.targets[row * self.count..(row + 1) * self.count]
    }
}

impl Batch {
    /// Number of sequences, `B`.
    pub fn sequences(&self) -> usize {
        self.folds.len()
    }

    /// Whether a sequence continues where it ended in the batch before.
    pub fn continues(&self, sequence: usize) -> bool {
        self.continued.get(sequence).copied().unwrap_or(false)
    }

    /// Return the tokens up to the source of a sequence's prediction `step`, from its start or, where it continues, from
    /// the tokens before it: the context of static resistances.
    pub fn walk(&self, sequence: usize, step: usize) -> &[u32] {
        let first = match self.continues(sequence) {
            true => 0,
            false => self.before,
        };
        &self.stored(sequence)[first..=self.before + step]
    }

    /// Return the sequences of a shard as a batch.
    pub(super) fn shard(&self, index: usize) -> Self {
        let first = index * SHARD;
        self.part(first..(first + SHARD).min(self.sequences()))
    }

    /// Return some of the sequences as a batch.
    pub(super) fn part(&self, range: std::ops::Range<usize>) -> Self {
        let length = self.before + self.steps + 1;
        let candidates = self.candidates.as_ref().map(|all| {
            let row = self.steps * all.count;
            Candidates {
                targets: all.targets[range.start * row..range.end * row].to_vec(),
                count: all.count,
            }
        });
        Self {
            tokens: self.tokens[range.start * length..range.end * length].to_vec(),
            folds: self.folds[range.clone()].to_vec(),
            continued: match self.continued.is_empty() {
                true => Vec::new(),
                false => self.continued[range].to_vec(),
            },
            candidates,
            ..*self
        }
    }

    /// Return one sequence. `[T + 1]`
    pub fn sequence(&self, index: usize) -> &[u32] {
        &self.stored(index)[self.before..]
    }

    /// Return one sequence with the tokens before it.
    fn stored(&self, index: usize) -> &[u32] {
        let length = self.before + self.steps + 1;
        &self.tokens[index * length..(index + 1) * length]
    }
}

/// Tokens before a sequence that continues: the longest walk of static resistances has one more.
pub(super) const BEFORE: usize = 3;

/// Sequences that take a step together; fixed, so that results do not depend on the number of threads.
pub(super) const SHARD: usize = 16;

/// One prediction of a batch.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// Node that the signal leaves.
    pub(super) source: u32,
    /// The tokens of its sequence up to it.
    pub(super) walk: &'a [u32],
    /// True next node.
    pub(super) next: u32,
    /// Fold of the static resistances.
    pub(super) fold: usize,
    pub(super) step: usize,
    pub(super) sequence: usize,
}

impl<'a> Row<'a> {
    /// Return row `row` in the order shard, step, sequence.
    pub(super) fn of(batch: &'a Batch, row: usize) -> Self {
        // The last shard may be narrower, so the width of a step depends on the shard.
        let per_shard = SHARD * batch.steps;
        let (shard, within) = (row / per_shard, row % per_shard);
        let first = shard * SHARD;
        let width = SHARD.min(batch.sequences() - first);
        let (step, sequence) = (within / width, first + within % width);
        let tokens = batch.sequence(sequence);
        Self {
            source: tokens[step],
            walk: batch.walk(sequence, step),
            next: tokens[step + 1],
            fold: batch.folds[sequence] as usize,
            step,
            sequence,
        }
    }
}

/// Loss of one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Sum of negative log-likelihoods, in nats.
    pub nats: f64,
    /// Number of predictions.
    pub tokens: usize,
}

impl Loss {
    /// Nats per token.
    pub fn mean(&self) -> f64 {
        self.nats / self.tokens.max(1) as f64
    }
}

/// Sampler of windows: each epoch visits the whole text once, from a random offset, in random order.
#[derive(Clone, Debug)]
pub struct BatchSampler {
    seed: u64,
    steps: usize,
    sequences: usize,
    length: usize,
    block: usize,
    folds: usize,
    /// Probability that a stream begins anew, where sequences continue from batch to batch.
    reset: Option<f64>,
}

impl BatchSampler {
    /// Create a sampler of windows of `steps` predictions, `sequences` at a time, over a text of `length` tokens.
    ///
    /// The text is cut into blocks of `block` tokens; block b belongs to fold `1 + b mod folds`, and no window
    /// crosses a block. `folds` of 0 means no cross-fitting.
    pub fn new(
        seed: u64,
        length: usize,
        steps: usize,
        sequences: usize,
        block: usize,
        folds: usize,
    ) -> Self {
        Self {
            seed,
            steps,
            sequences,
            length,
            // A block has at least one window.
            block: block.max(steps + 1).min(length.max(1)),
            folds,
            reset: None,
        }
    }

    /// Read the text as one stream for each sequence: in the next batch a sequence continues where it ended, or begins
    /// anew with probability `reset`. A text too short for a step of every stream is read as windows.
    ///
    /// Streams begin elsewhere in each epoch, and are cut elsewhere.
    #[must_use]
    pub fn streams(mut self, reset: f64) -> Self {
        if self.windows_per_epoch() >= self.sequences {
            self.reset = Some(reset);
        }
        self
    }

    /// Count how often each fold takes each edge of `graph`. `[folds][E]`
    pub fn held_out(&self, graph: &TokenGraph, text: &[u32]) -> Vec<Vec<u32>> {
        self.held_out_within(graph, text, 0..text.len().saturating_sub(1))
    }

    /// As [`Self::held_out`], on all ranks, which have the same text: each counts a part of it, and all get the counts of
    /// the whole.
    ///
    /// # Errors
    /// Those of an exchange.
    pub fn held_out_over(
        &self,
        ranks: &dyn Ranks,
        graph: &TokenGraph,
        text: &[u32],
    ) -> Result<Vec<Vec<u32>>> {
        let share = ranks.share(text.len().saturating_sub(1));
        let mut counts = self.held_out_within(graph, text, share);
        if ranks.size() > 1 {
            for fold in &mut counts {
                let mut sums: Vec<i64> = fold.iter().map(|&count| count.into()).collect();
                ranks.sum("counts of folds".into(), &mut sums)?;
                *fold = sums.iter().map(|&sum| sum as u32).collect();
            }
        }
        Ok(counts)
    }

    /// Count the edges that begin at some positions of the text.
    fn held_out_within(
        &self,
        graph: &TokenGraph,
        text: &[u32],
        positions: std::ops::Range<usize>,
    ) -> Vec<Vec<u32>> {
        let mut counts = vec![vec![0u32; graph.edges()]; self.folds];
        if self.folds == 0 {
            return counts;
        }
        // Counts of a fold are subtracted from all counts, so that its own text does not predict it.
        for position in positions {
            let source = NodeId(text[position]);
            if let Some(edge) = graph.edge(source, NodeId(text[position + 1])) {
                counts[self.fold(position) as usize - 1][edge.index()] += 1;
            }
        }
        counts
    }

    /// Number of folds; 0 without cross-fitting.
    pub fn folds(&self) -> usize {
        self.folds
    }

    /// Return the text without the blocks of a fold, the others joined.
    pub fn others(&self, text: &[u32], fold: usize) -> Vec<u32> {
        let blocks = text.chunks(self.block).enumerate();
        blocks
            .filter(|(index, _)| self.fold(index * self.block) as usize != fold)
            .flat_map(|(_, block)| block.iter().copied())
            .collect()
    }

    /// Return the steps of one pass over the text.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.windows_per_epoch() / self.sequences).max(1) as u64
    }

    /// Return the batch of training step `index`, counted from 0. O(windows of an epoch) when an epoch begins.
    pub fn batch(&self, text: &[u32], index: u64, order: &mut Order) -> Batch {
        let per_epoch = self.steps_per_epoch();
        // A batch depends on its index alone: a resumed run draws the same ones.
        let (epoch, within) = (index / per_epoch, (index % per_epoch) as usize);
        if order.epoch != Some(epoch) {
            *order = self.order(epoch);
        }
        if let Some(reset) = self.reset {
            return self.stream_batch(text, index, &order.starts, reset);
        }
        let mut tokens = Vec::with_capacity(self.sequences * (self.steps + 1));
        let mut folds = Vec::with_capacity(self.sequences);
        for sequence in 0..self.sequences {
            // The steps of an epoch are an estimate, since offsets are random: where it has fewer windows, the first
            // ones repeat.
            let window = (within * self.sequences + sequence) % order.starts.len();
            let start = order.starts[window] as usize;
            tokens.extend_from_slice(&text[start..start + self.steps + 1]);
            folds.push(self.fold(start));
        }
        Batch {
            tokens,
            steps: self.steps,
            folds,
            before: 0,
            continued: Vec::new(),
            candidates: None,
            index,
        }
    }

    /// Return the batch of training step `index`, in which every stream takes its next step, of those that start at `starts`.
    fn stream_batch(&self, text: &[u32], index: u64, starts: &[u32], reset: f64) -> Batch {
        // "reset" in ASCII.
        let mut random = Random::stream(self.seed, 0x7265_7365_7400, index);
        let per_epoch = self.steps_per_epoch();
        let within = (index % per_epoch) as usize;
        // A sequence that continues starts at least one sequence after the start of the text.
        let before = BEFORE.min(self.steps);
        let mut batch = Batch {
            tokens: Vec::with_capacity(self.sequences * (before + self.steps + 1)),
            before,
            steps: self.steps,
            folds: Vec::with_capacity(self.sequences),
            continued: Vec::with_capacity(self.sequences),
            candidates: None,
            index,
        };
        for stream in 0..self.sequences {
            let window = stream * per_epoch as usize + within;
            let at = |window: usize| starts[window % starts.len()] as usize;
            let start = at(window);
            let stored = start.saturating_sub(before);
            // Nothing precedes the text: its first sequence never continues, and does not read what is stored there.
            let missing = before - (start - stored);
            batch.tokens.extend(std::iter::repeat_n(text[0], missing));
            batch
                .tokens
                .extend_from_slice(&text[stored..=start + self.steps]);
            batch.folds.push(self.fold(start));
            // Some tokens are left out where a block ends: the next sequence begins anew.
            let adjoins = within > 0 && at(window - 1) + self.steps == start;
            batch.continued.push(random.uniform() >= reset && adjoins);
        }
        batch
    }

    fn windows_per_epoch(&self) -> usize {
        let whole = self.length / self.block;
        // The random offset of a block may cost it one window.
        let in_block = |length: usize| {
            (length.saturating_sub(1) / self.steps)
                .saturating_sub(1)
                .max(1)
        };
        (whole * in_block(self.block)).max(1)
    }

    fn fold(&self, position: usize) -> u32 {
        match self.folds {
            0 => 0,
            folds => 1 + (position / self.block % folds) as u32,
        }
    }

    fn order(&self, epoch: u64) -> Order {
        // Purposes of random streams are words in ASCII, here "batch": no two purposes share random numbers.
        let mut random = Random::stream(self.seed, 0x6261_7463_6800, epoch);
        let mut starts = Vec::new();
        let mut block = 0;
        while block + self.steps < self.length {
            let end = (block + self.block).min(self.length);
            // A random offset moves the borders of windows from epoch to epoch; a short block keeps all its windows.
            let slack = if end - block > 2 * self.steps {
                self.steps
            } else {
                (end - block - 1) % self.steps
            };
            let mut start = block + random.below(slack as u64 + 1) as usize;
            while start + self.steps < end {
                starts.push(start as u32);
                start += self.steps;
            }
            block += self.block;
        }
        if self.reset.is_some() {
            let first = random.below(starts.len() as u64) as usize;
            starts.rotate_left(first);
        } else {
            // Neighbouring windows share a topic; shuffled, a batch mixes topics.
            random.shuffle(&mut starts);
        }
        Order {
            epoch: Some(epoch),
            starts,
        }
    }
}

/// Order of the windows of one epoch, kept between batches.
#[derive(Clone, Debug, Default)]
pub struct Order {
    epoch: Option<u64>,
    starts: Vec<u32>,
}
