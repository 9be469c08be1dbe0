//! Dot products with rows of a table on the device: `dots.wgsl`, with `dots_lanes.wgsl` or `dots_thread.wgsl`.

use std::sync::Arc;

use super::device::{Device, KernelShape};
use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, Pipeline, parameters, shaders};
use super::reduce;
use super::sequences::Sequences;
use super::table::element_constants;
use crate::Result;
use crate::kernel::element::Element;

/// Several lanes a row that sum through workgroup memory.
pub const LANES: Kernel = Kernel {
    name: "dots_lanes",
    sources: shaders![
        "reduce_shared",
        "element",
        "sequences",
        "dots",
        "dots_lanes"
    ],
    entry: "dots",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read],
};

/// Several lanes a row that sum within subgroups.
pub const SUBGROUP: Kernel = Kernel {
    name: "dots_subgroup",
    sources: shaders![
        "reduce_subgroup",
        "element",
        "sequences",
        "dots",
        "dots_lanes"
    ],
    ..LANES
};

/// One thread a row.
pub const THREAD: Kernel = Kernel {
    name: "dots_thread",
    sources: shaders!["element", "sequences", "dots", "dots_thread"],
    ..LANES
};

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Sequences: at;
        u32: rows, skipped, vector, result, result_stride;
    }
}

/// Rows of a lane in a pass, as in `dots_lanes.wgsl`.
const ROWS: u32 = 4;

/// The kernel for padded rows of `wide` numbers of an element, and the rows of one workgroup. Rows that do not fill words of
/// 16 bytes have one thread a row.
///
/// # Errors
/// As [`Device::pipeline`].
pub fn pipeline(device: &Device, wide: usize, element: Element) -> Result<(Arc<Pipeline>, u32)> {
    let [kind, per_word] = element_constants(element);
    let wide = wide as u32;
    let whole = wide % (4 * per_word.1) == 0;
    let words = (wide / (4 * per_word.1)).max(1) as usize;
    let kernels = [&THREAD, &LANES, &SUBGROUP];
    let constants = [kind, per_word, ("W", wide)];
    let (pipeline, rows) = reduce::pipeline(device, kernels, whole, words, &constants)?;
    let lanes = whole && device.shape() == KernelShape::Lanes;
    Ok((pipeline, if lanes { rows * ROWS } else { rows }))
}
