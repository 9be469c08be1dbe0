//! Decoding of several sessions at once: one forward pass serves the tokens of all sessions that wait (continuous
//! batching, Yu et al. 2022, "Orca").
//!
//! A session appends tokens with [`Lane::append`] and reads its logits with [`Lane::settle`]. The first session that
//! reads runs passes for all tokens appended so far; sessions of other threads that read meanwhile wait for them. Weights
//! are read once per pass, and every session gets the numbers that it gets alone, bit for bit.
//!
//! A session that ends may leave its keys and values in a `PrefixStore`, from which later ones copy what they have in common.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::hook::Phase;
use crate::kernel::stored;
use crate::path::CacheReport;
use crate::transformer::advance::{LogitsFor, Taps};
use crate::transformer::prefix_store::{Prefix, PrefixStore};
use crate::transformer::{Cache, Network, Plan};
use crate::{Error, ErrorKind, Result};

/// Sessions of one network that share forward passes.
#[derive(Debug)]
pub(super) struct BatchDecoder {
    network: Network,
    /// Held during a pass.
    cache: Mutex<Cache>,
    queue: Mutex<Queue>,
    /// Signals a finished pass, or tokens in the queue.
    changed: Condvar,
    /// What finished sessions left.
    prefixes: PrefixStore,
}

#[derive(Debug, Default)]
struct Queue {
    /// Tokens that wait for a pass, by sequence. `[sequences]`
    tokens: Vec<Vec<u32>>,
    /// Results that their sessions have not read. `[sequences]`
    outputs: Vec<Option<LastRow>>,
    /// Sequences of the cache without a session.
    free: Vec<usize>,
    /// Whether a thread runs a pass.
    running: bool,
    /// Duration of the last pass.
    pass: Duration,
    /// What ended a pass early; the cache cannot be used further.
    failure: Option<String>,
}

/// What a pass computes for the last token of a sequence.
#[derive(Clone, Debug, Default)]
pub(super) struct LastRow {
    /// Logits of the next token. `[V]`
    pub(super) logits: Vec<f32>,
    /// The row after the last norm. `[D]`
    pub(super) hidden: Vec<f32>,
}

impl Queue {
    fn waiting(&self) -> usize {
        self.tokens
            .iter()
            .filter(|tokens| !tokens.is_empty())
            .count()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked has left `failure` for the others; see `Pass`.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a pass, also one that panics.
struct Pass<'a> {
    decoder: &'a BatchDecoder,
    finished: bool,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.decoder.queue);
        queue.running = false;
        if !self.finished {
            queue
                .failure
                .get_or_insert_with(|| "a forward pass ended early".into());
        }
        self.decoder.changed.notify_all();
    }
}

impl BatchDecoder {
    /// Create a decoder for a causal network.
    ///
    /// # Errors
    /// As [`Cache::new`].
    pub(super) fn new(network: &Network, prefix_bytes: usize) -> Result<Arc<Self>> {
        let plan = Plan::full(network.shape.layers);
        Ok(Arc::new(Self {
            network: network.for_plan(&plan)?,
            cache: Mutex::new(Cache::new(&network.shape, plan, 0)?),
            queue: Mutex::default(),
            changed: Condvar::new(),
            prefixes: PrefixStore::new(prefix_bytes),
        }))
    }

