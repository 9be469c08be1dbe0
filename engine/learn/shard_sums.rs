//! Exact gradients: those of the shards of a batch, summed in fixed point over threads and ranks.
//!
//! A shard is computed by the same calls on any thread of any rank, so its gradient has the same bits. Sums of integers
//! do not depend on their order: the gradient of a batch has the same bits on any number of threads and ranks.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::edge_trainer::Form;
use crate::graph::TokenGraph;
use crate::learn::batch::{Batch, Loss, SHARD};
use crate::learn::parameter::{Parameter, Touched};
use crate::learn::prior::Prior;
use crate::ranks::{FixedPoint, Ranks};
use crate::{Error, ErrorKind, Result};

/// Bits after the point of gradients. They are those of a mean over the predictions of one shard.
const GRADIENT: u32 = 44;
/// Bits after the point of losses, which are sums over the predictions of a shard.
const LOSS: u32 = 28;
/// Numbers before those of the parameters: how many were out of range, and the loss.
const HEADER: usize = 2;

/// Computes the shards of a rank and sums their gradients over all ranks.
pub(super) struct ShardSums {
    ranks: Arc<dyn Ranks>,
    /// Copies of the parameters, for all threads but one.
    workers: Vec<Form>,
    /// Sums of each thread: [`HEADER`] numbers, then for each parameter its gradient, and how often each row was touched.
    sums: Vec<Vec<i64>>,
    /// Numbers of the state of sequences that this rank computes.
    states: Range<usize>,
}

impl ShardSums {
    /// Prepare to sum over `ranks`, for batches of `sequences`; `copy` makes copies of the form for further threads.
    pub(super) fn new(ranks: Arc<dyn Ranks>, sequences: usize, copy: impl Fn() -> Form) -> Self {
        let mine = ranks.share(sequences.div_ceil(SHARD)).len();
        let threads = rayon::current_num_threads().min(mine).max(1);
        Self {
            ranks,
            workers: (1..threads).map(|_| copy()).collect(),
            sums: vec![Vec::new(); threads],
            states: 0..0,
        }
    }

