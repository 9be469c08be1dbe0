//! Decoding on a device: many lanes, each a signal on its way, walk many hops in one submission.
//!
//! A hop is a few kernels: plan (who reads which fan), energies, select, arrive, gather, reach. The next hop
//! finds its fan by the node that the last one chose, in a buffer, so nothing comes back to the host until
//! all hops are done, or a fan is missing.

mod hop;
mod layout;
mod look;
mod resist;

use std::sync::Arc;

use layout::{Layout, window};
pub use look::Nearest;

use crate::kernel::gpu::fans::Fans;
use crate::kernel::gpu::resist::Question;
use crate::kernel::gpu::select::Mode;
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Buffer, Program, Purpose};
use crate::kernel::random::Random;
use crate::path::Sampling;
use crate::signal::{BlendKind, DeviceMechanism, EdgeForm, Flow, PositionOffset};
use crate::{Error, ErrorKind, Result};

/// The integer in which kernels note an answer that is none.
const FAULT: u32 = 1;
/// Lanes at most: one workgroup sorts them in its memory.
const LANES: usize = 1024;

/// Signals that flow side by side on a device.
pub struct Decoder {
    mechanism: Arc<DeviceMechanism>,
    sequences: usize,
    capacity: usize,
    list: usize,
    sampling: Sampling,
    stops: Vec<u32>,
    at: Layout,
    floats: Buffer,
    integers: Buffer,
    dispatches: Buffer,
    /// What the shaders of plugins are asked, where there are some.
    question: Option<Question>,
    /// The programs of choosing, scoring and listing, recorded when they are first wanted.
    programs: [Option<Program>; 3],
    /// Where each lane stands, its hops so far, and whether it is over.
    state: Vec<(u32, u64, bool)>,
    /// Σ e^p over the arrivals before each one (position blend).
    normalisers: Vec<f64>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Decoder({} lanes)", self.sequences)
    }
}

