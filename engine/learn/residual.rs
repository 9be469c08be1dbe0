//! Own residuals of frequent composed edges in training; [`crate::kernel::residual`] has the equations.

use rayon::prelude::*;

use crate::graph::{NodeId, TokenGraph};
use crate::kernel::product::{Operand, multiply};
use crate::kernel::random::Random;
use crate::kernel::real::Real;
use crate::kernel::residual::{energy_above_rest, turn, turn_backward};
use crate::learn::parameter::{Parameter, Touched};
use crate::signal::Profile;

/// The own residuals of a graph, with what the backward pass of the last batch needs.
pub struct Residual<R> {
    rank: usize,
    width: usize,
    blended: usize,
    own: Parameter<R>,
    input: Parameter<R>,
    /// `x B` of every row. `[N, r]`
    projected: Vec<R>,
    /// Gradient of `projected`. `[N, r]`
    d_projected: Vec<R>,
    /// Energies above rest of each row's own edges.
    extra: Vec<Vec<R>>,
}

impl<R: Real> Residual<R> {
    /// Create residuals of zero for every own edge of `graph`.
    pub fn new(graph: &TokenGraph, profile: &Profile, rank: usize, seed: u64) -> Self {
        let mut random = Random::stream(seed, 0x7265_7369, 0);
        let (width, blended) = (profile.width, profile.blended());
        // x B has the variance of x. C and r begin at zero, so an edge has no residual until it has a gradient.
        let scale = 1.0 / (blended as f64).sqrt();
        Self {
            rank,
            width,
            blended,
            own: Parameter::new(
                "edge.residual",
                [graph.own_edges(), (1 + rank) * width],
                || 0.0,
            ),
            input: Parameter::new(
                "edge.residual_in",
                [if rank > 0 { blended } else { 0 }, rank],
                || scale * random.normal(),
            ),
            projected: Vec::new(),
            d_projected: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Return the parameters `edge.residual` and `edge.residual_in`.
    pub fn parameters(&mut self) -> [&mut Parameter<R>; 2] {
        [&mut self.own, &mut self.input]
    }

    /// Size the buffers for a batch of `rows`.
    pub fn resize(&mut self, rows: usize) {
        self.projected.resize(rows * self.rank, R::zero());
        // Energies and paths both add to it.
        self.d_projected.clear();
        self.d_projected.resize(rows * self.rank, R::zero());
    }

    /// Compute `x B` for all rows.
    pub fn project(&mut self, blended: &[R], rows: usize) {
        if self.rank > 0 {
            let blended = Operand::new(blended, rows, self.blended);
            let input = Operand::new(&self.input.value, self.blended, self.rank);
            multiply(R::one(), blended, input, R::zero(), &mut self.projected);
        }
    }

    /// Add `δ = ρ + r` of the edge that a path takes to what it carries; `edge_row` is 0 without a residual.
    pub fn add_delta(&self, edge_row: u32, blended: &[R], carried: &mut [R]) {
        let Some(edge_row) = (edge_row as usize).checked_sub(1) else {
            return;
        };
        let mut projected = vec![R::zero(); self.rank];
        R::product(blended, &self.input.value, self.rank, &mut projected);
        let row = self.own.row(edge_row);
        for ((z, &rho), &bias) in carried.iter_mut().zip(&turn(&projected, row)).zip(row) {
            *z += rho + bias;
        }
    }

    /// Backward pass of [`Self::add_delta`]: adds to the gradient of the blended signal and returns the row (from 0)
    /// whose own gradient [`Self::collect_path`] forms.
    pub fn delta_backward(
        &self,
        edge_row: u32,
        d_delta: &[R],
        d_blended: &mut [R],
    ) -> Option<usize> {
        let edge_row = (edge_row as usize).checked_sub(1)?;
        // ρ = y C: dy = C dδ.
        let d_projected = turn_backward(d_delta, self.own.row(edge_row));
        // dx += B dy, with dy = C dδ.
        for (r, d_y) in d_projected.into_iter().enumerate() {
            for (row, d_x) in d_blended.iter_mut().enumerate() {
                *d_x += d_y * self.input.value[row * self.rank + r];
            }
        }
        Some(edge_row)
    }

    /// Compute the energies above rest that residuals add, for every row and every own edge of its source.
    pub fn energies(
        &mut self,
        graph: &TokenGraph,
        kept: &[R],
        target: &Parameter<R>,
        rows: usize,
        source_of: impl Fn(usize) -> u32 + Sync,
    ) {
        let this = &*self;
        let of_row = |row: usize| {
            let h = &kept[row * this.width..(row + 1) * this.width];
            let y = &this.projected[row * this.rank..(row + 1) * this.rank];
            let edges = own_edges(graph, source_of(row));
            let energy = |(edge_row, node): (usize, u32)| {
                let own = this.own.row(edge_row);
                energy_above_rest(h, target.row(node as usize), &turn(y, own), own)
            };
            edges.map(energy).collect()
        };
        self.extra = (0..rows).into_par_iter().map(of_row).collect();
    }

    /// Add the residual energies of one row, times α, to its logits.
    pub fn add_logits(
        &self,
        graph: &TokenGraph,
        source: u32,
        row: usize,
        alpha: R,
        logits: &mut [R],
    ) {
        for ((_, node), &energy) in own_edges(graph, source).zip(&self.extra[row]) {
            logits[node as usize] += alpha * energy;
        }
    }

    /// Backward pass of the energies; returns the gradient of ln α.
    ///
    /// Rows are grouped by source, so that one task visits each own edge; gradients of shared parameters are added
    /// afterwards in a fixed order.
    #[allow(
        clippy::too_many_arguments,
        reason = "the gradient reaches all of these"
    )]
    pub fn backward(
        &mut self,
        graph: &TokenGraph,
        alpha: R,
        d_logits: &[R],
        kept: &[R],
        target: &mut Parameter<R>,
        d_kept: &mut [R],
        source_of: impl Fn(usize) -> u32 + Sync,
    ) -> R {
        let (d, rank) = (self.width, self.rank);
        let mut order: Vec<u32> = (0..self.extra.len() as u32).collect();
        // A stable sort keeps the rows of a source in order, so that sums are the same in every run.
        order.sort_by_key(|&row| source_of(row as usize));
        let groups: Vec<&[u32]> = order
            .chunk_by(|&a, &b| source_of(a as usize) == source_of(b as usize))
            .collect();
        let (this, shared) = (&*self, &*target);
        let gradients: Vec<SourceGradients<R>> = groups
            .into_par_iter()
            .filter_map(|rows| {
                let edges: Vec<_> = own_edges(graph, source_of(rows[0] as usize)).collect();
                let v = graph.nodes();
                this.source_backward(rows, &edges, v, alpha, d_logits, kept, shared)
            })
            .collect();
        let columns = (1 + rank) * d;
        let mut touched = Vec::new();
        let mut d_log_alpha = R::zero();
        let add = |sum: &mut [R], values: &[R]| R::add_scaled(R::one(), values, sum);
        for group in gradients {
            let start = group.first_row * columns;
            add(&mut self.own.gradient[start..], &group.d_own);
            let edge_rows = group.first_row..group.first_row + group.d_own.len() / columns;
            touched.extend(edge_rows.map(|edge_row| edge_row as u32));
            // Without ρ the energy above rest does not depend on β.
            if rank > 0 {
                for (node, values) in group.d_target {
                    add(target.gradient_row(node as usize), &values);
                }
            }
            for (row, d_h, d_y) in group.d_rows {
                add(&mut d_kept[row * d..(row + 1) * d], &d_h);
                self.d_projected[row * rank..(row + 1) * rank].copy_from_slice(&d_y);
            }
            d_log_alpha += group.d_log_alpha;
        }
        self.own.touched = Touched::Rows(touched);
        d_log_alpha
    }