    /// Compute the loss of a batch, and leave its gradient in the parameters of `form`, on all ranks.
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`] when a number is not finite, or too large for the sum; those of an exchange.
    pub(super) fn gradients(
        &mut self,
        form: &mut Form,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        batch: &Batch,
        step: u64,
    ) -> Result<Loss> {
        let count = batch.sequences().div_ceil(SHARD);
        let mine = self.ranks.share(count);
        let lengths: Vec<(usize, usize)> = lengths(&form.parameters());
        let total = HEADER
            + lengths
                .iter()
                .map(|(values, rows)| values + rows)
                .sum::<usize>();
        for worker in &mut self.workers {
            for (to, from) in worker.parameters().into_iter().zip(form.parameters()) {
                to.value.copy_from_slice(&from.value);
            }
        }
        let mut states = form.state().map(std::mem::take).unwrap_or_default();
        // Sequences have states of one length.
        let columns = states.len() / batch.sequences();
        let threads = self.sums.len();
        let forms: Vec<&mut Form> = std::iter::once(&mut *form)
            .chain(&mut self.workers)
            .collect();
        let shard = |index: usize, form: &mut Form, sums: &mut [i64]| -> Option<Vec<f32>> {
            let (part, first) = (batch.shard(index), index * SHARD);
            *form.first_sequence() = first;
            if let Some(state) = form.state() {
                *state = states[first * columns..(first + part.sequences()) * columns].to_vec();
            }
            let loss = form.gradients(graph, prior, &part);
            add(&form.parameters(), loss, &part, count, sums);
            *form.first_sequence() = 0;
            form.state().map(std::mem::take)
        };
        let after: Vec<Vec<(usize, Vec<f32>)>> = forms
            .into_par_iter()
            .zip(&mut self.sums)
            .enumerate()
            .map(|(thread, (form, sums))| {
                sums.clear();
                sums.resize(total, 0);
                let shards = mine.clone().skip(thread).step_by(threads);
                shards
                    .filter_map(|index| Some((index, shard(index, form, sums)?)))
                    .collect()
            })
            .collect();
        self.keep_states(form, batch, &mut states, after, &mine);
        let (first, others) = self.sums.split_at_mut(1);
        for other in others {
            let pairs = first[0].par_iter_mut().zip(&*other);
            pairs.for_each(|(sum, other)| *sum += other);
        }
        self.ranks.sum(
            format!("gradients of step {step}").as_str().into(),
            &mut first[0],
        )?;
        finish(form, &first[0], &lengths, batch, count, step)
    }

    /// Keep the states after the shards of this rank, for the next batch.
    fn keep_states(
        &mut self,
        form: &mut Form,
        batch: &Batch,
        states: &mut Vec<f32>,
        after: Vec<Vec<(usize, Vec<f32>)>>,
        mine: &Range<usize>,
    ) {
        for (index, state) in after.into_iter().flatten() {
            let first = index * SHARD;
            let columns = state.len() / batch.shard(index).sequences();
            // The first batch of a run has no states before it.
            states.resize(batch.sequences() * columns, 0.0);
            states[first * columns..first * columns + state.len()].copy_from_slice(&state);
            let end = (mine.end * SHARD).min(batch.sequences());
            self.states = mine.start * SHARD * columns..end * columns;
        }
        if let Some(state) = form.state() {
            *state = std::mem::take(states);
        }
    }

    /// Collect the states of the sequences of all ranks in `form`, on all ranks.
    ///
    /// # Errors
    /// Those of an exchange.
    pub(super) fn collect_states(&self, form: &mut Form) -> Result<()> {
        let Some(states) = form.state() else {
            return Ok(());
        };
        let mine = bytemuck::cast_slice(&states[self.states.clone()]);
        let all = self.ranks.gather("states of sequences".into(), mine)?;
        // Ranks compute runs of sequences, in the order of the ranks.
        *states = bytemuck::pod_collect_to_vec(&all.concat());
        Ok(())
    }
}

/// Number of values and of rows of each parameter.
fn lengths(parameters: &[&mut Parameter<f32>]) -> Vec<(usize, usize)> {
    let sizes = parameters.iter();
    sizes.map(|one| (one.value.len(), one.shape[0])).collect()
}

/// Add the gradient and the loss of one of `count` shards.
fn add(
    parameters: &[&mut Parameter<f32>],
    loss: Loss,
    shard: &Batch,
    count: usize,
    sums: &mut [i64],
) {
    let (gradients, losses) = (
        FixedPoint::new(GRADIENT, count),
        FixedPoint::new(LOSS, count),
    );
    // The gradient is that of a mean over a shard: the last shard may be smaller than the others.
    let weight = shard.sequences() as f64 / SHARD as f64;
    let (header, mut rest) = sums.split_at_mut(HEADER);
    match losses.round(loss.nats, 1.0) {
        Some(nats) => header[1] += nats,
        None => header[0] += 1,
    }
    for parameter in parameters {
        let (values, after) = rest.split_at_mut(parameter.value.len());
        let (touched, after) = after.split_at_mut(parameter.shape[0]);
        rest = after;
        let columns = parameter.shape[1];
        let finite = match &parameter.touched {
            Touched::All => {
                touched.iter_mut().for_each(|times| *times += 1);
                gradients.add(&parameter.gradient, weight, values)
            }
            Touched::Rows(rows) => rows.iter().fold(true, |finite, &row| {
                let range = row as usize * columns..(row as usize + 1) * columns;
                touched[row as usize] += 1;
                finite
                    & gradients.add(
                        &parameter.gradient[range.clone()],
                        weight,
                        &mut values[range],
                    )
            }),
        };
        header[0] += i64::from(!finite);
    }
}

/// Convert the sums over all shards to the gradient of a mean over the batch.
fn finish(
    form: &mut Form,
    sums: &[i64],
    lengths: &[(usize, usize)],
    batch: &Batch,
    count: usize,
    step: u64,
) -> Result<Loss> {
    let (gradients, losses) = (
        FixedPoint::new(GRADIENT, count),
        FixedPoint::new(LOSS, count),
    );
    let (header, mut rest) = sums.split_at(HEADER);
    if header[0] != 0 {
        let what = format!(
            "a loss or gradient is not finite, or above {:e}",
            gradients.limit()
        );
        return Err(Error::new(ErrorKind::Numeric, what)
            .at(format!("step {step}"))
            .advice("lower train.rate or train.clip; the last checkpoint is valid"));
    }
    let scale = SHARD as f64 / batch.sequences() as f64;
    for (parameter, &(length, rows)) in form.parameters().into_iter().zip(lengths) {
        let (values, after) = rest.split_at(length);
        let (touched, after) = after.split_at(rows);
        rest = after;
        let pairs = parameter
            .gradient
            .par_chunks_mut(1 << 14)
            .zip(values.par_chunks(1 << 14));
        pairs.for_each(|(to, from)| {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = (gradients.value(from) * scale) as f32;
            }
        });
        parameter.touched = match touched.contains(&0) {
            false => Touched::All,
            true => {
                let rows = (0..rows as u32).filter(|&row| touched[row as usize] != 0);
                Touched::Rows(rows.collect())
            }
        };
    }
    Ok(Loss {
        nats: losses.value(header[1]),
        tokens: batch.sequences() * batch.steps,
    })
}
