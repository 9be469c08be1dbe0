//! The data that hooks receive and return, defined once for the engine (`brillm::hook`) and for plugins
//! (`brillm-plugin`). No dependencies.
//!
//! Traits are not shared: an engine hook is an object shared by all sequences (`&self`), a plugin hook a type with
//! constants and one instance per run (`&mut self`). The C layouts and the conversions are in `brillm-abi`.
//!
//! Letters: `V` tokens, `D` width of a signal or row, `L` layers, `N` cache slots, `R` rows, `T` tokens of a text.
#![forbid(unsafe_code)]

mod cache;
mod choice;
mod corpus;
mod graph;
mod learning;
mod probe;

pub use cache::{
    CodecAxis, CodecFormat, CodecQuestion, CodecSide, ColumnSum, Distance, Eviction, HeadReduction,
    KeepNeeds, KeepQuestion, KvShape, Phase, Planned,
};
pub use choice::{Canvas, Direction, Fill, Prompt, Setting, Step};
pub use corpus::{Speech, Spoken};
pub use graph::{Fan, Hop};
pub use learning::{MaskMoment, MaskOutcome, MaskTokens};
pub use probe::{Activations, State, SubjectKind, SubjectShape, Tap};

/// Whether a hook that writes into a buffer wrote anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The buffers hold the answer.
    Given,
    /// The hook has no opinion: the engine ignores the buffers and uses its default.
    Declined,
}
