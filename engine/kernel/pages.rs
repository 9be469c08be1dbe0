//! Advice to the system about memory pages: large ones for large buffers, which take fewer page faults and miss the address
//! cache less often, and mapped ones that are not read any more.

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

/// Remove the pages of a mapped file from the memory of this process until they are read again (Linux).
pub fn release(map: &memmap2::Mmap) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the map is read-only, so that its pages hold what the file holds, and reading maps them again; pages of
        // zeros are zeros again.
        let _hint = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = map;
}
