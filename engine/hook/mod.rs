//! The decisions that plugins and embedding programs can take over, as traits.
//!
//! The engine calls a hook with borrowed slices that it already has and applies the answer. After `None` or
//! [`Answer::Declined`] it uses its default. The types of questions and answers are those of the crate `brillm-hook`,
//! which plugins use as well.
//!
//! A [`Hooks`] holds the hooks of a run; it is empty by default and cheap to clone. The module `plugin` fills it from
//! dynamic libraries, and embedding programs may add their own types.
//!
//! | trait | id | called | by |
//! |---|---|---|---|
//! | [`Plan`] | `kv.plan/1` | once, before a cache is allocated | transformer |
//! | [`Keep`] | `kv.keep/1` | after a layer's prefill; in decoding when a layer is longer than `next_check` | transformer |
//! | [`Codec`] | `kv.codec/1` | once per layer, before a cache is allocated | transformer |
//! | [`Sample`] | `sample/1` | once per prompt and once per step | graph, transformer |
//! | [`Order`] | `order/1` | once per step of a generation that may grow in both directions | graph, transformer |
//! | [`Mask`] | `mask/1` | once per step of masked training, and with the losses | transformer |
//! | [`Corpus`] | `corpus/1` | once per reference text | `brillm corpus` |
//! | [`Probe`] | `probe/1` | at the taps it observes; or queries the model ([`Subject`]) | graph, transformer |
//! | [`Edge`] | `edge/1` | once per fan | graph |
//! | [`Signal`] | `signal/1` | once per prompt | graph |
//! | [`Path`] | `path/1` | after every hop | graph |
//! | [`Shader`] | `wgsl/1:<hook>` | once, before a GPU run | graph on a GPU |
//!
//! Methods take `&self` because one hook serves all sequences; implementations lock their state. A [`Call`] identifies
//! sequence and step and is the only source of randomness, so runs replay.
#![forbid(unsafe_code)]

mod cache;
mod call;
mod choice;
mod corpus;
mod graph;
mod hooks;
mod learning;
mod probe;

pub use brillm_hook::{
    Activations, Answer, Canvas, CodecAxis, CodecFormat, CodecQuestion, CodecSide, ColumnSum,
    Direction, Distance, Eviction, Fan, Fill, HeadReduction, Hop, KeepNeeds, KeepQuestion, KvShape,
    MaskMoment, MaskOutcome, MaskTokens, Phase, Planned, Prompt, Setting, Speech, Spoken, State,
    Step, SubjectKind, SubjectShape, Tap,
};
pub use cache::{Codec, Keep, Plan, Trial};
pub use call::Call;
pub use choice::{Order, Sample, SampleNeeds};
pub use corpus::{Corpus, Generate, Reference};
pub use graph::{Edge, Path, Shader, Signal};
pub use hooks::Hooks;
pub use learning::Mask;
pub use probe::{Probe, Subject};
