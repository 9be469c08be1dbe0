//! Numbers, strings and views. Their layouts never change.

use core::ffi::{c_char, c_void};

/// 0: success; 1: declined; negative: an error whose message was set with `fail`.
pub type brl_status = i32;

/// The call succeeded.
pub const BRL_OK: brl_status = 0;
/// No opinion: the host ignores the buffers and uses its default. Not an error.
pub const BRL_DECLINED: brl_status = 1;
/// Invalid argument.
pub const BRL_E_ARG: brl_status = -1;
/// Invalid option.
pub const BRL_E_CONFIG: brl_status = -2;
/// Mismatched shapes.
pub const BRL_E_SHAPE: brl_status = -3;
/// A buffer that is too small.
pub const BRL_E_BUFFER: brl_status = -4;
/// Invalid state of the instance, or invalid saved state.
pub const BRL_E_STATE: brl_status = -5;
/// The call stopped because the run is cancelled.
pub const BRL_E_CANCELLED: brl_status = -6;
/// The plugin panicked. The host never calls the instance again.
pub const BRL_E_PANIC: brl_status = -7;
/// Anything else.
pub const BRL_E_INTERNAL: brl_status = -8;

/// UTF-8 without a terminating zero.
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

/// Numbers to read. `ptr` is null if they were not requested.
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

/// Accepts bytes; each write is one record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct brl_sink {
    /// Context of the functions.
    pub ctx: *mut c_void,
    /// Accept a record. The caller returns a negative status to its own caller. [instance]
    pub write: Option<unsafe extern "C" fn(ctx: *mut c_void, bytes: brl_str) -> brl_status>,
}

/// A call, owned by the host: errors, cancellation, randomness.
pub struct brl_call {
    _opaque: [u8; 0],
}

/// An instance, owned by the plugin.
pub struct brl_self {
    _opaque: [u8; 0],
}

/// A view of the other side's memory: null or valid for the caller's lifetime.
macro_rules! views {
    ($($view:ident: $element:ty, $slice:ident)*) => {$(
        impl $view {
            /// Read the view as a slice; a null view is empty.
            ///
            /// # Safety
            /// The view is null or valid for `'a`, and not written meanwhile.
            pub unsafe fn $slice<'a>(self) -> &'a [$element] {
                if self.ptr.is_null() || self.len == 0 {
                    return &[];
                }
                // SAFETY: the view is valid, as the caller promises.
                unsafe { core::slice::from_raw_parts(self.ptr.cast(), self.len as usize) }
            }
        }
    )*};
}

views! {
    brl_str: u8, bytes
    brl_ids: u32, slice
}

/// A buffer lent by the host.
macro_rules! buffers {
    ($($buffer:ident: $element:ty)*) => {$(
        impl $buffer {
            /// Lend `len` numbers at `ptr`.
            pub const fn new(ptr: *mut $element, len: usize) -> Self {
                Self { ptr, len: len as u64 }
            }

            /// Access the buffer as a slice; a null buffer is empty.
            ///
            /// # Safety
            /// The buffer is null or exclusively the caller's for `'a`.
            pub unsafe fn slice_mut<'a>(self) -> &'a mut [$element] {
                if self.ptr.is_null() || self.len == 0 {
                    return &mut [];
                }
                // SAFETY: the buffer is the caller's, as promised.
                unsafe { core::slice::from_raw_parts_mut(self.ptr, self.len as usize) }
            }
        }
    )*};
}

buffers! {
    brl_f32s: f32
    brl_u32s: u32
}

impl brl_str {
    /// Lend a text.
    pub const fn new(text: &str) -> Self {
        Self::from_bytes(text.as_bytes())
    }

    /// Lend bytes.
    pub const fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            ptr: bytes.as_ptr().cast(),
            len: bytes.len() as u64,
        }
    }
}

impl brl_ids {
    /// Lend whole numbers.
    pub const fn new(values: &[u32]) -> Self {
        Self {
            ptr: values.as_ptr(),
            len: values.len() as u64,
        }
    }
}

impl brl_tensor {
    /// Lend contiguous floats of a shape of at most four dimensions.
    pub fn floats(values: &[f32], shape: &[usize]) -> Self {
        Self::new(values.as_ptr().cast(), BRL_F32, values.is_empty(), shape)
    }

    /// Lend a vector of floats.
    pub fn vector(values: &[f32]) -> Self {
        Self::floats(values, &[values.len()])
    }

    /// Lend a vector of bytes.
    pub fn bytes(values: &[u8]) -> Self {
        Self::new(
            values.as_ptr().cast(),
            BRL_U8,
            values.is_empty(),
            &[values.len()],
        )
    }

