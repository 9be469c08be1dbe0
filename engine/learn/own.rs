//! Learning own edges: the true path first, then the fans, then back.
//!
//! ```text
//! e_0 = GELU(start + node_start[v_0] + PE[0])               the signal that leaves the first node
//! x_i = e_0 (i = 0), else the blend of c_0 … c_{i−1}         what flows into hop i
//! c_i(t) = GELU(x_i W_s + b_s + PE[i + o])                   s = slot of the edge v_i → t; 0 is shared
//! score(t) = α E(t) + γ_u ln p(t | v_i) + ρ_t                E = ‖c‖ or ‖c‖²
//! ```
//!
//! The shared edge is scored once and counts for every target without a slot. Rows are grouped by source:
//! each group is one product over that node's edges, and each own edge is visited by exactly one group, so
//! its gradient goes straight from registers into the optimiser.

use rayon::prelude::*;

use crate::graph::{NodeId, TokenGraph};
use crate::kernel::adamw::Update;
use crate::kernel::random::Random;
use crate::kernel::real::{Operand, Real, multiply};
use crate::kernel::{blend, position};

use crate::learn::batch::Batch;
use crate::learn::composed::Loss;
use crate::learn::parameter::{Parameter, Touched};
use crate::learn::prior::Prior;
use crate::signal::{BlendKind, EnergyKind, PositionOffset, Profile};

/// Where each parameter lies in [`Own::parameters`].
#[derive(Clone, Copy)]
#[repr(usize)]
enum At {
    Arena,
    Start,
    Positions,
    Bias,
    Trust,
    Scalars,
    Mix,
    Decay,
    Gate,
    GateSignal,
}

/// The learner of own edges.
pub struct Own<R> {
    profile: Profile,
    /// Dropout on the signal before the energies.
    pub dropout: f64,
    /// Seed of the dropout masks.
    pub seed: u64,
    parameters: Vec<Parameter<R>>,
    path: Path<R>,
}

/// The true paths of a batch. Row `b·T + i` holds the i-th arrival of sequence b (0 is the start) and the
/// signal that flows into its hop i.
#[derive(Default)]
struct Path<R> {
    /// Slot of the edge that hop i walks. `[N]`
    slots: Vec<u32>,
    /// The arrival before its activation. `[N, D]`
    before: Vec<R>,
    /// The arrival. `[N, D]`
    signal: Vec<R>,
    /// Banks after the arrival, and their decays. `[N, K·D]`
    banks: Vec<R>,
    lambda: Vec<R>,
    /// What flows into hop i. `[N, D]`
    input: Vec<R>,
    /// 0 or 1/(1 − p) on what the energies see of it. `[N, D]`
    mask: Vec<R>,
    /// Gradients of the above.
    d_input: Vec<R>,
    d_before: Vec<R>,
    d_gate: Vec<R>,
}

/// One source node's rows in a batch, and what scoring them left.
struct Group<R> {
    source: u32,
    rows: Vec<u32>,
    /// Own slots scored, ascending.
    slots: Vec<u32>,
    /// Signals as the energies see them. `[n, D]`
    signals: Vec<R>,
    /// Gradients before activation: of the shared edge, then of each slot. `[1 + F, n, D]`
    d_z: Vec<R>,
    /// Gradients of the signals. `[n, D]`
    d_signals: Vec<R>,
    d_trust: R,
    d_bias: Vec<R>,
    d_log_alpha: R,
    nats: f64,
}

impl<R: Real> Own<R> {
    /// A learner with freshly initialised parameters.
    ///
    /// The arena begins uniform in ±0.5 without a static resistance, as the authors' does, and at a fifth
    /// of that with one, which knows better at first.
    pub fn new(profile: &Profile, graph: &TokenGraph, seed: u64) -> Self {
        let (v, d, k) = (graph.nodes(), profile.width, profile.banks);
        let mut random = Random::stream(seed, 0x6f77_6e00, 0);
        let paper = profile.blend == BlendKind::Position;
        let gated = profile.blend == BlendKind::Gated;
        let reach = if profile.static_resistance { 0.1 } else { 0.5 };
        let mut uniform = |name, shape, reach: f64| {
            Parameter::new(name, shape, || reach * (2.0 * random.uniform() - 1.0))
        };
        let arena = uniform("edge.arena", [1 + graph.own_edges(), d * d + d], reach);
        let start = uniform("node.start", [v, d], 0.5);
        let gate_signal = uniform("blend.gate_signal", [if gated { d } else { 0 }, k * d], 0.0);
        let mut column = 0;
        let decay = Parameter::new("blend.decay", [1, if paper { 0 } else { k * d }], || {
            let lifetime = 2.0 * 3f64.powi((column / d) as i32);
            column += 1;
            (lifetime - 1.0).ln()
        });
        let learned_scale = usize::from(profile.static_resistance);
        let parameters = vec![
            arena.decaying(),
            start,
            Parameter::new(
                "blend.positions",
                [1, if paper { profile.positions } else { 0 }],
                || 1.0,
            ),
            Parameter::new(
                "node.bias",
                [if profile.target_bias { v } else { 0 }, 1],
                || 0.0,
            ),
            Parameter::new(
                "node.trust",
                [if profile.static_resistance { v } else { 0 }, 1],
                || 0.0,
            ),
            {
                let mut values = [0.0, 1.0].into_iter();
                Parameter::new("scalars", [learned_scale, 2], || {
                    values.next().unwrap_or(0.0)
                })
            },
            Parameter::new("blend.mix", [if paper { 0 } else { 1 + k }, d], || {
                1.0 / (1 + k) as f64
            }),
            decay,
            Parameter::new("blend.gate", [if gated { v } else { 0 }, k * d], || 0.0),
            gate_signal.decaying(),
        ];
        Self {
            profile: profile.clone(),
            dropout: 0.0,
            seed,
            parameters,
            path: Path::default(),
        }
    }

