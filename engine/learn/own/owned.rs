//! Steps over own edges whose fans belong to ranks.
//!
//! Every rank draws the same batch. A sequence is at the rank that owns its node: it computes the signal there, scores the
//! node's fan, and takes the hop over the edge that the path takes; what reaches the next node travels to that node's
//! owner, and its gradient comes back the same way. Weights and moments stay where they are. All ranks know the batch, so
//! that messages have known lengths and need no names.

use std::sync::Arc;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::exact::{Sums, terms};
use super::fan::Group;
use super::{At, HeldEdges, Own};
use crate::Result;
use crate::graph::{FanCost, Owners, TokenGraph};
use crate::kernel::adamw::Update;
use crate::kernel::position;
use crate::kernel::real::Real;
use crate::learn::batch::{Batch, Loss};
use crate::learn::parameter::Touched;
use crate::learn::plan::{own_fans, visits};
use crate::learn::prior::Prior;
use crate::learn::recipe::Train;
use crate::ranks::{Ranks, agree};
use crate::signal::{BlendKind, Profile};

/// The ranks that own the fans of nodes.
#[derive(Debug)]
pub(in crate::learn) struct Fans {
    pub(in crate::learn) ranks: Arc<dyn Ranks>,
    /// Rank of each node. `[V]`
    owners: Vec<u32>,
}

/// Settings of one step.
pub(in crate::learn) struct OwnedStep<'a> {
    /// Number of the step, from 1.
    pub(in crate::learn) step: u64,
    /// Constants of the optimiser for edge weights.
    pub(in crate::learn) update: Update<f32>,
    /// Both moments of the edge weights.
    pub(in crate::learn) moments: (&'a mut [f32], &'a mut [f32]),
    /// Largest norm of the gradient.
    pub(in crate::learn) clip: Option<f64>,
    /// Whether edges without a gradient move too, by their momentum.
    pub(in crate::learn) dense: bool,
}

impl Fans {
    /// Divide the nodes of a graph among ranks by their visits in `text`.
    ///
    /// # Errors
    /// As [`Owners::assign`], and those of an exchange.
    pub(in crate::learn) fn new(
        ranks: &Arc<dyn Ranks>,
        graph: &TokenGraph,
        profile: &Profile,
        train: &Train,
        text: &[u32],
    ) -> Result<Self> {
        let cost = FanCost::new(profile.width, train.batch * train.steps);
        let visits = visits(text, graph.nodes())?;
        let owners = Owners::assign(&own_fans(graph), &visits, &cost, ranks.size(), 0)?;
        let nodes = 0..graph.nodes() as u32;
        let owners: Vec<u32> = nodes.map(|node| owners.rank_of(node) as u32).collect();
        let digest = xxh3_64(bytemuck::cast_slice(&owners));
        agree(
            &**ranks,
            &[("the table of owners", format!("{digest:016x}"))],
        )?;
        let ranks = Arc::clone(ranks);
        Ok(Self { ranks, owners })
    }

    /// Number of the rank that owns a node.
    pub(in crate::learn) fn owner(&self, node: u32) -> usize {
        self.owners[node as usize] as usize
    }

    /// Whether this rank owns a node.
    pub(in crate::learn) fn is_mine(&self, node: u32) -> bool {
        self.owner(node) == self.ranks.rank()
    }

    /// The edges that this rank holds.
    pub(in crate::learn) fn held(&self, graph: &TokenGraph) -> HeldEdges {
        HeldEdges::of(graph, |node| self.is_mine(node))
    }

    /// Move the state of the sequences of a batch from the owners of their nodes `from` to those of their nodes `to`.
    /// `columns` numbers are packed for each sequence.
    fn pass(
        &self,
        name: &str,
        batch: &Batch,
        (from, to): (usize, usize),
        columns: usize,
        path: &mut State<'_>,
    ) -> Result<()> {
        let (me, size) = (self.ranks.rank(), self.ranks.size());
        if size == 1 {
            return Ok(());
        }
        let mut parts = vec![Vec::<f32>::new(); size];
        let mut incoming = vec![Vec::new(); size];
        for sequence in 0..batch.sequences() {
            let tokens = batch.sequence(sequence);
            let (source, target) = (self.owner(tokens[from]), self.owner(tokens[to]));
            match source != target {
                true if source == me => path.pack(sequence, &mut parts[target]),
                true if target == me => incoming[source].push(sequence),
                _ => {}
            }
        }
        let lengths: Vec<usize> = incoming.iter().map(|all| all.len() * columns * 4).collect();
        let bytes: Vec<&[u8]> = parts
            .iter()
            .map(|part| bytemuck::cast_slice(part))
            .collect();
        let received = self.ranks.exchange_known(name.into(), &bytes, &lengths)?;
        for (sequences, bytes) in incoming.iter().zip(received) {
            let numbers: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            for (&sequence, numbers) in sequences.iter().zip(numbers.chunks_exact(columns)) {
                path.unpack(sequence, numbers);
            }
        }
        Ok(())
    }
}

