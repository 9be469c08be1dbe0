//! The kernels of one hop, recorded once and submitted many times over.

use std::ops::Range;
use std::sync::Arc;

use super::Decoder;
use crate::Result;
use crate::kernel::composed;
use crate::kernel::element::Element;
use crate::kernel::gpu::fans::{FanBuffer, Fans};
use crate::kernel::gpu::select::Mode;
use crate::kernel::gpu::table::{DeviceTable, element_constants, padded};
use crate::kernel::gpu::{
    Buffer, Device, Kernel, Pipeline, Program, Size, dots, energy, gather, node_composed, node_own,
    plan, preactivation, residual, select, spread,
};
use crate::signal::{EdgeForm, EnergyKind, Profile, size_constants};

/// Dispatches of one hop at most, besides three for each buffer of fans, one for each of node rows, and those of layers.
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
            + 3 * mechanism.fan_buffers()
            + targets.map_or(0, |table| table.pieces.len())
            + records.map_or(0, |records| records.pieces.len());
        let mut program = Program::new(mechanism.device(), most)?;
        Hop {
            decoder: self,
            program: &mut program,
            fans: mechanism.fans().as_deref(),
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
}

impl<'a> Hop<'a> {
    /// Record the kernels in their order: plan, energies, choice; and in mode `Choose` the hop to the chosen node.
    fn record(&mut self, mode: Mode) -> Result<()> {
        self.plan()?;
        self.energies()?;
        self.dots()?;
        self.select(mode)?;
        // The other modes read the logits and leave the sequences where they are.
        if mode == Mode::Choose {
            self.preactivation()?;
            self.gather()?;
            self.node()?;
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

    /// Locations of fans; without fans any buffer of integers, which no kernel reads.
    fn locations(&self) -> &'a Buffer {
        let none = &self.decoder.mechanism.edge_rows;
        self.fans.map_or(none, |fans| &fans.locations)
    }

    /// Sort sequences by node, and size the dispatches that read fans.
    fn plan(&mut self) -> Result<()> {
        let (decoder, device) = (self.decoder, self.device());
        let Some(fans) = self.fans else {
            return Ok(());
        };
        let edges = match self.profile().form {
            EdgeForm::Own => energy::pipeline(device, self.profile().width, fans.element())?.1,
            EdgeForm::Composed | EdgeForm::Layered => 1,
        };
        // The arrays in workgroup memory hold all sequences.
        let room = (decoder.sequences as u32).next_power_of_two();
        let constants = [("WORKGROUP", device.wide_workgroup()), ("ROOM", room)];
        let parameters = plan::Parameters {
            at: decoder.at,
            buffers: fans.buffers.len() as u32,
            edges,
        };
        let buffers = [&decoder.integers, &fans.locations, &decoder.dispatches];
        let pipeline = device.pipeline(&plan::PLAN, &constants)?;
        self.program
            .dispatch(&pipeline, &parameters, &buffers, Size::Direct(1, 1, 1))
    }

    /// Dispatch size of buffer number `index`, one workgroup for each of its sequences.
    fn members(&self, index: usize) -> Size {
        // The plan writes eight words for each buffer: at byte 0 the size of the energy kernel, at 16 this one.
        Size::Indirect(self.decoder.dispatches.clone(), (index * 32 + 16) as u64)
    }

    /// Energies of own edges, or of the own residuals of composed ones.
    fn energies(&mut self) -> Result<()> {
        let decoder = self.decoder;
        let Some(fans) = self.fans else {
            return Ok(());
        };
        for (index, fan) in fans.buffers.iter().enumerate() {
            if self.profile().form == EdgeForm::Composed {
                // y = x B is the same for all edges of a node: one product for each sequence, then the energies of its
                // fan.
                if self.profile().residual.unwrap_or(0) > 0 {
                    self.residual(&residual::PROJECT, index, fan)?;
                }
                self.residual(&residual::ENERGIES, index, fan)?;
                continue;
            }
            let (pipeline, _) =
                energy::pipeline(self.device(), self.profile().width, fans.element())?;
            let parameters = energy::Parameters {
                at: decoder.at,
                buffer: index as u32,
                squared: u32::from(self.profile().energy == EnergyKind::Squared),
            };
            let size = Size::Indirect(decoder.dispatches.clone(), (index * 32) as u64);
            let buffers = [
                &decoder.floats,
                &decoder.integers,
                &fans.locations,
                &fan.words,
                &fan.scales,
            ];
            self.program
                .dispatch(&pipeline, &parameters, &buffers, size)?;
        }
        Ok(())
    }

    /// One of the kernels of own residuals, for a buffer of fans.
    fn residual(&mut self, kernel: &Kernel, index: usize, fan: &FanBuffer) -> Result<()> {
        let (decoder, profile) = (self.decoder, self.profile());
        let mechanism = &*decoder.mechanism;
        let wide = padded(profile.width);
        let parameters = residual::Parameters {
            at: decoder.at,
            blocks: mechanism.blocks,
            buffer: index as u32,
        };
        let constants = [
            ("W", wide as u32),
            ("BLENDED", (profile.blended() / profile.width * wide) as u32),
            ("RANK", profile.residual.unwrap_or(0) as u32),
        ];
        let pipeline = self.pipeline(kernel, fan.element, &constants)?;
        let buffers = [
            &decoder.floats,
            &decoder.integers,
            self.locations(),
            &fan.words,
            &fan.scales,
            &mechanism.graph,
            &mechanism.edge_rows,
            &mechanism.values,
        ];
        let size = self.members(index);
        self.program
            .dispatch(&pipeline, &parameters, &buffers, size)
    }

    /// Compile a kernel that reads stored rows of an element.
    fn pipeline(
        &self,
        kernel: &Kernel,
        element: Element,
        constants: &[(&str, u32)],
    ) -> Result<Arc<Pipeline>> {
        let [kind, per_word] = element_constants(element);
        let workgroup = ("WORKGROUP", self.device().workgroup());
        let all = [&[kind, per_word, workgroup], constants].concat();
        self.device().pipeline(kernel, &all)
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
        }
        Ok(())
    }