    /// All parameters, in the order of their blocks.
    pub fn parameters(&mut self) -> Vec<&mut Parameter<R>> {
        self.parameters.iter_mut().collect()
    }

    fn of(&self, at: At) -> &Parameter<R> {
        &self.parameters[at as usize]
    }

    /// α and γ.
    fn scalars(&self) -> (R, R) {
        match self.of(At::Scalars).value.as_slice() {
            [log_alpha, gamma] => (log_alpha.exp(), *gamma),
            _ => (R::one(), R::zero()),
        }
    }

    /// The negative log-likelihood of a batch, without gradients or dropout.
    pub fn loss(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        self.walk(graph, batch, 0.0);
        let groups = self.score(graph, prior, batch, false);
        total(&groups, batch)
    }

    /// The loss of a batch; leaves its gradient (of the mean over tokens) in the parameters.
    pub fn gradients(&mut self, graph: &TokenGraph, prior: &Prior<R>, batch: &Batch) -> Loss {
        let (loss, groups) = self.forward_and_back(graph, prior, batch);
        let columns = self.of(At::Arena).shape[1];
        let this = &*self;
        let parts: Vec<Vec<R>> = groups
            .par_iter()
            .map(|group| {
                let mut part = vec![R::zero(); group.slots.len() * columns];
                for (index, gradient) in part.chunks_exact_mut(columns).enumerate() {
                    this.edge_gradient(group, batch, index, gradient);
                }
                part
            })
            .collect();
        let arena = &mut self.parameters[At::Arena as usize];
        let mut touched = vec![0];
        for (group, part) in groups.iter().zip(parts) {
            for (&slot, gradient) in group.slots.iter().zip(part.chunks_exact(columns)) {
                arena.gradient_row(slot as usize).copy_from_slice(gradient);
            }
            touched.extend_from_slice(&group.slots);
        }
        arena.touched = Touched::Rows(touched);
        loss
    }

    /// Learns from a batch in place: the own edges' gradients are never stored.
    ///
    /// `update` moves the arena; the caller moves every other parameter by the gradient left in it.
    /// With `clip`, gradients are scaled so that their norm is at most that; the norm is returned.
    pub fn learn(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        update: &Update<R>,
        moments: (&mut [R], &mut [R]),
        clip: Option<f64>,
    ) -> (Loss, Option<f64>) {
        let (loss, groups) = self.forward_and_back(graph, prior, batch);
        let columns = self.of(At::Arena).shape[1];
        let this = &*self;
        let norm = clip.map(|_| {
            let edges: Vec<f64> = groups
                .par_iter()
                .map_init(
                    || vec![R::zero(); columns],
                    |gradient, group| {
                        let mut square = 0.0;
                        for index in 0..group.slots.len() {
                            gradient.fill(R::zero());
                            this.edge_gradient(group, batch, index, gradient);
                            square += R::dot(gradient, gradient).wide();
                        }
                        square
                    },
                )
                .collect();
            let others: f64 = self
                .parameters
                .iter()
                .map(|parameter| match &*parameter.name {
                    "edge.arena" => R::dot(
                        &parameter.gradient[..columns],
                        &parameter.gradient[..columns],
                    )
                    .wide(),
                    _ => R::dot(&parameter.gradient, &parameter.gradient).wide(),
                })
                .sum();
            (edges.into_iter().sum::<f64>() + others).sqrt()
        });
        let scale = match (clip, norm) {
            (Some(limit), Some(norm)) if norm > limit => R::of(limit / norm),
            _ => R::one(),
        };
        let mut value = std::mem::take(&mut self.parameters[At::Arena as usize].value);
        let shared = self.parameters[At::Arena as usize].gradient[..columns].to_vec();
        let (first, second) = moments;
        {
            let pieces = carve(&groups, graph, columns, &mut value, first, second);
            let this = &*self;
            let (mut tasks, head) = pieces;
            R::adamw(update, head.0, head.1, head.2, &shared, scale);
            tasks.par_iter_mut().for_each_init(
                || vec![R::zero(); columns],
                |gradient, (group, start, value, first, second)| {
                    for (index, &slot) in group.slots.iter().enumerate() {
                        gradient.fill(R::zero());
                        this.edge_gradient(group, batch, index, gradient);
                        let at = (slot as usize - *start) * columns;
                        let range = at..at + columns;
                        let (value, first) = (&mut value[range.clone()], &mut first[range.clone()]);
                        R::adamw(update, value, first, &mut second[range], gradient, scale);
                    }
                },
            );
        }
        self.parameters[At::Arena as usize].value = value;
        (loss, norm)
    }

