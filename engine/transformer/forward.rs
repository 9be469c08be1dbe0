//! Rows through a network with a cache: prompts and single tokens, several sequences at once.
//!
//! Rows of all sequences lie one after another, so that projections are one product and nothing is padded;
//! only attention looks at each sequence by itself, at its own length.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::transformer::cache::Cache;
use crate::transformer::cache_slots::{Slots, Visibility};
use crate::transformer::eviction::{EvictionPolicy, HeadReduction, Phase, Statistics};
use crate::transformer::network::Network;
use crate::transformer::operation::look;
use crate::transformer::probe::{Probe, Row, Tap};
use crate::{Error, ErrorKind, Result};

/// Multiplications above which attention is shared among threads.
const SHARED: usize = 1 << 16;

/// Of which rows scores are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogitsFor {
    /// Each sequence's last.
    Last,
    /// All that go through the last layer.
    All,
}

/// Who looks on, and who decides what is kept.
#[derive(Default)]
pub struct Taps<'a> {
    /// Decides what layers keep.
    pub eviction: Option<&'a mut dyn EvictionPolicy>,
    /// Looks on.
    pub probe: Option<&'a mut dyn Probe>,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct ForwardOutput {
    /// The rows that scores belong to. `[R]`
    pub rows: Vec<Row>,
    /// Scores of all V tokens; a softmax of a row is the distribution of the next token. `[R, V]`
    pub logits: Vec<f32>,
    /// Those rows' hidden states, after the last norm. `[R, D]`
    pub hidden: Vec<f32>,
    /// Rows that each layer computed: what pruning the stream saves. `[L]`
    pub computed: Vec<usize>,
}

impl ForwardOutput {
    /// The scores of one row. `[V]`
    pub fn row(&self, row: usize) -> &[f32] {
        let width = self.logits.len() / self.rows.len().max(1);
        &self.logits[row * width..(row + 1) * width]
    }
}

impl Taps<'_> {
    fn show(&mut self, tap: Tap, rows: &[Row], values: &[f32]) -> Result<()> {
        match &mut self.probe {
            Some(probe) if probe.wants(tap) => probe.see(tap, rows, values),
            _ => Ok(()),
        }
    }

    fn show_tensor(&mut self, tap: Tap, rows: &[Row], values: &Tensor) -> Result<()> {
        if self.probe.as_ref().is_some_and(|probe| probe.wants(tap)) {
            look(values, |values| self.show(tap, rows, values))??;
        }
        Ok(())
    }
}

