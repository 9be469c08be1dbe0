//! Dot products with rows on the device: `dots_lanes.wgsl` or `dots_thread.wgsl`.

use std::sync::Arc;

use super::device::{Device, KernelShape};
use super::pipeline::{Access, Kernel, Pipeline, shader};
use super::reduce;
use super::table::{element_constants, padded};
use crate::Result;
use crate::kernel::element::Element;

/// Lanes that sum through workgroup memory.
pub const LANES: Kernel = Kernel {
    name: "dots_lanes",
    sources: &[reduce::SHARED, shader!("element"), shader!("dots_lanes")],
    entry: "dots",
    bindings: &[
        Access::Parameters,
        Access::Write,
        Access::Read,
        Access::Read,
    ],
};

/// Lanes that sum within subgroups.
pub const SUBGROUP: Kernel = Kernel {
    name: "dots_subgroup",
    sources: &[reduce::SUBGROUP, shader!("element"), shader!("dots_lanes")],
    ..LANES
};

/// One thread a row.
pub const THREAD: Kernel = Kernel {
    name: "dots_thread",
    sources: &[shader!("element"), shader!("dots_thread")],
    ..LANES
};

/// The kernels' parameters; offsets count numbers.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are explained in the shader")]
pub struct Parameters {
    pub output: u32,
    pub sequence: u32,
    pub sequences: u32,
    pub dots: u32,
    pub stride: u32,
    pub first: u32,
    pub rows: u32,
}

/// The kernel for a width and an element, and how many rows one workgroup takes.
///
/// # Errors
/// As [`Device::pipeline`].
pub fn pipeline(device: &Device, width: usize, element: Element) -> Result<(Arc<Pipeline>, u32)> {
    let wide = padded(width) as u32;
    let [kind, per_word] = element_constants(element);
    if device.shape() == KernelShape::Thread {
        let workgroup = 8;
        let constants = [kind, per_word, ("W", wide), ("WORKGROUP", workgroup)];
        return Ok((device.pipeline(&THREAD, &constants)?, workgroup));
    }
    let workgroup = 64;
    let (lanes, in_subgroup) = reduce::lanes(device, (wide / per_word.1) as usize, workgroup);
    let constants = [
        kind,
        per_word,
        ("W", wide),
        ("WORKGROUP", workgroup),
        ("LANES", lanes),
    ];
    let kernel = if in_subgroup { &SUBGROUP } else { &LANES };
    Ok((device.pipeline(kernel, &constants)?, workgroup / lanes))
}
