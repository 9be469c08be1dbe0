//! Decoding on a device: many lanes, each a signal on its way, walk many hops in one submission.
//!
//! A hop is a few kernels: plan (who reads which fan), energies, select, arrive, gather, reach. The next hop
//! finds its fan by the node that the last one chose, in a buffer, so nothing comes back to the host until
//! all hops are done, or a fan is missing.

use std::sync::Arc;

use crate::kernel::element::Element;
use crate::kernel::gpu::fans::Fans;
use crate::kernel::gpu::select::Mode;
use crate::kernel::gpu::table::{element_constants, padded};
use crate::kernel::gpu::{
    Buffer, Pipeline, Program, Purpose, Size, arrive, dots, energy, gather, plan, reach, residual,
    select,
};
use crate::kernel::random::Random;
use crate::path::Sampling;
use crate::signal::{BlendKind, DeviceMechanism, EdgeForm, EnergyKind, Flow, PositionOffset};
use crate::{Error, ErrorKind, Result};

/// Dispatches of one hop at most, besides two for each buffer of fans and of node rows.
const DISPATCHES: usize = 16;

/// Where everything lies in the two buffers of a decoder; counts of numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Layout {
    // A lane's record in floats; the fields are offsets within it.
    lane: u32,
    signal: u32,
    banks: u32,
    leaving: u32,
    blended: u32,
    base: u32,
    arrival: u32,
    low: u32,
    projected: u32,
    gathered: u32,
    // Floats after the records.
    energies: u32,
    stride: u32,
    dots: u32,
    scores: u32,
    normalisers: u32,
    listed_scores: u32,
    lambda: u32,
    table: u32,
    floats: u32,
    // Integers. `halted` is 0.
    nodes: u32,
    steps: u32,
    done: u32,
    emitted: u32,
    next: u32,
    output: u32,
    random: u32,
    order: u32,
    groups: u32,
    members: u32,
    recent: u32,
    banned: u32,
    stops: u32,
    listed: u32,
    integers: u32,
}

/// The likeliest next nodes of one lane.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// ln Σ e^score over all nodes that may follow.
    pub normaliser: f64,
    /// Scores and nodes, by node.
    pub nodes: Vec<(f32, u32)>,
}

/// Signals that flow side by side on a device.
pub struct Decoder {
    mechanism: Arc<DeviceMechanism>,
    lanes: usize,
    capacity: usize,
    list: usize,
    sampling: Sampling,
    stops: Vec<u32>,
    at: Layout,
    floats: Buffer,
    integers: Buffer,
    dispatches: Buffer,
    hop: Program,
    look: Program,
    nearest: Program,
    /// Where each lane stands, its hops so far, and whether it is over.
    state: Vec<(u32, u64, bool)>,
    /// Σ e^p over the arrivals before each one (position blend).
    normalisers: Vec<f64>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Decoder({} lanes)", self.lanes)
    }
}

