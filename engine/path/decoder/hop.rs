//! The kernels of one hop, recorded once and submitted many times over.

use std::ops::Range;

use super::Decoder;
use crate::Result;
use crate::kernel::composed;
use crate::kernel::element::Element;
use crate::kernel::gpu::fans::{BOUND, Fans, variant};
use crate::kernel::gpu::hop::{Mode, part};
use crate::kernel::gpu::sequences::{Choice, FanTable};
use crate::kernel::gpu::table::{DeviceTable, Piece, element_constants, padded};
use crate::kernel::gpu::{Buffer, Device, Program, Size, dots, energy, hop, residual, spread};
use crate::signal::{EdgeForm, EnergyKind, Profile, size_constants};

/// Dispatches of one hop at most, besides two for each buffer of fans, one for each of node rows, and those of layers.
const DISPATCHES: usize = 16;

impl Decoder {
    /// Take the program of a mode, recorded on first use; the caller puts it back.
    pub(super) fn take(&mut self, mode: Mode) -> Result<Program> {
        if let Some(program) = self.programs[mode as usize].take() {
            return Ok(program);
        }
        let mechanism = &self.mechanism;
        let targets = mechanism.targets.as_ref();
        let records = mechanism.records.as_ref();
        // A program reserves memory for the parameters of its dispatches, so their number must be known.
        let most = DISPATCHES
            + self.shader_dispatches()
            + self.layer_dispatches()
            + 2 * mechanism.fan_buffers()
            + targets.map_or(0, |table| table.pieces.len())
            + records.map_or(0, |records| records.pieces.len());
        let mut program = Program::new(mechanism.device(), most)?;
        Hop {
            decoder: self,
            program: &mut program,
            fans: mechanism.fans().as_deref(),
            tops: false,
        }
        .record(mode)?;
        Ok(program)
    }
}

/// A hop that is being recorded.
pub(super) struct Hop<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) program: &'a mut Program,
    fans: Option<&'a Fans>,
    /// Whether the energy kernel leaves the largest logits.
    tops: bool,
}

impl<'a> Hop<'a> {
    /// Record the kernels in their order: energies, choice; and in mode `Choose` the hop to the chosen node.
    fn record(&mut self, mode: Mode) -> Result<()> {
        self.energies(mode)?;
        self.dots()?;
        self.hop(mode)?;
        if mode == Mode::Choose && self.profile().form == EdgeForm::Layered {
            self.layers()?;
        }
        Ok(())
    }

