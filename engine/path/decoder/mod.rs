//! Decoding on a device: many sequences take many hops in one submission.
//!
//! A hop is two kernels: energies, and a hop to the chosen nodes. Layered edges have some kernels for each layer after that.
//! The next hop reads the chosen node from a buffer, so nothing is copied to the host until all hops are done or a
//! fan is missing.

mod hop;
mod layered;
mod layout;
mod look;
mod resist;

use std::sync::Arc;

pub use look::Nearest;

use layout::{Scratch, bank_width, padded_index};

use crate::kernel::gpu::fans::Fans;
use crate::kernel::gpu::hop::Mode;
use crate::kernel::gpu::resist::ShaderBuffers;
use crate::kernel::gpu::sequences::{EARLIER, HALTED, INVALID, NONE, Sequences};
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Buffer, Program, Purpose};
use crate::kernel::position;
use crate::kernel::random::Random;
use crate::path::Sampling;
use crate::signal::{BlendKind, DeviceMechanism, EdgeForm, Flow, PositionOffset};
use crate::{Error, ErrorKind, Result};

/// Sequences at most: one workgroup sorts them in its memory.
const SEQUENCES: usize = 1024;

/// Sequences that are decoded together on a device.
pub struct Decoder {
    mechanism: Arc<DeviceMechanism>,
    sequences: usize,
    capacity: usize,
    list: usize,
    sampling: Sampling,
    at: Sequences,
    scratch: Scratch,
    floats: Buffer,
    integers: Buffer,
    /// Input and output of the shaders of plugins.
    shader_buffers: Option<ShaderBuffers>,
    /// The program of each [`Mode`], recorded on first use.
    programs: [Option<Program>; 3],
    /// Node of each sequence, its hops so far, and whether it has ended.
    state: Vec<(u32, u64, bool)>,
    /// Σ exp(position logit) over the steps before each step (position blend).
    normalisers: Vec<f64>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Decoder({} sequences)", self.sequences)
    }
}

impl Decoder {
    /// Create a decoder of `sequences` sequences that takes up to `capacity` hops in a submission.
    ///
    /// A sequence ends at a node of `stops`. `list` is the number of nodes that [`Self::nearest`] returns.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for no sequences or a sampling option out of range; [`ErrorKind::Unsupported`] for an option
    /// that a device does not have; [`ErrorKind::Resource`] when the sequences do not fit on the device.
    pub fn new(
        mechanism: Arc<DeviceMechanism>,
        sequences: usize,
        capacity: usize,
        mut sampling: Sampling,
        stops: &[u32],
        list: usize,
    ) -> Result<Self> {
        sampling.check()?;
        if sequences == 0 || sequences > SEQUENCES || capacity == 0 {
            return Err(Error::new(
                ErrorKind::Input,
                format!(
                    "invalid decoder: {sequences} sequences of {capacity} hops, expected 1 to {SEQUENCES} of at least 1"
                ),
            )
            .advice("decode the prompts in several batches"));
        }
        if let Some(option) = sampling.unsupported_on_device() {
            let what = format!("{option} are supported on the CPU only");
            return Err(Error::new(ErrorKind::Unsupported, what));
        }
        let v = mechanism.mechanism().nodes();
        sampling.banned.retain(|&node| (node as usize) < v);
        let list = list.min(v);
        let size = layout::Size {
            sequences,
            capacity,
            stops: stops.len(),
            list,
        };
        let (at, scratch, [floats, integers]) = layout::layout(&mechanism, size, &sampling)?;
        let device = mechanism.device().clone();
        let buffer =
            |numbers: u32, purpose, what| device.buffer(u64::from(numbers) * 4, purpose, what);
        let shaders = mechanism.edge_shaders();
        let decoder = Self {
            floats: buffer(floats, Purpose::Storage, "signals of sequences")?,
            integers: buffer(integers, Purpose::Storage, "nodes of sequences")?,
            shader_buffers: shaders
                .map(|_| ShaderBuffers::new(&device, sequences, v))
                .transpose()?,
            programs: [None, None, None],
            state: vec![(0, 0, true); sequences],
            normalisers: vec![0.0],
            mechanism,
            sequences,
            capacity,
            list,
            sampling,
            at,
            scratch,
        };
        // Lists that stay the same for the life of the decoder.
        decoder.write_integers(at.banned, &decoder.sampling.banned);
        let mut bits = vec![0u32; v.div_ceil(32)];
        for &node in &decoder.sampling.banned {
            bits[node as usize / 32] |= 1 << (node % 32);
        }
        decoder.write_integers(at.banned_bits, &bits);
        decoder.write_integers(at.stops, stops);
        decoder.write_sequences();
        Ok(decoder)
    }