impl Decoder {
    /// A decoder of `lanes` signals that takes up to `capacity` hops in a submission.
    ///
    /// A lane ends at a node of `stops`. `list` is the most nodes that [`Self::nearest`] is asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for no lanes or a sampling option out of range; [`ErrorKind::Resource`] when
    /// the lanes do not fit on the device.
    pub fn new(
        mechanism: Arc<DeviceMechanism>,
        lanes: usize,
        capacity: usize,
        sampling: Sampling,
        stops: &[u32],
        list: usize,
    ) -> Result<Self> {
        sampling.check()?;
        if lanes == 0 || capacity == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                "a decoder needs a lane and a hop",
            ));
        }
        let v = mechanism.mechanism().nodes();
        let sampling = Sampling {
            banned: sampling
                .banned
                .iter()
                .copied()
                .filter(|&node| (node as usize) < v)
                .collect(),
            ..sampling
        };
        let list = list.min(v);
        let at = layout(&mechanism, lanes, capacity, &sampling, stops.len(), list)?;
        let device = mechanism.device().clone();
        let floats = device.buffer(
            u64::from(at.floats) * 4,
            Purpose::Storage,
            "signals of lanes",
        )?;
        let integers = device.buffer(
            u64::from(at.integers) * 4,
            Purpose::Storage,
            "nodes of lanes",
        )?;
        let buffers = mechanism.fan_buffers().max(1);
        let dispatches = device.buffer(
            (buffers * 32) as u64,
            Purpose::Dispatch,
            "sizes of dispatches",
        )?;
        device.write(&integers, u64::from(at.banned) * 4, &sampling.banned);
        device.write(&integers, u64::from(at.stops) * 4, stops);
        let most = DISPATCHES
            + 3 * buffers
            + mechanism
                .targets
                .as_ref()
                .map_or(0, |table| table.pieces.len())
            + mechanism
                .records
                .as_ref()
                .map_or(0, |records| records.pieces.len());
        let mut decoder = Self {
            hop: Program::new(&device, most)?,
            look: Program::new(&device, most)?,
            nearest: Program::new(&device, most)?,
            state: vec![(0, 0, true); lanes],
            normalisers: vec![0.0],
            stops: stops.to_vec(),
            mechanism,
            lanes,
            capacity,
            list,
            sampling,
            at,
            floats,
            integers,
            dispatches,
        };
        decoder.write_lanes();
        decoder.record()?;
        Ok(decoder)
    }

    /// Lanes side by side.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Hops that one submission takes at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Chooses differently from now on. The banned nodes and the penalty window stay those it began with.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for an option out of range.
    pub fn resample(&mut self, sampling: &Sampling) -> Result<()> {
        sampling.check()?;
        self.sampling = Sampling {
            banned: self.sampling.banned.clone(),
            penalty_window: self.sampling.penalty_window,
            ..sampling.clone()
        };
        self.record()
    }

    /// Puts a flow into a lane, with the stream its draws come from and the nodes of its penalty window.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a lane that does not exist.
    pub fn set(&mut self, lane: usize, flow: &Flow, random: &Random, recent: &[u32]) -> Result<()> {
        if lane >= self.lanes {
            return Err(Error::new(
                ErrorKind::Input,
                format!("lane {lane} of {}", self.lanes),
            ));
        }
        let at = self.at;
        let mechanism = self.mechanism.mechanism().clone();
        let profile = mechanism.profile();
        let (d, wide) = (profile.width, padded(profile.width));
        let mut record = vec![0.0f32; at.lane as usize];
        let mut put = |place: u32, values: &mut dyn Iterator<Item = f32>| {
            for (index, value) in values.enumerate() {
                record[place as usize + index / d * wide + index % d] = value;
            }
        };
        put(at.signal, &mut flow.signal.iter().copied());
        put(at.banks, &mut flow.banks.iter().map(|&bank| bank as f32));
        put(at.leaving, &mut flow.leaving.iter().copied());
        put(at.blended, &mut flow.blended.iter().copied());
        if profile.form == EdgeForm::Own {
            put(at.base, &mut self.position_row(flow.step).into_iter());
        }
        let device = self.mechanism.device().clone();
        device.write(&self.floats, (lane * at.lane as usize * 4) as u64, &record);
        self.state[lane] = (flow.node, flow.step, false);
        let state = random.state();
        let words = [state as u32, (state >> 32) as u32];
        self.write_integers(at.random + 2 * lane as u32, &words);
        let window = self.window();
        if window > 0 {
            let kept = &recent[recent.len().saturating_sub(window as usize)..];
            let mut ring = vec![kept.len() as u32];
            ring.extend_from_slice(kept);
            self.write_integers(at.recent + lane as u32 * (1 + window), &ring);
        }
        self.write_lanes();
        Ok(())
    }

    /// Walks up to `tokens` hops in every lane, in one submission while all fans are on the device, and
    /// returns the nodes that each lane reached. A lane gives fewer when it ends at a stop, or when no node
    /// is left to choose.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the device is lost or the lanes' fans do not fit together;
    /// a checksum error of a fan that is brought in.
    pub fn decode(&mut self, tokens: usize) -> Result<Vec<Vec<u32>>> {
        let tokens = tokens.min(self.capacity);
        let (lanes, at) = (self.lanes, self.at);
        self.write_window(tokens)?;
        self.write_lanes();
        self.write_integers(at.emitted, &vec![0u32; lanes]);
        let count = at.output as usize + lanes * self.capacity;
        let starts: Vec<u32> = self.state.iter().map(|&(node, ..)| node).collect();
        let running: Vec<bool> = self.state.iter().map(|&(.., done)| !done).collect();
        let mut left = tokens;
        let mut before = vec![0usize; lanes];
        let paths = loop {
            self.write_integers(0, &[0u32; 4]);
            let mechanism = self.mechanism.clone();
            // Others may page between our submissions, not within one.
            let mut fans = mechanism.fans();
            if let Some(fans) = &mut fans {
                self.bring(fans)?;
            }
            let head: Vec<u32> = self.hop.submit_and_read(left, &self.integers, 0, count)?;
            let halted = head[0] != 0;
            let field = |place: u32, lane: usize| head[place as usize + lane];
            let path = |lane: usize| {
                let start = at.output as usize + lane * self.capacity;
                &head[start..start + field(at.emitted, lane) as usize]
            };
            if let Some(fans) = fans.as_mut().filter(|fans| fans.paged()) {
                for lane in 0..lanes {
                    let path = path(lane);
                    let stood = (before[lane]..path.len()).map(|hop| {
                        if hop == 0 {
                            starts[lane]
                        } else {
                            path[hop - 1]
                        }
                    });
                    fans.touch(stood);
                    before[lane] = path.len();
                }
            }
            let mut most = 0;
            for lane in 0..lanes {
                let emitted = field(at.emitted, lane);
                let new = u64::from(field(at.steps, lane).wrapping_sub(self.state[lane].1 as u32));
                self.state[lane].0 = field(at.nodes, lane);
                self.state[lane].1 += new;
                self.state[lane].2 = field(at.done, lane) != 0;
                if !self.state[lane].2 {
                    most = most.max(emitted as usize);
                }
            }
            let over = self.state.iter().all(|&(.., done)| done);
            if !halted || over || most >= tokens {
                break (0..lanes)
                    .map(|lane| {
                        if running[lane] {
                            path(lane).to_vec()
                        } else {
                            Vec::new()
                        }
                    })
                    .collect();
            }
            left = tokens - most;
        };
        Ok(paths)
    }

    /// Energies and scores of all V nodes as the next one of each lane. `[B][V]`, `[B][V]`
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn look(&mut self) -> Result<(Vec<Vec<f32>>, Vec<Vec<f32>>)> {
        let at = self.at;
        let v = self.mechanism.mechanism().nodes();
        self.write_lanes();
        self.write_integers(0, &[0u32; 4]);
        let mechanism = self.mechanism.clone();
        let mut fans = mechanism.fans();
        if let Some(fans) = &mut fans {
            self.bring(fans)?;
        }
        let count = (at.normalisers - at.energies) as usize;
        let all: Vec<f32> =
            self.look
                .submit_and_read(1, &self.floats, u64::from(at.energies) * 4, count)?;
        let signals: Vec<f32> =
            self.mechanism
                .device()
                .read(&self.floats, 0, self.lanes * at.lane as usize)?;
        let (profile, graph) = (
            mechanism.mechanism().profile(),
            mechanism.mechanism().graph(),
        );
        let (mut energies, mut scores) = (Vec::new(), Vec::new());
        for (lane, &(node, ..)) in self.state.iter().enumerate() {
            let own = &all[lane * at.stride as usize..];
            let mut row = match profile.form {
                EdgeForm::Own => vec![own[0]; v],
                EdgeForm::Composed => {
                    let start = (at.dots - at.energies) as usize + lane * v;
                    let record = &signals[lane * at.lane as usize + at.leaving as usize..];
                    let square: f32 = record[..profile.width].iter().map(|h| h * h).sum();
                    all[start..start + v]
                        .iter()
                        .zip(&mechanism.mechanism().resting)
                        .map(|(&dot, &rest)| (square + 2.0 * dot + rest).max(0.0))
                        .collect()
                }
            };
            if fans.is_some() {
                let fan = graph.fan(crate::graph::NodeId(node));
                let first = graph.own_slots(crate::graph::NodeId(node)).start;
                for (&target, &slot) in fan.targets.iter().zip(fan.slots) {
                    if slot > 0 {
                        row[target as usize] = own[1 + slot as usize - first];
                    }
                }
            }
            energies.push(row);
            let start = (at.scores - at.energies) as usize + lane * v;
            scores.push(all[start..start + v].to_vec());
        }
        Ok((energies, scores))
    }

    /// The likeliest next nodes of each lane, as many as the decoder was made to list; banned nodes are in
    /// the normaliser and not in the list.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn nearest(&mut self) -> Result<Vec<Nearest>> {
        let (at, lanes, list) = (self.at, self.lanes, self.list);
        self.write_lanes();
        self.write_integers(0, &[0u32; 4]);
        let mechanism = self.mechanism.clone();
        let mut fans = mechanism.fans();
        if let Some(fans) = &mut fans {
            self.bring(fans)?;
        }
        let count = (at.lambda - at.normalisers) as usize;
        let floats: Vec<f32> =
            self.nearest
                .submit_and_read(1, &self.floats, u64::from(at.normalisers) * 4, count)?;
        let device = self.mechanism.device();
        let counts: Vec<u32> = device.read(&self.integers, u64::from(at.next) * 4, lanes)?;
        let nodes: Vec<u32> =
            device.read(&self.integers, u64::from(at.listed) * 4, lanes * list)?;
        let scores = &floats[(at.listed_scores - at.normalisers) as usize..];
        Ok((0..lanes)
            .map(|lane| {
                let range = lane * list..lane * list + (counts[lane] as usize).min(list);
                Nearest {
                    normaliser: f64::from(floats[lane]),
                    nodes: scores[range.clone()]
                        .iter()
                        .copied()
                        .zip(nodes[range].iter().copied())
                        .collect(),
                }
            })
            .collect())
    }

    /// A lane's flow as it is on the device, its banks in f32.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the device is lost.
    pub fn flow(&self, lane: usize) -> Result<Flow> {
        let at = self.at;
        let profile = self.mechanism.mechanism().profile();
        let (d, wide) = (profile.width, padded(profile.width));
        let record: Vec<f32> = self.mechanism.device().read(
            &self.floats,
            (lane * at.lane as usize * 4) as u64,
            at.lane as usize,
        )?;
        let take = |place: u32, count: usize| -> Vec<f32> {
            (0..count)
                .map(|index| record[place as usize + index / d * wide + index % d])
                .collect()
        };
        let (node, step, _) = self.state[lane];
        let composed = profile.form == EdgeForm::Composed;
        let arrivals = step as usize + usize::from(composed);
        let position = profile.blend == BlendKind::Position;
        Ok(Flow {
            node,
            step,
            signal: take(at.signal, d),
            banks: take(at.banks, profile.banks * d)
                .into_iter()
                .map(f64::from)
                .collect(),
            normaliser: match position {
                true => self.normalisers.get(arrivals).copied().unwrap_or(0.0),
                false => 0.0,
            },
            leaving: take(at.leaving, d),
            blended: take(at.blended, if composed { profile.blended() } else { 0 }),
        })
    }

    /// The stream of a lane's draws as it is on the device.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the device is lost.
    pub fn random(&self, lane: usize) -> Result<Random> {
        let place = u64::from(self.at.random + 2 * lane as u32) * 4;
        let words: Vec<u32> = self.mechanism.device().read(&self.integers, place, 2)?;
        Ok(Random::from_state(
            u64::from(words[0]) | u64::from(words[1]) << 32,
        ))
    }

    fn window(&self) -> u32 {
        window(&self.sampling)
    }

    fn write_integers(&self, place: u32, values: &[u32]) {
        self.mechanism
            .device()
            .write(&self.integers, u64::from(place) * 4, values);
    }

    fn write_lanes(&self) {
        let mut nodes = Vec::with_capacity(3 * self.lanes);
        nodes.extend(self.state.iter().map(|&(node, ..)| node));
        nodes.extend(self.state.iter().map(|&(_, step, _)| step as u32));
        nodes.extend(self.state.iter().map(|&(.., done)| u32::from(done)));
        self.write_integers(self.at.nodes, &nodes);
    }

    /// Brings the fans of all running lanes in.
    fn bring(&self, fans: &mut Fans) -> Result<()> {
        if !fans.paged() {
            return Ok(());
        }
        let mut nodes: Vec<u32> = self
            .state
            .iter()
            .filter(|&&(.., done)| !done)
            .map(|&(node, ..)| node)
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        let mechanism = self.mechanism.mechanism();
        fans.ensure(&nodes, &|node| mechanism.check_node(node))
            .map(drop)
    }

    /// The position row that hop number `step` adds. `[D]`
    fn position_row(&self, step: u64) -> Vec<f32> {
        let mechanism = self.mechanism.mechanism();
        let offset = usize::from(mechanism.profile().offset == PositionOffset::Train);
        mechanism.position_row(step as usize + offset)
    }

    /// What the coming hops need that depends on their number alone: decays and position rows.
    fn write_window(&mut self, tokens: usize) -> Result<()> {
        let at = self.at;
        let mechanism = self.mechanism.mechanism().clone();
        let profile = mechanism.profile();
        let span = self.capacity;
        if profile.blend == BlendKind::Position {
            let composed = usize::from(profile.form == EdgeForm::Composed);
            let logits = mechanism.weights().values("blend.positions");
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut all = vec![0.0f32; self.lanes * span];
            for (lane, &(_, step, _)) in self.state.iter().enumerate() {
                for hop in 0..tokens {
                    let arrival = step as usize + composed + hop;
                    while self.normalisers.len() <= arrival + 1 {
                        let next = self.normalisers.len() - 1;
                        let weight = f64::from(logits[next.min(logits.len() - 1)] - top).exp();
                        self.normalisers.push(self.normalisers[next] + weight);
                    }
                    let lambda = self.normalisers[arrival] / self.normalisers[arrival + 1];
                    all[lane * span + hop] = lambda as f32;
                }
            }
            let device = self.mechanism.device();
            device.write(&self.floats, u64::from(at.lambda) * 4, &all);
        }
        if profile.form == EdgeForm::Own && profile.position_table {
            let wide = padded(profile.width);
            let mut all = vec![0.0f32; self.lanes * span * wide];
            for (lane, &(_, step, _)) in self.state.iter().enumerate() {
                for hop in 0..tokens {
                    let start = (lane * span + hop) * wide;
                    let row = self.position_row(step + hop as u64 + 1);
                    all[start..start + row.len()].copy_from_slice(&row);
                }
            }
            let device = self.mechanism.device();
            device.write(&self.floats, u64::from(at.table) * 4, &all);
        }
        Ok(())
    }

    /// Records the programs.
    fn record(&mut self) -> Result<()> {
        for mode in [Mode::Choose, Mode::Score, Mode::List] {
            let mut program = std::mem::replace(
                match mode {
                    Mode::Choose => &mut self.hop,
                    Mode::Score => &mut self.look,
                    Mode::List => &mut self.nearest,
                },
                Program::new(self.mechanism.device(), 1)?,
            );
            program.clear();
            let outcome = self.record_hop(&mut program, mode);
            *match mode {
                Mode::Choose => &mut self.hop,
                Mode::Score => &mut self.look,
                Mode::List => &mut self.nearest,
            } = program;
            outcome?;
        }
        Ok(())
    }

    fn record_hop(&self, program: &mut Program, mode: Mode) -> Result<()> {
        let mechanism = &*self.mechanism;
        let host = mechanism.mechanism();
        let (device, profile) = (mechanism.device(), host.profile());
        let (at, lanes) = (self.at, self.lanes as u32);
        let (d, wide) = (profile.width, padded(profile.width));
        let fans = mechanism.fans();
        let own = profile.form == EdgeForm::Own;
        let dummy = &mechanism.slots;
        let places = fans.as_ref().map_or(dummy, |fans| &fans.places);
        let element = |element: Element| element_constants(element);
        let mut residuals: Option<[Arc<Pipeline>; 3]> = None;
        if let Some(fans) = &fans {
            let edges = if own {
                energy::pipeline(device, d, fans.element())?.1
            } else {
                1
            };
            let plan = device.pipeline(&plan::PLAN, &[("WORKGROUP", device.workgroup())])?;
            let parameters = plan::Parameters {
                lanes,
                buffers: fans.buffers.len() as u32,
                edges,
                nodes: at.nodes,
                done: at.done,
                halted: 0,
                order: at.order,
                groups: at.groups,
                members: at.members,
            };
            let buffers = [&self.integers, places, &self.dispatches];
            program.dispatch(&plan, &parameters, &buffers, Size::Direct(1, 1, 1))?;
            if !own {
                let [kind, per_word] = element(fans.element());
                let constants = [
                    kind,
                    per_word,
                    ("WORKGROUP", device.workgroup()),
                    ("W", wide as u32),
                    ("BLENDED", (profile.blended() / d * wide) as u32),
                    ("RANK", profile.residual.unwrap_or(0) as u32),
                ];
                residuals = Some([
                    device.pipeline(&residual::PROJECT, &constants)?,
                    device.pipeline(&residual::ENERGIES, &constants)?,
                    device.pipeline(&residual::ARRIVE, &constants)?,
                ]);
            }
        }
        let residual_parameters = |buffer: usize| residual::Parameters {
            nodes_count: host.nodes() as u32,
            lane: at.lane,
            leaving: at.leaving,
            blended: at.blended,
            projected: at.projected,
            energies: at.energies,
            stride: at.stride,
            input: mechanism.at.residual_in,
            beta: mechanism.at.beta,
            nodes: at.nodes,
            next: at.next,
            members: at.members + buffer as u32 * lanes,
        };

        // Energies.
        if let Some(fans) = &fans {
            for (index, fan) in fans.buffers.iter().enumerate() {
                let members = Size::Indirect(self.dispatches.clone(), (index * 32 + 16) as u64);
                if let Some([project, energies, _]) = &residuals {
                    let parameters = residual_parameters(index);
                    let buffers = [
                        &self.floats,
                        &self.integers,
                        places,
                        &fan.words,
                        &fan.scales,
                        &mechanism.graph,
                        &mechanism.slots,
                        &mechanism.values,
                    ];
                    if profile.residual.unwrap_or(0) > 0 {
                        program.dispatch(project, &parameters, &buffers, members.clone())?;
                    }
                    program.dispatch(energies, &parameters, &buffers, members)?;
                    continue;
                }
                let (pipeline, _) = energy::pipeline(device, d, fans.element())?;
                let parameters = energy::Parameters {
                    leaving: at.leaving,
                    base: at.base,
                    lane: at.lane,
                    energies: at.energies,
                    stride: at.stride,
                    nodes: at.nodes,
                    order: at.order,
                    groups: at.groups + (index * self.lanes * 2) as u32,
                    squared: u32::from(profile.energy == EnergyKind::Squared),
                };
                let buffers = [
                    &self.floats,
                    &self.integers,
                    places,
                    &fan.words,
                    &fan.scales,
                ];
                let size = Size::Indirect(self.dispatches.clone(), (index * 32) as u64);
                program.dispatch(&pipeline, &parameters, &buffers, size)?;
            }
        }
        if let Some(targets) = &mechanism.targets {
            let (pipeline, rows) = dots::pipeline(device, d, targets.element)?;
            for piece in &targets.pieces {
                let parameters = dots::Parameters {
                    leaving: at.leaving,
                    lane: at.lane,
                    lanes,
                    dots: at.dots,
                    stride: host.nodes() as u32,
                    first: piece.first as u32,
                    rows: piece.rows as u32,
                };
                let buffers = [&self.floats, &piece.words, &piece.scales];
                program.dispatch(
                    &pipeline,
                    &parameters,
                    &buffers,
                    dots::size(device, piece.rows, rows),
                )?;
            }
        }

        // The choice.
        let form = u32::from(!own);
        let choose = device.pipeline(
            &select::SELECT,
            &[("WORKGROUP", device.wide_workgroup()), ("FORM", form)],
        )?;
        let parameters = self.select_parameters(mode, fans.is_some());
        let buffers = [
            &self.floats,
            &self.integers,
            &mechanism.graph,
            &mechanism.slots,
            &mechanism.lifts,
            &mechanism.values,
            places,
        ];
        program.dispatch(&choose, &parameters, &buffers, Size::Direct(lanes, 1, 1))?;
        if mode != Mode::Choose {
            return Ok(());
        }

        // The hop.
        if let Some(fans) = &fans {
            for (index, fan) in fans.buffers.iter().enumerate() {
                let size = Size::Indirect(self.dispatches.clone(), (index * 32 + 16) as u64);
                if let Some([.., arrive]) = &residuals {
                    let buffers = [
                        &self.floats,
                        &self.integers,
                        places,
                        &fan.words,
                        &fan.scales,
                        &mechanism.graph,
                        &mechanism.slots,
                        &mechanism.values,
                    ];
                    program.dispatch(arrive, &residual_parameters(index), &buffers, size)?;
                    continue;
                }
                let [kind, per_word] = element(fans.element());
                let constants = [
                    kind,
                    per_word,
                    ("WORKGROUP", device.workgroup()),
                    ("D", d as u32),
                    ("W", wide as u32),
                ];
                let pipeline = device.pipeline(&arrive::ARRIVE, &constants)?;
                let parameters = arrive::Parameters {
                    nodes_count: host.nodes() as u32,
                    lane: at.lane,
                    leaving: at.leaving,
                    base: at.base,
                    arrival: at.arrival,
                    nodes: at.nodes,
                    next: at.next,
                    members: at.members + index as u32 * lanes,
                };
                let buffers = [
                    &self.floats,
                    &self.integers,
                    places,
                    &fan.words,
                    &fan.scales,
                    &mechanism.graph,
                    &mechanism.slots,
                ];
                program.dispatch(&pipeline, &parameters, &buffers, size)?;
            }
        }
        if let Some(records) = &mechanism.records {
            let [kind, per_word] = element(records.element);
            let constants = [kind, per_word, ("WORKGROUP", device.workgroup())];
            let pipeline = device.pipeline(&gather::GATHER, &constants)?;
            for piece in &records.pieces {
                let mut parameters = gather::Parameters {
                    lane: at.lane,
                    rows: at.gathered,
                    next: at.next,
                    first: piece.first as u32,
                    count: piece.rows as u32,
                    record: records.words as u32,
                    parts: records.parts.len() as u32,
                    ..gather::Parameters::default()
                };
                for (words, &part) in parameters.part_words.iter_mut().zip(&records.parts) {
                    *words = part as u32;
                }
                let buffers = [&self.floats, &self.integers, &piece.words];
                program.dispatch(&pipeline, &parameters, &buffers, Size::Direct(lanes, 1, 1))?;
            }
        }
        self.record_reach(program)
    }

    fn record_reach(&self, program: &mut Program) -> Result<()> {
        let mechanism = &*self.mechanism;
        let host = mechanism.mechanism();
        let (device, profile, at) = (mechanism.device(), host.profile(), self.at);
        let blend = match profile.blend {
            BlendKind::Position => 0,
            BlendKind::Decay => 1,
            BlendKind::Gated => 2,
        };
        let wide = padded(profile.width) as u32;
        let mut constants = vec![
            ("WORKGROUP", device.workgroup()),
            ("BLEND", blend),
            ("D", profile.width as u32),
            ("W", wide),
            ("BANKS", profile.banks as u32),
        ];
        let path = reach::Path {
            nodes: at.nodes,
            next: at.next,
            steps: at.steps,
            done: at.done,
            halted: 0,
            emitted: at.emitted,
            output: at.output,
            capacity: self.capacity as u32,
            recent: at.recent,
            window: self.window(),
            stops: at.stops,
            stops_count: self.stops.len() as u32,
        };
        let buffers = [&self.floats, &self.integers, &mechanism.values];
        let size = Size::Direct(self.lanes as u32, 1, 1);
        match profile.form {
            EdgeForm::Own => {
                let pipeline = device.pipeline(&reach::OWN, &constants)?;
                let parameters = reach::OwnParameters {
                    lane: at.lane,
                    signal: at.signal,
                    banks: at.banks,
                    leaving: at.leaving,
                    arrival: at.arrival,
                    base: at.base,
                    gathered: at.gathered,
                    lambda: at.lambda,
                    table: at.table,
                    has_table: u32::from(profile.position_table),
                    span: self.capacity as u32,
                    decay: mechanism.at.decay,
                    gate_signal: mechanism.at.gate_signal,
                    mix: mechanism.at.mix,
                    path,
                };
                program.dispatch(&pipeline, &parameters, &buffers, size)
            }
            EdgeForm::Composed => {
                constants.push(("RANK", profile.rank as u32));
                let pipeline = device.pipeline(&reach::COMPOSED, &constants)?;
                let parameters = reach::ComposedParameters {
                    lane: at.lane,
                    signal: at.signal,
                    banks: at.banks,
                    leaving: at.leaving,
                    blended: at.blended,
                    low: at.low,
                    gathered: at.gathered,
                    lambda: at.lambda,
                    span: self.capacity as u32,
                    kappa: 10.0 * host.weights().values("scalars")[2],
                    gain: mechanism.at.gain,
                    decay: mechanism.at.decay,
                    gate_signal: mechanism.at.gate_signal,
                    mix: mechanism.at.mix,
                    low_in: mechanism.at.low_in,
                    low_out: mechanism.at.low_out,
                    path,
                };
                program.dispatch(&pipeline, &parameters, &buffers, size)
            }
        }
    }

    fn select_parameters(&self, mode: Mode, has_own: bool) -> select::Parameters {
        let host = self.mechanism.mechanism();
        let (profile, at, places) = (host.profile(), self.at, self.mechanism.at);
        let scalars = host.weights().values("scalars");
        let sampling = &self.sampling;
        select::Parameters {
            nodes_count: host.nodes() as u32,
            lane: at.lane,
            leaving: at.leaving,
            width: padded(profile.width) as u32,
            energies: at.energies,
            stride: at.stride,
            dots: at.dots,
            scores: at.scores,
            probabilities: at.normalisers,
            nodes: at.nodes,
            done: at.done,
            halted: 0,
            next: at.next,
            random: at.random,
            recent: at.recent,
            window: self.window(),
            banned: at.banned,
            banned_count: sampling.banned.len() as u32,
            bias: places.bias,
            has_bias: u32::from(profile.target_bias),
            resistance: places.resistance,
            has_resistance: u32::from(profile.static_resistance),
            trust: places.trust,
            resting: places.resting,
            has_own: u32::from(has_own),
            alpha: scalars.first().map_or(1.0, |value| value.exp()),
            temperature: sampling.temperature,
            top_k: if mode == Mode::List {
                self.list
            } else {
                sampling.top_k
            } as u32,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            penalty: match self.window() {
                0 => 0.0,
                _ => sampling.repetition_penalty.ln(),
            },
            self_loops: u32::from(profile.self_loops),
            mode: mode as u32,
            listed: at.listed,
            listed_scores: at.listed_scores,
        }
    }
}

