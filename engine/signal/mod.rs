//! A signal flows through the graph: where it starts, how it hops, what it keeps of the path.
//!
//! In: a graph, weights and a [`Profile`], joined in a [`Mechanism`]; a node to start at. Out: a [`Flow`],
//! and at each step the energy of every next node. The room `path` chooses among them; `learn` trains the
//! same formulas.
#![forbid(unsafe_code)]

mod attribution;
mod blend;
mod composed;
#[cfg(feature = "gpu")]
mod device;
#[cfg(feature = "gpu")]
mod edge_shaders;
mod flow;
mod mechanism;
mod own;
mod profile;
mod weights;

pub use attribution::{Attribution, Contribution, ContributionSource, EdgeAttribution};
#[cfg(feature = "gpu")]
pub(crate) use composed::{EPSILON, KAPPA};
#[cfg(feature = "gpu")]
pub use device::DeviceMechanism;
#[cfg(feature = "gpu")]
pub(crate) use device::size_constants;
pub use flow::{Flow, Start};
pub use mechanism::{FanVerifier, Mechanism};
pub use profile::{BlendKind, EdgeForm, EnergyKind, PositionOffset, Profile};
pub use weights::{BlockShape, Weights, blocks};