/// What travels with a sequence: a row of signals and one of banks, found by their offsets.
struct State<'a> {
    signals: &'a mut [f32],
    banks: &'a mut [f32],
    /// Offset and columns of the row of a sequence in each.
    signal_at: &'a dyn Fn(usize) -> std::ops::Range<usize>,
    banks_at: &'a dyn Fn(usize) -> std::ops::Range<usize>,
}

impl State<'_> {
    fn pack(&self, sequence: usize, part: &mut Vec<f32>) {
        part.extend_from_slice(&self.signals[(self.signal_at)(sequence)]);
        part.extend_from_slice(&self.banks[(self.banks_at)(sequence)]);
    }

    fn unpack(&mut self, sequence: usize, numbers: &[f32]) {
        let at = (self.signal_at)(sequence);
        let (signals, banks) = numbers.split_at(at.len());
        self.signals[at].copy_from_slice(signals);
        self.banks[(self.banks_at)(sequence)].copy_from_slice(banks);
    }
}

impl Own<f32> {
    /// Compute the negative log-likelihood of a batch, without gradients or dropout, on all ranks.
    ///
    /// # Errors
    /// Those of an exchange.
    pub(in crate::learn) fn loss_over(
        &mut self,
        fans: &Fans,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        batch: &Batch,
    ) -> Result<Loss> {
        self.walk_over(fans, graph, batch, 0.0)?;
        let groups = self.logit(graph, prior, batch, false, &|node| fans.is_mine(node));
        let mut sums = Sums::of_losses(&groups, terms(batch));
        fans.ranks.sum("loss".into(), &mut sums.numbers)?;
        Ok(sums.loss(batch).unwrap_or(Loss {
            nats: f64::NAN,
            tokens: batch.sequences() * batch.steps,
        }))
    }

    /// Take a step on all ranks: moves the edges of this one, and leaves the gradients of all other parameters, which the
    /// caller moves. Returns the loss and, with `clip`, the norm of the gradient.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Numeric`] when a number is not finite, or too large for the sum; those of an exchange.
    pub(in crate::learn) fn learn_over(
        &mut self,
        fans: &Fans,
        graph: &TokenGraph,
        prior: &Prior<f32>,
        batch: &Batch,
        step: OwnedStep<'_>,
    ) -> Result<(Loss, Option<f64>)> {
        for parameter in &mut self.parameters {
            parameter.clear();
        }
        self.walk_over(fans, graph, batch, self.dropout)?;
        let groups = self.logit(graph, prior, batch, true, &|node| fans.is_mine(node));
        for group in &groups {
            self.enter_energies(group);
        }
        self.back_over(fans, batch)?;
        self.node_gradients(&groups, batch);
        let norms = match step.clip {
            Some(_) => self.owned_norms(&groups, batch),
            None => Vec::new(),
        };
        let mut sums = self.exact_sums(&groups, batch, &norms);
        let name = format!("gradients of step {}", step.step);
        fans.ranks.sum(name.as_str().into(), &mut sums.numbers)?;
        let (loss, square) = self.finish_sums(&sums, batch, step.step)?;
        let norm = step.clip.map(|_| square.sqrt());
        let scale = match (step.clip, norm) {
            (Some(limit), Some(norm)) if norm > limit => (limit / norm) as f32,
            _ => 1.0,
        };
        let (first, second) = step.moments;
        let moments = (&mut *first, &mut *second);
        self.move_edges(&groups, graph, batch, &step.update, moments, scale);
        if step.dense {
            self.move_others(&groups, &step.update, (first, second), scale);
        }
        Ok((loss, norm))
    }