    /// Run passes for all tokens in the queue.
    fn run(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.running = true;
        let mut pass = Pass {
            decoder: self,
            finished: false,
        };
        // Sessions of other threads choose their next tokens now. To wait for them for a part of a pass costs less than
        // another pass.
        let until = Instant::now() + queue.pass / 4;
        while queue.waiting() + queue.free.len() < queue.tokens.len() {
            let Some(rest) = until.checked_duration_since(Instant::now()) else {
                break;
            };
            let waited = self.changed.wait_timeout(queue, rest);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(queue);
        let begin = Instant::now();
        // Sessions begin and end only while no thread holds the cache: sequences stay what they are until their results
        // are in the queue.
        let mut cache = lock(&self.cache);
        let tokens: Vec<Vec<u32>> = lock(&self.queue)
            .tokens
            .iter_mut()
            .map(std::mem::take)
            .collect();
        let class = |sequence: usize| {
            let shape = &self.network.shape;
            shape.length_class(cache.length(sequence) + tokens[sequence].len())
        };
        let outcome = passes(&tokens, class)
            .iter()
            .try_for_each(|sequences| self.advance(&mut cache, &tokens, sequences));
        let mut queue = lock(&self.queue);
        queue.pass = begin.elapsed();
        if let Err(error) = outcome {
            queue.failure = Some(error.to_string());
        }
        drop(queue);
        pass.finished = true;
    }

    /// Run a pass for the tokens of some sequences, and leave their results in the queue.
    fn advance(&self, cache: &mut Cache, tokens: &[Vec<u32>], sequences: &[usize]) -> Result<()> {
        let mut rows: Vec<&[u32]> = vec![&[]; tokens.len()];
        for &sequence in sequences {
            rows[sequence] = &tokens[sequence];
        }
        let output = self.network.advance(
            cache,
            &rows,
            Phase::Decode,
            LogitsFor::Last,
            &mut Taps::default(),
        )?;
        let width = output.hidden.len() / output.rows.len().max(1);
        let mut queue = lock(&self.queue);
        for (index, row) in output.rows.iter().enumerate() {
            queue.outputs[row.sequence] = Some(LastRow {
                logits: output.row(index).to_vec(),
                hidden: output.hidden[index * width..][..width].to_vec(),
            });
        }
        Ok(())
    }
}

/// Divide the sequences that have tokens into passes in which each gets the numbers that it gets alone: a text of several
/// tokens is a pass, and single tokens share passes of fewer rows than products are blocked from, in texts of one `class`.
fn passes<C: Ord>(tokens: &[Vec<u32>], class: impl Fn(usize) -> C) -> Vec<Vec<usize>> {
    let of_length = |fits: fn(usize) -> bool| {
        let sequences = tokens.iter().enumerate();
        let sequences = sequences.filter(move |(_, tokens)| fits(tokens.len()));
        sequences.map(|(sequence, _)| sequence)
    };
    let mut single: Vec<usize> = of_length(|length| length == 1).collect();
    single.sort_by_cached_key(|&sequence| class(sequence));
    let several = of_length(|length| length > 1).map(|sequence| vec![sequence]);
    let alike = single.chunk_by(|&a, &b| class(a) == class(b));
    let shared = alike.flat_map(|sequences| sequences.chunks(stored::BLOCKED - 1));
    several.chain(shared.map(<[usize]>::to_vec)).collect()
}

/// One session's sequence in a [`BatchDecoder`].
#[derive(Debug)]
pub(super) struct Lane {
    decoder: Arc<BatchDecoder>,
    sequence: usize,
    /// What the session may leave for others, where it leaves anything.
    reusable: Option<Reusable>,
}

/// The beginning of a text whose tokens are rotated alike, so that other sessions may reuse their keys and values.
#[derive(Clone, Debug, Default)]
struct Reusable {
    tokens: Vec<u32>,
    /// [`length_class`](crate::transformer::Configuration::length_class) of the prompt.
    class: (usize, usize),
    /// Whether tokens of another class followed.
    ended: bool,
}

impl Lane {
    /// Begin a sequence for a prompt. With `reuse`, it has the first tokens of the prompt if an earlier sequence left
    /// them, and will leave its own. Returns the number of tokens that it has.
    pub(super) fn open(decoder: &Arc<BatchDecoder>, prompt: &[u32], reuse: bool) -> (Self, usize) {
        let prefixes = &decoder.prefixes;
        // One token is read as fast as its keys and values are copied.
        let reuse = reuse && prefixes.is_used() && prompt.len() > 1;
        let class = decoder.network.shape.length_class(prompt.len());
        let found = reuse.then(|| prefixes.find(prompt, class)).flatten();
        let (tokens, found) = match found {
            Some(Prefix {
                tokens, sequence, ..
            }) => (tokens, Some(sequence)),
            None => (Vec::new(), None),
        };
        // The cache before the queue, as in a pass.
        let mut cache = lock(&decoder.cache);
        let mut queue = lock(&decoder.queue);
        let sequence = match queue.free.pop() {
            Some(sequence) => sequence,
            None => {
                queue.tokens.push(Vec::new());
                queue.outputs.push(None);
                cache.append_sequence()
            }
        };
        if found.is_some() {
            cache.replace(sequence, found);
        }
        let length = tokens.len();
        let reusable = Reusable {
            tokens,
            class,
            ended: false,
        };
        let lane = Self {
            decoder: decoder.clone(),
            sequence,
            reusable: reuse.then_some(reusable),
        };
        (lane, length)
    }

