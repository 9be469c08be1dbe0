//! Own residuals of frequent composed edges: what an edge's own matrix and bias add to the composed ones.
//!
//! The residual matrix of edge e is `B C_e` with `B [X, r]` shared and `C_e [r, D]` its own, beside a bias
//! `r_e [D]`: it sends `δ = ρ + r_e`, `ρ = (x B) C_e`, on top of the composed signal. With `b = β_v + r_e`
//! the edge's resting state, its energy above rest grows by `2 h·δ + 2 b·ρ + ‖ρ‖²`.
//! A row of the parameter `edge.residual` is `r_e` then the r rows of `C_e`: `[own, (1 + r) D]`.

use rayon::prelude::*;

use crate::graph::{EdgeId, NodeId, TokenGraph};
use crate::kernel::random::Random;
use crate::kernel::real::{Operand, Real, multiply};
use crate::learn::parameter::{Parameter, Touched};
use crate::signal::Profile;

/// The own residuals of a graph and what the last batch computed with them.
pub struct Residual<R> {
    rank: usize,
    width: usize,
    blended: usize,
    own: Parameter<R>,
    input: Parameter<R>,
    /// `x B` of every row. `[N, r]`
    projected: Vec<R>,
    /// Its gradient. `[N, r]`
    d_projected: Vec<R>,
    /// What the residuals add to the energies of each row's own edges.
    extra: Vec<Vec<R>>,
}

