//! Reading and copying a buffer as fast as the device can: `bandwidth.wgsl`.

use super::device::{Buffer, Device};
use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};
use super::program::{Program, Size};
use crate::Result;

/// Sum the words of a buffer: one sum of each thread.
pub const READ: Kernel = Kernel {
    name: "bandwidth",
    sources: shaders!["bandwidth"],
    entry: "read_words",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Read, Write],
};

/// Copy the words of a buffer.
pub const COPY: Kernel = Kernel {
    entry: "copy_words",
    ..READ
};

parameters! {
    /// Parameters of the kernels.
    Parameters {
        u32: words, threads;
    }
}

/// Threads of a workgroup.
pub const WORKGROUP: u32 = 256;
/// Bytes of a word.
pub const WORD: u64 = 16;

/// Record a dispatch of [`READ`] or [`COPY`] by so many workgroups over all words of two buffers of the same size.
///
/// # Errors
/// As [`Device::pipeline`] and [`Program::dispatch`].
pub fn dispatch(
    device: &Device,
    program: &mut Program,
    kernel: &Kernel,
    [source, result]: [&Buffer; 2],
    groups: u32,
) -> Result<()> {
    let pipeline = device.pipeline(kernel, &[("WORKGROUP", WORKGROUP)])?;
    let parameters = Parameters {
        words: (source.bytes().min(result.bytes()) / WORD) as u32,
        threads: groups * WORKGROUP,
    };
    let size = Size::Direct(groups, 1, 1);
    program.dispatch(&pipeline, &parameters, &[source, result], size)?;
    let passes = if kernel.entry == COPY.entry { 2 } else { 1 };
    program.note_bytes(passes * u64::from(parameters.words) * WORD);
    Ok(())
}