    /// Append tokens; the next pass reads them.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a token outside the vocabulary, or more tokens than the context has positions.
    /// `length`: tokens of the sequence so far.
    pub(super) fn append(&mut self, length: usize, tokens: &[u32]) -> Result<()> {
        let shape = &self.decoder.network.shape;
        // Before the queue: an error in a pass would end all sessions.
        crate::measure::check_ids(tokens, shape.vocabulary)?;
        shape.check_length(length + tokens.len())?;
        if let Some(reusable) = &mut self.reusable {
            reusable.ended |= reusable.class != shape.length_class(length + tokens.len());
            if !reusable.ended {
                reusable.tokens.extend(tokens);
            }
        }
        let mut queue = lock(&self.decoder.queue);
        queue.tokens[self.sequence].extend(tokens);
        // A thread that is about to run a pass may wait for these tokens.
        self.decoder.changed.notify_all();
        Ok(())
    }

    /// Compute the last row of the appended tokens, or wait for the pass that does.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] where a pass failed.
    pub(super) fn settle(&self) -> Result<LastRow> {
        let mut queue = lock(&self.decoder.queue);
        loop {
            if let Some(output) = queue.outputs[self.sequence].take() {
                return Ok(output);
            }
            if let Some(failure) = &queue.failure {
                return Err(
                    Error::new(ErrorKind::Numeric, failure.clone()).advice("open the model again")
                );
            }
            queue = if queue.running {
                let waited = self.decoder.changed.wait(queue);
                waited.unwrap_or_else(PoisonError::into_inner)
            } else {
                self.decoder.run(queue);
                lock(&self.decoder.queue)
            };
        }
    }

    /// Copy the sequence; with `unread`, the row that its tokens wait for is computed, and both may read it.
    pub(super) fn fork(&self, unread: bool) -> Result<Self> {
        let row = unread.then(|| self.settle()).transpose()?;
        let mut cache = lock(&self.decoder.cache);
        let mut queue = lock(&self.decoder.queue);
        let sequence = cache.fork(self.sequence)?;
        queue.tokens.push(Vec::new());
        queue.outputs.push(row.clone());
        queue.outputs[self.sequence] = row;
        Ok(Self {
            decoder: self.decoder.clone(),
            sequence,
            reusable: self.reusable.clone(),
        })
    }

    /// Measure bytes and lengths of the sequence's cache.
    pub(super) fn report(&self) -> CacheReport {
        lock(&self.decoder.cache).report_of(self.sequence..self.sequence + 1)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut cache = lock(&self.decoder.cache);
        let mut queue = lock(&self.decoder.queue);
        let sequence = cache.replace(self.sequence, None);
        queue.tokens[self.sequence].clear();
        queue.outputs[self.sequence] = None;
        queue.free.push(self.sequence);
        // A pass that ended early may have left layers of different lengths.
        let failed = queue.failure.is_some();
        self.decoder.changed.notify_all();
        drop((queue, cache));
        if let Some(reusable) = self.reusable.take().filter(|_| !failed) {
            let mut tokens = reusable.tokens;
            // The last tokens may have waited for a pass.
            tokens.truncate(sequence.length());
            self.decoder.prefixes.keep(Prefix {
                tokens,
                class: reusable.class,
                sequence,
            });
        }
    }
}
