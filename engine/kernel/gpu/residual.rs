//! Own residuals of composed edges on the device: `residual.wgsl`.

use super::fans::{BOUND, bindings, bound_fans};
use super::pipeline::{Kernel, parameters, shaders};
use super::sequences::{Blocks, FanTable, Sequences};

/// Bindings before those of the buffers of fans.
pub const OTHERS: usize = 7;

macro_rules! kernel {
    ($buffers:tt) => {
        Kernel {
            name: "residual",
            sources: shaders![
                "workgroup", "element", "sequences", "fans", (bound_fans!(word 7 $buffers)),
                "members", "delta", "residual"
            ],
            entry: "energies",
            parameters: Parameters::MEMBERS,
            bindings: bindings(OTHERS, $buffers),
        }
    };
}

/// Energies of the own edges of each sequence's fan, for each number of [`BOUND`] buffers.
pub const ENERGIES: [Kernel; BOUND.len()] = [kernel!(1), kernel!(4), kernel!(20)];

parameters! {
    /// Parameters of the kernel.
    Parameters {
        Sequences: at;
        Blocks: blocks;
        FanTable: fans;
    }
}
