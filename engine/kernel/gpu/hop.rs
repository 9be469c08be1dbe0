//! A hop after the energies on the device, from the choice of the next nodes to their outputs: `hop.wgsl`.

use super::fans::{BOUND, bindings, bound_fans};
use super::pipeline::{Kernel, parameters, shaders};
use super::sequences::{Blocks, Choice, FanTable, Sequences};

/// Bindings before those of the buffers of fans.
pub const OTHERS: usize = 8;

// naga 30 rejects the pipeline constants when the arrays of `workgroup` are declared before all scalar types are used.
macro_rules! kernel {
    ($buffers:tt) => {
        Kernel {
            name: "hop",
            sources: shaders![
                "activation", "random", "element", "sequences", "workgroup", "running", "advance", "blend", "fans",
                (bound_fans!(word 8 $buffers)), "composed_energy", "delta", "choose", "gather", "node_own",
                "node_composed", "hop"
            ],
            entry: "hop",
            parameters: Parameters::MEMBERS,
            bindings: bindings(OTHERS, $buffers),
        }
    };
}

/// Choose the next node of each sequence and move to it, for each number of [`BOUND`] buffers of fans.
pub const HOP: [Kernel; BOUND.len()] = [kernel!(1), kernel!(4), kernel!(20)];

/// What a dispatch computes, a sum of these.
pub mod part {
    /// The next node, logits or a list.
    pub const CHOICE: u32 = 1;
    /// The signal through the chosen edge.
    pub const CROSSING: u32 = 2;
    /// The rows of the chosen node.
    pub const ROWS: u32 = 4;
    /// The output of the chosen node.
    pub const OUTPUT: u32 = 8;
}

/// Result of [`part::CHOICE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// The next node.
    Choose = 0,
    /// The logits alone.
    Logits = 1,
    /// A list of the best nodes.
    List = 2,
}

parameters! {
    /// A buffer of the rows of nodes.
    Records {
        u32: first, count, record, tables;
        [u32; 8]: table_words;
    }
}

parameters! {
    /// Parameters of the kernel.
    Parameters {
        Sequences: at;
        Blocks: blocks;
        Choice: choice;
        FanTable: fans;
        Records: records;
        f32: kappa, epsilon;
        u32: has_table;
    }
}
