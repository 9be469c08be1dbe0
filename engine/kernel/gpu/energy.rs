//! Energies of own edges on the device: `energy.wgsl`, with `energy_lanes.wgsl` or `energy_thread.wgsl`.

use std::sync::Arc;

use super::device::Device;
use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, Pipeline, parameters, shaders};
use super::reduce;
use super::sequences::Sequences;
use super::table::{element_constants, padded};
use crate::Result;
use crate::kernel::element::Element;

/// Several lanes an edge that sum through workgroup memory.
#[rustfmt::skip]
pub const LANES: Kernel = Kernel {
    name: "energy_lanes",
    sources: shaders![
        "reduce_shared", "activation", "element", "sequences", "fans", "energy", "energy_lanes"
    ],
    entry: "energies",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read, Read, Read],
};

/// Several lanes an edge that sum within subgroups.
#[rustfmt::skip]
pub const SUBGROUP: Kernel = Kernel {
    name: "energy_subgroup",
    sources: shaders![
        "reduce_subgroup", "activation", "element", "sequences", "fans", "energy", "energy_lanes"
    ],
    ..LANES
};

/// One thread an edge.
pub const THREAD: Kernel = Kernel {
    name: "energy_thread",
    sources: shaders![
        "activation",
        "element",
        "sequences",
        "fans",
        "energy",
        "energy_thread"
    ],
    ..LANES
};

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Sequences: at;
        u32: buffer, squared;
    }
}

/// The kernel for a width and an element, and the edges of one workgroup.
///
/// # Errors
/// As [`Device::pipeline`].
pub fn pipeline(device: &Device, width: usize, element: Element) -> Result<(Arc<Pipeline>, u32)> {
    let [kind, per_word] = element_constants(element);
    let wide = padded(width) as u32;
    let words = (wide / per_word.1) as usize;
    let constants = [kind, per_word, ("D", width as u32), ("W", wide)];
    // The lanes keep four signals and one sum a thread in workgroup memory.
    let bytes = (width + reduce::WORKGROUP as usize) * 16;
    let fits = bytes <= device.workgroup_bytes() as usize;
    reduce::pipeline(
        device,
        [&THREAD, &LANES, &SUBGROUP],
        fits,
        words,
        &constants,
    )
}
