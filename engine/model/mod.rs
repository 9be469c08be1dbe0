//! Open and save: the `.bril` file, and other people's checkpoints.
//!
//! In: a path or bytes. Out: a [`Model`], whose mechanism `path` flows through. Opening maps the file and
//! verifies it; saving writes a temporary file and renames it.

mod container;
mod growth;
#[cfg(feature = "import")]
pub mod import;

#[allow(clippy::module_inception, reason = "the room's noun is a model")]
mod model;
pub mod sha256;
mod writer;

pub use container::{Block, BlockParts, Container, VERSION, Verify, map_file};
pub use model::{ChargeSettings, Metadata, Model};
pub use writer::Writer;
