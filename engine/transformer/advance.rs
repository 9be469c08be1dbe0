//! New rows through a network with a cache: prompts and single tokens, of several sequences at once.
//!
//! Rows of all sequences are concatenated, so that each projection is one matrix product and nothing is padded; only
//! attention works on each sequence alone, at its own length.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::hook::{Activations, Call, Phase, Probe, Tap};
use crate::transformer::cache::Cache;
use crate::transformer::cache_attention;
use crate::transformer::eviction::EvictionPolicy;
use crate::transformer::forward::Mode;
use crate::transformer::matrix;
use crate::transformer::network::Network;
use crate::transformer::operation::{to_vec, with_values};
use crate::transformer::rotary::RotaryTable;
use crate::{Error, ErrorKind, Result};

/// Rows whose logits are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsFor {
    /// The last row of each sequence.
    Last,
    /// All rows that reach the last layer.
    All,
    /// None: the hidden states of all rows alone.
    None,
}

/// Observers of a forward pass.
#[derive(Default)]
pub struct Taps<'a> {
    /// Decides which tokens layers keep.
    pub eviction: Option<&'a mut EvictionPolicy>,
    /// Observes activations.
    pub probe: Option<&'a dyn Probe>,
}

/// Result of [`Network::advance`].
#[derive(Clone, Debug)]
pub struct ForwardOutput {
    /// The rows whose logits were computed. `[R]`
    pub rows: Vec<Row>,
    /// Logits of all V tokens; the softmax of a row is the distribution of the next token. `[R, V]`
    pub logits: Vec<f32>,
    /// Those rows after the final norm. `[R, D]`
    pub hidden: Vec<f32>,
    /// Number of rows that each layer computed; pruning the residual stream lowers it. `[L]`
    pub computed: Vec<usize>,
}

impl ForwardOutput {
    /// Return the logits of one row. `[V]`
    pub fn row(&self, row: usize) -> &[f32] {
        let width = self.logits.len() / self.rows.len().max(1);
        &self.logits[row * width..(row + 1) * width]
    }
}

/// One row of the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index of the sequence in the batch.
    pub sequence: usize,
    /// Position in the sequence.
    pub position: u32,
    /// The token.
    pub token: u32,
}

/// Pass activations to a probe if it observes the tap. `layer`: index and number of layers.
pub(super) fn observe(
    probe: Option<&dyn Probe>,
    tap: Tap,
    (layer, layers): (usize, usize),
    rows: &[Row],
    values: &[f32],
) -> Result<()> {
    let Some(probe) = probe.filter(|probe| probe.wants(tap)) else {
        return Ok(());
    };
    let tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
    let activations = Activations {
        tap,
        layer,
        layers,
        tokens: &tokens,
        values,
        width: values.len() / rows.len().max(1),
    };
    let last = rows.last();
    let sequence = last.map_or(0, |row| row.sequence as u64);
    let step = last.map_or(0, |row| u64::from(row.position));
    probe.see(&Call::new(0, sequence, step), &activations)
}

/// Forward pass over new rows that attend to a cache.
struct CachedRows<'a, 'b> {
    network: &'a Network,
    cache: &'a mut Cache,
    rows: Vec<Row>,
    /// Rotations of each layer.
    rotary: Vec<Option<Arc<RotaryTable>>>,
    phase: Phase,
    logits_for: LogitsFor,
    taps: &'a mut Taps<'b>,
    computed: Vec<usize>,
}

impl CachedRows<'_, '_> {
    fn wants(&self, tap: Tap) -> bool {
        self.taps.probe.is_some_and(|probe| probe.wants(tap))
    }

    fn show(&self, tap: Tap, layer: usize, rows: &[Row], values: &[f32]) -> Result<()> {
        let layers = self.network.layers.len();
        observe(self.taps.probe, tap, (layer, layers), rows, values)
    }

    /// Copy a projection and apply the rotary embedding. `[N, heads · d]`
    fn rotated(&self, layer: usize, x: &Tensor) -> Result<Vec<f32>> {
        let mut values = to_vec(x)?;
        if let Some(table) = &self.rotary[layer] {
            let positions: Vec<u32> = self.rows.iter().map(|row| row.position).collect();
            table.rotate(
                &mut values,
                &positions,
                self.network.shape.head_width,
                false,
            );
        }
        Ok(values)
    }

