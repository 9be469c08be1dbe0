//! Runs code on hostile input: it must not panic, hang or allocate by a number it read.

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use brillm::Result;
use cpu_time::ThreadTime;

/// Records the largest single allocation.
struct Watching;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Bytes of an allocation at most.
const LIMIT: usize = 64 << 20;

/// A file this small is read in milliseconds of computing: what takes longer follows a number it should not
/// have. Waiting for the disk does not count.
const PATIENCE: Duration = Duration::from_secs(10);

/// Inputs tried by all tests of this binary so far.
pub static TRIED: AtomicUsize = AtomicUsize::new(0);

/// Check that no allocation so far was larger than the limit.
#[track_caller]
pub fn check_largest_allocation() {
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!(largest <= LIMIT, "{largest} bytes at once");
}

/// Run code on hostile input and return whether it succeeded: it must return in time, and an error must have a message.
pub fn survive<T>(what: &str, run: impl FnOnce() -> Result<T>) -> bool {
    survive_at(what, &[], run)
}

/// As [`survive`]; an error must name one of `places`, if there are any.
pub fn survive_at<T>(what: &str, places: &[&str], run: impl FnOnce() -> Result<T>) -> bool {
    TRIED.fetch_add(1, Ordering::Relaxed);
    let start = ThreadTime::now();
    let outcome = catch_unwind(AssertUnwindSafe(run));
    assert!(start.elapsed() < PATIENCE, "{what}: {:?}", start.elapsed());
    match outcome {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            let message = error.to_string();
            assert!(
                message.len() > 8
                    && (places.is_empty() || places.iter().any(|place| message.contains(place))),
                "{what}: {message:?} names none of {places:?}"
            );
            false
        }
        Err(_) => panic!("{what}: panicked"),
    }
}
