//! Resistances for the shaders that plugins bring, on the device. `resist.wgsl`.

use std::sync::Arc;

use super::device::{Buffer, Device};
use super::pipeline::{Access, Kernel, Pipeline, shader};
use super::program::{Program, Size};
use crate::Result;

const BINDINGS: &[Access] = &[
    Access::Parameters,
    Access::Write,
    Access::Write,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
    Access::Write,
];

/// Lays out energies, counts and resistances for shaders of `edge/1`.
pub const ASK: Kernel = Kernel {
    name: "resist",
    sources: &[shader!("resist")],
    entry: "ask",
    bindings: BINDINGS,
};

/// Makes scores of the resistances that they leave.
pub const ANSWER: Kernel = Kernel {
    name: "resist",
    sources: &[shader!("resist")],
    entry: "answer",
    bindings: BINDINGS,
};

/// Numbers before a lane's arrays: its source, step, V and 0, up to the alignment of a binding.
const PLACE: usize = 64;

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub nodes_count: u32,
    pub edges_count: u32,
    pub span: u32,
    pub sequence: u32,
    pub output: u32,
    pub width: u32,
    pub energies: u32,
    pub stride: u32,
    pub dots: u32,
    pub logits: u32,
    pub nodes: u32,
    pub steps: u32,
    pub done: u32,
    pub halted: u32,
    pub fault: u32,
    pub target_norm2: u32,
    pub has_own: u32,
}

/// What shaders of `edge/1` are asked, and what they answer, for each lane.
#[derive(Clone, Debug)]
pub struct Question {
    nodes: usize,
    /// Places, energies and counts. `[B, 64 + 2 span]`
    pub questions: Buffer,
    /// Resistances. `[B, span]`
    pub answers: Buffer,
}

impl Question {
    /// Room for so many lanes over V nodes.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(device: &Device, sequences: usize, nodes: usize) -> Result<Self> {
        let span = span(nodes);
        let bytes = |numbers: usize| (sequences * numbers * 4) as u64;
        let purpose = super::Purpose::Question;
        Ok(Self {
            nodes,
            questions: device.buffer(bytes(PLACE + 2 * span), purpose, "questions of edges")?,
            answers: device.buffer(bytes(span), purpose, "resistances of edges")?,
        })
    }

    /// Writes the question of lane 0: where a signal stands, and what reaches each node. `[V]` each
    pub fn write(
        &self,
        device: &Device,
        [source, step]: [u32; 2],
        energies: &[f32],
        counts: &[u32],
        resistance: &[f32],
    ) {
        let span = span(self.nodes);
        let at = |numbers: usize| (numbers * 4) as u64;
        let place = [source, step, self.nodes as u32, 0];
        device.write(&self.questions, 0, &place);
        device.write(&self.questions, at(PLACE), energies);
        device.write(&self.questions, at(PLACE + span), counts);
        device.write(&self.answers, 0, resistance);
    }

    /// Has a shader answer the question of a lane.
    ///
    /// # Errors
    /// As [`Program::dispatch`].
    pub fn dispatch(
        &self,
        program: &mut Program,
        shader: &EdgeShader,
        sequence: usize,
    ) -> Result<()> {
        let (nodes, span) = (self.nodes, span(self.nodes));
        let place = sequence * (PLACE + 2 * span);
        let part = |buffer, first: usize, numbers: usize| {
            (buffer, (first * 4) as u64, (numbers * 4) as u64)
        };
        let parts = [
            part(&self.questions, place + PLACE, nodes),
            part(&self.questions, place + PLACE + span, nodes),
            part(&self.answers, sequence * span, nodes),
            part(&self.questions, place, 4),
        ];
        let groups = nodes.div_ceil(shader.workgroup.max(1) as usize) as u32;
        program.dispatch_parts(&shader.pipeline, &parts, Size::Direct(groups, 1, 1))
    }
}

/// Numbers between the arrays of two lanes: every array may begin a binding.
pub fn span(nodes: usize) -> usize {
    nodes.next_multiple_of(PLACE)
}

/// A compiled shader of `edge/1`.
#[derive(Clone, Debug)]
pub struct EdgeShader {
    pipeline: Arc<Pipeline>,
    workgroup: u32,
}

impl EdgeShader {
    /// Compiles a module.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the driver cannot compile it.
    pub fn compile(device: &Device, source: &str, entry: &str, workgroup: u32) -> Result<Self> {
        let uses = [
            Access::Read,
            Access::Read,
            Access::Write,
            Access::Parameters,
        ];
        Ok(Self {
            pipeline: device.foreign(source, entry, &uses)?,
            workgroup,
        })
    }
}
