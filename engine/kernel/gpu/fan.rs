//! Fans of own edges in training, on the device: `fan.wgsl`.

use super::adamw::Update;
use super::path_own::Batch;
use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Energies of all rows.
pub const ENERGIES: Kernel = Kernel {
    name: "fan",
    sources: shaders!["workgroup", "activation", "adamw_step", "batch_own", "fan"],
    entry: "energies",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Write, Write, Write],
};

/// Gradients of the signals.
pub const SIGNALS: Kernel = Kernel {
    entry: "signals",
    ..ENERGIES
};

/// Gradients of the edges, used as a [`Mode`] says.
pub const EDGES: Kernel = Kernel {
    entry: "edges_back",
    ..ENERGIES
};

/// Use of the gradients of [`EDGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Sums of their squares, for the norm.
    Squares = 0,
    /// AdamW in place.
    Update = 1,
    /// Written to the workspace, a row for each item.
    Partial = 2,
    /// Written to a buffer of gradients, bound in place of the first moments.
    Store = 3,
}

parameters! {
    /// Parameters of the kernels.
    Parameters {
        Batch: at;
        Update: update;
        u32: buffer, edges, items, items_count, fans, add, result, mode;
    }
}
