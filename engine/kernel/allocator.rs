//! Settings of the C library's allocator, for programs that run for long.
//!
//! glibc gives each thread a region of its own (an arena) and keeps what is freed there; after the first large block that
//! is freed, it serves blocks of that size from arenas too. A server whose requests come and go on many threads keeps
//! several times the memory that it uses. Elsewhere the functions do nothing.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use libc::{M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt};

    /// Arenas of all threads. Small blocks come from caches of the threads, so that few are enough.
    const ARENAS: i32 = 4;
    /// Blocks from this size on are mapped, and returned to the system when they are freed.
    const MAPPED: i32 = 256 << 10;
    /// Free bytes at the end of an arena that are not returned.
    const KEPT: i32 = 1 << 20;

    pub fn return_large_blocks() {
        for (parameter, value) in [
            (M_ARENA_MAX, ARENAS),
            (M_MMAP_THRESHOLD, MAPPED),
            (M_TRIM_THRESHOLD, KEPT),
        ] {
            // SAFETY: sets a number under the allocator's lock; invalid ones are refused.
            unsafe { mallopt(parameter, value) };
        }
    }

    pub fn trim() {
        // SAFETY: takes the locks of the arenas one after the other; blocks in use do not move.
        unsafe { libc::malloc_trim(0) };
    }
}

/// Let large blocks return to the system when they are freed, and limit the number of arenas.
pub fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::return_large_blocks();
}

/// Return free pages to the system, also those between blocks in use. Takes milliseconds.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::trim();
}
