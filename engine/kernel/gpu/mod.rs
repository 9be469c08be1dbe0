//! The backend for graphics processors: WGSL kernels from `shaders/`, run by wgpu.
//!
//! [`Adapter`] says what there is, [`Device`] opens one, a [`Program`] is a sequence of kernels submitted
//! together. One file wraps each kernel of `shaders/`; the rooms above join them: `signal` puts a mechanism
//! on a device, `path` decodes there, `learn` trains there.

mod adapter;
pub mod arrive;
mod device;
pub mod dots;
pub mod energy;
pub mod fans;
pub mod gather;
mod pipeline;
pub mod plan;
mod program;
pub mod reach;
pub mod reduce;
pub mod residual;
pub mod select;
pub mod table;

pub use adapter::{Adapter, AdapterChoice, AdapterKind, AdapterReport};
pub use device::{Buffer, Device, DeviceOptions, KernelShape, Purpose};
pub use pipeline::{Access, Kernel, Pipeline};
pub use program::{Program, Size};

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
        arrive::ARRIVE,
        gather::GATHER,
        reach::OWN,
        reach::COMPOSED,
        residual::PROJECT,
        residual::ENERGIES,
        residual::ARRIVE,
    ]
}