    /// The mechanism.
    pub fn mechanism(&self) -> &Arc<DeviceMechanism> {
        &self.mechanism
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.sequences
    }

    /// Hops of a submission at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of dispatches of a hop.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn dispatches(&mut self) -> Result<usize> {
        let program = self.take(Mode::Choose)?;
        let count = program.len();
        self.programs[Mode::Choose as usize] = Some(program);
        Ok(count)
    }

    /// Set the flow of a sequence, with the stream of its draws and the nodes of its penalty window.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a sequence that does not exist.
    pub fn set(
        &mut self,
        sequence: usize,
        flow: &Flow,
        random: &Random,
        recent: &[u32],
    ) -> Result<()> {
        if sequence >= self.sequences {
            return Err(Error::new(
                ErrorKind::Input,
                format!("sequence {sequence} of {} does not exist", self.sequences),
            ));
        }
        let at = self.at;
        let mechanism = self.mechanism.mechanism().clone();
        let profile = mechanism.profile();
        let d = profile.width;
        let mut record = vec![0.0f32; at.stride as usize];
        // Runs of D numbers, each padded to W; those of banks are as wide as a bank.
        let mut put = |offset: u32, run: usize, values: &mut dyn Iterator<Item = f32>| {
            for (index, value) in values.enumerate() {
                record[offset as usize + padded_index(index, run)] = value;
            }
        };
        put(at.signal, d, &mut flow.signal.iter().copied());
        // Banks are f32 on the device; a chunk is too short for their rounding to matter.
        let banks = &mut flow.banks.iter().map(|&bank| bank as f32);
        put(at.banks, bank_width(profile), banks);
        put(at.output, d, &mut flow.output.iter().copied());
        put(at.blended, d, &mut flow.blended.iter().copied());
        if profile.form == EdgeForm::Own {
            put(at.base, d, &mut self.position_row(flow.step).into_iter());
        }
        let device = self.mechanism.device().clone();
        device.write(
            &self.floats,
            (sequence * at.stride as usize * 4) as u64,
            &record,
        );
        self.state[sequence] = (flow.node, flow.step, false);
        // The nearest first, as the kernels look for them.
        let nearest = flow.earlier.iter().rev().copied();
        let earlier: Vec<u32> = nearest.chain([NONE; EARLIER]).take(EARLIER).collect();
        self.write_integers(at.earlier + (sequence * EARLIER) as u32, &earlier);
        let state = random.state();
        let words = [state as u32, (state >> 32) as u32];
        // 64 bits of state as two words, the low one first.
        self.write_integers(at.random + 2 * sequence as u32, &words);
        if at.window > 0 {
            let kept = &recent[recent.len().saturating_sub(at.window as usize)..];
            let list = [&[kept.len() as u32], kept].concat();
            self.write_integers(at.recent + sequence as u32 * (1 + at.window), &list);
        }
        self.write_sequences();
        Ok(())
    }

    /// Take up to `tokens` hops in each sequence and return the nodes that each one reached.
    ///
    /// One submission while all fans are on the device. A sequence returns fewer nodes when it ends at a stop, or
    /// when no node can be chosen.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the device is lost or the sequences' fans do not fit together;
    /// a checksum error of a fan that is uploaded.
    pub fn decode(&mut self, tokens: usize) -> Result<Vec<Vec<u32>>> {
        let tokens = tokens.min(self.capacity);
        let (sequences, at) = (self.sequences, self.at);
        self.write_window(tokens)?;
        self.write_sequences();
        self.write_integers(at.emitted, &vec![0u32; sequences]);
        // The integers are laid out so that one read from 0 returns flags, nodes, steps, ends and the nodes reached.
        let count = at.emitted_tokens as usize + sequences * self.capacity;
        let before = self.state.clone();
        // A call may take several submissions: how many nodes of each sequence were reported to the paging.
        let mut touched = vec![0usize; sequences];
        let mut left = tokens;
        let mut program = self.take(Mode::Choose)?;
        let head = loop {
            self.write_integers(0, &[0u32; 4]);
            let mechanism = self.mechanism.clone();
            // Other decoders may page fans between our submissions, not during one.
            let mut fans = mechanism.fans();
            if let Some(fans) = &mut fans {
                self.upload_fans(fans)?;
            }
            let head: Vec<u32> = program.submit_and_read(left, &self.integers, 0, count)?;
            self.check_resistances(head[INVALID])?;
            // Paging evicts the fans used longest ago: report the nodes that the new hops left.
            if let Some(fans) = fans.as_mut().filter(|fans| fans.paged()) {
                for (b, &(start, ..)) in before.iter().enumerate() {
                    let path = self.emitted(&head, b);
                    let sources = std::iter::once(start).chain(path.iter().copied());
                    fans.touch(sources.take(path.len()).skip(touched[b]));
                    touched[b] = path.len();
                }
            }
            let most = self.read_sequences(&head);
            let over = self.state.iter().all(|&(.., done)| done);
            if head[HALTED] == 0 || over || most >= tokens {
                break head;
            }
            // A fan was missing: upload it, and submit the hops that were not taken.
            left = tokens - most;
        };
        self.programs[Mode::Choose as usize] = Some(program);
        let paths = before.iter().enumerate().map(|(b, &(.., was_done))| {
            if was_done {
                Vec::new()
            } else {
                self.emitted(&head, b).to_vec()
            }
        });
        let paths: Vec<Vec<u32>> = paths.collect();
        self.note_fans(&before, &paths)?;
        Ok(paths)
    }

    /// The nodes that sequence `b` reached in this call, from the integers read back.
    fn emitted<'a>(&self, head: &'a [u32], b: usize) -> &'a [u32] {
        let start = self.at.emitted_tokens as usize + b * self.capacity;
        &head[start..start + head[self.at.emitted as usize + b] as usize]
    }

    /// Update the state of the sequences from the integers read back; returns the most hops of one that has not ended.
    fn read_sequences(&mut self, head: &[u32]) -> usize {
        let at = self.at;
        let mut most = 0;
        for (b, state) in self.state.iter_mut().enumerate() {
            let field = |offset: u32| head[offset as usize + b];
            state.0 = field(at.nodes);
            // The device counts steps in 32 bits.
            state.1 += u64::from(field(at.steps).wrapping_sub(state.1 as u32));
            state.2 = field(at.done) != 0;
            if !state.2 {
                most = most.max(field(at.emitted) as usize);
            }
        }
        most
    }

    /// Read the flow of a sequence from the device, its banks in f32.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the device is lost.
    pub fn flow(&self, sequence: usize) -> Result<Flow> {
        let at = self.at;
        let profile = self.mechanism.mechanism().profile();
        let d = profile.width;
        let record: Vec<f32> = self.mechanism.device().read(
            &self.floats,
            (sequence * at.stride as usize * 4) as u64,
            at.stride as usize,
        )?;
        let take = |offset: u32, count: usize, run: usize| -> Vec<f32> {
            (0..count)
                .map(|index| record[offset as usize + padded_index(index, run)])
                .collect()
        };
        let (node, step, _) = self.state[sequence];
        let composed = profile.form == EdgeForm::Composed;
        let past = step as usize + usize::from(composed);
        let position = profile.blend == BlendKind::Position;
        Ok(Flow {
            node,
            earlier: self.earlier(sequence)?,
            step,
            signal: take(at.signal, d, d),
            banks: take(at.banks, profile.memory(), bank_width(profile))
                .into_iter()
                .map(f64::from)
                .collect(),
            normaliser: self
                .normalisers
                .get(past)
                .copied()
                .filter(|_| position)
                .unwrap_or(0.0),
            output: take(at.output, d, d),
            blended: take(at.blended, profile.carried(), d),
        })
    }

    /// Read the nodes before the current one that a flow keeps.
    fn earlier(&self, sequence: usize) -> Result<Vec<u32>> {
        let offset = u64::from(self.at.earlier) * 4 + (sequence * EARLIER * 4) as u64;
        let device = self.mechanism.device();
        let mut nodes: Vec<u32> = device.read(&self.integers, offset, EARLIER)?;
        nodes.truncate(self.mechanism.mechanism().graph().order() - 2);
        nodes.retain(|&node| node != NONE);
        nodes.reverse();
        Ok(nodes)
    }

    /// Read the random stream of a sequence from the device.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the device is lost.
    pub fn random(&self, sequence: usize) -> Result<Random> {
        let offset = u64::from(self.at.random + 2 * sequence as u32) * 4;
        let words: Vec<u32> = self.mechanism.device().read(&self.integers, offset, 2)?;
        Ok(Random::from_state(
            u64::from(words[0]) | u64::from(words[1]) << 32,
        ))
    }

    /// End all sequences; [`Self::set`] starts them again.
    pub fn clear(&mut self) {
        self.state.iter_mut().for_each(|(.., done)| *done = true);
    }

    fn write_integers(&self, offset: u32, values: &[u32]) {
        let offset = u64::from(offset) * 4;
        self.mechanism
            .device()
            .write(&self.integers, offset, values);
    }

    /// Write node, step and end of all sequences.
    fn write_sequences(&self) {
        let mut nodes = Vec::with_capacity(3 * self.sequences);
        nodes.extend(self.state.iter().map(|&(node, ..)| node));
        nodes.extend(self.state.iter().map(|&(_, step, _)| step as u32));
        nodes.extend(self.state.iter().map(|&(.., done)| u32::from(done)));
        self.write_integers(self.at.nodes, &nodes);
    }

    /// Upload the fans of all running sequences, where fans are paged.
    fn upload_fans(&self, fans: &mut Fans) -> Result<()> {
        if !fans.paged() {
            return Ok(());
        }
        let mut nodes: Vec<u32> = self
            .state
            .iter()
            .filter(|&&(.., done)| !done)
            .map(|&(node, ..)| node)
            .collect();
        // Sequences at one node share its fan.
        nodes.sort_unstable();
        nodes.dedup();
        let mechanism = self.mechanism.mechanism();
        fans.ensure(&nodes, &|node| mechanism.check_node(node))
            .map(drop)
    }

    /// The position row of hop number `step`. `[D]`
    fn position_row(&self, step: u64) -> Vec<f32> {
        let mechanism = self.mechanism.mechanism();
        let offset = usize::from(mechanism.profile().offset == PositionOffset::Train);
        mechanism.position_row(step as usize + offset)
    }

    /// Write what the coming hops need that depends on their number alone: λ and position rows.
    fn write_window(&mut self, tokens: usize) -> Result<()> {
        let (at, span) = (self.at, self.capacity);
        let (mechanism, device) = (
            self.mechanism.mechanism().clone(),
            self.mechanism.device().clone(),
        );
        let profile = mechanism.profile();
        let offset = |offset: u32| u64::from(offset) * 4;
        if profile.blend == BlendKind::Position {
            // λ_t = Z_{t−1} / Z_t with Z_t = Σ_{i ≤ t} exp(logit_i); logits beyond the last are equal to it.
            let composed = usize::from(profile.form == EdgeForm::Composed);
            let logits = mechanism.weights().values("blend.positions");
            let top = position::largest(logits);
            let mut all = vec![0.0f32; self.sequences * span];
            for (b, &(_, step, _)) in self.state.iter().enumerate() {
                for hop in 0..tokens {
                    let t = step as usize + composed + hop;
                    // Z depends on the step alone: one list serves sequences at different steps.
                    while self.normalisers.len() <= t + 1 {
                        let next = self.normalisers.len() - 1;
                        let mut normaliser = self.normalisers[next];
                        position::advance(logits, top, next, &mut normaliser);
                        self.normalisers.push(normaliser);
                    }
                    all[b * span + hop] = (self.normalisers[t] / self.normalisers[t + 1]) as f32;
                }
            }
            device.write(&self.floats, offset(at.lambda), &all);
        }
        if profile.form == EdgeForm::Own && profile.position_table {
            let wide = padded(profile.width);
            let mut all = vec![0.0f32; self.sequences * span * wide];
            for (b, &(_, step, _)) in self.state.iter().enumerate() {
                for hop in 0..tokens {
                    let start = (b * span + hop) * wide;
                    // The node kernel ends a hop with the position row that the next one adds.
                    let row = self.position_row(step + hop as u64 + 1);
                    all[start..start + row.len()].copy_from_slice(&row);
                }
            }
            device.write(&self.floats, offset(at.table), &all);
        }
        Ok(())
    }
}
