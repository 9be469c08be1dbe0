//! The brillm engine from C and C++: `brillm.h`, a static and a shared library.
//!
//! [The ten-minute start](https://github.com/brillm/brillm/tree/main/engine/capi) is in this folder's README. Rules
//! that hold for every function:
//!
//! * **Errors.** A function that can fail returns a [`brillm_status`](layout::brillm_status) and takes a last argument `error`: NULL, or
//!   where an error object goes, which the caller frees. Nothing is kept per thread or per process.
//! * **Panics** are caught at the FFI boundary and become `BRILLM_ERROR_PANIC`.
//! * **Threads.** A model never changes and is shared; a session serves one call at a time, and a second
//!   concurrent call fails with `BRILLM_ERROR_BUSY`. `brillm_session_cancel` may be called at any time.
//! * **Memory.** The library frees what it allocates: models and sessions by their references, errors by
//!   `brillm_error_free`. Results go into the caller's buffers, or are borrowed until a stated moment.
//! * **Growth.** Structs begin with `struct_size` and only grow at their ends; zero is the default in every field. A
//!   program that was compiled with another header of the same `BRILLM_ABI_MAJOR` keeps working.
//!
//! A Rust program uses the crate `brillm` itself.
#![warn(missing_docs)]
#![allow(
    non_camel_case_types,
    reason = "the names are those of the C header, the same everywhere"
)]

mod error;
mod ffi;
mod generate;
mod generation;
pub mod layout;
mod learn;
mod media;
mod model;
mod score;
mod session;
mod settings;
mod step;
mod version;

pub use error::*;
pub use generate::*;
pub use learn::*;
pub use media::*;
pub use model::*;
pub use score::*;
pub use session::*;
pub use settings::*;
pub use step::*;
pub use version::*;