    /// Logits, and what `mode` makes of them. Shaders of plugins change the logits in between.
    fn select(&mut self, mode: Mode) -> Result<()> {
        let decoder = self.decoder;
        let mechanism = &*decoder.mechanism;
        let form = u32::from(self.profile().form != EdgeForm::Own);
        let constants = [
            ("WORKGROUP", self.device().wide_workgroup()),
            ("FORM", form),
        ];
        let pipeline = self.device().pipeline(&select::SELECT, &constants)?;
        let buffers = [
            &decoder.floats,
            &decoder.integers,
            &mechanism.graph,
            &mechanism.edge_rows,
            &mechanism.lifts,
            &mechanism.values,
            self.locations(),
        ];
        // With shaders the choice is a second dispatch, on the logits that they leave.
        let logits_first = mechanism.edge_shaders().is_some() && mode != Mode::Logits;
        let first = if logits_first { Mode::Logits } else { mode };
        let mut parameters = decoder.select_parameters(first, self.fans.is_some());
        let size = self.each_sequence();
        self.program
            .dispatch(&pipeline, &parameters, &buffers, size.clone())?;
        decoder.record_resist(self.program, self.locations(), self.fans.is_some())?;
        if logits_first {
            parameters = decoder.select_parameters(mode, self.fans.is_some());
            parameters.scored = 1;
            self.program
                .dispatch(&pipeline, &parameters, &buffers, size)?;
        }
        Ok(())
    }

    /// Signals through the chosen edges.
    fn preactivation(&mut self) -> Result<()> {
        let (decoder, width) = (self.decoder, self.profile().width);
        let mechanism = &*decoder.mechanism;
        let Some(fans) = self.fans else {
            return Ok(());
        };
        for (index, fan) in fans.buffers.iter().enumerate() {
            if self.profile().form == EdgeForm::Composed {
                self.residual(&residual::PREACTIVATION, index, fan)?;
                continue;
            }
            let constants = [("D", width as u32), ("W", padded(width) as u32)];
            let pipeline = self.pipeline(&preactivation::PREACTIVATION, fan.element, &constants)?;
            let parameters = preactivation::Parameters {
                at: decoder.at,
                buffer: index as u32,
            };
            let buffers = [
                &decoder.floats,
                &decoder.integers,
                &fans.locations,
                &fan.words,
                &fan.scales,
                &mechanism.graph,
                &mechanism.edge_rows,
            ];
            let size = self.members(index);
            self.program
                .dispatch(&pipeline, &parameters, &buffers, size)?;
        }
        Ok(())
    }

    /// Table rows of the chosen nodes.
    fn gather(&mut self) -> Result<()> {
        let decoder = self.decoder;
        let Some(records) = &decoder.mechanism.records else {
            return Ok(());
        };
        let pipeline = self.pipeline(&gather::GATHER, records.element, &[])?;
        for piece in &records.pieces {
            let mut parameters = gather::Parameters {
                at: decoder.at,
                first: piece.first as u32,
                count: piece.rows as u32,
                record: records.words as u32,
                tables: records.table_words.len() as u32,
                ..gather::Parameters::default()
            };
            for (to, &words) in parameters.table_words.iter_mut().zip(&records.table_words) {
                *to = words as u32;
            }
            let buffers = [&decoder.floats, &decoder.integers, &piece.words];
            let size = self.each_sequence();
            self.program
                .dispatch(&pipeline, &parameters, &buffers, size)?;
        }
        Ok(())
    }

    /// Outputs of the chosen nodes.
    fn node(&mut self) -> Result<()> {
        let (decoder, profile) = (self.decoder, self.profile());
        let mechanism = &*decoder.mechanism;
        let mut constants = size_constants(profile).to_vec();
        constants.push(("WORKGROUP", self.device().workgroup()));
        let (at, blocks, size) = (decoder.at, mechanism.blocks, self.each_sequence());
        let buffers = [&decoder.floats, &decoder.integers, &mechanism.values];
        match profile.form {
            EdgeForm::Own => {
                let pipeline = self.device().pipeline(&node_own::UPDATE, &constants)?;
                let parameters = node_own::Parameters {
                    at,
                    blocks,
                    has_table: u32::from(profile.position_table),
                };
                self.program
                    .dispatch(&pipeline, &parameters, &buffers, size)
            }
            EdgeForm::Layered => self.layers(),
            EdgeForm::Composed => {
                constants.push(("RANK", profile.rank as u32));
                let pipeline = self.device().pipeline(&node_composed::UPDATE, &constants)?;
                let weights = mechanism.mechanism().weights();
                let parameters = node_composed::Parameters {
                    at,
                    blocks,
                    kappa: composed::kappa(weights.values("scalars")[2]),
                    epsilon: composed::EPSILON as f32,
                };
                self.program
                    .dispatch(&pipeline, &parameters, &buffers, size)
            }
        }
    }
}

impl Decoder {
    fn select_parameters(&self, mode: Mode, has_own: bool) -> select::Parameters {
        let (host, sampling) = (self.mechanism.mechanism(), &self.sampling);
        let profile = host.profile();
        // α is stored as its logarithm; profiles without scalars have α = 1.
        let alpha = host.weights().values("scalars").first();
        let top_k = if mode == Mode::List {
            self.list
        } else {
            sampling.top_k
        };
        select::Parameters {
            at: self.at,
            blocks: self.mechanism.blocks,
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
        }
    }
}
