//! The brillm engine from C and C++: `brillm.h`, a static and a shared library.
//!
//! [The ten-minute start](https://github.com/brillm/brillm/tree/main/engine/capi) is in this folder's README. Rules
//! that hold for every function:
//!
//! * **Errors.** A function that can fail answers a [`brillm_status`](layout::brillm_status) and takes a last argument `error`: NULL, or
//!   where an error object goes, which the caller frees. Nothing is kept per thread or per process.
//! * **Panics** stop at the border and become `BRILLM_ERROR_PANIC`.
//! * **Threads.** A model never changes and is shared; a session serves one call at a time, and a second one is told
//!   so. `brillm_session_cancel` may be called at any time.
//! * **Memory.** What the library makes, it frees: models and sessions by their references, errors by
//!   `brillm_error_free`. Results go into the caller's buffers, or are borrowed until a stated moment.
//! * **Growth.** Structs begin with `struct_size` and only grow at their ends; zero is the default in every field. A
//!   program that was compiled with another header of the same `BRILLM_ABI_MAJOR` works on.
//!
//! A Rust program uses the crate `brillm` itself.
#![warn(missing_docs)]
#![allow(
    non_camel_case_types,
    reason = "the names are those of the C header, the same everywhere"
)]

use std::ffi::{CStr, c_char};

mod error;
mod ffi;
mod generate;
mod generation;
pub mod layout;
mod model;
mod score;
mod session;
mod settings;
mod step;

pub use error::*;
pub use generate::*;
pub use model::*;
pub use score::*;
pub use session::*;
pub use settings::*;
pub use step::*;

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version holds no zero byte"),
    };

/// The library's version, for example `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn brillm_version() -> *const c_char {
    VERSION.as_ptr()
}

/// The version of the interface that the library has: BRILLM_ABI_MAJOR of its header shifted left by 32, plus
/// BRILLM_ABI_MINOR. A program works with a library of its own major and the same or a later minor.
#[unsafe(no_mangle)]
pub extern "C" fn brillm_abi_version() -> u64 {
    (layout::BRILLM_ABI_MAJOR as u64) << 32 | layout::BRILLM_ABI_MINOR as u64
}