    fn forward_and_back(
        &mut self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
    ) -> (Loss, Vec<Group<R>>) {
        for parameter in &mut self.parameters {
            parameter.clear();
        }
        self.walk(graph, batch, self.dropout);
        let groups = self.score(graph, prior, batch, true);
        self.collect(&groups, batch);
        self.back(batch);
        self.scatter(batch);
        self.shared_path_gradient(batch);
        (total(&groups, batch), groups)
    }

    fn slot(graph: &TokenGraph, source: u32, target: u32) -> u32 {
        graph
            .edge(NodeId(source), NodeId(target))
            .map_or(0, |edge| graph.slots()[edge.index()])
    }

    /// The position row that hop `hop` adds, or zeros. `[D]`
    fn position_row(&self, hop: usize) -> Vec<R> {
        let d = self.profile.width;
        if !self.profile.position_table {
            return vec![R::zero(); d];
        }
        let offset = usize::from(self.profile.offset == PositionOffset::Train);
        let mut row = vec![0.0; d];
        position::row(hop + offset, &mut row);
        row.into_iter()
            .map(|value| R::of(f64::from(value)))
            .collect()
    }

    /// Signals along the true path of every sequence.
    fn walk(&mut self, graph: &TokenGraph, batch: &Batch, dropout: f64) {
        let (d, g, steps) = (
            self.profile.width,
            self.profile.banks * self.profile.width,
            batch.steps,
        );
        let rows = batch.sequences() * steps;
        let mut path = std::mem::take(&mut self.path);
        path.resize(rows, d, g);
        path.draw_mask(d, dropout, self.seed, batch.index);
        let table: Vec<Vec<R>> = (0..steps).map(|hop| self.position_row(hop)).collect();
        let weights = position::weights(&self.of(At::Positions).value, steps);
        let mut first = vec![0.0; d];
        if self.profile.position_table {
            position::row(0, &mut first);
        }
        let level = if self.profile.start_at_ones {
            1.0
        } else {
            1.0 / d as f64
        };
        let this = &*self;
        path.slots
            .par_chunks_mut(steps)
            .zip(path.before.par_chunks_mut(steps * d))
            .zip(path.signal.par_chunks_mut(steps * d))
            .zip(path.input.par_chunks_mut(steps * d))
            .zip(path.banks.par_chunks_mut(steps * g))
            .zip(path.lambda.par_chunks_mut(steps * g))
            .enumerate()
            .for_each(
                |(sequence, (((((slots, before), signal), input), banks), lambda))| {
                    let tokens = batch.sequence(sequence);
                    for i in 0..steps {
                        slots[i] = Self::slot(graph, tokens[i], tokens[i + 1]);
                        let at = i * d..(i + 1) * d;
                        let arrival = &mut before[at.clone()];
                        if i == 0 {
                            let start = this.of(At::Start).row(tokens[0] as usize);
                            for j in 0..d {
                                arrival[j] = R::of(level) + start[j] + R::of(f64::from(first[j]));
                            }
                        } else {
                            let edge = this.of(At::Arena).row(slots[i - 1] as usize);
                            let (matrix, bias) = edge.split_at(d * d);
                            for j in 0..d {
                                arrival[j] = bias[j] + table[i - 1][j];
                            }
                            for (k, &x) in input[(i - 1) * d..i * d].iter().enumerate() {
                                R::add_scaled(x, &matrix[k * d..(k + 1) * d], arrival);
                            }
                        }
                        R::gelu(arrival, &mut signal[at.clone()]);
                        let (earlier, now) = banks.split_at_mut(i * g);
                        let now = &mut now[..g];
                        match earlier.len().checked_sub(g) {
                            Some(start) => now.copy_from_slice(&earlier[start..]),
                            None => now.fill(R::zero()),
                        }
                        let (signal, lambda) =
                            (&signal[at.clone()], &mut lambda[i * g..(i + 1) * g]);
                        this.flow_on(tokens[i], i, &weights, signal, lambda, now, &mut input[at]);
                    }
                },
            );
        self.path = path;
    }

