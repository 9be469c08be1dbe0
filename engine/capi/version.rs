//! The versions of the library and of its interface.

use std::ffi::{CStr, c_char};

use crate::layout::{BRILLM_ABI_MAJOR, BRILLM_ABI_MINOR};

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
    (BRILLM_ABI_MAJOR as u64) << 32 | BRILLM_ABI_MINOR as u64
}
