//! The bytes that are allocated in this process right now, exactly.
//!
//! Resident memory says what the allocator keeps, which moves by megabytes for reasons of its own; a leak of a few
//! bytes per call would hide in it for an hour.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

#[global_allocator]
static COUNTING: Counting = Counting(AtomicIsize::new(0));

struct Counting(AtomicIsize);

/// How many bytes are allocated.
pub fn allocated() -> isize {
    COUNTING.0.load(Relaxed)
}

// SAFETY: every call is passed on to the system's allocator as it came; the count beside it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.0.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: `block` came from `System` by one of the functions here, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.0.fetch_add(size as isize - layout.size() as isize, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}
