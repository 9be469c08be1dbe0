//! Resistances that the shaders of plugins rewrite, between the scores and the choice.

use super::{Decoder, FAULT};
use crate::kernel::gpu::table::padded;
use crate::kernel::gpu::{Buffer, Program, Size, resist};
use crate::signal::EdgeForm;
use crate::{Error, ErrorKind, Result};

impl Decoder {
    /// Dispatches of a hop that shaders take.
    pub(super) fn shader_dispatches(&self) -> usize {
        let chain = self
            .mechanism
            .edge_shaders()
            .map(|shaders| shaders.chain.len());
        chain.map_or(0, |length| 3 + length * self.sequences)
    }

    /// Records the chain of shaders, after the scores and before the choice.
    pub(super) fn record_resist(
        &self,
        program: &mut Program,
        places: &Buffer,
        has_own: bool,
    ) -> Result<()> {
        let mechanism = &*self.mechanism;
        let (Some(shaders), Some(question)) = (mechanism.edge_shaders(), &self.question) else {
            return Ok(());
        };
        let (device, host, at) = (mechanism.device(), mechanism.mechanism(), self.at);
        let own = host.profile().form == EdgeForm::Own;
        let constants = [
            ("WORKGROUP", device.wide_workgroup()),
            ("FORM", u32::from(!own)),
        ];
        let parameters = resist::Parameters {
            nodes_count: host.nodes() as u32,
            edges_count: host.graph().edges() as u32,
            span: resist::span(host.nodes()) as u32,
            sequence: at.sequence,
            output: at.output,
            width: padded(host.profile().width) as u32,
            energies: at.energies,
            stride: at.stride,
            dots: at.dots,
            logits: at.logits,
            nodes: at.nodes,
            steps: at.steps,
            done: at.done,
            halted: 0,
            fault: FAULT,
            target_norm2: mechanism.at.target_norm2,
            has_own: u32::from(has_own),
        };
        let buffers = [
            &self.floats,
            &self.integers,
            &shaders.edges,
            &mechanism.values,
            places,
            &question.questions,
            &question.answers,
        ];
        let sequences = Size::Direct(self.sequences as u32, 1, 1);
        let ask = device.pipeline(&resist::ASK, &constants)?;
        program.dispatch(&ask, &parameters, &buffers, sequences.clone())?;
        for shader in &shaders.chain {
            for sequence in 0..self.sequences {
                question.dispatch(program, shader, sequence)?;
            }
        }
        let answer = device.pipeline(&resist::ANSWER, &constants)?;
        program.dispatch(&answer, &parameters, &buffers, sequences)
    }

    /// As [`Self::check_answers`], after a program that read other things back.
    pub(super) fn check_question(&self) -> Result<()> {
        if self.question.is_none() {
            return Ok(());
        }
        let device = self.mechanism.device();
        let found: Vec<u32> = device.read(&self.integers, u64::from(FAULT) * 4, 1)?;
        self.check_answers(found[0])
    }

    /// Whether a shader answered what is no resistance; `found` is the word where kernels note it.
    pub(super) fn check_answers(&self, found: u32) -> Result<()> {
        match found {
            0 => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Plugin,
                "a shader of a plugin made a resistance that is not a number",
            )
            .at("wgsl/1:edge/1")
            .advice("use --backend cpu, or leave the plugin out")),
        }
    }
}