    pub(super) fn device(&self) -> &'a Device {
        self.decoder.mechanism.device()
    }

    pub(super) fn profile(&self) -> &'a Profile {
        self.decoder.mechanism.mechanism().profile()
    }

    /// One workgroup for each sequence.
    pub(super) fn each_sequence(&self) -> Size {
        Size::Direct(self.decoder.sequences as u32, 1, 1)
    }

    /// Locations, scales and graph, which all kernels that read fans bind. Without fans any buffer stands for the first
    /// two, which no kernel uses then.
    fn tables(&self) -> [&'a Buffer; 3] {
        let graph = &self.decoder.mechanism.graph;
        match self.fans {
            Some(fans) => [&fans.locations, &fans.scales, graph],
            None => [graph, &self.decoder.mechanism.values, graph],
        }
    }

    /// Locations of fans, or any buffer where there are none.
    pub(super) fn locations(&self) -> &'a Buffer {
        self.tables()[0]
    }

    /// The buffers of fans, `bound` at a time; without fans one group of a buffer that no kernel reads.
    fn groups(&self, bound: usize) -> Vec<(FanTable, Vec<&'a Buffer>)> {
        match self.fans {
            Some(fans) => fans.groups(bound),
            None => vec![(
                FanTable::default(),
                vec![&self.decoder.mechanism.graph; bound],
            )],
        }
    }

    /// Energies of own edges, or of the own residuals of composed ones: a dispatch for all buffers of fans, or one for
    /// each group of as many as the device binds.
    fn energies(&mut self, mode: Mode) -> Result<()> {
        let (decoder, device, profile) = (self.decoder, self.device(), self.profile());
        let Some(fans) = self.fans else {
            return Ok(());
        };
        let first = [&decoder.floats, &decoder.integers];
        if profile.form == EdgeForm::Composed {
            let index = variant(device, residual::OTHERS - 1, fans.buffers.len());
            let pipeline = device.pipeline(&residual::ENERGIES[index], &self.constants())?;
            for (table, words) in fans.groups(BOUND[index]) {
                let parameters = residual::Parameters {
                    at: decoder.at,
                    blocks: decoder.mechanism.blocks,
                    fans: table,
                };
                let values = [&decoder.mechanism.values];
                let buffers = [&first[..], &self.tables(), &values, &words].concat();
                let size = self.each_sequence();
                self.program
                    .dispatch(&pipeline, &parameters, &buffers, size)?;
            }
            return Ok(());
        }
        let energies = energy::pipeline(device, profile.width, decoder.sequences, fans)?;
        // Software adapters have a kernel that does not look for the largest logits.
        self.tops = energies.finds_tops && mode == Mode::Choose && decoder.takes_tops();
        let sequences = decoder.sequences as u32;
        for (table, words) in fans.groups(energies.bound) {
            let choice = decoder.choice(mode, true);
            let parameters = energy::Parameters {
                at: decoder.at,
                fans: table,
                squared: u32::from(profile.energy == EnergyKind::Squared),
                tops: u32::from(self.tops),
                alpha: choice.alpha,
                self_loops: choice.self_loops,
            };
            let buffers = [&first[..], &self.tables(), &words].concat();
            let size = Size::Direct(energies.across, sequences, 1);
            self.program
                .dispatch(&energies.pipeline, &parameters, &buffers, size)?;
        }
        Ok(())
    }

    /// Constants of the kernels of nodes and residuals.
    fn constants(&self) -> Vec<(&'static str, u32)> {
        let profile = self.profile();
        let wide = padded(profile.width);
        let element = self.fans.map_or(Element::F32, Fans::element);
        let mut all = element_constants(element).to_vec();
        all.extend([
            ("W", wide as u32),
            ("ROW", self.fans.map_or(1, Fans::run_words)),
            ("RESIDUAL", profile.residual.unwrap_or(0) as u32),
            ("BLENDED", (profile.blended() / profile.width * wide) as u32),
            ("WORKGROUP", self.device().workgroup()),
        ]);
        all
    }

    /// Dot products of outputs with the targets of composed and layered edges.
    fn dots(&mut self) -> Result<()> {
        let at = self.decoder.at;
        let Some(targets) = &self.decoder.mechanism.targets else {
            return Ok(());
        };
        let rows = 0..at.nodes_count as usize;
        self.multiply(targets, rows, at.output, (at.dots, at.nodes_count))
    }

    /// Dot products of a vector of each sequence with rows of a table.
    ///
    /// `vector` is the offset of the vector in a record; `result` that of the results of the first sequence, and their distance.
    pub(super) fn multiply(
        &mut self,
        table: &DeviceTable,
        wanted: Range<usize>,
        vector: u32,
        result: (u32, u32),
    ) -> Result<()> {
        let (decoder, device) = (self.decoder, self.device());
        let (pipeline, together) = dots::pipeline(device, table.columns, table.element)?;
        for (piece, rows) in table.within(wanted.clone()) {
            let parameters = dots::Parameters {
                at: decoder.at,
                rows: rows.len() as u32,
                skipped: (rows.start - piece.first) as u32,
                vector,
                result: result.0 + (rows.start - wanted.start) as u32,
                result_stride: result.1,
            };
            let buffers = [&decoder.floats, &piece.words, &piece.scales];
            let size = spread(device, rows.len(), together);
            self.program
                .dispatch(&pipeline, &parameters, &buffers, size)?;
            // The rows, which every sequence shares; vectors and results are few beside them.
            let bytes = rows.len() * table.columns * table.element.size();
            self.program.note_bytes(bytes as u64);
        }
        Ok(())
    }

    /// The choice and the hop to the chosen node, or what `mode` makes of the logits. Shaders of plugins change the logits
    /// before the choice.
    fn hop(&mut self, mode: Mode) -> Result<()> {
        let (decoder, form) = (self.decoder, self.profile().form);
        let mechanism = &*decoder.mechanism;
        let mut choice = decoder.choice(mode, self.fans.is_some());
        choice.has_tops = u32::from(self.tops);
        // With shaders the choice is a second dispatch, on the logits that they leave.
        if mechanism.edge_shaders().is_some() && mode != Mode::Logits {
            let logits = decoder.choice(Mode::Logits, self.fans.is_some());
            self.run_hop(part::CHOICE, logits, None)?;
            decoder.record_resist(self.program, self.locations(), self.fans.is_some())?;
            choice.scored = 1;
        } else if mechanism.edge_shaders().is_some() {
            self.run_hop(part::CHOICE, choice, None)?;
            return decoder.record_resist(self.program, self.locations(), self.fans.is_some());
        }
        // The other modes read the logits and leave the sequences where they are.
        if mode != Mode::Choose {
            return self.run_hop(part::CHOICE, choice, None);
        }
        let crossing = if self.fans.is_some() {
            part::CROSSING
        } else {
            0
        };
        let output = if form == EdgeForm::Layered {
            0
        } else {
            part::OUTPUT
        };
        let pieces = mechanism
            .records
            .as_ref()
            .map(|records| &records.pieces[..]);
        let pieces = pieces.unwrap_or_default();
        let rows = if pieces.is_empty() { 0 } else { part::ROWS };
        let buffers = self.fans.map_or(1, |fans| fans.buffers.len());
        let bound = BOUND[variant(self.device(), hop::OTHERS - 1, buffers)];
        let fits = buffers <= bound && pieces.len() <= 1;
        if fits && self.device().merges() {
            let parts = part::CHOICE | crossing | rows | output;
            return self.run_hop(parts, choice, pieces.first());
        }
        self.run_hop(part::CHOICE, choice, None)?;
        if fits {
            return self.run_hop(crossing | rows | output, choice, pieces.first());
        }
        self.run_hop(crossing, choice, None)?;
        for piece in pieces {
            self.run_hop(part::ROWS, choice, Some(piece))?;
        }
        self.run_hop(output, choice, None)
    }

    /// The constants of `parts` of a hop. A choice alone has few, so that one kernel chooses for many profiles.
    fn hop_constants(&self, parts: u32) -> Vec<(&'static str, u32)> {
        let profile = self.profile();
        let form = match profile.form {
            EdgeForm::Own => 0,
            EdgeForm::Composed => 1,
            EdgeForm::Layered => 2,
        };
        let mut constants = vec![
            ("WORKGROUP", self.device().widest_workgroup()),
            ("FORM", form),
            ("PARTS", parts),
        ];
        if parts == part::CHOICE {
            return constants;
        }
        let records = self.decoder.mechanism.records.as_ref();
        let element = records.map_or(Element::F32, |records| records.element);
        let [kind, per_word] = element_constants(element);
        constants.extend([
            ("RANK", profile.rank as u32),
            ("RECORD_ELEMENT", kind.1),
            ("RECORD_PER_WORD", per_word.1),
        ]);
        constants.extend(size_constants(profile));
        let others = self.constants().into_iter();
        constants.extend(others.filter(|(name, _)| !["W", "WORKGROUP", "BLENDED"].contains(name)));
        constants
    }

    /// Record `parts` of a hop, if any: one dispatch, or for `CROSSING` alone one for each group of buffers of fans.
    fn run_hop(&mut self, parts: u32, choice: Choice, piece: Option<&Piece>) -> Result<()> {
        if parts == 0 {
            return Ok(());
        }
        let (decoder, device, profile) = (self.decoder, self.device(), self.profile());
        let mechanism = &*decoder.mechanism;
        let records = mechanism.records.as_ref();
        // A choice reads no edges.
        let edges = self.fans.filter(|_| parts & part::CROSSING != 0);
        let buffers = edges.map_or(1, |fans| fans.buffers.len());
        let index = variant(device, hop::OTHERS - 1, buffers);
        let pipeline = device.pipeline(&hop::HOP[index], &self.hop_constants(parts))?;
        let mut parameters = hop::Parameters {
            at: decoder.at,
            blocks: mechanism.blocks,
            choice,
            has_table: u32::from(profile.position_table),
            epsilon: composed::EPSILON as f32,
            ..hop::Parameters::default()
        };
        if profile.form == EdgeForm::Composed {
            let scalars = mechanism.mechanism().weights().values("scalars");
            parameters.kappa = composed::kappa(scalars[2]);
        }
        if let (Some(records), Some(piece)) = (records, piece) {
            parameters.records = records.bound(piece);
        }
        let rows = piece.map_or(&mechanism.values, |piece| &piece.words);
        let mut groups = self.groups(BOUND[index]);
        if parts & part::CROSSING == 0 {
            groups.truncate(1);
        }
        for (table, words) in groups {
            parameters.fans = table;
            let first = [&decoder.floats, &decoder.integers];
            let values = [&mechanism.values, rows];
            let buffers = [&first[..], &self.tables(), &values, &words].concat();
            let size = self.each_sequence();
            self.program
                .dispatch(&pipeline, &parameters, &buffers, size)?;
        }
        if parts & part::CHOICE != 0 && choice.has_tops == 0 {
            // Of every node: energies or dots and the logit of each sequence, biases and resistances. What else a hop reads
            // are rows of a few nodes.
            let numbers = decoder.at.nodes_count as usize * (2 * decoder.sequences + 2);
            self.program.note_bytes(4 * numbers as u64);
        }
        Ok(())
    }
}

