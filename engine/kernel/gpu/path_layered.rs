//! Signals of layered edges along true paths, on the device: `batch_layered.wgsl`, `path_layered.wgsl`.

use super::pipeline::Access::{Read, Uniform, Write};
use super::pipeline::{Kernel, parameters, shaders};

/// Compute the signals that reach a layer or the read-out, and normalise them.
pub const NORMALS: Kernel = Kernel {
    name: "path_layered",
    sources: shaders!["workgroup", "batch_layered", "path_layered"],
    entry: "normals",
    parameters: Parameters::MEMBERS,
    bindings: &[Uniform, Write, Read, Read, Write],
};

/// Add the bias of the read-out, and drop.
pub const LEAVE: Kernel = Kernel {
    entry: "leave",
    ..NORMALS
};

/// Gradients of [`LEAVE`].
pub const LEAVE_BACK: Kernel = Kernel {
    entry: "leave_back",
    ..NORMALS
};

/// Gradients of the norm in [`NORMALS`].
pub const NORMALS_BACK: Kernel = Kernel {
    entry: "normals_back",
    ..NORMALS
};

/// Gradients of what a layer adds to the signals.
pub const ADD_BACK: Kernel = Kernel {
    entry: "add_back",
    ..NORMALS
};

/// Gradients of the nodes' own signals.
pub const ENTER_BACK: Kernel = Kernel {
    entry: "enter_back",
    ..NORMALS
};

parameters! {
    /// Where a layer of a batch lies; offsets count numbers.
    Parameters {
        u32: steps, sequences, first, layers, layer, carries, tokens, continued, beta, scalars, gain, bias, mask_node,
            mask_input, mask_memory, mask_output, before, below_signals, below_edge, below_mixed, signals, inverse, normals,
            edge, signal, banks, blended, mixed, kept, rows, d_output, d_normals, d_signals, d_gain, d_mixed,
            d_blended, d_edge, d_target;
        f32: kappa, epsilon;
    }
}