impl<R: Real> Residual<R> {
    /// Residuals of zero for every edge of `graph` that owns a slot.
    pub fn new(graph: &TokenGraph, profile: &Profile, rank: usize, seed: u64) -> Self {
        let mut random = Random::stream(seed, 0x7265_7369, 0);
        let (width, blended) = (profile.width, profile.blended());
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

    /// The parameters `edge.residual` and `edge.residual_in`.
    pub fn parameters(&mut self) -> [&mut Parameter<R>; 2] {
        [&mut self.own, &mut self.input]
    }

    /// Makes room for a batch of `rows`.
    pub fn resize(&mut self, rows: usize) {
        self.projected.resize(rows * self.rank, R::zero());
        self.d_projected.clear();
        self.d_projected.resize(rows * self.rank, R::zero());
    }

    /// `x B` for all rows.
    pub fn project(&mut self, blended: &[R], rows: usize) {
        if self.rank > 0 {
            let blended = Operand::new(blended, rows, self.blended);
            let input = Operand::new(&self.input.value, self.blended, self.rank);
            multiply(R::one(), blended, input, R::zero(), &mut self.projected);
        }
    }

    fn edge_row(graph: &TokenGraph, edge: EdgeId) -> Option<usize> {
        (graph.edge_rows()[edge.index()] as usize).checked_sub(1)
    }

    fn input_of(&self, blended: &[R]) -> Vec<R> {
        let mut projected = vec![R::zero(); self.rank];
        if self.rank > 0 {
            let input = Operand::new(&self.input.value, self.blended, self.rank);
            multiply(
                R::one(),
                Operand::new(blended, 1, self.blended),
                input,
                R::zero(),
                &mut projected,
            );
        }
        projected
    }

    /// `ρ = (x B) C_e`. `[D]`
    fn turned(&self, edge_row: usize, projected: &[R]) -> Vec<R> {
        let row = self.own.row(edge_row);
        let mut rho = vec![R::zero(); self.width];
        for (r, &y) in projected.iter().enumerate() {
            let matrix = &row[(1 + r) * self.width..(2 + r) * self.width];
            for (rho, &c) in rho.iter_mut().zip(matrix) {
                *rho += y * c;
            }
        }
        rho
    }

    /// Adds δ of the edge that a path walks to what arrives.
    pub fn add_delta(
        &self,
        graph: &TokenGraph,
        edge: Option<EdgeId>,
        blended: &[R],
        preactivation: &mut [R],
    ) {
        let Some(edge_row) = edge.and_then(|edge| Self::edge_row(graph, edge)) else {
            return;
        };
        let rho = self.turned(edge_row, &self.input_of(blended));
        for ((z, &rho), &bias) in preactivation
            .iter_mut()
            .zip(&rho)
            .zip(self.own.row(edge_row))
        {
            *z += rho + bias;
        }
    }

    /// The way back through [`Self::add_delta`]: adds to the gradient of the blended signal and returns
    /// the slot whose own gradient [`Self::collect_path`] will form.
    pub fn delta_backward(
        &self,
        graph: &TokenGraph,
        edge: EdgeId,
        d_delta: &[R],
        d_blended: &mut [R],
    ) -> Option<usize> {
        let edge_row = Self::edge_row(graph, edge)?;
        for (r, d_y) in self.against(edge_row, d_delta).into_iter().enumerate() {
            for (row, d_x) in d_blended.iter_mut().enumerate() {
                *d_x += d_y * self.input.value[row * self.rank + r];
            }
        }
        Some(edge_row)
    }

    /// `C_e · g`. `[r]`
    fn against(&self, edge_row: usize, gradient: &[R]) -> Vec<R> {
        let row = self.own.row(edge_row);
        (0..self.rank)
            .map(|r| {
                let matrix = &row[(1 + r) * self.width..(2 + r) * self.width];
                matrix.iter().zip(gradient).map(|(&c, &g)| c * g).sum()
            })
            .collect()
    }

    /// The energies the residuals add, for every row and every own edge of its source.
    pub fn energies(
        &mut self,
        graph: &TokenGraph,
        kept: &[R],
        target: &Parameter<R>,
        rows: usize,
        source_of: impl Fn(usize) -> u32 + Sync,
    ) {
        let this = &*self;
        let two = R::of(2.0);
        let extra = (0..rows)
            .into_par_iter()
            .map(|row| {
                let h = &kept[row * this.width..(row + 1) * this.width];
                let y = &this.projected[row * this.rank..(row + 1) * this.rank];
                own_edges(graph, source_of(row))
                    .map(|(edge_row, node)| {
                        let rho = this.turned(edge_row, y);
                        let (bias, beta) = (this.own.row(edge_row), target.row(node as usize));
                        let mut energy = R::zero();
                        for j in 0..this.width {
                            let b = beta[j] + bias[j];
                            energy +=
                                two * (h[j] * (rho[j] + bias[j]) + b * rho[j]) + rho[j] * rho[j];
                        }
                        energy
                    })
                    .collect()
            })
            .collect();
        self.extra = extra;
    }

    /// Adds the residual energies of one row, times α, to its scores.
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

    /// The way back through the energies; returns the gradient of ln α.
    ///
    /// Rows are grouped by source, so each own edge is visited by one task; what goes to shared places is
    /// added afterwards in a fixed order.
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
        let (v, d, rank) = (graph.nodes(), self.width, self.rank);
        let rows = self.extra.len();
        let mut order: Vec<u32> = (0..rows as u32).collect();
        order.sort_by_key(|&row| source_of(row as usize));
        let groups: Vec<&[u32]> = order
            .chunk_by(|&a, &b| source_of(a as usize) == source_of(b as usize))
            .collect();
        let two = R::of(2.0);
        let columns = (1 + rank) * d;
        struct Part<R> {
            first_row: usize,
            d_own: Vec<R>,
            d_target: Vec<(u32, Vec<R>)>,
            d_rows: Vec<(usize, Vec<R>, Vec<R>)>,
            d_log_alpha: R,
        }
        let this = &*self;
        let shared = &*target;
        let parts: Vec<Part<R>> = groups
            .into_par_iter()
            .filter_map(|group| {
                let source = source_of(group[0] as usize);
                let edges: Vec<(usize, u32)> = own_edges(graph, source).collect();
                let first_row = edges.first()?.0;
                let mut part = Part {
                    first_row,
                    d_own: vec![R::zero(); edges.len() * columns],
                    d_target: edges
                        .iter()
                        .map(|&(_, node)| (node, vec![R::zero(); d]))
                        .collect(),
                    d_rows: Vec::with_capacity(group.len()),
                    d_log_alpha: R::zero(),
                };
                for &row in group {
                    let row = row as usize;
                    let h = &kept[row * d..(row + 1) * d];
                    let y = &this.projected[row * rank..(row + 1) * rank];
                    let (mut d_h, mut d_y) = (vec![R::zero(); d], vec![R::zero(); rank]);
                    for (index, &(edge_row, node)) in edges.iter().enumerate() {
                        let slope = d_logits[row * v + node as usize];
                        part.d_log_alpha += slope * alpha * this.extra[row][index];
                        let slope = slope * alpha * two;
                        let rho = this.turned(edge_row, y);
                        let (bias, beta) = (this.own.row(edge_row), shared.row(node as usize));
                        let d_own = &mut part.d_own[index * columns..(index + 1) * columns];
                        let mut d_rho = vec![R::zero(); d];
                        for j in 0..d {
                            d_h[j] += slope * (rho[j] + bias[j]);
                            d_own[j] += slope * (h[j] + rho[j]);
                            part.d_target[index].1[j] += slope * rho[j];
                            d_rho[j] = slope * (h[j] + beta[j] + bias[j] + rho[j]);
                        }
                        for r in 0..rank {
                            for j in 0..d {
                                d_own[(1 + r) * d + j] += y[r] * d_rho[j];
                            }
                        }
                        for (sum, value) in d_y.iter_mut().zip(this.against(edge_row, &d_rho)) {
                            *sum += value;
                        }
                    }
                    part.d_rows.push((row, d_h, d_y));
                }
                Some(part)
            })
            .collect();
        let mut touched = Vec::new();
        let mut d_log_alpha = R::zero();
        for part in parts {
            let start = part.first_row * columns;
            for (sum, value) in self.own.gradient[start..].iter_mut().zip(&part.d_own) {
                *sum += *value;
            }
            touched.extend(
                (part.first_row..part.first_row + part.d_own.len() / columns)
                    .map(|edge_row| edge_row as u32),
            );
            if rank > 0 {
                for (node, values) in part.d_target {
                    for (sum, value) in target.gradient_row(node as usize).iter_mut().zip(values) {
                        *sum += value;
                    }
                }
            }
            for (row, d_h, d_y) in part.d_rows {
                for (sum, value) in d_kept[row * d..(row + 1) * d].iter_mut().zip(d_h) {
                    *sum += value;
                }
                self.d_projected[row * rank..(row + 1) * rank].copy_from_slice(&d_y);
            }
            d_log_alpha += part.d_log_alpha;
        }
        self.own.touched = Touched::Rows(touched);
        d_log_alpha
    }

