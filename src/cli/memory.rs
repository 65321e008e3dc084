//! What the C library's allocator keeps of what was freed: some of it, so that big packets find their pages there.
//!
//! A packet of a megabyte is an allocation when it is read, when it is decoded, when its reply is encoded, and when that
//! waits to be written. By default the end of a heap is given back to the system when it is free, and the next packet has
//! pages fetched, and cleared, anew: with eight calls of 1 MiB at once that was a third of the service's processor time
//! (`docs/performance.md`).

/// From this size on an allocation is a mapping of its own. Without this it would be what was freed last, up to 32 MiB.
const MAPPED_FROM: i32 = 8 << 20;

/// So much at the end of each heap is kept; a service has a heap for each busy thread, about.
const KEPT: i32 = 4 << 20;

/// Sets what is kept, for the whole process: to be called before it starts threads. Elsewhere than with glibc it does
/// nothing.
pub(super) fn keep_freed_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes two numbers and sets one of the allocator's own; no thread that could allocate at the same
        // time has been started. What it returns is whether it knows the number's name, and without it nothing but time
        // is lost.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        }
    }
}