    fn new(ptr: *const c_void, dtype: u32, empty: bool, shape: &[usize]) -> Self {
        let mut tensor = Self {
            ptr: if empty { core::ptr::null() } else { ptr },
            dtype,
            rank: shape.len() as u32,
            shape: [0; 4],
            stride: [0; 4],
        };
        let mut step = 1;
        for (axis, &size) in shape.iter().enumerate().rev() {
            tensor.shape[axis] = size as u64;
            tensor.stride[axis] = step;
            step *= size as i64;
        }
        tensor
    }

    /// Read a contiguous tensor; empty if it was not supplied or has another element type or layout.
    ///
    /// # Safety
    /// The tensor is null or valid for `'a`. `dtype` is the `BRL_*` code of `T`, of which every bit pattern is valid.
    unsafe fn dense<'a, T: Copy>(&self, dtype: u32) -> &'a [T] {
        let rank = (self.rank as usize).min(4);
        let mut count = 1;
        for axis in (0..rank).rev() {
            if self.shape[axis] > 1 && self.stride[axis] != count as i64 {
                return &[];
            }
            count *= self.shape[axis];
        }
        if self.ptr.is_null() || self.dtype != dtype || rank == 0 || count == 0 {
            return &[];
        }
        // SAFETY: the tensor is valid, as the caller promises, and contiguous.
        unsafe { core::slice::from_raw_parts(self.ptr.cast(), count as usize) }
    }

    /// Read contiguous floats; empty if they were not supplied.
    ///
    /// # Safety
    /// The tensor is null or valid for `'a`.
    pub unsafe fn as_floats<'a>(&self) -> &'a [f32] {
        // SAFETY: as the caller promises; every bit pattern is a float.
        unsafe { self.dense(BRL_F32) }
    }

    /// Read contiguous bytes; empty if they were not supplied.
    ///
    /// # Safety
    /// The tensor is null or valid for `'a`.
    pub unsafe fn as_bytes<'a>(&self) -> &'a [u8] {
        // SAFETY: as the caller promises; every bit pattern is a byte.
        unsafe { self.dense(BRL_U8) }
    }
}

/// The size of a table, for its first field.
pub(crate) const fn size<T>() -> u64 {
    size_of::<T>() as u64
}

/// Read a table of which the other side knows `struct_size` bytes; fields beyond are zero.
///
/// # Safety
/// `table` is null, or points at as many readable bytes as its first field, `struct_size`, states. All bytes zero are a
/// value of `T`.
pub unsafe fn read<T: Copy>(table: *const T) -> Option<T> {
    if table.is_null() {
        return None;
    }
    // SAFETY: a table begins with its size, as the caller promises.
    let known = unsafe { table.cast::<u64>().read() } as usize;
    let mut value = core::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: reads no more than the other side has, writes no more than `T` holds; zero is a value of `T`.
    unsafe {
        core::ptr::copy_nonoverlapping(
            table.cast::<u8>(),
            value.as_mut_ptr().cast::<u8>(),
            known.min(size_of::<T>()),
        );
        Some(value.assume_init())
    }
}

/// Whether the other side knows a table as far as this one does, so that all of it may be written.
///
/// # Safety
/// `table` is null or begins with its size.
unsafe fn whole<T>(table: *const T) -> bool {
    // SAFETY: a table begins with its size.
    !table.is_null() && unsafe { table.cast::<u64>().read() } >= size::<T>()
}

/// Copy `value` into a table of the other side, except for its size. Return whether the table is long enough.
///
/// # Safety
/// `table` is null, or begins with its size and is exclusively the caller's. `T` begins with its size.
pub unsafe fn write<T: Copy>(table: *mut T, value: &T) -> bool {
    // SAFETY: as the caller promises.
    if !unsafe { whole(table) } {
        return false;
    }
    let skip = size_of::<u64>();
    // SAFETY: both tables are at least as long as `T`, which begins with eight bytes of size.
    unsafe {
        let from = core::ptr::from_ref(value).cast::<u8>().add(skip);
        core::ptr::copy_nonoverlapping(from, table.cast::<u8>().add(skip), size_of::<T>() - skip);
    }
    true
}

/// Maps an enum of `brillm-hook` to its codes and back.
macro_rules! codes {
    ($($code:ident, $value:ident: $type:ty { $($variant:ident = $constant:ident),* $(,)? })*) => {$(
        #[doc = concat!("Return the code of a [`", stringify!($type), "`].")]
        pub const fn $code(value: $type) -> u64 {
            match value {
                $(<$type>::$variant => $constant,)*
                #[allow(unreachable_patterns, reason = "enums that may grow have codes for all variants known here")]
                _ => u64::MAX,
            }
        }

        #[doc = concat!("Return the [`", stringify!($type), "`] of a code, or `None` for an unknown one.")]
        pub const fn $value(code: u64) -> Option<$type> {
            match code {
                $($constant => Some(<$type>::$variant),)*
                _ => None,
            }
        }
    )*};
}
pub(crate) use codes;