    /// What leaves a node for the i-th hop: advances the banks and blends them.
    #[allow(
        clippy::too_many_arguments,
        reason = "one step needs all of its surroundings"
    )]
    fn flow_on(
        &self,
        node: u32,
        i: usize,
        weights: &[R],
        signal: &[R],
        lambda: &mut [R],
        banks: &mut [R],
        input: &mut [R],
    ) {
        let d = signal.len();
        if self.profile.blend == BlendKind::Position {
            // The start flows into the first hop and is not remembered.
            if i == 0 {
                input.copy_from_slice(signal);
                return;
            }
            lambda.fill(weights[i - 1]);
            blend::advance(lambda, signal, banks);
            input.copy_from_slice(banks);
            return;
        }
        lambda.copy_from_slice(&self.of(At::Decay).value);
        if self.profile.blend == BlendKind::Gated {
            R::add_scaled(R::one(), self.of(At::Gate).row(node as usize), lambda);
            for (k, &c) in signal.iter().enumerate() {
                R::add_scaled(c, self.of(At::GateSignal).row(k), lambda);
            }
        }
        blend::sigmoid(lambda);
        blend::advance(lambda, signal, banks);
        let mix = &self.of(At::Mix).value;
        for j in 0..d {
            input[j] = mix[j] * signal[j];
            for (bank, weight) in banks.chunks_exact(d).zip(mix[d..].chunks_exact(d)) {
                input[j] += weight[j] * bank[j];
            }
        }
    }

    /// Energies, softmax and, if `learn`, the gradients into every fan.
    fn score(
        &self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        learn: bool,
    ) -> Vec<Group<R>> {
        let steps = batch.steps;
        let mut order: Vec<(u32, u32)> = (0..batch.sequences())
            .flat_map(|b| (0..steps).map(move |i| (batch.sequence(b)[i], (b * steps + i) as u32)))
            .collect();
        order.sort_unstable();
        let groups: Vec<&[(u32, u32)]> = order.chunk_by(|a, b| a.0 == b.0).collect();
        let table: Vec<Vec<R>> = (0..steps).map(|hop| self.position_row(hop)).collect();
        groups
            .into_par_iter()
            .map(|rows| self.score_group(graph, prior, batch, rows, &table, learn))
            .collect()
    }

    fn score_group(
        &self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        rows: &[(u32, u32)],
        table: &[Vec<R>],
        learn: bool,
    ) -> Group<R> {
        let (v, d, steps) = (graph.nodes(), self.profile.width, batch.steps);
        let source = rows[0].0;
        let rows: Vec<u32> = rows.iter().map(|&(_, row)| row).collect();
        let n = rows.len();
        let fan = graph.fan(NodeId(source));
        let mut edges: Vec<(u32, u32)> = fan
            .slots
            .iter()
            .zip(fan.targets)
            .filter(|&(&slot, _)| slot > 0)
            .map(|(&s, &t)| (s, t))
            .collect();
        if let Some(candidates) = &batch.candidates {
            let mut wanted: Vec<u32> = rows
                .iter()
                .flat_map(|&row| candidates.of(row as usize).iter().copied())
                .collect();
            wanted.sort_unstable();
            edges.retain(|(_, target)| wanted.binary_search(target).is_ok());
        }

        let mut signals = Vec::with_capacity(n * d);
        let mut base = Vec::with_capacity(n * d);
        for &row in &rows {
            let at = row as usize * d..(row as usize + 1) * d;
            signals.extend(
                self.path.input[at.clone()]
                    .iter()
                    .zip(&self.path.mask[at])
                    .map(|(&x, &m)| x * m),
            );
            base.extend_from_slice(&table[row as usize % steps]);
        }
        let squared = self.profile.energy == EnergyKind::Squared;
        let mut d_z = vec![R::zero(); (1 + edges.len()) * n * d];
        let mut energies = vec![R::zero(); (1 + edges.len()) * n];
        let slots = std::iter::once(0).chain(edges.iter().map(|&(slot, _)| slot));
        for ((slot, slopes), energies) in slots
            .zip(d_z.chunks_exact_mut(n * d))
            .zip(energies.chunks_exact_mut(n))
        {
            let edge = self.of(At::Arena).row(slot as usize);
            R::fan_forward(&signals, &base, edge, squared, slopes, energies);
        }

        let mut group = Group {
            source,
            slots: edges.iter().map(|&(slot, _)| slot).collect(),
            signals,
            d_z,
            d_signals: vec![R::zero(); if learn { n * d } else { 0 }],
            d_trust: R::zero(),
            d_bias: vec![
                R::zero();
                if learn {
                    self.of(At::Bias).value.len()
                } else {
                    0
                }
            ],
            d_log_alpha: R::zero(),
            nats: 0.0,
            rows,
        };
        // Energies become their own gradients, row by row.
        for index in 0..n {
            let column: Vec<R> = (0..=edges.len())
                .map(|edge| energies[edge * n + index])
                .collect();
            let slopes = self.softmax_row(
                graph, prior, batch, &mut group, index, v, &edges, &column, learn,
            );
            for (edge, slope) in slopes.into_iter().enumerate() {
                let energy = energies[edge * n + index];
                energies[edge * n + index] = if squared {
                    slope + slope
                } else if energy > R::zero() {
                    slope / energy
                } else {
                    R::zero()
                };
            }
        }
        if learn {
            let mut scratch = vec![R::zero(); d * d];
            let slots = std::iter::once(0).chain(group.slots.iter().copied());
            for (edge, (slot, d_z)) in slots.zip(group.d_z.chunks_exact_mut(n * d)).enumerate() {
                for (index, row) in d_z.chunks_exact_mut(d).enumerate() {
                    R::scale(energies[edge * n + index], row);
                }
                let weights = self.of(At::Arena).row(slot as usize);
                R::fan_signals_backward(d_z, weights, &mut scratch, d, &mut group.d_signals);
            }
        } else {
            group.d_z = Vec::new();
        }
        group
    }

    /// Softmax of one row; returns the gradient of each energy (shared first), empty unless `learn`.
    #[allow(
        clippy::too_many_arguments,
        reason = "one row needs all of its surroundings"
    )]
    fn softmax_row(
        &self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        batch: &Batch,
        group: &mut Group<R>,
        index: usize,
        v: usize,
        edges: &[(u32, u32)],
        energies: &[R],
        learn: bool,
    ) -> Vec<R> {
        let row = group.rows[index] as usize;
        let (sequence, step) = (row / batch.steps, row % batch.steps);
        let next = batch.sequence(sequence)[step + 1];
        let fold = batch.folds[sequence] as usize;
        let (alpha, gamma) = self.scalars();
        let uses_prior = self.profile.static_resistance;
        let trust = if uses_prior {
            gamma + self.of(At::Trust).value[group.source as usize]
        } else {
            R::zero()
        };
        let scale = R::one() / R::of((batch.sequences() * batch.steps) as f64);
        let edge_of = |target: u32| {
            edges
                .binary_search_by_key(&target, |&(_, t)| t)
                .map_or(0, |place| place + 1)
        };
        let mut slopes = vec![R::zero(); if learn { energies.len() } else { 0 }];

        // Which targets are scored: given candidates, all V, or classes where nothing but energy counts.
        if batch.candidates.is_none() && !uses_prior && !self.profile.target_bias {
            let shared = v - edges.len();
            let top = energies.iter().copied().fold(energies[0], R::max);
            let mut total = R::of(shared as f64) * (alpha * (energies[0] - top)).exp();
            for &energy in &energies[1..] {
                total += (alpha * (energy - top)).exp();
            }
            let chosen = edge_of(next);
            group.nats += (alpha * (top - energies[chosen]) + total.ln()).wide();
            if learn {
                for (edge, slope) in slopes.iter_mut().enumerate() {
                    let times = if edge == 0 {
                        R::of(shared as f64)
                    } else {
                        R::one()
                    };
                    *slope = times * (alpha * (energies[edge] - top)).exp() / total * scale;
                }
                slopes[chosen] -= scale;
            }
        } else {
            let (targets, mut scores): (Option<&[u32]>, Vec<R>) = match &batch.candidates {
                Some(candidates) => {
                    let targets = candidates.of(row);
                    let scores = targets
                        .iter()
                        .map(|&t| self.bare_score(graph, prior, fold, trust, group.source, t));
                    (Some(targets), scores.collect())
                }
                None => {
                    let mut scores = match self.profile.target_bias {
                        true => self.of(At::Bias).value.clone(),
                        false => vec![R::zero(); v],
                    };
                    if uses_prior {
                        R::add_scaled(-trust, prior.target(fold), &mut scores);
                        for edge in graph.row(NodeId(group.source)) {
                            scores[graph.targets()[edge] as usize] +=
                                trust * prior.lift(fold)[edge];
                        }
                    }
                    (None, scores)
                }
            };
            let chosen = match targets {
                Some(targets) => {
                    for (score, &target) in scores.iter_mut().zip(targets) {
                        *score += alpha * energies[edge_of(target)];
                    }
                    0
                }
                None => {
                    let shared = alpha * energies[0];
                    for score in &mut scores {
                        *score += shared;
                    }
                    for (&(_, target), &energy) in edges.iter().zip(&energies[1..]) {
                        scores[target as usize] += alpha * energy - shared;
                    }
                    next as usize
                }
            };
            let reached = scores[chosen].wide();
            group.nats += R::softmax(&mut scores) - reached;
            if learn {
                scores[chosen] -= R::one();
                R::scale(scale, &mut scores);
                match targets {
                    Some(targets) => {
                        for (&score, &target) in scores.iter().zip(targets) {
                            slopes[edge_of(target)] += score;
                            if self.profile.target_bias {
                                group.d_bias[target as usize] += score;
                            }
                            if uses_prior {
                                group.d_trust -= score
                                    * self.resistance(graph, prior, fold, group.source, target);
                            }
                        }
                    }
                    None => {
                        let own: R = edges
                            .iter()
                            .map(|&(_, target)| scores[target as usize])
                            .sum();
                        slopes[0] = scores.iter().copied().sum::<R>() - own;
                        for (slope, &(_, target)) in slopes[1..].iter_mut().zip(edges) {
                            *slope = scores[target as usize];
                        }
                        if self.profile.target_bias {
                            R::add_scaled(R::one(), &scores, &mut group.d_bias);
                        }
                        if uses_prior {
                            group.d_trust -= R::dot(&scores, prior.target(fold));
                            for edge in graph.row(NodeId(group.source)) {
                                group.d_trust +=
                                    scores[graph.targets()[edge] as usize] * prior.lift(fold)[edge];
                            }
                        }
                    }
                }
            }
        }
        for (slope, &energy) in slopes.iter_mut().zip(energies) {
            group.d_log_alpha += *slope * energy * alpha;
            *slope *= alpha;
        }
        slopes
    }

    /// −ln p(target | source) up to what is the same for every target.
    fn resistance(
        &self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        fold: usize,
        source: u32,
        target: u32,
    ) -> R {
        let lift = graph
            .edge(NodeId(source), NodeId(target))
            .map_or(R::zero(), |edge| prior.lift(fold)[edge.index()]);
        prior.target(fold)[target as usize] - lift
    }

    /// Everything in a score but the energy.
    fn bare_score(
        &self,
        graph: &TokenGraph,
        prior: &Prior<R>,
        fold: usize,
        trust: R,
        source: u32,
        target: u32,
    ) -> R {
        let mut score = R::zero();
        if self.profile.target_bias {
            score += self.of(At::Bias).value[target as usize];
        }
        if self.profile.static_resistance {
            score -= trust * self.resistance(graph, prior, fold, source, target);
        }
        score
    }

    /// Brings the groups' gradients together, in the order of their sources.
    fn collect(&mut self, groups: &[Group<R>], batch: &Batch) {
        let d = self.profile.width;
        let mut d_log_alpha = R::zero();
        let mut d_gamma = R::zero();
        let mut sources = Vec::with_capacity(groups.len());
        for group in groups {
            for (index, &row) in group.rows.iter().enumerate() {
                let at = row as usize * d..(row as usize + 1) * d;
                let mask = &self.path.mask[at.clone()];
                for (j, sum) in self.path.d_input[at].iter_mut().enumerate() {
                    *sum = group.d_signals[index * d + j] * mask[j];
                }
            }
            let shared = &mut self.parameters[At::Arena as usize].gradient[..d * d + d];
            R::fan_edge_backward(
                &group.signals,
                &group.d_z[..group.rows.len() * d],
                d,
                shared,
            );
            if self.profile.target_bias {
                R::add_scaled(
                    R::one(),
                    &group.d_bias,
                    &mut self.parameters[At::Bias as usize].gradient,
                );
            }
            if self.profile.static_resistance {
                self.parameters[At::Trust as usize].gradient[group.source as usize] = group.d_trust;
            }
            d_log_alpha += group.d_log_alpha;
            d_gamma += group.d_trust;
            sources.push(group.source);
        }
        if self.profile.static_resistance {
            self.parameters[At::Trust as usize].touched = Touched::Rows(sources);
            let scalars = &mut self.parameters[At::Scalars as usize].gradient;
            scalars[0] += d_log_alpha;
            scalars[1] += d_gamma;
        }
        debug_assert_eq!(self.path.d_input.len(), batch.sequences() * batch.steps * d);
    }

    /// The way back along every path; `d_input` holds what the energies sent back, then everything.
    fn back(&mut self, batch: &Batch) {
        let (d, g, steps) = (
            self.profile.width,
            self.profile.banks * self.profile.width,
            batch.steps,
        );
        let mut path = std::mem::take(&mut self.path);
        let this = &*self;
        let (slots, before, signal) = (&path.slots, &path.before, &path.signal);
        let (banks, lambda) = (&path.banks, &path.lambda);
        path.d_input
            .par_chunks_mut(steps * d)
            .zip(path.d_before.par_chunks_mut(steps * d))
            .zip(path.d_gate.par_chunks_mut(steps * g))
            .enumerate()
            .for_each(|(sequence, ((d_input, d_before), d_gate))| {
                let mut d_banks = vec![R::zero(); g];
                let zero = vec![R::zero(); g];
                let mut scratch = vec![R::zero(); d * d];
                for i in (0..steps).rev() {
                    let row = sequence * steps + i;
                    let at = i * d..(i + 1) * d;
                    if i + 1 < steps {
                        let edge = this.of(At::Arena).row(slots[row] as usize);
                        let d_z = &d_before[(i + 1) * d..(i + 2) * d];
                        R::fan_signals_backward(
                            d_z,
                            edge,
                            &mut scratch,
                            d,
                            &mut d_input[at.clone()],
                        );
                    }
                    let d_x = &d_input[at.clone()];
                    let d_gate = &mut d_gate[i * g..(i + 1) * g];
                    let d_signal = &mut d_before[at];
                    let signal = &signal[row * d..(row + 1) * d];
                    let lambda = &lambda[row * g..(row + 1) * g];
                    let earlier = if i == 0 {
                        &zero[..]
                    } else {
                        &banks[(row - 1) * g..row * g]
                    };
                    if this.profile.blend == BlendKind::Position {
                        if i == 0 {
                            d_signal.copy_from_slice(d_x);
                            d_gate.fill(R::zero());
                        } else {
                            R::add_scaled(R::one(), d_x, &mut d_banks);
                            d_signal.fill(R::zero());
                            blend::advance_backward(
                                lambda,
                                signal,
                                earlier,
                                &mut d_banks,
                                d_gate,
                                d_signal,
                            );
                        }
                    } else {
                        let mix = &this.of(At::Mix).value;
                        for j in 0..d {
                            d_signal[j] = d_x[j] * mix[j];
                        }
                        for (d_bank, weight) in
                            d_banks.chunks_exact_mut(d).zip(mix[d..].chunks_exact(d))
                        {
                            for j in 0..d {
                                d_bank[j] += d_x[j] * weight[j];
                            }
                        }
                        blend::advance_backward(
                            lambda,
                            signal,
                            earlier,
                            &mut d_banks,
                            d_gate,
                            d_signal,
                        );
                        for (slope, &l) in d_gate.iter_mut().zip(lambda) {
                            *slope *= l * (R::one() - l);
                        }
                        if this.profile.blend == BlendKind::Gated {
                            for (k, slope) in d_signal.iter_mut().enumerate() {
                                *slope += R::dot(d_gate, this.of(At::GateSignal).row(k));
                            }
                        }
                    }
                    R::gelu_backward(&before[row * d..(row + 1) * d], d_signal);
                }
            });
        self.path = path;
    }

    /// Adds the rows' gradients to the nodes and blends they belong to, in row order.
    fn scatter(&mut self, batch: &Batch) {
        let (d, g, steps) = (
            self.profile.width,
            self.profile.banks * self.profile.width,
            batch.steps,
        );
        let path = &self.path;
        let parameters = &mut self.parameters;
        let mut d_positions = vec![R::zero(); steps];
        let (mut starts, mut nodes) = (Vec::new(), Vec::new());
        for row in 0..batch.sequences() * steps {
            let (sequence, i) = (row / steps, row % steps);
            let node = batch.sequence(sequence)[i];
            if i == 0 {
                let gradient = parameters[At::Start as usize].gradient_row(node as usize);
                R::add_scaled(R::one(), &path.d_before[row * d..(row + 1) * d], gradient);
                starts.push(node);
            }
            let d_gate = &path.d_gate[row * g..(row + 1) * g];
            if self.profile.blend == BlendKind::Position {
                if i > 0 {
                    d_positions[i - 1] += d_gate.iter().copied().sum();
                }
                continue;
            }
            nodes.push(node);
            R::add_scaled(
                R::one(),
                d_gate,
                &mut parameters[At::Decay as usize].gradient,
            );
            if self.profile.blend == BlendKind::Gated {
                R::add_scaled(
                    R::one(),
                    d_gate,
                    parameters[At::Gate as usize].gradient_row(node as usize),
                );
            }
            let (d_x, signal) = (
                &path.d_input[row * d..(row + 1) * d],
                &path.signal[row * d..(row + 1) * d],
            );
            let d_mix = &mut parameters[At::Mix as usize].gradient;
            let sources =
                std::iter::once(signal).chain(path.banks[row * g..(row + 1) * g].chunks_exact(d));
            for (gradient, source) in d_mix.chunks_exact_mut(d).zip(sources) {
                for j in 0..d {
                    gradient[j] += d_x[j] * source[j];
                }
            }
        }
        if self.profile.blend == BlendKind::Position {
            let weights = position::weights(&parameters[At::Positions as usize].value, steps);
            let gradient = &mut parameters[At::Positions as usize].gradient;
            position::weights_backward(&weights, &d_positions, gradient);
        }
        if self.profile.blend == BlendKind::Gated {
            let rows = batch.sequences() * steps;
            let signal = Operand::new(&path.signal, rows, d).transposed();
            let d_gate = Operand::new(&path.d_gate, rows, g);
            multiply(
                R::one(),
                signal,
                d_gate,
                R::one(),
                &mut parameters[At::GateSignal as usize].gradient,
            );
        }
        for (at, mut rows) in [(At::Start, starts), (At::Gate, nodes)] {
            rows.sort_unstable();
            rows.dedup();
            if parameters[at as usize].shape[0] > 0 {
                parameters[at as usize].touched = Touched::Rows(rows);
            }
        }
    }

    /// Adds what the paths over the shared edge send back.
    fn shared_path_gradient(&mut self, batch: &Batch) {
        let (d, steps) = (self.profile.width, batch.steps);
        let shared = &mut self.parameters[At::Arena as usize].gradient[..d * d + d];
        for (row, &slot) in self.path.slots.iter().enumerate() {
            if slot == 0 && row % steps + 1 < steps {
                let input = &self.path.input[row * d..(row + 1) * d];
                let d_z = &self.path.d_before[(row + 1) * d..(row + 2) * d];
                R::fan_edge_backward(input, d_z, d, shared);
            }
        }
    }

    /// The gradient of the `index`-th own edge of a group: by its energies and by the paths that walk it.
    fn edge_gradient(&self, group: &Group<R>, batch: &Batch, index: usize, gradient: &mut [R]) {
        let (d, n) = (self.profile.width, group.rows.len());
        let d_z = &group.d_z[(1 + index) * n * d..(2 + index) * n * d];
        R::fan_edge_backward(&group.signals, d_z, d, gradient);
        for &row in &group.rows {
            let row = row as usize;
            if self.path.slots[row] == group.slots[index] && row % batch.steps + 1 < batch.steps {
                let input = &self.path.input[row * d..(row + 1) * d];
                let d_z = &self.path.d_before[(row + 1) * d..(row + 2) * d];
                R::fan_edge_backward(input, d_z, d, gradient);
            }
        }
    }
}

