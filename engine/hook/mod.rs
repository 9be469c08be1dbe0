//! The questions the engine asks while it runs, as traits.
//!
//! A hook is a question, not a place: the answer is a decision (which slots to keep, which temperature), and
//! the engine acts on it. In: borrowed slices that the engine already has. Out: an answer, or `None` and
//! [`Answer::Declined`] for "no opinion", after which the engine does what it does without hooks.
//!
//! The rooms above ask through a [`Hooks`], which is empty by default, cheap to clone and shared by all
//! sequences of a run. Who answers is not known here: the room `plugin` fills a [`Hooks`] from dynamic
//! libraries, and an embedding program may put its own types in.
//!
//! | trait | id | asked | by |
//! |---|---|---|---|
//! | [`Plan`] | `kv.plan/1` | once, before a cache is allocated | transformer |
//! | [`Keep`] | `kv.keep/1` | after a layer's prefill; in decoding when a layer is longer than `next_check` | transformer |
//! | [`Codec`] | `kv.codec/1` | once a layer, before a cache is allocated | transformer |
//! | [`Sample`] | `sample/1` | once a prompt, then once a step | graph, transformer |
//! | [`Order`] | `order/1` | once a step of a generation that may grow both ways | graph, transformer |
//! | [`Mask`] | `mask/1` | once a step of masked training, and told the losses | transformer |
//! | [`Corpus`] | `corpus/1` | once a reference text | `brillm corpus` |
//! | [`Probe`] | `probe/1` | at the taps it wants; or asks the model itself ([`Subject`]) | graph, transformer |
//! | [`Edge`] | `edge/1` | once a fan | graph |
//! | [`Signal`] | `signal/1` | once a prompt | graph |
//! | [`Path`] | `path/1` | told of every hop | graph |
//! | [`Shader`] | `wgsl/1:<hook>` | once, before a GPU run | graph on a GPU |
//!
//! Hooks take `&self`: an implementation that keeps state locks it, because one instance serves every
//! sequence. A [`Call`] names the sequence and step, and is the only source of randomness, so runs replay.
#![forbid(unsafe_code)]

mod call;
mod codec;
mod corpus;
mod edge;
mod hooks;
mod keep;
mod mask;
mod order;
mod path;
mod plan;
mod probe;
mod sample;
mod shader;
mod signal;
mod subject;

pub use call::{Answer, Call};
pub use codec::{Codec, CodecAxis, CodecFormat, CodecQuestion, CodecSide};
pub use corpus::{Corpus, Generate, Reference, Speech, Spoken};
pub use edge::{Edge, Fan};
pub use hooks::Hooks;
pub use keep::{ColumnSum, Eviction, HeadReduction, Keep, KeepNeeds, KeepQuestion, Phase};
pub use mask::{Mask, MaskMoment, MaskOutcome, MaskTokens};
pub use order::{Canvas, Direction, Fill, Order};
pub use path::{Hop, Path};
pub use plan::{Distance, KvShape, Plan, Planned, Trial};
pub use probe::{Activations, Probe, Tap};
pub use sample::{Prompt, Sample, SampleNeeds, Setting, Step};
pub use shader::Shader;
pub use signal::Signal;
pub use subject::{State, Subject, SubjectKind, SubjectShape};
