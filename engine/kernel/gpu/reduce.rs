//! Sums over the threads that share an edge: through workgroup memory, or within subgroups where they are in order.

use super::device::{Device, Purpose};
use super::pipeline::{Access, Kernel, shader};
use super::program::{Program, Size};
use crate::Result;

/// Sums through workgroup memory.
pub(super) const SHARED: &str = shader!("reduce_shared");
/// Sums within subgroups.
pub(super) const SUBGROUP: &str = shader!("reduce_subgroup");

/// Sees how threads fill subgroups.
pub const PROBE: Kernel = Kernel {
    name: "subgroup_probe",
    sources: &[shader!("subgroup_probe")],
    entry: "probe",
    bindings: &[Access::Parameters, Access::Write],
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
    let same = sizes.iter().all(|&size| size == sizes[0]);
    Ok(if same && sizes[0].is_power_of_two() {
        sizes[0].min(64)
    } else {
        0
    })
}

/// Threads that share a row of so many words, and whether a subgroup sums them.
pub(super) fn lanes(device: &Device, words: usize, workgroup: u32) -> (u32, bool) {
    let wanted = (words.next_power_of_two() as u32).min(32).min(workgroup);
    let subgroup = device.subgroup();
    if subgroup >= 2 && subgroup <= workgroup {
        // Within a subgroup a sum needs no barrier, so fewer lanes that loop are better than more that wait.
        return (wanted.min(subgroup), true);
    }
    (wanted, false)
}
