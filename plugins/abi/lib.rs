//! The door between the engine and its plugins: C layouts only, no code, no dependencies.
//!
//! `plugins/brillm_plugin.h` is generated from this crate. Authors in Rust use the crate `brillm-plugin`
//! instead, in which no pointer is seen. Rules that hold for every line:
//!
//! * **R1** Memory never changes owner. The callee writes into the caller's buffers or sinks.
//! * **R2** Strings are UTF-8 with a length, not ended by a zero, and borrowed until the call returns.
//! * **R3** Tables begin with `struct_size` and only ever grow at the end; every field is a multiple of 8 bytes
//!   wide, so no padding can hide one. Views ([`brl_str`], [`brl_tensor`], …) are frozen for ever.
//! * **R4** Nothing unwinds or jumps across the door. A negative status is an error, [`BRL_DECLINED`] is "no
//!   opinion", after which the host ignores what was written and does what it does without the plugin.
//! * **R5** Libraries are never unloaded. `destroy` frees an instance, not the code.
//! * **R6** Each function has a tag: `[static]` any thread, any time, no side effects; `[instance]` one call at
//!   a time for each instance, on any thread; `[shared]` any number of calls at once.
//!
//! Plugins decide, the host acts: no function receives memory of the host to change but the buffers it answers
//! in, and the host checks every answer before it acts on any of it.
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
