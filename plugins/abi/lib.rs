//! The C interface between the engine and its plugins: the layouts, and their conversions to and from the types of
//! `brillm-hook`.
//!
//! `plugins/brillm_plugin.h` is generated from this crate. Authors in Rust use the crate `brillm-plugin`
//! instead. Rules:
//!
//! * **R1** Memory never changes owner. The callee writes into the caller's buffers or sinks.
//! * **R2** Strings are UTF-8 with a length, without a terminating zero, and borrowed until the call returns.
//! * **R3** Tables begin with `struct_size` and only ever grow at the end; every field is a multiple of 8 bytes
//!   wide, so no padding can hide one. Views ([`brl_str`], [`brl_tensor`], …) never change.
//! * **R4** Nothing unwinds or jumps across the interface. A negative status is an error; [`BRL_DECLINED`] means no
//!   opinion: the host ignores what was written and uses its default.
//! * **R5** Libraries are never unloaded. `destroy` frees an instance, not the code.
//! * **R6** Each function has a tag: `[static]` any thread, any time, no side effects; `[instance]` one call at
//!   a time for each instance, on any thread; `[shared]` any number of calls at once.
//!
//! Plugins decide, the host acts: a plugin may only write to the buffers of its answer, and the host checks an answer
//! before it applies any of it.
#![allow(
    non_camel_case_types,
    reason = "the names are those of the C header, the same everywhere"
)]

mod cache;
mod choice;
mod corpus;
mod graph;
mod learning;
mod plugin;
mod probe;
mod value;

pub use cache::*;
pub use choice::*;
pub use corpus::*;
pub use graph::*;
pub use learning::*;
pub use plugin::*;
pub use probe::*;
pub use value::*;