    /// Keep the rows with these indices.
    fn keep(&mut self, x: Tensor, indices: &[u32]) -> Result<Tensor> {
        // Indices ascend without repetition: as many as there are rows are all rows.
        if indices.len() == self.rows.len() {
            return Ok(x);
        }
        self.rows = indices.iter().map(|&i| self.rows[i as usize]).collect();
        matrix::rows(&x, indices)
    }

    /// Keep the last row of each sequence.
    fn keep_last(&mut self, x: Tensor) -> Result<Tensor> {
        let mut end = 0;
        // Rows of a sequence are neighbours.
        let by_sequence = self.rows.chunk_by(|a, b| a.sequence == b.sequence);
        let last: Vec<u32> = by_sequence
            .map(|rows| {
                end += rows.len();
                end as u32 - 1
            })
            .collect();
        self.keep(x, &last)
    }
}

impl Mode for CachedRows<'_, '_> {
    fn tap(&mut self, tap: Tap, layer: usize, x: &Tensor) -> Result<()> {
        if !self.wants(tap) {
            return Ok(());
        }
        with_values([x], |[values]| self.show(tap, layer, &self.rows, values))?
    }

    fn attend(
        &mut self,
        layer: usize,
        queries: Tensor,
        key_value: Option<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        self.computed.push(self.rows.len());
        // Queries and keys are rotated to their positions in the text, not in the cache: evictions do not move them.
        let queries = self.rotated(layer, &queries)?;
        self.show(Tap::Query, layer, &self.rows, &queries)?;
        if self.cache.plan.layers[layer].source == layer {
            let (keys, values) = key_value.ok_or_else(|| {
                Error::new(
                    ErrorKind::Input,
                    "the layer has no key and value projections",
                )
                .at(format!("layer {layer}"))
                .advice("apply the same plan to the network and its cache")
            })?;
            let (keys, values) = (self.rotated(layer, &keys)?, to_vec(&values)?);
            self.show(Tap::Key, layer, &self.rows, &keys)?;
            self.show(Tap::Value, layer, &self.rows, &values)?;
            // New keys are stored before attention: a row attends to itself and to earlier rows of the same call.
            self.cache.store(layer, &self.rows, &keys, &values);
        }
        let shape = &self.network.shape;
        // Attention is averaged over heads for the probe only if it asks.
        let watched = self.wants(Tap::Attention);
        let (output, attention) =
            cache_attention::attend(shape, self.cache, layer, &self.rows, &queries, watched);
        for (row, weights) in &attention {
            self.show(Tap::Attention, layer, &[*row], weights)?;
        }
        self.show(Tap::Attended, layer, &self.rows, &output)?;
        let dimensions = (self.rows.len(), output.len() / self.rows.len());
        Ok(Tensor::from_vec(output, dimensions, &Device::Cpu)?)
    }

    fn prune(&mut self, layer: usize, x: Tensor) -> Result<Tensor> {
        let Some(eviction) = &mut self.taps.eviction else {
            return Ok(x);
        };
        let mut kept = Vec::with_capacity(self.rows.len());
        let mut start = 0;
        for rows in self.rows.chunk_by(|a, b| a.sequence == b.sequence) {
            // Rows of this sequence that reached the layer; earlier layers may have dropped some.
            let stream = rows.iter().map(|row| row.position).collect();
            let sequence = rows[0].sequence;
            let end = start + rows.len() as u32;
            match self
                .cache
                .evict(eviction, sequence, layer, self.phase, stream)?
            {
                Some(list) => kept.extend(list.iter().map(|row| start + row)),
                None => kept.extend(start..end),
            }
            start = end;
        }
        self.keep(x, &kept)
    }

    /// Without a probe, the rows whose logits are not wanted skip the final norm.
    fn select(&mut self, x: Tensor) -> Result<Tensor> {
        if self.logits_for == LogitsFor::Last && self.taps.probe.is_none() {
            return self.keep_last(x);
        }
        Ok(x)
    }
}

