//! Model files: the `.bril` format, and import of the authors' checkpoints.
//!
//! [`Model::open`] reads or maps a file, verifies it and returns a [`Model`], whose mechanism [`crate::path`]
//! decodes with. Saving writes a temporary file and renames it.

mod container;
mod forget;
mod growth;
#[cfg(feature = "import")]
pub mod import;
mod learned;

#[allow(clippy::module_inception, reason = "the module defines Model")]
mod model;
mod path_blocks;
mod save;
pub mod sha256;
mod writer;

pub use container::{Block, BlockParts, Container, VERSION, Verify, map, open_file, read_or_map};
pub use forget::Forgotten;
pub use learned::LearnedRecord;
pub(crate) use learned::{
    BasePaths, LearnedText, SavedRows, keyed_rows, rearranged, row_of, with_rows,
};
pub use model::{ChargeSettings, Metadata, Model};
pub(crate) use save::{edge_parts, write_model};
pub use writer::{BlockLocation, Writer};