impl Decoder {
    /// A decoder of `sequences` signals that takes up to `capacity` hops in a submission.
    ///
    /// A lane ends at a node of `stops`. `list` is the most nodes that [`Self::nearest`] is asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for no lanes or a sampling option out of range; [`ErrorKind::Resource`] when
    /// the lanes do not fit on the device.
    pub fn new(
        mechanism: Arc<DeviceMechanism>,
        sequences: usize,
        capacity: usize,
        sampling: Sampling,
        stops: &[u32],
        list: usize,
    ) -> Result<Self> {
        sampling.check()?;
        if sequences > LANES {
            return Err(Error::new(
                ErrorKind::Input,
                format!("a decoder has at most {LANES} lanes"),
            )
            .advice("decode the prompts in parts"));
        }
        if sequences == 0 || capacity == 0 {
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
        let at = Layout::of(
            &mechanism,
            sequences,
            capacity,
            &sampling,
            stops.len(),
            list,
        )?;
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
        let question = mechanism
            .edge_shaders()
            .map(|_| Question::new(&device, sequences, v))
            .transpose()?;
        device.write(&integers, u64::from(at.banned) * 4, &sampling.banned);
        device.write(&integers, u64::from(at.stops) * 4, stops);
        let decoder = Self {
            programs: [None, None, None],
            state: vec![(0, 0, true); sequences],
            normalisers: vec![0.0],
            stops: stops.to_vec(),
            mechanism,
            sequences,
            capacity,
            list,
            sampling,
            at,
            floats,
            integers,
            dispatches,
            question,
        };
        decoder.write_sequences();
        Ok(decoder)
    }

    /// Lanes side by side.
    pub fn sequences(&self) -> usize {
        self.sequences
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
        self.programs = [None, None, None];
        Ok(())
    }

    /// Puts a flow into a lane, with the stream its draws come from and the nodes of its penalty window.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] for a lane that does not exist.
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
                format!("lane {sequence} of {}", self.sequences),
            ));
        }
        let at = self.at;
        let mechanism = self.mechanism.mechanism().clone();
        let profile = mechanism.profile();
        let (d, wide) = (profile.width, padded(profile.width));
        let mut record = vec![0.0f32; at.sequence as usize];
        let mut put = |place: u32, values: &mut dyn Iterator<Item = f32>| {
            for (index, value) in values.enumerate() {
                record[place as usize + index / d * wide + index % d] = value;
            }
        };
        put(at.signal, &mut flow.signal.iter().copied());
        put(at.banks, &mut flow.banks.iter().map(|&bank| bank as f32));
        put(at.output, &mut flow.output.iter().copied());
        put(at.blended, &mut flow.blended.iter().copied());
        if profile.form == EdgeForm::Own {
            put(at.base, &mut self.position_row(flow.step).into_iter());
        }
        let device = self.mechanism.device().clone();
        device.write(
            &self.floats,
            (sequence * at.sequence as usize * 4) as u64,
            &record,
        );
        self.state[sequence] = (flow.node, flow.step, false);
        let state = random.state();
        let words = [state as u32, (state >> 32) as u32];
        self.write_integers(at.random + 2 * sequence as u32, &words);
        let window = self.window();
        if window > 0 {
            let kept = &recent[recent.len().saturating_sub(window as usize)..];
            let mut ring = vec![kept.len() as u32];
            ring.extend_from_slice(kept);
            self.write_integers(at.recent + sequence as u32 * (1 + window), &ring);
        }
        self.write_sequences();
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
        let (sequences, at) = (self.sequences, self.at);
        self.write_window(tokens)?;
        self.write_sequences();
        self.write_integers(at.emitted, &vec![0u32; sequences]);
        let count = at.emitted_tokens as usize + sequences * self.capacity;
        let starts: Vec<u32> = self.state.iter().map(|&(node, ..)| node).collect();
        let running: Vec<bool> = self.state.iter().map(|&(.., done)| !done).collect();
        let mut left = tokens;
        let mut program = self.take(Mode::Choose)?;
        let mut before = vec![0usize; sequences];
        let paths = loop {
            self.write_integers(0, &[0u32; 4]);
            let mechanism = self.mechanism.clone();
            // Others may page between our submissions, not within one.
            let mut fans = mechanism.fans();
            if let Some(fans) = &mut fans {
                self.bring(fans)?;
            }
            let head: Vec<u32> = program.submit_and_read(left, &self.integers, 0, count)?;
            self.check_answers(head[FAULT as usize])?;
            let halted = head[0] != 0;
            let field = |place: u32, sequence: usize| head[place as usize + sequence];
            let path = |sequence: usize| {
                let start = at.emitted_tokens as usize + sequence * self.capacity;
                &head[start..start + field(at.emitted, sequence) as usize]
            };
            if let Some(fans) = fans.as_mut().filter(|fans| fans.paged()) {
                for sequence in 0..sequences {
                    let path = path(sequence);
                    let stood = (before[sequence]..path.len()).map(|hop| {
                        if hop == 0 {
                            starts[sequence]
                        } else {
                            path[hop - 1]
                        }
                    });
                    fans.touch(stood);
                    before[sequence] = path.len();
                }
            }
            let mut most = 0;
            for sequence in 0..sequences {
                let emitted = field(at.emitted, sequence);
                let new = u64::from(
                    field(at.steps, sequence).wrapping_sub(self.state[sequence].1 as u32),
                );
                self.state[sequence].0 = field(at.nodes, sequence);
                self.state[sequence].1 += new;
                self.state[sequence].2 = field(at.done, sequence) != 0;
                if !self.state[sequence].2 {
                    most = most.max(emitted as usize);
                }
            }
            let over = self.state.iter().all(|&(.., done)| done);
            if !halted || over || most >= tokens {
                break (0..sequences)
                    .map(|sequence| {
                        if running[sequence] {
                            path(sequence).to_vec()
                        } else {
                            Vec::new()
                        }
                    })
                    .collect();
            }
            left = tokens - most;
        };
        self.programs[Mode::Choose as usize] = Some(program);
        Ok(paths)
    }

    /// A lane's flow as it is on the device, its banks in f32.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the device is lost.
    pub fn flow(&self, sequence: usize) -> Result<Flow> {
        let at = self.at;
        let profile = self.mechanism.mechanism().profile();
        let (d, wide) = (profile.width, padded(profile.width));
        let record: Vec<f32> = self.mechanism.device().read(
            &self.floats,
            (sequence * at.sequence as usize * 4) as u64,
            at.sequence as usize,
        )?;
        let take = |place: u32, count: usize| -> Vec<f32> {
            (0..count)
                .map(|index| record[place as usize + index / d * wide + index % d])
                .collect()
        };
        let (node, step, _) = self.state[sequence];
        let composed = profile.form == EdgeForm::Composed;
        let past = step as usize + usize::from(composed);
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
                true => self.normalisers.get(past).copied().unwrap_or(0.0),
                false => 0.0,
            },
            output: take(at.output, d),
            blended: take(at.blended, if composed { profile.blended() } else { 0 }),
        })
    }

    /// The stream of a lane's draws as it is on the device.
    ///
    /// # Errors
    /// [`ErrorKind::Resource`] when the device is lost.
    pub fn random(&self, sequence: usize) -> Result<Random> {
        let place = u64::from(self.at.random + 2 * sequence as u32) * 4;
        let words: Vec<u32> = self.mechanism.device().read(&self.integers, place, 2)?;
        Ok(Random::from_state(
            u64::from(words[0]) | u64::from(words[1]) << 32,
        ))
    }

    fn window(&self) -> u32 {
        window(&self.sampling)
    }

    /// Ends every lane; [`Self::set`] begins them again.
    pub fn clear(&mut self) {
        self.state.iter_mut().for_each(|(.., done)| *done = true);
    }

    fn write_integers(&self, place: u32, values: &[u32]) {
        self.mechanism
            .device()
            .write(&self.integers, u64::from(place) * 4, values);
    }

    fn write_sequences(&self) {
        let mut nodes = Vec::with_capacity(3 * self.sequences);
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
            let mut all = vec![0.0f32; self.sequences * span];
            for (sequence, &(_, step, _)) in self.state.iter().enumerate() {
                for hop in 0..tokens {
                    let preactivation = step as usize + composed + hop;
                    while self.normalisers.len() <= preactivation + 1 {
                        let next = self.normalisers.len() - 1;
                        let weight = f64::from(logits[next.min(logits.len() - 1)] - top).exp();
                        self.normalisers.push(self.normalisers[next] + weight);
                    }
                    let lambda =
                        self.normalisers[preactivation] / self.normalisers[preactivation + 1];
                    all[sequence * span + hop] = lambda as f32;
                }
            }
            let device = self.mechanism.device();
            device.write(&self.floats, u64::from(at.lambda) * 4, &all);
        }
        if profile.form == EdgeForm::Own && profile.position_table {
            let wide = padded(profile.width);
            let mut all = vec![0.0f32; self.sequences * span * wide];
            for (sequence, &(_, step, _)) in self.state.iter().enumerate() {
                for hop in 0..tokens {
                    let start = (sequence * span + hop) * wide;
                    let row = self.position_row(step + hop as u64 + 1);
                    all[start..start + row.len()].copy_from_slice(&row);
                }
            }
            let device = self.mechanism.device();
            device.write(&self.floats, u64::from(at.table) * 4, &all);
        }
        Ok(())
    }
}