impl Network {
    /// Takes new tokens of each sequence of a cache (none for a sequence that rests) and scores what may follow.
    ///
    /// The cache must have been made for this network, and the network be planned as the cache is
    /// ([`Network::for_plan`]) or whole. After an error the cache's content is not to be used further.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for tokens outside the vocabulary, positions beyond learned ones, another number
    /// of sequences; whatever the keeper reports.
    ///
    /// # Complexity
    /// For each token O(weights) and, in each layer, O(kept tokens · heads · head width).
    pub fn advance(
        &self,
        cache: &mut Cache,
        tokens: &[&[u32]],
        phase: Phase,
        logits_for: LogitsFor,
        taps: &mut Taps<'_>,
    ) -> Result<ForwardOutput> {
        if tokens.len() != cache.sequences() || cache.plan.layers.len() != self.blocks.len() {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "tokens of {} sequences for a cache of {}, {} layers planned of {}",
                    tokens.len(),
                    cache.sequences(),
                    cache.plan.layers.len(),
                    self.blocks.len()
                ),
            ));
        }
        let mut rows = Vec::new();
        let mut ids = Vec::new();
        let mut longest = 0;
        for (sequence, tokens) in tokens.iter().enumerate() {
            crate::measure::check_ids(tokens, self.shape.vocabulary)?;
            let from = cache.sequences[sequence].next as usize;
            let to = from + tokens.len();
            if let Some(context) = self.shape.hard_context()
                && to > context
            {
                return Err(Error::new(
                    ErrorKind::Input,
                    format!("{to} tokens are more than the context of {context}"),
                )
                .at(format!("sequence {sequence}"))
                .advice("use a shorter prompt or fewer new tokens"));
            }
            rows.extend(tokens.iter().zip(from..).map(|(&token, position)| Row {
                sequence,
                position: position as u32,
                token,
            }));
            ids.extend_from_slice(tokens);
            longest = longest.max(to);
        }
        for (sequence, tokens) in tokens.iter().enumerate() {
            cache.sequences[sequence].next += tokens.len() as u32;
            if phase == Phase::Prefill && !tokens.is_empty() {
                match &mut taps.eviction {
                    Some(eviction) => cache.begin(sequence, tokens.len(), Some(&mut **eviction))?,
                    None => cache.begin(sequence, tokens.len(), None)?,
                }
            }
        }
        if rows.is_empty() {
            return Ok(ForwardOutput {
                rows,
                logits: Vec::new(),
                hidden: Vec::new(),
                computed: vec![0; self.blocks.len()],
            });
        }
        let positions: Vec<u32> = rows.iter().map(|row| row.position).collect();
        let mut x = self.embed(&ids, &positions, &[])?;
        taps.show_tensor(Tap::Embedding, &rows, &x)?;
        let turns = self.shape.rope.as_ref().map(|rope| rope.turns(longest));
        let mut computed = Vec::with_capacity(self.blocks.len());
        for (layer, block) in self.blocks.iter().enumerate() {
            computed.push(rows.len());
            x = block.forward(&x, &Ok, |queries, pairs| {
                let width = self.shape.head_width;
                let turned = |tensor: &Tensor| -> Result<Vec<f32>> {
                    let mut values = look(tensor, <[f32]>::to_vec)?;
                    if let Some(turns) = &turns {
                        let stride = values.len() / rows.len();
                        for (row, at) in values.chunks_exact_mut(stride).zip(&rows) {
                            turns.turn(row, width, at.position, false);
                        }
                    }
                    Ok(values)
                };
                let queries = turned(&queries)?;
                taps.show(Tap::Query(layer), &rows, &queries)?;
                if cache.plan.layers[layer].source == layer {
                    let (keys, values) = pairs.ok_or_else(|| {
                        Error::new(ErrorKind::Input, "the network has no key projection here")
                            .at(format!("layer {layer}"))
                            .advice("plan the network and its cache alike")
                    })?;
                    let (keys, values) = (turned(&keys)?, look(&values, <[f32]>::to_vec)?);
                    taps.show(Tap::Key(layer), &rows, &keys)?;
                    taps.show(Tap::Value(layer), &rows, &values)?;
                    keep(cache, layer, &rows, &keys, &values);
                }
                let watched = taps
                    .probe
                    .as_ref()
                    .is_some_and(|probe| probe.wants(Tap::Attention(layer)));
                let (attended, attention) = attend(self, cache, layer, &rows, &queries, watched);
                for (row, weights) in &attention {
                    taps.show(Tap::Attention(layer), &[*row], weights)?;
                }
                taps.show(Tap::Attended(layer), &rows, &attended)?;
                let width = attended.len() / rows.len();
                Ok(Tensor::from_vec(
                    attended,
                    (rows.len(), width),
                    &Device::Cpu,
                )?)
            })?;
            taps.show_tensor(Tap::Hidden(layer), &rows, &x)?;
            if let Some(eviction) = &mut taps.eviction {
                (rows, x) = decide(cache, &mut **eviction, layer, phase, rows, x)?;
            }
        }
        for sequence in &mut cache.sequences {
            let next = sequence.next;
            sequence
                .layers
                .iter_mut()
                .flatten()
                .for_each(|slots| slots.pack(next));
        }
        if logits_for == LogitsFor::Last && taps.probe.is_none() {
            (rows, x) = last(rows, &x)?;
        }
        let mut x = self.finish(&x)?;
        taps.show_tensor(Tap::Final, &rows, &x)?;
        if logits_for == LogitsFor::Last && taps.probe.is_some() {
            (rows, x) = last(rows, &x)?;
        }
        let logits = look(&self.logits(&x)?, <[f32]>::to_vec)?;
        taps.show(Tap::Logits, &rows, &logits)?;
        Ok(ForwardOutput {
            rows,
            logits,
            hidden: look(&x, <[f32]>::to_vec)?,
            computed,
        })
    }
}

