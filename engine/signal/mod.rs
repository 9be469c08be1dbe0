//! A signal flows through the graph: where it starts, how it hops, what it keeps of the path.

mod profile;

pub use profile::{BlendKind, EdgeForm, EnergyKind, PositionOffset, Profile};
