//! Large memory pages for large buffers: fewer page faults and fewer misses of the address cache.

/// Ask the system to back `memory` with large pages where it can (Linux with transparent huge pages set to
/// `madvise` or `always`). A hint that may have no effect.
pub fn prefer_large<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const LARGE: usize = 2 << 20;
        let start = (memory.as_mut_ptr() as usize).next_multiple_of(LARGE);
        let end = (memory.as_mut_ptr_range().end as usize) / LARGE * LARGE;
        if start < end {
            // SAFETY: the range lies within `memory`, which is mapped and exclusively borrowed; the advice
            // changes how pages are backed, never what they hold.
            unsafe {
                libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}
