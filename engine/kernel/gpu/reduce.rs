//! Sums over the lanes that share a row: through workgroup memory, or within subgroups whose threads are in order.

use std::sync::Arc;

use super::device::{Device, KernelShape, Purpose};
use super::pipeline::Access::{Uniform, Write};
use super::pipeline::{Kernel, Pipeline, shaders};
use super::program::{Program, Size};
use crate::Result;

/// Threads of a workgroup of lanes.
pub(super) const WORKGROUP: u32 = 64;
/// Threads of a workgroup of kernels with one thread a row.
const THREADS: u32 = 8;

/// Probe how threads fill subgroups.
pub const PROBE: Kernel = Kernel {
    name: "subgroup_probe",
    sources: shaders!["subgroup_probe"],
    entry: "probe",
    parameters: &[],
    bindings: &[Uniform, Write],
};

/// The size of a subgroup whose threads are in order, or 0.
///
/// # Errors
/// As [`Device::check`].
pub(super) fn probe(device: &Device) -> Result<u32> {
    let sizes = device.buffer(256, Purpose::Storage, "subgroup sizes")?;
    let mut program = Program::new(device, 1)?;
    let pipeline = device.pipeline(&PROBE, &[])?;
    program.dispatch(&pipeline, &0u32, &[&sizes], Size::Direct(1, 1, 1))?;
    let sizes: Vec<u32> = program.submit_and_read(1, &sizes, 0, 64)?;
    // Every thread reports the size it found, 0 if it is out of order.
    let same = sizes.iter().all(|&size| size == sizes[0]);
    Ok(if same && sizes[0].is_power_of_two() {
        sizes[0].min(64)
    } else {
        0
    })
}

/// Lanes that share a row of so many words, and whether a subgroup sums them.
fn lanes(device: &Device, words: usize) -> (u32, bool) {
    let wanted = (words.next_power_of_two() as u32).min(32);
    let subgroup = device.subgroup();
    if (2..=WORKGROUP).contains(&subgroup) {
        // Within a subgroup a sum needs no barrier, so fewer lanes that loop are better than more that wait.
        return (wanted.min(subgroup), true);
    }
    (wanted, false)
}

/// Compile the kernel that suits the device, of those with one thread a row, with lanes, and with lanes in subgroups.
///
/// Returns the rows of one workgroup too. `fits` tells whether lanes fit into workgroup memory; a row has `words` words.
///
/// # Errors
/// As [`Device::pipeline`].
pub(super) fn pipeline(
    device: &Device,
    [thread, shared, subgroup]: [&Kernel; 3],
    fits: bool,
    words: usize,
    constants: &[(&'static str, u32)],
) -> Result<(Arc<Pipeline>, u32)> {
    let mut all = constants.to_vec();
    if device.shape() == KernelShape::Thread || !fits {
        all.push(("WORKGROUP", THREADS));
        return Ok((device.pipeline(thread, &all)?, THREADS));
    }
    let (lanes, in_subgroup) = lanes(device, words);
    all.extend([("WORKGROUP", WORKGROUP), ("LANES", lanes)]);
    let kernel = if in_subgroup { subgroup } else { shared };
    Ok((device.pipeline(kernel, &all)?, WORKGROUP / lanes))
}