impl Decoder {
    /// Note the bytes of own edges that hops read, for the table of times: each hop reads the fan of every node that a sequence
    /// is at, once. `before` are the nodes where the sequences began, `paths` those they reached.
    pub(super) fn note_fans(&self, before: &[(u32, u64, bool)], paths: &[Vec<u32>]) -> Result<()> {
        let (device, profile) = (
            self.mechanism.device(),
            self.mechanism.mechanism().profile(),
        );
        let fans = self.mechanism.fans();
        let Some(fans) = fans.filter(|_| device.is_timed() && profile.form == EdgeForm::Own) else {
            return Ok(());
        };
        let mut bytes = 0;
        for hop in 0..paths.iter().map(Vec::len).max().unwrap_or(0) {
            let at = before
                .iter()
                .zip(paths)
                .filter(|(_, path)| hop < path.len());
            let mut nodes: Vec<u32> = at
                .map(|(&(start, ..), path)| if hop == 0 { start } else { path[hop - 1] })
                .collect();
            nodes.sort_unstable();
            nodes.dedup();
            bytes += nodes.iter().map(|&node| fans.fan_bytes(node)).sum::<u64>();
        }
        let energies = energy::pipeline(device, profile.width, self.sequences, &fans)?;
        device.add_kernel_bytes(&energies.pipeline, bytes);
        Ok(())
    }