impl Network {
    /// Add new tokens of each sequence to a cache (none for sequences that wait) and compute the next tokens' logits.
    ///
    /// The cache must have been created for this network, and the network must follow the cache's plan
    /// ([`Network::for_plan`]) or none. After an error the cache must not be used further.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for tokens outside the vocabulary, positions beyond learned ones, and another number
    /// of sequences than the cache's; errors of the eviction policy and the probe.
    ///
    /// # Complexity
    /// For each token O(parameters) and, in each layer, O(kept tokens · heads · head width).
    pub fn advance(
        &self,
        cache: &mut Cache,
        tokens: &[&[u32]],
        phase: Phase,
        logits_for: LogitsFor,
        taps: &mut Taps<'_>,
    ) -> Result<ForwardOutput> {
        // On a thread of the pool, even of one thread: each product would otherwise wake the pool, and this thread, once more.
        if rayon::current_thread_index().is_none() {
            return rayon::scope(|_| self.advance_here(cache, tokens, phase, logits_for, taps));
        }
        self.advance_here(cache, tokens, phase, logits_for, taps)
    }

    fn advance_here(
        &self,
        cache: &mut Cache,
        tokens: &[&[u32]],
        phase: Phase,
        logits_for: LogitsFor,
        taps: &mut Taps<'_>,
    ) -> Result<ForwardOutput> {
        let (rows, length) = self.new_rows(cache, tokens)?;
        for (sequence, tokens) in tokens.iter().enumerate() {
            // Before the pass: visibility and policies count the new tokens.
            cache.sequences[sequence].next += tokens.len() as u32;
            if phase == Phase::Prefill && !tokens.is_empty() {
                cache.begin_prompt(sequence, tokens.len(), &mut taps.eviction)?;
            }
        }
        if rows.is_empty() {
            return Ok(ForwardOutput {
                rows,
                logits: Vec::new(),
                hidden: Vec::new(),
                computed: vec![0; self.layers.len()],
            });
        }
        let ids: Vec<u32> = rows.iter().map(|row| row.token).collect();
        let positions: Vec<u32> = rows.iter().map(|row| row.position).collect();
        let mut mode = CachedRows {
            network: self,
            cache,
            rows,
            rotary: self.shape.rotary_tables(length),
            phase,
            logits_for,
            taps,
            computed: Vec::with_capacity(self.layers.len()),
        };
        // Positions continue those of the cache, so that rotations match the cached keys.
        let mut x = self.run(&ids, &positions, &[], &mut mode)?;
        // Pages are packed after the pass: its own attention uses exact keys and values.
        mode.cache.pack();
        // With a probe, all rows went through the final norm for it to see; the output matrix needs the last ones.
        if logits_for == LogitsFor::Last {
            x = mode.keep_last(x)?;
        }
        let logits = if logits_for == LogitsFor::None {
            Vec::new()
        } else {
            let logits = self.logits(&x)?;
            mode.tap(Tap::Logits, self.layers.len(), &logits)?;
            to_vec(&logits)?
        };
        Ok(ForwardOutput {
            rows: mode.rows,
            logits,
            hidden: to_vec(&x)?,
            computed: mode.computed,
        })
    }

    /// Number the new tokens' rows after those in the cache. Returns the rows and the length of the longest of
    /// the sequences that have new tokens.
    fn new_rows(&self, cache: &Cache, tokens: &[&[u32]]) -> Result<(Vec<Row>, usize)> {
        let (sequences, planned) = (cache.sequences(), cache.plan.layers.len());
        if tokens.len() != sequences || planned != self.layers.len() {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "tokens of {} sequences for a cache of {sequences}, a plan of {planned} layers for a network of {}",
                    tokens.len(),
                    self.layers.len()
                ),
            ));
        }
        let (mut rows, mut longest) = (Vec::new(), 0);
        for (sequence, tokens) in tokens.iter().enumerate() {
            crate::measure::check_ids(tokens, self.shape.vocabulary)?;
            // Positions in the text: evicted tokens count.
            let start = cache.length(sequence);
            let end = start + tokens.len();
            self.shape
                .check_length(end)
                .map_err(|error| error.at(format!("sequence {sequence}")))?;
            rows.extend(tokens.iter().zip(start..).map(|(&token, position)| Row {
                sequence,
                position: position as u32,
                token,
            }));
            if !tokens.is_empty() {
                longest = longest.max(end);
            }
        }
        Ok((rows, longest))
    }
}