    /// Run every sequence along its true path, hop by hop, each node on the rank that owns it.
    fn walk_over(
        &mut self,
        fans: &Fans,
        graph: &TokenGraph,
        batch: &Batch,
        dropout: f64,
    ) -> Result<()> {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let mut path = self.begin(graph, batch, dropout);
        let hops = self.hops(steps);
        let this = &*self;
        for i in 0..steps {
            path.sequences(steps, (d, g))
                .for_each(|(sequence, mut path)| {
                    let tokens = batch.sequence(sequence);
                    if fans.is_mine(tokens[i]) {
                        this.arrive(&hops, tokens, i, &mut path);
                        if i + 1 < steps {
                            this.leave(&hops, tokens, i, &mut path);
                        }
                    }
                });
            if i + 1 < steps {
                let mut state = State {
                    signals: &mut path.before,
                    banks: &mut path.banks,
                    signal_at: &|sequence| row(sequence * steps + i + 1, d),
                    banks_at: &|sequence| row(sequence * steps + i, g),
                };
                fans.pass("signals of a hop", batch, (i, i + 1), d + g, &mut state)?;
            }
        }
        self.path = path;
        Ok(())
    }

    /// Run the backward pass along every path, last hop first, each node on the rank that owns it.
    fn back_over(&mut self, fans: &Fans, batch: &Batch) -> Result<()> {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let mut path = std::mem::take(&mut self.path);
        let this = &*self;
        let positions = position::weights(&self.of(At::Positions).value, steps);
        // The gradient of m of each sequence, carried from a hop to the one before it.
        let mut d_banks = vec![0.0; batch.sequences() * g];
        for i in (0..steps).rev() {
            path.gradients(steps, (d, g))
                .zip(d_banks.par_chunks_mut(g))
                .for_each_init(
                    // Wᵀ of the current edge.
                    || vec![0.0; d * d],
                    |scratch, ((sequence, mut path), d_banks)| {
                        let tokens = batch.sequence(sequence);
                        if fans.is_mine(tokens[i]) {
                            this.back_node(&positions, tokens, i, &mut path, d_banks, scratch);
                        }
                    },
                );
            if i > 0 {
                let mut state = State {
                    signals: &mut path.d_before,
                    banks: &mut d_banks,
                    signal_at: &|sequence| row(sequence * steps + i, d),
                    banks_at: &|sequence| row(sequence, g),
                };
                fans.pass("gradients of a hop", batch, (i, i - 1), d + g, &mut state)?;
            }
        }
        self.path = path;
        Ok(())
    }

    /// Leave the gradients of rows that belong to sources: start vectors, gates and prior weights. Their owners alone have
    /// them, as they alone use the rows.
    fn node_gradients(&mut self, groups: &[Group<f32>], batch: &Batch) {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let gated = self.profile.blend == BlendKind::Gated;
        let (path, parameters) = (&self.path, &mut self.parameters);
        let (mut starts, mut sources) = (Vec::new(), Vec::with_capacity(groups.len()));
        for group in groups {
            let source = group.source as usize;
            sources.push(group.source);
            if self.profile.static_resistance {
                parameters[At::PriorWeight as usize].gradient[source] = group.d_prior_weight;
            }
            for &row in &group.rows {
                let row = row as usize;
                // The start vector feeds the first signal alone.
                if row % steps == 0 {
                    let gradient = parameters[At::Start as usize].gradient_row(source);
                    f32::add_scaled(1.0, &path.d_before[row * d..(row + 1) * d], gradient);
                    starts.push(group.source);
                }
                if gated {
                    let gradient = parameters[At::Gate as usize].gradient_row(source);
                    f32::add_scaled(1.0, &path.d_gate[row * g..(row + 1) * g], gradient);
                }
            }
        }
        // Groups are in the order of their sources.
        starts.dedup();
        parameters[At::Start as usize].touched = Touched::Rows(starts);
        for at in [At::Gate, At::PriorWeight] {
            if parameters[at as usize].shape[0] > 0 {
                parameters[at as usize].touched = Touched::Rows(sources.clone());
            }
        }
    }

    /// Return the squared norm of the gradients that the owner of each group keeps: its edges, and the rows of its node.
    fn owned_norms(&self, groups: &[Group<f32>], batch: &Batch) -> Vec<f64> {
        let columns = self.of(At::EdgeWeights).shape[1];
        let square = |values: &[f32]| f64::from(f32::dot(values, values));
        let of_group = |gradient: &mut Vec<f32>, group: &Group<f32>| -> f64 {
            let mut sum = self.edge_squares(group, batch, gradient);
            for at in [At::Start, At::Gate, At::PriorWeight] {
                let parameter = self.of(at);
                let columns = parameter.shape[1];
                let at = group.source as usize * columns..(group.source as usize + 1) * columns;
                sum += parameter.gradient.get(at).map_or(0.0, square);
            }
            sum
        };
        let groups = groups.par_iter();
        groups.map_init(|| vec![0.0; columns], of_group).collect()
    }
}

/// The range of a row in a buffer of `columns` columns.
fn row(row: usize, columns: usize) -> std::ops::Range<usize> {
    row * columns..(row + 1) * columns
}
