//! The border: panics stop here, pointers become slices and texts, and sized structs meet other versions of themselves.

use std::any::Any;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::error::{ApiError, brillm_error};
use crate::layout::*;

/// The largest struct_size that is believed: anything above is memory that nobody set.
const LARGEST: u64 = 1 << 16;

/// Run the body of a call: no panic gets out, and an error leaves through `error`.
///
/// A panic may leave what it happened in half changed: a session's lock is then poisoned and it is never used again;
/// a model is never changed. Hence the assertion.
///
/// # Safety
/// `error` is NULL or may be written to.
pub(crate) unsafe fn cross(
    error: *mut *mut brillm_error,
    body: impl FnOnce() -> Result<brillm_status, ApiError>,
) -> brillm_status {
    if !error.is_null() {
        // SAFETY: the caller promises that it may be written to.
        unsafe { error.write(ptr::null_mut()) };
    }
    let api_error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => return status,
        Ok(Err(api_error)) => api_error,
        Err(panic) => panicked(panic),
    };
    // SAFETY: as above.
    unsafe { api_error.leave(error) }
}

/// As [`cross`] for a call that cannot fail; a panic answers `otherwise`.
pub(crate) fn pass<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(panic) => {
            panicked(panic);
            otherwise
        }
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> ApiError {
    let what = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    let api_error = ApiError::new(
        BRILLM_ERROR_PANIC,
        format!(
            "the library panicked: {} (a defect in brillm; please report it)",
            what.as_deref().unwrap_or("no message")
        ),
    );
    // What was thrown may panic in its own end.
    std::mem::forget(panic);
    api_error
}

/// A struct that begins with `struct_size: u64` and grows at its end.
///
/// # Safety
/// `#[repr(C)]`, begins with a `u64` of its size, every bit pattern is a value, no padding.
pub(crate) unsafe trait Sized64: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// Its size in the first version of the interface.
    const FIRST: u64;
    /// Every field at its default, the size that of this version.
    fn defaults() -> Self;
}

/// Implement [`Sized64`] for structs, each with its size in the first version and the defaults that are not 0.
macro_rules! sized64 {
    ($($name:ident($first:literal) { $($field:ident: $value:expr),* })*) => {$(
        // SAFETY: repr(C), begins with its size; numbers and pointers without padding.
        unsafe impl $crate::ffi::Sized64 for $name {
            const NAME: &'static str = stringify!($name);
            const FIRST: u64 = $first;
            fn defaults() -> Self {
                Self {
                    struct_size: size_of::<Self>() as u64,
                    $($field: $value,)*
                    // SAFETY: zeros are a value of numbers and pointers.
                    ..unsafe { std::mem::zeroed() }
                }
            }
        }
    )*};
}
pub(crate) use sized64;

/// Whether some version of the struct has this size.
pub(crate) fn believed<T: Sized64>(size: u64) -> bool {
    (T::FIRST..=LARGEST).contains(&size)
}

/// The size that the other side gave a struct, checked.
///
/// # Safety
/// `place` points at a `u64`.
unsafe fn size_of_theirs<T: Sized64>(place: *const T) -> Result<usize, ApiError> {
    // SAFETY: a `Sized64` begins with a u64; the caller promises that it is there.
    let size = unsafe { place.cast::<u64>().read_unaligned() };
    if !believed::<T>(size) {
        return Err(ApiError::new(
            BRILLM_ERROR_INPUT,
            format!(
                "invalid struct_size {size} of {0} (set it to sizeof({0}), and the other fields to 0)",
                T::NAME
            ),
        ));
    }
    Ok(size as usize)
}

/// Read a struct of the caller's version; NULL for the defaults.
///
/// # Safety
/// `place` is NULL or points at as many bytes as its `struct_size` says.
pub(crate) unsafe fn read<T: Sized64>(place: *const T) -> Result<T, ApiError> {
    let mut value = T::defaults();
    if place.is_null() {
        return Ok(value);
    }
    // SAFETY: not NULL, so the caller promises a struct with its size.
    let (theirs, ours) = (unsafe { size_of_theirs(place) }?, size_of::<T>());
    for at in ours..theirs {
        // SAFETY: within the size that the caller set.
        if unsafe { place.cast::<u8>().add(at).read() } != 0 {
            return Err(ApiError::new(
                BRILLM_ERROR_VERSION,
                format!(
                    "{} has a field at byte {at} that this library, version {}, does not know (leave it 0, or use a newer library)",
                    T::NAME,
                    env!("CARGO_PKG_VERSION")
                ),
            ));
        }
    }
    // SAFETY: both have at least `min` bytes, do not overlap, and every bit pattern is a value of T.
    unsafe {
        ptr::copy_nonoverlapping(
            place.cast::<u8>(),
            ptr::from_mut(&mut value).cast(),
            theirs.min(ours),
        );
    }
    Ok(value)
}

/// Write a struct into the caller's, as far as that goes; fields that only the caller knows become 0.
///
/// # Safety
/// `place` is NULL or points at as many bytes as its `struct_size` says.
pub(crate) unsafe fn write<T: Sized64>(place: *mut T, value: &T) -> Result<(), ApiError> {
    if place.is_null() {
        return Ok(());
    }
    // SAFETY: not NULL, so the caller promises a struct with its size.
    let theirs = unsafe { size_of_theirs(place) }?;
    // SAFETY: as above.
    unsafe { fill(place, theirs, value) };
    Ok(())
}