fn window(sampling: &Sampling) -> u32 {
    match sampling.repetition_penalty == 1.0 {
        true => 0,
        false => sampling.penalty_window as u32,
    }
}

fn layout(
    mechanism: &DeviceMechanism,
    lanes: usize,
    capacity: usize,
    sampling: &Sampling,
    stops: usize,
    list: usize,
) -> Result<Layout> {
    let host = mechanism.mechanism();
    let (profile, v) = (host.profile(), host.nodes());
    let wide = padded(profile.width);
    let fans = mechanism.fans();
    let buffers = fans.as_ref().map_or(1, |fans| fans.buffers.len());
    let own = profile.form == EdgeForm::Own;
    let position = profile.blend == BlendKind::Position;
    let table = own && profile.position_table;
    let when = |condition: bool, count: usize| if condition { count } else { 0 };
    let mut end = 0usize;
    let mut overflow = false;
    let mut take = |end: &mut usize, count: usize| -> u32 {
        let place = *end;
        *end = end.saturating_add(count).saturating_add(3) / 4 * 4;
        overflow |= *end > (u32::MAX / 4) as usize;
        place as u32
    };
    let mut at = Layout::default();
    at.signal = take(&mut end, wide);
    at.banks = take(&mut end, profile.banks * wide);
    at.leaving = take(&mut end, wide);
    at.blended = take(&mut end, when(!own, (1 + profile.banks) * wide));
    at.base = take(&mut end, when(own, wide));
    at.arrival = take(&mut end, when(own, wide));
    at.low = take(&mut end, profile.rank);
    at.projected = take(&mut end, profile.residual.unwrap_or(0));
    let columns = mechanism
        .records
        .as_ref()
        .map_or(0, |records| records.columns);
    at.gathered = take(&mut end, columns);
    at.lane = end as u32;
    end *= lanes;
    at.stride = fans.as_ref().map_or(1, |fans| 1 + fans.widest()) as u32;
    at.energies = take(&mut end, lanes * at.stride as usize);
    at.dots = take(&mut end, when(!own, lanes * v));
    at.scores = take(&mut end, lanes * v);
    at.normalisers = take(&mut end, lanes);
    at.listed_scores = take(&mut end, lanes * list);
    at.lambda = take(&mut end, when(position, lanes * capacity));
    at.table = take(&mut end, when(table, lanes * capacity * wide));
    at.floats = end as u32;
    end = 4;
    at.nodes = take(&mut end, 0);
    end += 3 * lanes;
    at.steps = at.nodes + lanes as u32;
    at.done = at.steps + lanes as u32;
    at.emitted = take(&mut end, lanes);
    at.next = take(&mut end, lanes);
    at.output = take(&mut end, lanes * capacity);
    at.random = take(&mut end, 2 * lanes);
    at.order = take(&mut end, lanes);
    at.groups = take(&mut end, buffers * lanes * 2);
    at.members = take(&mut end, buffers * lanes);
    at.recent = take(&mut end, lanes * (1 + window(sampling) as usize));
    at.banned = take(&mut end, sampling.banned.len());
    at.stops = take(&mut end, stops);
    at.listed = take(&mut end, lanes * list);
    at.integers = end as u32;
    if overflow {
        return Err(Error::new(
            ErrorKind::Resource,
            format!("{lanes} lanes over {v} nodes are more than a device buffer holds"),
        )
        .advice("decode fewer prompts together"));
    }
    Ok(at)
}
