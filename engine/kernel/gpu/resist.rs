//! Resistances for the shaders of plugins, on the device: `resist.wgsl`.

use std::sync::Arc;

use super::device::{Buffer, Device, Purpose};
use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, Pipeline, parameters, shaders};
use super::program::{Program, Size};
use super::sequences::{Blocks, Sequences};
use crate::Result;

/// Lay out energies, counts and resistances for shaders of `edge/1`.
pub const INPUTS: Kernel = Kernel {
    name: "resist",
    sources: shaders![
        "workgroup",
        "sequences",
        "running",
        "composed_energy",
        "resist"
    ],
    entry: "inputs",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Write, Read, Read, Read, Write, Write],
};

/// Turn the resistances that the shaders leave into logits.
pub const LOGITS: Kernel = Kernel {
    entry: "logits",
    ..INPUTS
};

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Sequences: at;
        Blocks: blocks;
        u32: edges_count, span, has_own;
    }
}

/// Numbers before a sequence's arrays: its node, step, V and 0, up to the alignment of a binding.
const HEADER: usize = 64;

/// Buffers that shaders of `edge/1` bind, for each sequence.
#[derive(Clone, Debug)]
pub struct ShaderBuffers {
    nodes: usize,
    /// Headers, energies and counts. `[B, 64 + 2 span]`
    pub inputs: Buffer,
    /// Resistances. `[B, span]`
    pub resistances: Buffer,
}

impl ShaderBuffers {
    /// Allocate the buffers of so many sequences over V nodes.
    ///
    /// # Errors
    /// As [`Device::buffer`].
    pub fn new(device: &Device, sequences: usize, nodes: usize) -> Result<Self> {
        let buffer = |numbers: usize, what| {
            device.buffer((sequences * numbers * 4) as u64, Purpose::ShaderInput, what)
        };
        Ok(Self {
            nodes,
            inputs: buffer(HEADER + 2 * span(nodes), "inputs of plugin shaders")?,
            resistances: buffer(span(nodes), "resistances of edges")?,
        })
    }

    /// Write the input of sequence 0: its node and step, and energy, count and resistance of each node. `[V]`
    pub fn write(
        &self,
        device: &Device,
        [source, step]: [u32; 2],
        energies: &[f32],
        counts: &[u32],
        resistance: &[f32],
    ) {
        let at = |numbers: usize| (numbers * 4) as u64;
        let header = [source, step, self.nodes as u32, 0];
        device.write(&self.inputs, 0, &header);
        device.write(&self.inputs, at(HEADER), energies);
        device.write(&self.inputs, at(HEADER + span(self.nodes)), counts);
        device.write(&self.resistances, 0, resistance);
    }

    /// Record a shader's dispatch for one sequence.
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
        let header = sequence * (HEADER + 2 * span);
        let range = |buffer, first: usize, numbers: usize| {
            (buffer, (first * 4) as u64, (numbers * 4) as u64)
        };
        let ranges = [
            range(&self.inputs, header + HEADER, nodes),
            range(&self.inputs, header + HEADER + span, nodes),
            range(&self.resistances, sequence * span, nodes),
            range(&self.inputs, header, 4),
        ];
        let groups = nodes.div_ceil(shader.workgroup.max(1) as usize) as u32;
        program.dispatch_ranges(&shader.pipeline, &ranges, Size::Direct(groups, 1, 1))
    }
}

/// Numbers between the arrays of two sequences: every array may begin a binding.
pub fn span(nodes: usize) -> usize {
    nodes.next_multiple_of(HEADER)
}

/// A compiled shader of `edge/1`.
#[derive(Clone, Debug)]
pub struct EdgeShader {
    pipeline: Arc<Pipeline>,
    workgroup: u32,
}

impl EdgeShader {
    /// Compile a module.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) when the driver cannot compile it.
    pub fn compile(device: &Device, source: &str, entry: &str, workgroup: u32) -> Result<Self> {
        let bindings = [Read, Read, Write, Uniform];
        Ok(Self {
            pipeline: device.foreign(source, entry, &bindings)?,
            workgroup,
        })
    }
}