/// A group with the part of the arena and its moments that its own slots occupy, from slot `1`.
type Task<'a, 'g, R> = (&'g Group<R>, usize, &'a mut [R], &'a mut [R], &'a mut [R]);
/// A slice of the arena with both its moments.
type Piece<'a, R> = (&'a mut [R], &'a mut [R], &'a mut [R]);

/// Cuts the arena and its moments into the shared edge and one piece for each group.
fn carve<'a, 'g, R>(
    groups: &'g [Group<R>],
    graph: &TokenGraph,
    columns: usize,
    value: &'a mut [R],
    first: &'a mut [R],
    second: &'a mut [R],
) -> (Vec<Task<'a, 'g, R>>, Piece<'a, R>) {
    fn cut<'a, R>(piece: Piece<'a, R>, at: usize) -> (Piece<'a, R>, Piece<'a, R>) {
        let ((a, x), (b, y), (c, z)) = (
            piece.0.split_at_mut(at),
            piece.1.split_at_mut(at),
            piece.2.split_at_mut(at),
        );
        ((a, b, c), (x, y, z))
    }
    let (head, mut rest) = cut((value, first, second), columns);
    let mut next = 1;
    let mut tasks = Vec::with_capacity(groups.len());
    for group in groups {
        let own = graph.own_slots(NodeId(group.source));
        if own.is_empty() {
            continue;
        }
        let (_, tail) = cut(rest, (own.start - next) * columns);
        let (piece, tail) = cut(tail, own.len() * columns);
        tasks.push((group, own.start, piece.0, piece.1, piece.2));
        next = own.end;
        rest = tail;
    }
    (tasks, head)
}

fn total<R>(groups: &[Group<R>], batch: &Batch) -> Loss {
    Loss {
        nats: groups.iter().map(|group| group.nats).sum(),
        tokens: batch.sequences() * batch.steps,
    }
}

impl<R: Real> Path<R> {
    fn resize(&mut self, rows: usize, d: usize, g: usize) {
        self.slots.resize(rows, 0);
        for buffer in [
            &mut self.before,
            &mut self.signal,
            &mut self.input,
            &mut self.mask,
            &mut self.d_input,
            &mut self.d_before,
        ] {
            buffer.resize(rows * d, R::zero());
        }
        for buffer in [&mut self.banks, &mut self.lambda, &mut self.d_gate] {
            buffer.resize(rows * g, R::zero());
        }
    }

    fn draw_mask(&mut self, d: usize, dropout: f64, seed: u64, index: u64) {
        crate::learn::dropout::draw(&mut self.mask, d, dropout, seed ^ 0x6f77_6e00, index);
    }
}
