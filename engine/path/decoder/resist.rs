//! Resistances that the shaders of plugins change, between the logits and the choice.

use super::Decoder;
use crate::kernel::gpu::sequences::INVALID;
use crate::kernel::gpu::{Buffer, Program, Size, resist};
use crate::signal::EdgeForm;
use crate::{Error, ErrorKind, Result};

impl Decoder {
    /// Number of dispatches of a hop for shaders of plugins.
    pub(super) fn shader_dispatches(&self) -> usize {
        let chain = self
            .mechanism
            .edge_shaders()
            .map(|shaders| shaders.chain.len());
        // Two kernels around the shaders, the second choice, and each shader once for every sequence.
        chain.map_or(0, |length| 3 + length * self.sequences)
    }

    /// Record the chain of shaders, after the logits and before the choice.
    pub(super) fn record_resist(
        &self,
        program: &mut Program,
        locations: &Buffer,
        has_own: bool,
    ) -> Result<()> {
        let mechanism = &*self.mechanism;
        let (Some(shaders), Some(own)) = (mechanism.edge_shaders(), &self.shader_buffers) else {
            return Ok(());
        };
        let (device, host, at) = (mechanism.device(), mechanism.mechanism(), self.at);
        let form = u32::from(host.profile().form != EdgeForm::Own);
        let constants = [("WORKGROUP", device.wide_workgroup()), ("FORM", form)];
        let parameters = resist::Parameters {
            at,
            blocks: mechanism.blocks,
            edges_count: host.graph().edges() as u32,
            span: resist::span(host.nodes()) as u32,
            has_own: u32::from(has_own),
        };
        let buffers = [
            &self.floats,
            &self.integers,
            &shaders.edges,
            &mechanism.values,
            locations,
            &own.inputs,
            &own.resistances,
        ];
        let sequences = Size::Direct(self.sequences as u32, 1, 1);
        let inputs = device.pipeline(&resist::INPUTS, &constants)?;
        program.dispatch(&inputs, &parameters, &buffers, sequences.clone())?;
        // In the order of the run's configuration: a shader sees the resistances that the one before it left.
        for shader in &shaders.chain {
            for sequence in 0..self.sequences {
                own.dispatch(program, shader, sequence)?;
            }
        }
        let logits = device.pipeline(&resist::LOGITS, &constants)?;
        program.dispatch(&logits, &parameters, &buffers, sequences)
    }

    /// Check as [`Self::check_resistances`] does, after a program that did not read the integers back.
    pub(super) fn check_shaders(&self) -> Result<()> {
        if self.shader_buffers.is_none() {
            return Ok(());
        }
        let device = self.mechanism.device();
        let found: Vec<u32> = device.read(&self.integers, INVALID as u64 * 4, 1)?;
        self.check_resistances(found[0])
    }

    /// Fail if a shader computed an invalid resistance: `found` is the integer [`INVALID`].
    pub(super) fn check_resistances(&self, found: u32) -> Result<()> {
        if found == 0 {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Plugin,
            "a shader of a plugin computed a resistance that is not a number",
        )
        .at("wgsl/1:edge/1")
        .advice("use --backend cpu, or remove the plugin"))
    }
}
