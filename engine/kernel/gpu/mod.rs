//! The GPU backend: WGSL kernels from `shaders/`, run by wgpu.
//!
//! [`Adapter`] describes the adapters of a machine, [`Device`] is an opened one, and a [`Program`] is a sequence of
//! kernels that are submitted together. Each kernel of `shaders/` has a module of the same name. `signal` uploads
//! a mechanism, `path` decodes and `learn` trains with them.

pub mod adamw;
mod adapter;
pub mod average;
pub mod bandwidth;
pub mod collect;
mod device;
pub mod dots;
pub mod dropout;
pub mod energy;
pub mod fan;
pub mod fans;
pub mod hop;
mod limits;
pub mod memory;
pub mod multiply;
pub mod node_layered;
pub mod norm;
pub mod path_composed;
pub mod path_layered;
pub mod path_own;
mod pipeline;
pub mod position;
mod profile;
mod program;
pub mod reduce;
pub mod residual;
pub mod residual_training;
pub mod resist;
pub mod sequences;
pub mod softmax_composed;
pub mod softmax_own;
pub mod table;

pub use adapter::{Adapter, AdapterChoice, AdapterKind, AdapterReport};
pub use device::{Buffer, Device, DeviceOptions, KernelShape, Purpose};
pub use pipeline::{Access, Kernel, Member, MemberType, Pipeline};
pub use profile::KernelTime;
pub use program::{Program, Size, spread};

/// All kernels.
pub fn kernels() -> Vec<Kernel> {
    let by_buffers = [
        energy::LANES,
        energy::SUBGROUP,
        energy::THREAD,
        residual::ENERGIES,
        hop::HOP,
    ];
    let others = [
        reduce::PROBE,
        bandwidth::READ,
        bandwidth::COPY,
        dots::LANES,
        dots::SUBGROUP,
        dots::THREAD,
        resist::INPUTS,
        resist::LOGITS,
        node_layered::ENTER,
        node_layered::MEMORY,
        node_layered::ADD,
        node_layered::LEAVE,
        multiply::MULTIPLY,
        collect::COLLECT,
        adamw::UPDATE,
        average::AVERAGE,
        norm::SQUARES,
        norm::FINISH,
        position::WEIGHTS,
        position::GATHER,
        position::BACK,
        dropout::DROPOUT,
        path_composed::FORWARD,
        path_composed::BACKWARD,
        path_layered::NORMALS,
        path_layered::LEAVE,
        path_layered::LEAVE_BACK,
        path_layered::NORMALS_BACK,
        path_layered::ADD_BACK,
        path_layered::ENTER_BACK,
        memory::BEGIN,
        memory::ACTIVATE,
        memory::SCAN,
        memory::SCAN_BACK,
        memory::ACTIVATE_BACK,
        softmax_composed::TARGETS,
        softmax_own::CLASSES,
        softmax_own::TARGETS,
        softmax_own::CANDIDATES,
        residual_training::ENERGIES,
        residual_training::SIGNALS,
        residual_training::EDGES,
        path_own::PREACTIVATION,
        path_own::NODE,
        path_own::PREACTIVATION_BACK,
        path_own::NODE_BACK,
        fan::ENERGIES,
        fan::SIGNALS,
        fan::EDGES,
    ];
    by_buffers.concat().into_iter().chain(others).collect()
}
