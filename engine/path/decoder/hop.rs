//! One hop as kernels: recorded once, submitted many times over.

use std::sync::Arc;

use super::Decoder;
use crate::Result;
use crate::kernel::element::Element;
use crate::kernel::gpu::select::Mode;
use crate::kernel::gpu::table::{element_constants, padded};
use crate::kernel::gpu::{
    Pipeline, Program, Size, dots, energy, gather, node_update, plan, preactivation, residual,
    select, spread,
};
use crate::signal::{BlendKind, EdgeForm, EnergyKind};

/// Dispatches of one hop at most, besides three for each buffer of fans and one for each of node rows.
const DISPATCHES: usize = 16;

impl Decoder {
    /// The program of a mode, recorded if this is the first time. Whoever takes it puts it back.
    pub(super) fn take(&mut self, mode: Mode) -> Result<Program> {
        if let Some(program) = self.programs[mode as usize].take() {
            return Ok(program);
        }
        let mechanism = &self.mechanism;
        let most = DISPATCHES
            + self.shader_dispatches()
            + 3 * mechanism.fan_buffers()
            + mechanism
                .targets
                .as_ref()
                .map_or(0, |table| table.pieces.len())
            + mechanism
                .records
                .as_ref()
                .map_or(0, |records| records.pieces.len());
        let mut program = Program::new(mechanism.device(), most)?;
        self.record_hop(&mut program, mode)?;
        Ok(program)
    }

    fn record_hop(&self, program: &mut Program, mode: Mode) -> Result<()> {
        let mechanism = &*self.mechanism;
        let host = mechanism.mechanism();
        let (device, profile) = (mechanism.device(), host.profile());
        let (at, sequences) = (self.at, self.sequences as u32);
        let (d, wide) = (profile.width, padded(profile.width));
        let fans = mechanism.fans();
        let own = profile.form == EdgeForm::Own;
        let dummy = &mechanism.edge_rows;
        let places = fans.as_ref().map_or(dummy, |fans| &fans.places);
        let element = |element: Element| element_constants(element);
        let mut residuals: Option<[Arc<Pipeline>; 3]> = None;
        if let Some(fans) = &fans {
            let edges = if own {
                energy::pipeline(device, d, fans.element())?.1
            } else {
                1
            };
            let plan = device.pipeline(
                &plan::PLAN,
                &[
                    ("WORKGROUP", device.wide_workgroup()),
                    ("ROOM", sequences.next_power_of_two()),
                ],
            )?;
            let parameters = plan::Parameters {
                sequences,
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
            sequence: at.sequence,
            output: at.output,
            blended: at.blended,
            projected: at.projected,
            energies: at.energies,
            stride: at.stride,
            input: mechanism.at.residual_in,
            beta: mechanism.at.beta,
            nodes: at.nodes,
            next: at.next,
            members: at.members + buffer as u32 * sequences,
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
                        &mechanism.edge_rows,
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
                    output: at.output,
                    base: at.base,
                    sequence: at.sequence,
                    energies: at.energies,
                    stride: at.stride,
                    nodes: at.nodes,
                    order: at.order,
                    groups: at.groups + (index * self.sequences * 2) as u32,
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
                    output: at.output,
                    sequence: at.sequence,
                    sequences,
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
                    spread(device, piece.rows, rows),
                )?;
            }
        }

        // The choice.
        let form = u32::from(!own);
        let choose = device.pipeline(
            &select::SELECT,
            &[("WORKGROUP", device.wide_workgroup()), ("FORM", form)],
        )?;
        let shaders = mechanism.edge_shaders().is_some();
        let logits_first = shaders && mode != Mode::Logits;
        let own_energies = fans.is_some();
        let first = if logits_first { Mode::Logits } else { mode };
        let mut parameters = self.select_parameters(first, own_energies);
        let buffers = [
            &self.floats,
            &self.integers,
            &mechanism.graph,
            &mechanism.edge_rows,
            &mechanism.lifts,
            &mechanism.values,
            places,
        ];
        program.dispatch(
            &choose,
            &parameters,
            &buffers,
            Size::Direct(sequences, 1, 1),
        )?;
        self.record_resist(program, places, own_energies)?;
        if logits_first {
            parameters = self.select_parameters(mode, own_energies);
            parameters.scored = 1;
            program.dispatch(
                &choose,
                &parameters,
                &buffers,
                Size::Direct(sequences, 1, 1),
            )?;
        }
        if mode != Mode::Choose {
            return Ok(());
        }

        // The hop.
        if let Some(fans) = &fans {
            for (index, fan) in fans.buffers.iter().enumerate() {
                let size = Size::Indirect(self.dispatches.clone(), (index * 32 + 16) as u64);
                if let Some([.., preactivation]) = &residuals {
                    let buffers = [
                        &self.floats,
                        &self.integers,
                        places,
                        &fan.words,
                        &fan.scales,
                        &mechanism.graph,
                        &mechanism.edge_rows,
                        &mechanism.values,
                    ];
                    program.dispatch(preactivation, &residual_parameters(index), &buffers, size)?;
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
                let pipeline = device.pipeline(&preactivation::ARRIVE, &constants)?;
                let parameters = preactivation::Parameters {
                    nodes_count: host.nodes() as u32,
                    sequence: at.sequence,
                    output: at.output,
                    base: at.base,
                    preactivation: at.preactivation,
                    nodes: at.nodes,
                    next: at.next,
                    members: at.members + index as u32 * sequences,
                };
                let buffers = [
                    &self.floats,
                    &self.integers,
                    places,
                    &fan.words,
                    &fan.scales,
                    &mechanism.graph,
                    &mechanism.edge_rows,
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
                    sequence: at.sequence,
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
                program.dispatch(
                    &pipeline,
                    &parameters,
                    &buffers,
                    Size::Direct(sequences, 1, 1),
                )?;
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
        let path = node_update::Path {
            nodes: at.nodes,
            next: at.next,
            steps: at.steps,
            done: at.done,
            halted: 0,
            emitted: at.emitted,
            emitted_tokens: at.emitted_tokens,
            capacity: self.capacity as u32,
            recent: at.recent,
            window: self.window(),
            stops: at.stops,
            stops_count: self.stops.len() as u32,
        };
        let buffers = [&self.floats, &self.integers, &mechanism.values];
        let size = Size::Direct(self.sequences as u32, 1, 1);
        match profile.form {
            EdgeForm::Own => {
                let pipeline = device.pipeline(&node_update::OWN, &constants)?;
                let parameters = node_update::OwnParameters {
                    sequence: at.sequence,
                    signal: at.signal,
                    banks: at.banks,
                    output: at.output,
                    preactivation: at.preactivation,
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
                let pipeline = device.pipeline(&node_update::COMPOSED, &constants)?;
                let parameters = node_update::ComposedParameters {
                    sequence: at.sequence,
                    signal: at.signal,
                    banks: at.banks,
                    output: at.output,
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
            sequence: at.sequence,
            output: at.output,
            width: padded(profile.width) as u32,
            energies: at.energies,
            stride: at.stride,
            dots: at.dots,
            logits: at.logits,
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
            prior_weight: places.prior_weight,
            target_norm2: places.target_norm2,
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
            listed_logits: at.listed_logits,
            scored: 0,
        }
    }
}