    /// Whether a choice needs nothing but the largest energy: the node with the largest logit, where logits are multiples of
    /// energies.
    fn takes_tops(&self) -> bool {
        let profile = self.mechanism.mechanism().profile();
        let plain = !profile.target_bias && !profile.static_resistance;
        let greedy = self.sampling.temperature == 0.0 && self.at.window == 0;
        let shaders = self.mechanism.edge_shaders().is_some();
        profile.form == EdgeForm::Own && plain && greedy && !shaders
    }

    /// What the kernels have to know to choose.
    fn choice(&self, mode: Mode, has_own: bool) -> Choice {
        let (host, sampling) = (self.mechanism.mechanism(), &self.sampling);
        let profile = host.profile();
        // α is stored as its logarithm; profiles without scalars have α = 1.
        let alpha = host.weights().values("scalars").first();
        let top_k = if mode == Mode::List {
            self.list
        } else {
            sampling.top_k
        };
        Choice {
            has_bias: u32::from(profile.target_bias),
            has_resistance: u32::from(profile.static_resistance),
            has_own: u32::from(has_own),
            alpha: alpha.map_or(1.0, |value| value.exp()),
            temperature: sampling.temperature,
            top_k: top_k as u32,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            // The kernel subtracts the logarithm from logits.
            penalty: if self.at.window > 0 {
                sampling.repetition_penalty.ln()
            } else {
                0.0
            },
            self_loops: u32::from(profile.self_loops),
            mode: mode as u32,
            scored: 0,
            ..Choice::default()
        }
    }
}
