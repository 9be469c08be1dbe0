//! An allocator that aborts when an input makes the program hold much more memory than the input has bytes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that every input may take.
const SMALL: usize = 64 << 20;
/// Bytes that an input may take for each of its own.
const TIMES: usize = 10;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(usize::MAX);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Limit the memory that is allocated from now on, for an input of `length` bytes.
///
/// `BRILLM_FUZZ_MB` lowers the constant part, to find inputs that take much for their size.
pub fn limit(length: usize) {
    static CONSTANT: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    let constant = *CONSTANT.get_or_init(|| {
        let set = std::env::var("BRILLM_FUZZ_MB").ok();
        set.and_then(|megabytes| megabytes.parse::<usize>().ok())
            .map_or(SMALL, |megabytes| megabytes << 20)
    });
    let most = constant.max(TIMES * length);
    MOST.store(LIVE.load(Relaxed) + most, Relaxed);
}

fn grow(by: usize) {
    if LIVE.fetch_add(by, Relaxed).saturating_add(by) > MOST.load(Relaxed) {
        // No memory is needed to report it; libFuzzer writes the input when the process aborts.
        let message = b"ERROR: the input takes more memory than the limit\n";
        // SAFETY: the message is valid for its length.
        unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
        std::process::abort();
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