    /// Compute the gradients of one source's rows; `None` where it has no own edges.
    ///
    /// With `s = α (2 h·δ + 2 b·ρ + ‖ρ‖²)`: `dh = 2 α δ`, `dr = 2 α (h + ρ)`, `dβ = 2 α ρ`,
    /// `dρ = 2 α (h + b + ρ)`.
    #[allow(
        clippy::too_many_arguments,
        reason = "the gradient reaches all of these"
    )]
    fn source_backward(
        &self,
        rows: &[u32],
        edges: &[(usize, u32)],
        v: usize,
        alpha: R,
        d_logits: &[R],
        kept: &[R],
        target: &Parameter<R>,
    ) -> Option<SourceGradients<R>> {
        let (d, rank) = (self.width, self.rank);
        let columns = (1 + rank) * d;
        let zeros = |count: usize| vec![R::zero(); count];
        let mut gradients = SourceGradients {
            first_row: edges.first()?.0,
            d_own: zeros(edges.len() * columns),
            d_target: edges.iter().map(|&(_, node)| (node, zeros(d))).collect(),
            d_rows: Vec::with_capacity(rows.len()),
            d_log_alpha: R::zero(),
        };
        for &row in rows {
            let row = row as usize;
            let h = &kept[row * d..(row + 1) * d];
            let y = &self.projected[row * rank..(row + 1) * rank];
            let (mut d_h, mut d_y, mut d_rho) = (zeros(d), zeros(rank), zeros(d));
            for (index, &(edge_row, node)) in edges.iter().enumerate() {
                // ∂s/∂ln α = α · energy above rest.
                let slope = d_logits[row * v + node as usize];
                gradients.d_log_alpha += slope * alpha * self.extra[row][index];
                let slope = slope * alpha * R::of(2.0);
                let (own, beta) = (self.own.row(edge_row), target.row(node as usize));
                let rho = turn(y, own);
                let d_own = &mut gradients.d_own[index * columns..(index + 1) * columns];
                let d_target = &mut gradients.d_target[index].1;
                for j in 0..d {
                    d_h[j] += slope * (rho[j] + own[j]);
                    d_own[j] += slope * (h[j] + rho[j]);
                    d_target[j] += slope * rho[j];
                    d_rho[j] = slope * (h[j] + beta[j] + own[j] + rho[j]);
                }
                for (&y, d_matrix) in y.iter().zip(d_own[d..].chunks_exact_mut(d)) {
                    R::add_scaled(y, &d_rho, d_matrix);
                }
                R::add_scaled(R::one(), &turn_backward(&d_rho, own), &mut d_y);
            }
            gradients.d_rows.push((row, d_h, d_y));
        }
        Some(gradients)
    }

    /// Backward pass of `x B` for one row: adds to the gradient of its blended signal.
    pub fn project_backward(&self, row: usize, d_blended: &mut [R]) {
        let d_y = &self.d_projected[row * self.rank..(row + 1) * self.rank];
        if self.rank == 0 {
            return;
        }
        for (d_x, weights) in d_blended
            .iter_mut()
            .zip(self.input.value.chunks_exact(self.rank))
        {
            *d_x += weights.iter().zip(d_y).map(|(&b, &y)| b * y).sum();
        }
    }

    /// Add the gradients of the edges that paths took (row, edge row, gradient of δ), and of `B`.
    pub fn collect_path(
        &mut self,
        path: impl Iterator<Item = (usize, usize, Vec<R>)>,
        blended: &[R],
    ) {
        let (d, rank) = (self.width, self.rank);
        for (row, edge_row, d_delta) in path {
            // Copied: the gradients added below belong to the same struct.
            let y = self.projected[row * rank..(row + 1) * rank].to_vec();
            let d_y = turn_backward(&d_delta, self.own.row(edge_row));
            R::add_scaled(R::one(), &d_y, &mut self.d_projected[row * rank..]);
            // δ = r + y C: the bias counts as a row of C with y = 1.
            let factors = std::iter::once(R::one()).chain(y);
            let gradient = self.own.gradient_row(edge_row);
            for (factor, gradient) in factors.zip(gradient.chunks_exact_mut(d)) {
                R::add_scaled(factor, &d_delta, gradient);
            }
        }
        // dB = xᵀ dy over all rows.
        if rank > 0 {
            let rows = self.d_projected.len() / rank;
            let blended = Operand::new(blended, rows, self.blended);
            let d_y = Operand::new(&self.d_projected, rows, rank);
            multiply(
                R::one(),
                blended.transposed(),
                d_y,
                R::one(),
                &mut self.input.gradient,
            );
        }
    }
}

/// Gradients of the rows of one source.
struct SourceGradients<R> {
    /// Of the own rows of its edges, from this one on.
    first_row: usize,
    d_own: Vec<R>,
    /// Of β of its targets.
    d_target: Vec<(u32, Vec<R>)>,
    /// Row, gradients of h and of `x B`.
    d_rows: Vec<(usize, Vec<R>, Vec<R>)>,
    d_log_alpha: R,
}

/// Return row (from 0) and target of each own edge that leaves `source`.
fn own_edges(graph: &TokenGraph, source: u32) -> impl Iterator<Item = (usize, u32)> + '_ {
    let own = graph.own_fan(NodeId(source));
    own.map(|(target, edge_row)| (edge_row as usize - 1, target))
}