/// The last row of each sequence.
fn last(rows: Vec<Row>, x: &Tensor) -> Result<(Vec<Row>, Tensor)> {
    let chosen: Vec<u32> = (0..rows.len())
        .filter(|&row| {
            rows.get(row + 1)
                .is_none_or(|next| next.sequence != rows[row].sequence)
        })
        .map(|row| row as u32)
        .collect();
    pick(rows, x, &chosen)
}

fn pick(rows: Vec<Row>, x: &Tensor, chosen: &[u32]) -> Result<(Vec<Row>, Tensor)> {
    if chosen.len() == rows.len() {
        return Ok((rows, x.clone()));
    }
    let ids = Tensor::from_slice(chosen, chosen.len(), &Device::Cpu)?;
    let x = x.index_select(&ids, 0)?;
    Ok((chosen.iter().map(|&row| rows[row as usize]).collect(), x))
}

/// Puts the rows' keys and values into the layer's slots.
fn keep(cache: &mut Cache, layer: usize, rows: &[Row], keys: &[f32], values: &[f32]) {
    let stride = keys.len() / rows.len();
    for (index, row) in rows.iter().enumerate() {
        let head_groups = &mut cache.sequences[row.sequence].layers[layer];
        let share = stride / head_groups.len();
        for (head_group, slots) in head_groups.iter_mut().enumerate() {
            let from = index * stride + head_group * share;
            slots.push(
                row.position,
                &keys[from..from + share],
                &values[from..from + share],
            );
        }
    }
}

/// Attention of all rows over what their sequences keep; remembers of it what the keeper wants. Beside it, where
/// it is `watched`, what each sequence's last row attends to.
fn attend(
    network: &Network,
    cache: &mut Cache,
    layer: usize,
    rows: &[Row],
    queries: &[f32],
    watched: bool,
) -> (Vec<f32>, Vec<(Row, Vec<f32>)>) {
    let mut seen = Vec::new();
    let shape = &network.shape;
    let (stride, scale) = (shape.heads * shape.head_width, shape.scale(layer));
    let source = cache.plan.layers[layer].source;
    let mut output = vec![0.0; queries.len()];
    let mut from = 0;
    while from < rows.len() {
        let index = rows[from].sequence;
        let count = rows[from..]
            .iter()
            .take_while(|row| row.sequence == index)
            .count();
        let rows = &rows[from..from + count];
        let span = from * stride..(from + count) * stride;
        let (queries, output) = (&queries[span.clone()], &mut output[span]);
        from += count;
        let sequence = &mut cache.sequences[index];
        let statistics = sequence.statistics[layer];
        let head_groups = &mut sequence.layers[source];
        let share = stride / head_groups.len();
        let text = sequence.next as usize;
        let mut attention = vec![f32::NAN; if watched { text } else { 0 }];
        for (head_group, slots) in head_groups.iter_mut().enumerate() {
            let remembered = {
                let read = slots.read();
                let slots = &*slots;
                let one = |(at, output): (usize, &mut [f32])| {
                    let activations = Visibility {
                        position: rows[at].position,
                        window: shape.window,
                    };
                    let queries = &queries[at * stride + head_group * share..][..share];
                    let output = &mut output[head_group * share..(head_group + 1) * share];
                    let mut probabilities = Vec::new();
                    slots.attend(
                        &read,
                        queries,
                        scale,
                        activations,
                        output,
                        &mut probabilities,
                    );
                    let wanted = statistics.accumulated || at + statistics.window >= count;
                    (statistics.remembers() && wanted).then(|| {
                        reduce(&probabilities, slots, share / shape.head_width, statistics)
                    })
                };
                let work = count * slots.capacity() * share;
                if work > SHARED && count > 1 {
                    output
                        .par_chunks_exact_mut(stride)
                        .enumerate()
                        .map(one)
                        .collect::<Vec<_>>()
                } else {
                    output
                        .chunks_exact_mut(stride)
                        .enumerate()
                        .map(one)
                        .collect()
                }
            };
            remember(slots, layer, source, &statistics, remembered);
            if watched {
                let last = &queries[(count - 1) * stride + head_group * share..][..share];
                let activations = Visibility {
                    position: rows[count - 1].position,
                    window: shape.window,
                };
                let heads = Heads {
                    of: shape.heads,
                    scale,
                };
                watch(slots, last, heads, activations, &mut attention);
            }
        }
        if watched {
            seen.push((rows[count - 1], attention));
        }
    }
    (output, seen)
}

