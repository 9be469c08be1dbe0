//! The backend for graphics processors: WGSL kernels from `shaders/`, run by wgpu.
//!
//! [`Adapter`] says what there is, [`Device`] opens one, a [`Program`] is a sequence of kernels submitted
//! together. One file wraps each kernel of `shaders/`; the rooms above join them: `signal` puts a mechanism
//! on a device, `path` decodes there, `learn` trains there.

pub mod adamw;
mod adapter;
pub mod collect;
mod device;
pub mod dots;
pub mod dropout;
pub mod energy;
pub mod fan;
pub mod fans;
pub mod gather;
pub mod multiply;
pub mod node_update;
pub mod norm;
pub mod path;
mod pipeline;
pub mod plan;
pub mod position;
pub mod preactivation;
mod program;
pub mod reduce;
pub mod residual;
pub mod residual_training;
pub mod resist;
pub mod select;
pub mod softmax;
pub mod table;
pub mod walk;

pub use adapter::{Adapter, AdapterChoice, AdapterKind, AdapterReport};
pub use device::{Buffer, Device, DeviceOptions, KernelShape, Purpose};
pub use pipeline::{Access, Kernel, Pipeline};
pub use program::{Program, Size, spread};

/// Every kernel there is.
pub fn kernels() -> Vec<Kernel> {
    vec![
        reduce::PROBE,
        energy::LANES,
        energy::SUBGROUP,
        energy::THREAD,
        dots::LANES,
        dots::SUBGROUP,
        dots::THREAD,
        plan::PLAN,
        select::SELECT,
        resist::ASK,
        resist::ANSWER,
        preactivation::ARRIVE,
        gather::GATHER,
        node_update::OWN,
        node_update::COMPOSED,
        residual::PROJECT,
        residual::ENERGIES,
        residual::ARRIVE,
        multiply::MULTIPLY,
        collect::COLLECT,
        adamw::UPDATE,
        norm::SQUARES,
        norm::FINISH,
        position::WEIGHTS,
        position::GATHER,
        position::BACK,
        dropout::DRAW,
        walk::FORWARD,
        walk::BACKWARD,
        softmax::COMPOSED,
        softmax::CLASSES,
        softmax::TARGETS,
        softmax::CANDIDATES,
        residual_training::ENERGIES,
        residual_training::SIGNALS,
        residual_training::EDGES,
        path::ARRIVE,
        path::REACH,
        path::ARRIVE_BACK,
        path::REACH_BACK,
        fan::ENERGIES,
        fan::SIGNALS,
        fan::EDGES,
    ]
}
