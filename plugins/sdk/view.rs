//! From the door's views to slices.

use brillm_abi as abi;

/// Reads a table of which the other side knows `struct_size` bytes; what it does not know is zero.
///
/// # Safety
/// `table` is null or points at `struct_size` readable bytes, its first field. All bytes zero must be a value
/// of `T`, and `T` begins with the field.
pub(crate) unsafe fn read<T: Copy>(table: *const T) -> Option<T> {
    if table.is_null() {
        return None;
    }
    // SAFETY: a table begins with its size, as the caller promises.
    let known = unsafe { table.cast::<u64>().read() } as usize;
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: no more than the other side knows is read and no more than `T` holds is written; zeroed bytes are
    // a value of `T`, as the caller promises.
    unsafe {
        std::ptr::copy_nonoverlapping(
            table.cast::<u8>(),
            value.as_mut_ptr().cast::<u8>(),
            known.min(size_of::<T>()),
        );
        Some(value.assume_init())
    }
}

/// Whether a table of the host is at least as long as ours.
///
/// # Safety
/// `table` is null or begins with its size.
pub(crate) unsafe fn whole<T>(table: *const T) -> bool {
    // SAFETY: a table begins with its size.
    !table.is_null() && unsafe { table.cast::<u64>().read() } as usize >= size_of::<T>()
}

/// # Safety
/// The view is null or holds for `'a`.
pub(crate) unsafe fn text<'a>(view: abi::brl_str) -> &'a str {
    // SAFETY: as for `bytes`.
    std::str::from_utf8(unsafe { bytes(view) }).unwrap_or("")
}

/// # Safety
/// The view is null or holds for `'a`.
pub(crate) unsafe fn bytes<'a>(view: abi::brl_str) -> &'a [u8] {
    if view.ptr.is_null() || view.len == 0 {
        return &[];
    }
    // SAFETY: the view holds, as the caller promises.
    unsafe { std::slice::from_raw_parts(view.ptr.cast(), view.len as usize) }
}

/// # Safety
/// The view is null or holds for `'a`.
pub(crate) unsafe fn ids<'a>(view: abi::brl_ids) -> &'a [u32] {
    if view.ptr.is_null() || view.len == 0 {
        return &[];
    }
    // SAFETY: the view holds, as the caller promises.
    unsafe { std::slice::from_raw_parts(view.ptr, view.len as usize) }
}

/// A dense tensor of `T`; empty where it was not supplied or is something else.
///
/// # Safety
/// The view is null or holds for `'a`.
pub(crate) unsafe fn dense<'a, T: Copy>(view: &abi::brl_tensor, dtype: u32) -> &'a [T] {
    let rank = (view.rank as usize).min(4);
    let mut count = 1;
    for axis in (0..rank).rev() {
        if view.shape[axis] > 1 && view.stride[axis] != count as i64 {
            return &[];
        }
        count *= view.shape[axis];
    }
    if view.ptr.is_null() || view.dtype != dtype || rank == 0 || count == 0 {
        return &[];
    }
    // SAFETY: the view holds, as the caller promises, and its elements lie one after the other.
    unsafe { std::slice::from_raw_parts(view.ptr.cast(), count as usize) }
}

/// # Safety
/// As [`dense`].
pub(crate) unsafe fn floats<'a>(view: &abi::brl_tensor) -> &'a [f32] {
    // SAFETY: as the caller promises.
    unsafe { dense(view, abi::BRL_F32) }
}

/// # Safety
/// The buffer is null or ours alone for `'a`.
pub(crate) unsafe fn floats_mut<'a>(buffer: abi::brl_f32s) -> &'a mut [f32] {
    if buffer.ptr.is_null() || buffer.len == 0 {
        return &mut [];
    }
    // SAFETY: the buffer is ours, as the caller promises.
    unsafe { std::slice::from_raw_parts_mut(buffer.ptr, buffer.len as usize) }
}

/// # Safety
/// The buffer is null or ours alone for `'a`.
pub(crate) unsafe fn ids_mut<'a>(buffer: abi::brl_u32s) -> &'a mut [u32] {
    if buffer.ptr.is_null() || buffer.len == 0 {
        return &mut [];
    }
    // SAFETY: the buffer is ours, as the caller promises.
    unsafe { std::slice::from_raw_parts_mut(buffer.ptr, buffer.len as usize) }
}

/// A string as the door takes it.
pub(crate) const fn lend(text: &str) -> abi::brl_str {
    abi::brl_str {
        ptr: text.as_ptr().cast(),
        len: text.len() as u64,
    }
}
