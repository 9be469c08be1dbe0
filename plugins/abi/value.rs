//! Numbers, strings and views. Frozen: nothing here ever changes.

use core::ffi::{c_char, c_void};

/// 0 is success, 1 no opinion, negative an error whose text went through `fail`.
pub type brl_status = i32;

/// The call succeeded.
pub const BRL_OK: brl_status = 0;
/// No opinion: the host ignores the buffers and keeps its default. Not an error.
pub const BRL_DECLINED: brl_status = 1;
/// An argument the plugin cannot work with.
pub const BRL_E_ARG: brl_status = -1;
/// An option that makes no sense.
pub const BRL_E_CONFIG: brl_status = -2;
/// Shapes that do not fit.
pub const BRL_E_SHAPE: brl_status = -3;
/// A buffer that is too small.
pub const BRL_E_BUFFER: brl_status = -4;
/// The instance is not in a state for this call, or a saved state is not its own.
pub const BRL_E_STATE: brl_status = -5;
/// The call stopped because the run is to stop.
pub const BRL_E_CANCELLED: brl_status = -6;
/// The plugin panicked. The host never calls the instance again.
pub const BRL_E_PANIC: brl_status = -7;
/// Anything else.
pub const BRL_E_INTERNAL: brl_status = -8;

/// UTF-8, not ended by a zero.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_str {
    /// First byte; may be null when `len` is 0.
    pub ptr: *const c_char,
    /// Bytes.
    pub len: u64,
}

/// A buffer of the host to write floats into.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_f32s {
    /// First number.
    pub ptr: *mut f32,
    /// Numbers.
    pub len: u64,
}

/// A buffer of the host to write whole numbers into.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_u32s {
    /// First number.
    pub ptr: *mut u32,
    /// Numbers.
    pub len: u64,
}

/// Whole numbers to read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_ids {
    /// First number; may be null when `len` is 0.
    pub ptr: *const u32,
    /// Numbers.
    pub len: u64,
}

/// Elements of a [`brl_tensor`]: 32-bit float.
pub const BRL_F32: u32 = 0;
/// 16-bit float.
pub const BRL_F16: u32 = 1;
/// Brain float.
pub const BRL_BF16: u32 = 2;
/// Signed byte.
pub const BRL_I8: u32 = 3;
/// Unsigned byte.
pub const BRL_U8: u32 = 4;
/// Unsigned 32-bit number.
pub const BRL_U32: u32 = 5;

/// Numbers to read. What was not asked for comes with a null `ptr`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_tensor {
    /// First element.
    pub ptr: *const c_void,
    /// `BRL_F32` and so on.
    pub dtype: u32,
    /// Dimensions in use, 0 to 4.
    pub rank: u32,
    /// Elements along each dimension.
    pub shape: [u64; 4],
    /// Elements from one index to the next along each dimension.
    pub stride: [i64; 4],
}

/// Takes bytes; each write is one record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_sink {
    /// The host's.
    pub ctx: *mut c_void,
    /// Takes a record; a negative status is to be passed on. [instance]
    pub write: Option<unsafe extern "C" fn(ctx: *mut c_void, bytes: brl_str) -> brl_status>,
}

/// One call, the host's: errors, cancelling, randomness.
pub struct brl_call {
    _opaque: [u8; 0],
}

/// An instance, the plugin's.
pub struct brl_self {
    _opaque: [u8; 0],
}