    /// Adds what a row's energies send back through `x B` to the gradient of its blended signal.
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

    /// Forms the gradients of the edges that the paths walked (row, slot, gradient of δ), and of `B`.
    pub fn collect_path(
        &mut self,
        path: impl Iterator<Item = (usize, usize, Vec<R>)>,
        blended: &[R],
    ) {
        let (d, rank) = (self.width, self.rank);
        for (row, edge_row, d_delta) in path {
            let y = self.projected[row * rank..(row + 1) * rank].to_vec();
            let d_y = self.against(edge_row, &d_delta);
            for (sum, value) in self.d_projected[row * rank..].iter_mut().zip(d_y) {
                *sum += value;
            }
            let gradient = self.own.gradient_row(edge_row);
            for j in 0..d {
                gradient[j] += d_delta[j];
                for r in 0..rank {
                    gradient[(1 + r) * d + j] += y[r] * d_delta[j];
                }
            }
        }
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

/// Slot (from 0) and target of each own edge that leaves `source`.
fn own_edges(graph: &TokenGraph, source: u32) -> impl Iterator<Item = (usize, u32)> + '_ {
    let fan = graph.fan(NodeId(source));
    fan.edge_rows
        .iter()
        .zip(fan.targets)
        .filter(|&(&edge_row, _)| edge_row > 0)
        .map(|(&edge_row, &node)| (edge_row as usize - 1, node))
}