/// All heads of a layer, and the scale of their products.
#[derive(Clone, Copy)]
struct Heads {
    of: usize,
    scale: f32,
}

/// Adds the mean over heads of one row's attention to a lane's slots, by position.
fn watch(
    slots: &Slots,
    queries: &[f32],
    heads: Heads,
    activations: Visibility,
    attention: &mut [f32],
) {
    let (mut output, mut probabilities) = (vec![0.0; queries.len()], Vec::new());
    let read = slots.read();
    slots.attend(
        &read,
        queries,
        heads.scale,
        activations,
        &mut output,
        &mut probabilities,
    );
    for (slot, &position) in slots.positions.iter().enumerate() {
        let Some(sum) = attention.get_mut(position as usize) else {
            continue;
        };
        let column = probabilities.iter().skip(slot).step_by(slots.capacity());
        *sum = if sum.is_nan() { 0.0 } else { *sum } + column.sum::<f32>() / heads.of as f32;
    }
}

/// Attention `[H][slots]` with its heads reduced. `[1 or key heads][slots]`
fn reduce(probabilities: &[f32], slots: &Slots, heads: usize, statistics: Statistics) -> Vec<f32> {
    let columns = slots.capacity();
    let kv = slots.heads();
    let (groups, share) = match statistics.heads {
        HeadReduction::Layer => (1, heads),
        _ => (kv, heads / kv),
    };
    let mut reduced = vec![0.0; groups * columns];
    for (group, sums) in reduced.chunks_exact_mut(columns).enumerate() {
        for head in group * share..(group + 1) * share {
            let row = &probabilities[head * columns..(head + 1) * columns];
            match statistics.heads {
                HeadReduction::GroupMax => {
                    for (sum, &p) in sums.iter_mut().zip(row) {
                        *sum = p.max(*sum);
                    }
                }
                _ => crate::kernel::vector::add_scaled(1.0 / share as f32, row, sums),
            }
        }
    }
    reduced
}

fn remember(
    slots: &mut Slots,
    layer: usize,
    source: usize,
    statistics: &Statistics,
    rows: Vec<Option<Vec<f32>>>,
) {
    if !statistics.remembers() {
        return;
    }
    let heads = match statistics.heads {
        HeadReduction::Layer => 1,
        _ => slots.heads(),
    };
    for row in rows.into_iter().flatten() {
        if layer != source && statistics.dependants && statistics.accumulated {
            slots.scores_of(source, heads).take(row.clone(), true, 0);
        }
        slots
            .scores_of(layer, heads)
            .take(row, statistics.accumulated, statistics.window);
    }
}

/// Asks the keeper about every sequence that has rows in this layer.
fn decide(
    cache: &mut Cache,
    eviction: &mut dyn EvictionPolicy,
    layer: usize,
    phase: Phase,
    rows: Vec<Row>,
    x: Tensor,
) -> Result<(Vec<Row>, Tensor)> {
    let mut chosen = Vec::with_capacity(rows.len());
    let mut from = 0;
    while from < rows.len() {
        let sequence = rows[from].sequence;
        let count = rows[from..]
            .iter()
            .take_while(|row| row.sequence == sequence)
            .count();
        let stream = rows[from..from + count]
            .iter()
            .map(|row| row.position)
            .collect();
        match cache.ask(eviction, sequence, layer, phase, stream)? {
            Some(kept) => chosen.extend(kept.iter().map(|row| row + from as u32)),
            None => chosen.extend(from as u32..(from + count) as u32),
        }
        from += count;
    }
    pick(rows, &x, &chosen)
}