/// Write `value` into the `theirs` bytes at `place`, with `theirs` as its size.
///
/// # Safety
/// `theirs` bytes, at least 8, may be written at `place`.
pub(crate) unsafe fn fill<T: Sized64>(place: *mut T, theirs: usize, value: &T) {
    let ours = size_of::<T>();
    // SAFETY: all within `theirs` and, of the value, within its own size; they do not overlap.
    unsafe {
        ptr::copy_nonoverlapping(
            ptr::from_ref(value).cast::<u8>(),
            place.cast(),
            theirs.min(ours),
        );
        if theirs > ours {
            place.cast::<u8>().add(ours).write_bytes(0, theirs - ours);
        }
        place.cast::<u64>().write_unaligned(theirs as u64);
    }
}

/// The caller's array; NULL may be empty.
///
/// # Safety
/// `place` is NULL or points at `count` values that nobody changes while the slice lives.
pub(crate) unsafe fn slice<'a, T>(
    place: *const T,
    count: usize,
    name: &str,
) -> Result<&'a [T], ApiError> {
    if count == 0 {
        return Ok(&[]);
    }
    if place.is_null() {
        return Err(ApiError::null(name));
    }
    if count > isize::MAX as usize / size_of::<T>().max(1) || !place.is_aligned() {
        return Err(ApiError::new(
            BRILLM_ERROR_INPUT,
            format!("{name} cannot hold {count} values"),
        ));
    }
    // SAFETY: not NULL, aligned, of a size that fits; the caller promises the rest.
    Ok(unsafe { std::slice::from_raw_parts(place, count) })
}

/// The caller's text; `length` bytes, or up to a zero byte.
///
/// # Safety
/// `place` is NULL, or points at `length` bytes, or at a text ended by a zero where that is `BRILLM_TERMINATED`.
pub(crate) unsafe fn text<'a>(
    place: *const c_char,
    length: usize,
    name: &str,
) -> Result<&'a str, ApiError> {
    let bytes = if length == BRILLM_TERMINATED {
        if place.is_null() {
            return Err(ApiError::null(name));
        }
        // SAFETY: not NULL, and ended by a zero, as the caller promises.
        unsafe { CStr::from_ptr(place) }.to_bytes()
    } else {
        // SAFETY: as the caller promises.
        unsafe { slice(place.cast::<u8>(), length, name) }?
    };
    std::str::from_utf8(bytes).map_err(|error| {
        ApiError::new(
            BRILLM_ERROR_INPUT,
            format!("{name} is not UTF-8 at byte {}", error.valid_up_to()),
        )
    })
}

/// The caller's texts, each ended by a zero byte.
///
/// # Safety
/// `place` is NULL or points at `count` texts, each NULL or ended by a zero, that nobody changes while they are used.
pub(crate) unsafe fn texts<'a>(
    place: *const *const c_char,
    count: usize,
    name: &str,
) -> Result<Vec<&'a str>, ApiError> {
    // SAFETY: as the caller promises.
    let places = unsafe { slice(place, count, name) }?;
    let places = places.iter().enumerate();
    let texts = places.map(|(index, &place)| {
        // SAFETY: as the caller promises.
        unsafe { text(place, BRILLM_TERMINATED, &format!("{name}[{index}]")) }
    });
    texts.collect()
}

/// Gives `values` out through the caller's buffer; the length they have goes to `length` in any case.
///
/// # Safety
/// `buffer` is NULL or has room for `capacity` values; `length` is NULL or may be written to.
pub(crate) unsafe fn give<T: Copy>(
    values: &[T],
    buffer: *mut T,
    capacity: usize,
    length: *mut usize,
    needed: usize,
) -> Result<brillm_status, ApiError> {
    if !length.is_null() {
        // SAFETY: as the caller promises.
        unsafe { length.write(values.len()) };
    }
    if buffer.is_null() && capacity == 0 {
        // Only the length was asked for.
        return if length.is_null() {
            Err(ApiError::null("both buffer and length"))
        } else {
            Ok(BRILLM_OK)
        };
    }
    if buffer.is_null() {
        return Err(ApiError::null("buffer"));
    }
    if capacity < needed {
        return Err(ApiError::new(
            BRILLM_ERROR_BUFFER,
            format!("the buffer holds {capacity}, and {needed} are needed"),
        ));
    }
    // SAFETY: `values.len() ≤ needed ≤ capacity`, and the buffer is the caller's alone.
    unsafe { ptr::copy_nonoverlapping(values.as_ptr(), buffer, values.len()) };
    Ok(BRILLM_OK)
}

/// As [`give`], for text: a zero byte is put behind it.
///
/// # Safety
/// As [`give`].
pub(crate) unsafe fn give_text(
    bytes: &[u8],
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> Result<brillm_status, ApiError> {
    let buffer = buffer.cast::<u8>();
    // SAFETY: as the caller promises.
    let status = unsafe { give(bytes, buffer, capacity, length, bytes.len() + 1) }?;
    if !buffer.is_null() {
        // SAFETY: `give` found the capacity to be at least one more than the text.
        unsafe { buffer.add(bytes.len()).write(0) };
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{brillm_error_free, brillm_error_message};

    #[test]
    fn a_panic_becomes_an_error() {
        let mut error = ptr::null_mut();
        // SAFETY: `error` is a local variable.
        let status = unsafe { cross(&mut error, || panic!("of {}", "all things")) };
        assert_eq!(status, BRILLM_ERROR_PANIC);
        // SAFETY: `cross` made it just now.
        let message = unsafe { CStr::from_ptr(brillm_error_message(error)) };
        assert!(message.to_str().unwrap().contains("of all things"));
        // SAFETY: its one end.
        unsafe { brillm_error_free(error) };
        // SAFETY: NULL is allowed.
        let status = unsafe { cross(ptr::null_mut(), || std::panic::panic_any(7)) };
        assert_eq!(status, BRILLM_ERROR_PANIC);
        assert_eq!(pass(3, || panic!()), 3);
    }
}
