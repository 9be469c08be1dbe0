//! Energies of own edges on the device: `energy_lanes.wgsl` or `energy_thread.wgsl`.

use std::sync::Arc;

use super::device::{Device, KernelShape};
use super::pipeline::{Access, Kernel, Pipeline, shader};
use super::reduce;
use super::table::{element_constants, padded};
use crate::Result;
use crate::kernel::element::Element;

const BINDINGS: &[Access] = &[
    Access::Parameters,
    Access::Write,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
];

/// Lanes that sum through workgroup memory.
pub const LANES: Kernel = Kernel {
    name: "energy_lanes",
    sources: &[
        reduce::SHARED,
        shader!("activation"),
        shader!("element"),
        shader!("energy_lanes"),
    ],
    entry: "energies",
    bindings: BINDINGS,
};

/// Lanes that sum within subgroups.
pub const SUBGROUP: Kernel = Kernel {
    name: "energy_subgroup",
    sources: &[
        reduce::SUBGROUP,
        shader!("activation"),
        shader!("element"),
        shader!("energy_lanes"),
    ],
    ..LANES
};

/// One thread an edge.
pub const THREAD: Kernel = Kernel {
    name: "energy_thread",
    sources: &[
        shader!("activation"),
        shader!("element"),
        shader!("energy_thread"),
    ],
    ..LANES
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub output: u32,
    pub base: u32,
    pub sequence: u32,
    pub energies: u32,
    pub stride: u32,
    pub nodes: u32,
    pub order: u32,
    pub groups: u32,
    pub squared: u32,
}

/// The kernel for a width and an element, and how many edges one workgroup scores.
///
/// # Errors
/// As [`Device::pipeline`].
pub fn pipeline(device: &Device, width: usize, element: Element) -> Result<(Arc<Pipeline>, u32)> {
    let wide = padded(width);
    let [kind, per_word] = element_constants(element);
    let size = [("D", width as u32), ("W", wide as u32)];
    let workgroup = 64;
    // The lanes keep four signals and one sum a thread in workgroup memory.
    let fits = (width + workgroup as usize) * 16 <= device.workgroup_bytes() as usize;
    if device.shape() == KernelShape::Thread || !fits {
        let workgroup = 8;
        let constants = [kind, per_word, size[0], size[1], ("WORKGROUP", workgroup)];
        return Ok((device.pipeline(&THREAD, &constants)?, workgroup));
    }
    let (lanes, in_subgroup) = reduce::lanes(device, wide / per_word.1 as usize, workgroup);
    let constants = [
        kind,
        per_word,
        size[0],
        size[1],
        ("WORKGROUP", workgroup),
        ("LANES", lanes),
    ];
    let kernel = if in_subgroup { &SUBGROUP } else { &LANES };
    Ok((device.pipeline(kernel, &constants)?, workgroup / lanes))
}
