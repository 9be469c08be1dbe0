//! Signals: a [`Mechanism`] joins a graph, weights and a [`Profile`]; a [`Flow`] is the state of one path through it.
//!
//! At each step a mechanism gives the energy and the logit of every next node. `path` chooses among them, and
//! `learn` trains the same kernels.
#![forbid(unsafe_code)]

mod attribution;
mod blend;
mod composed;
#[cfg(feature = "gpu")]
mod device;
#[cfg(feature = "gpu")]
mod device_layers;
#[cfg(feature = "gpu")]
mod edge_shaders;
mod flow;
mod layered;
mod margin;
mod mechanism;
mod mute;
mod own;
mod profile;
mod remote;
mod weights;

pub use attribution::{Attribution, Contribution, ContributionSource, EdgeAttribution};
#[cfg(feature = "gpu")]
pub use device::DeviceMechanism;
#[cfg(feature = "gpu")]
pub(crate) use device::size_constants;
#[cfg(feature = "gpu")]
pub(crate) use device_layers::DeviceLayers;
pub use flow::{Flow, Start};
pub use margin::{Margin, MarginSource};
pub use mechanism::{FanVerifier, Mechanism};
pub use profile::{BlendKind, EdgeForm, EnergyKind, PositionOffset, Profile};
pub use remote::{FanQuery, RemoteFans};
pub(crate) use weights::RowsOf;
pub use weights::{BlockShape, Weights, blocks};
