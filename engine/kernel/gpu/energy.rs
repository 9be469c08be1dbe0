//! Energies of own edges on the device: `energy.wgsl`, with `energy_lanes.wgsl` or `energy_thread.wgsl`.

use std::sync::Arc;

use super::device::{Device, KernelShape};
use super::fans::{BOUND, Fans, bindings, bound_fans, variant};
use super::pipeline::{Kernel, Pipeline, parameters, shaders};
use super::reduce;
use super::sequences::{FanTable, Sequences};
use super::table::{element_constants, padded};
use crate::Result;
use crate::kernel::element::Element;

/// Bindings before those of the buffers of fans.
const OTHERS: usize = 6;
/// Rows of an edge that are loaded together: `CHUNK`.
const CHUNK: usize = 11;

macro_rules! kernel {
    ($name:literal, $kind:ident $buffers:tt, $($before:literal),*; $own:literal) => {
        Kernel {
            name: $name,
            sources: shaders![
                $($before,)* "activation", "element", "sequences", "fans",
                (bound_fans!($kind 6 $buffers)), "members", "energy", $own
            ],
            entry: "energies",
            parameters: Parameters::MEMBERS,
            bindings: bindings(OTHERS, $buffers),
        }
    };
}

/// Several lanes an edge that sum through workgroup memory, for each number of [`BOUND`] buffers.
pub const LANES: [Kernel; BOUND.len()] = [
    kernel!("energy_lanes", fetch 1, "reduce_shared"; "energy_lanes"),
    kernel!("energy_lanes", fetch 4, "reduce_shared"; "energy_lanes"),
    kernel!("energy_lanes", fetch 20, "reduce_shared"; "energy_lanes"),
];

/// Several lanes an edge that sum within subgroups.
pub const SUBGROUP: [Kernel; BOUND.len()] = [
    kernel!("energy_subgroup", fetch 1, "reduce_subgroup"; "energy_lanes"),
    kernel!("energy_subgroup", fetch 4, "reduce_subgroup"; "energy_lanes"),
    kernel!("energy_subgroup", fetch 20, "reduce_subgroup"; "energy_lanes"),
];

/// One thread an edge.
pub const THREAD: [Kernel; BOUND.len()] = [
    kernel!("energy_thread", word 1, ; "energy_thread"),
    kernel!("energy_thread", word 4, ; "energy_thread"),
    kernel!("energy_thread", word 20, ; "energy_thread"),
];

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Sequences: at;
        FanTable: fans;
        u32: squared, tops;
        f32: alpha;
        u32: self_loops;
    }
}

/// A compiled kernel.
pub struct Energies {
    /// The kernel.
    pub pipeline: Arc<Pipeline>,
    /// Buffers of fans that it binds.
    pub bound: usize,
    /// Workgroups for each sequence.
    pub across: u32,
    /// Whether it can find the largest logits.
    pub finds_tops: bool,
}

/// Workgroups of a dispatch that fill a GPU several times over, and the few of a software adapter.
const WORKGROUPS: [usize; 2] = [4096, 256];

/// The kernel for a width, an element, the padded words of a row, a number of sequences, and fans of at most `widest` edges.
///
/// # Errors
/// As [`Device::pipeline`].
pub fn pipeline(device: &Device, width: usize, sequences: usize, fans: &Fans) -> Result<Energies> {
    let element = fans.element();
    let [kind, per_word] = element_constants(element);
    let capacity = (sequences as u32).next_power_of_two().max(32);
    let row = fans.run_words();
    let signals = 2 * (width + 1).next_multiple_of(CHUNK);
    let index = variant(device, OTHERS - 1, fans.buffers.len());
    let mut constants = vec![
        kind,
        per_word,
        ("D", width as u32),
        ("W", padded(width) as u32),
        ("ROW", row),
        ("CAPACITY", capacity),
    ];
    // The lanes keep signals, and two numbers and a sum of each thread, in workgroup memory.
    let bytes = signals * 16 + reduce::WORKGROUP as usize * 24 + capacity as usize * 4 + 256;
    let fits = bytes <= device.workgroup_bytes() as usize;
    let lanes = device.shape() == KernelShape::Lanes && fits;
    if lanes {
        // Sums of 8 sequences and 16 columns of int8 numbers would need more registers than a thread has.
        let block = if element == Element::I8 { 4 } else { 8 };
        constants.extend([("BLOCK", block), ("SIGNALS", signals as u32)]);
    }
    let kernels = [&THREAD[index], &LANES[index], &SUBGROUP[index]];
    let (pipeline, edges) = reduce::pipeline(device, kernels, fits, row as usize / 4, &constants)?;
    // A fan's edges are divided among so many workgroups that the device is full; each takes its edges in turn.
    let tiles = (fans.widest() + 1).div_ceil(edges as usize);
    let most = WORKGROUPS[usize::from(!device.report().kind.is_real())];
    Ok(Energies {
        pipeline,
        bound: BOUND[index],
        across: (most / sequences).clamp(1, tiles) as u32,
        finds_tops: lanes,
    })
}
