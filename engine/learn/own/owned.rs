//! Steps over own edges whose fans belong to ranks.
//!
//! Every rank draws the same batch. The home of a node computes its signal, which travels to the ranks that own edges of the
//! node; the owner of the edge that the path takes computes the hop, and what reaches the next node travels to its home.
//! Gradients come back the same way. Weights and moments stay where they are.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::Part;
use super::exact::{Rounding, Sums};
use super::fan::Group;
use super::fans::{Fans, Leg};
use super::path::Gradients;
use super::{At, Own};
use crate::Result;
use crate::graph::TokenGraph;
use crate::kernel::adamw::Update;
use crate::kernel::position;
use crate::kernel::real::Real;
use crate::learn::batch::{Batch, Loss};
use crate::learn::parameter::Touched;
use crate::learn::prior::Prior;
use crate::signal::BlendKind;

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
        self.spread_prior_weights(fans)?;
        self.walk_over(fans, graph, batch, 0.0)?;
        let rounding = Rounding::new(graph, batch);
        let scoring = self.scoring(graph, prior, batch, false);
        let (_, parts) = self.logit_over(fans, &scoring, &rounding)?;
        let mut sums = Sums::of_losses(&parts, rounding);
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
        self.spread_prior_weights(fans)?;
        let hops = self.walk_over(fans, graph, batch, self.dropout)?;
        let rounding = Rounding::new(graph, batch);
        let scoring = self.scoring(graph, prior, batch, true);
        let (groups, parts) = self.logit_over(fans, &scoring, &rounding)?;
        for (group, _) in groups.iter().zip(&parts).filter(|(_, part)| part.home) {
            self.enter_energies(group);
        }
        self.back_over(fans, batch, &hops)?;
        self.node_gradients(&groups, &parts, batch, &rounding);
        let norms = match step.clip {
            Some(_) => self.owned_norms(&groups, &parts, batch),
            None => Vec::new(),
        };
        let mut sums = self.exact_sums(&groups, &parts, batch, &norms, rounding);
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

    /// Copy the prior weights of cut nodes to the ranks that own edges of theirs.
    fn spread_prior_weights(&mut self, fans: &Fans) -> Result<()> {
        if !fans.cuts() || !self.profile.static_resistance {
            return Ok(());
        }
        let weights = &mut self.parameters[At::PriorWeight as usize].value;
        fans.spread("prior weights", weights)
    }

    /// Run every sequence along its true path, hop by hop: each node at its home, each hop on the rank that owns its edge.
    /// Returns the ranks of the hops. `[N]`
    fn walk_over(
        &mut self,
        fans: &Fans,
        graph: &TokenGraph,
        batch: &Batch,
        dropout: f64,
    ) -> Result<Vec<u32>> {
        let (d, steps, me) = (self.profile.width, batch.steps, fans.ranks.rank() as u32);
        let g = self.profile.banks * d;
        let node = |sequence: usize, i: usize| batch.sequence(sequence)[i];
        let mut path = self.begin(graph, batch, dropout);
        let hops = self.hops(steps);
        let edge_rows = path.edge_rows.iter().enumerate();
        let ranks = edge_rows.map(|(row, &edge_row)| {
            let source = node(row / steps, row % steps);
            fans.rank_of_hop(source, edge_row)
        });
        let ranks: Vec<u32> = ranks.collect();
        let this = &*self;
        for i in 0..steps {
            path.sequences(steps, (d, g))
                .filter(|&(sequence, _)| fans.is_mine(node(sequence, i)))
                .for_each(|(sequence, mut path)| {
                    this.arrive(&hops, batch.sequence(sequence), i, &mut path);
                });
            if fans.cuts() {
                let mut signals = [Leg {
                    values: &mut path.input,
                    at: &|sequence| row(sequence * steps + i, d),
                    from: &|sequence| fans.home(node(sequence, i))[0],
                    to: &|sequence| fans.others(node(sequence, i)),
                }];
                fans.pass("signals of cut fans", batch.sequences(), &mut signals)?;
            }
            if i + 1 == steps {
                break;
            }
            path.sequences(steps, (d, g))
                .filter(|&(sequence, _)| ranks[sequence * steps + i] == me)
                .for_each(|(sequence, mut path)| {
                    this.leave(&hops, batch.sequence(sequence), i, &mut path);
                });
            let mut legs = [
                Leg {
                    values: &mut path.before,
                    at: &|sequence| row(sequence * steps + i + 1, d),
                    from: &|sequence| ranks[sequence * steps + i],
                    to: &|sequence| fans.home(node(sequence, i + 1)),
                },
                Leg {
                    values: &mut path.banks,
                    at: &|sequence| row(sequence * steps + i, g),
                    from: &|sequence| fans.home(node(sequence, i))[0],
                    to: &|sequence| fans.home(node(sequence, i + 1)),
                },
            ];
            fans.pass("signals of a hop", batch.sequences(), &mut legs)?;
        }
        self.path = path;
        Ok(ranks)
    }

    /// Run the backward pass along every path, last hop first, on the same ranks; `ranks` has those of the hops.
    fn back_over(&mut self, fans: &Fans, batch: &Batch, ranks: &[u32]) -> Result<()> {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let node = |sequence: usize, i: usize| batch.sequence(sequence)[i];
        let mut path = std::mem::take(&mut self.path);
        let this = &*self;
        let positions = position::weights(&self.of(At::Positions).value, steps);
        // The gradient of m of each sequence, carried from a hop to the one before it.
        let mut d_banks = vec![0.0; batch.sequences() * g];
        // The gradient of the input of a hop that comes back over its edge.
        let mut d_hop = vec![0.0; batch.sequences() * d];
        for i in (0..steps).rev() {
            if i + 1 < steps {
                let mine =
                    |sequence: usize| ranks[sequence * steps + i] == fans.ranks.rank() as u32;
                path.gradients(steps, (d, g))
                    .zip(d_hop.par_chunks_mut(d))
                    .filter(|&((sequence, _), _)| mine(sequence))
                    .for_each_init(
                        // Wᵀ of the current edge.
                        || vec![0.0; d * d],
                        |scratch, ((sequence, path), d_hop)| {
                            this.back_edge(node(sequence, i), i, &path, scratch, d_hop);
                        },
                    );
            }
            if i + 1 < steps && fans.cuts() {
                let mut gradients = [Leg {
                    values: &mut d_hop,
                    at: &|sequence| row(sequence, d),
                    from: &|sequence| ranks[sequence * steps + i],
                    to: &|sequence| fans.home(node(sequence, i)),
                }];
                fans.pass("gradients of cut fans", batch.sequences(), &mut gradients)?;
            }
            path.gradients(steps, (d, g))
                .zip(d_banks.par_chunks_mut(g))
                .zip(d_hop.par_chunks(d))
                .filter(|&(((sequence, _), _), _)| fans.is_mine(node(sequence, i)))
                .for_each(|(((sequence, mut path), d_banks), d_hop)| {
                    if i + 1 < steps {
                        f32::add_scaled(1.0, d_hop, &mut path.d_input[i * d..(i + 1) * d]);
                    }
                    this.back_blend(&positions, node(sequence, i), i, &mut path, d_banks);
                });
            if i > 0 {
                let mut legs = [
                    Leg {
                        values: &mut path.d_before,
                        at: &|sequence| row(sequence * steps + i, d),
                        from: &|sequence| fans.home(node(sequence, i))[0],
                        to: &|sequence| {
                            let before = sequence * steps + i - 1;
                            &ranks[before..=before]
                        },
                    },
                    Leg {
                        values: &mut d_banks,
                        at: &|sequence| row(sequence, g),
                        from: &|sequence| fans.home(node(sequence, i))[0],
                        to: &|sequence| fans.home(node(sequence, i - 1)),
                    },
                ];
                fans.pass("gradients of a hop", batch.sequences(), &mut legs)?;
            }
        }
        self.path = path;
        Ok(())
    }

    /// Run the backward pass of the edge that a path takes from node `i`: from the gradient of the z it leads to, to that of
    /// its input.
    fn back_edge(
        &self,
        source: u32,
        i: usize,
        path: &Gradients<'_, f32>,
        scratch: &mut [f32],
        d_hop: &mut [f32],
    ) {
        let d = self.profile.width;
        let edge = self.edge(source, path.edge_rows[i]);
        let d_z = &path.d_before[(i + 1) * d..(i + 2) * d];
        // From zero: another rank may add it to the gradient that the energies send back.
        d_hop.fill(0.0);
        f32::fan_signals_backward(d_z, edge, scratch, d, d_hop);
    }

    /// Leave the gradients of rows that belong to sources: start vectors, gates and prior weights. Their homes alone have
    /// them.
    fn node_gradients(
        &mut self,
        groups: &[Group<f32>],
        parts: &[Part],
        batch: &Batch,
        rounding: &Rounding,
    ) {
        let (d, steps) = (self.profile.width, batch.steps);
        let g = self.profile.banks * d;
        let gated = self.profile.blend == BlendKind::Gated;
        let (path, parameters) = (&self.path, &mut self.parameters);
        let (mut starts, mut sources) = (Vec::new(), Vec::with_capacity(groups.len()));
        for (group, part) in groups.iter().zip(parts).filter(|(_, part)| part.home) {
            let source = group.source as usize;
            sources.push(group.source);
            if self.profile.static_resistance {
                let gradient = rounding.prior_weight(part.d_prior_weight);
                parameters[At::PriorWeight as usize].gradient[source] = gradient;
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

    /// Return the squared norms of the gradients that their owners keep, block by block: those of the edges, and at home, with
    /// the rest, of the rows of the node.
    fn owned_norms(&self, groups: &[Group<f32>], parts: &[Part], batch: &Batch) -> Vec<Vec<f64>> {
        let columns = self.of(At::EdgeWeights).shape[1];
        let square = |values: &[f32]| f64::from(f32::dot(values, values));
        let of_node = |source: usize| -> f64 {
            let rows = [At::Start, At::Gate, At::PriorWeight].map(|at| {
                let parameter = self.of(at);
                let columns = parameter.shape[1];
                let at = source * columns..(source + 1) * columns;
                parameter.gradient.get(at).map_or(0.0, square)
            });
            rows.iter().sum()
        };
        let of_part = |gradient: &mut Vec<f32>, (group, part): (&Group<f32>, &Part)| -> Vec<f64> {
            let blocks = part.blocks.iter().map(|block| match block.index {
                0 => of_node(group.source as usize),
                _ => self.edge_squares(group, block.edges.clone(), batch, gradient),
            });
            blocks.collect()
        };
        let all = groups.par_iter().zip(parts);
        all.map_init(|| vec![0.0; columns], of_part).collect()
    }
}

/// The range of a row in a buffer of `columns` columns.
fn row(row: usize, columns: usize) -> Range<usize> {
    row * columns..(row + 1) * columns
}
