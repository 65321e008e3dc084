//! What the C library's allocator keeps of what was freed: much of it while there is work, so that big packets find
//! their pages there, and next to nothing when the process is quiet.
//!
//! A packet of a megabyte is an allocation when it is read, when it is decoded, when its reply is encoded, and when that
//! waits to be written. By default the end of a heap is given back to the system when it is free, and the next packet has
//! pages fetched, and cleared, anew: with eight calls of 1 MiB at once that was a third of the service's processor time
//! (`docs/performance.md`).

use std::convert::Infallible;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// From this size on an allocation is a mapping of its own. Without this it would be what was freed last, up to 32 MiB.
const MAPPED_FROM: i32 = 8 << 20;

/// So much at the end of each heap is kept while there is work; a service has a heap for each busy thread, about.
const KEPT: i32 = 16 << 20;

/// How often is looked whether the process is quiet.
const EVERY: Duration = Duration::from_secs(10);

/// A process that took less processor time than this part of the time is quiet.
const QUIET: u32 = 100;

/// Processor time in which something may have been freed that is worth to be given back. A hundred calls of a megabyte
/// take several times that. A service that has nothing to do takes it within some rounds: it has little to give back then,
/// which costs little.
const WORK: Duration = Duration::from_millis(10);

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

/// Gives back what is kept, each time that the process has become quiet. Never ends; needs the timers of a tokio
/// runtime. Dropping it loses nothing.
pub(crate) async fn give_back_when_quiet() -> Infallible {
    let mut lull = Lull::default();
    loop {
        tokio::time::sleep(EVERY).await;
        if lull.begins(processor_time(), EVERY) {
            give_back();
        }
    }
}

/// Gives free pages of all heaps back to the system. A thread that allocates from a heap just then waits until that one
/// is done with, so this is nothing for times with work.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes the allocator's own locks, may be called at any time and by any thread, and moves nothing
        // that is allocated. What it returns is whether there was anything.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// The processor time that this process has taken.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // It begins at 0 and grows, and a nanosecond's part of a second fits.
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Whether the process has work.
#[derive(Debug, Default)]
struct Lull {
    /// The processor time when it was looked at last.
    taken: Duration,
    /// The processor time when what it kept was given back last.
    given_back: Duration,
}

impl Lull {
    /// Whether the process has become quiet: it takes hardly any processor time, and has worked since this was true last,
    /// if only for a moment.
    /// `taken` is the processor time of the process up to now, `passed` the time since this was asked last.
    fn begins(&mut self, taken: Duration, passed: Duration) -> bool {
        let is_quiet = taken.saturating_sub(self.taken) < passed / QUIET;
        self.taken = taken;
        let begins = is_quiet && taken.saturating_sub(self.given_back) >= WORK;
        if begins {
            self.given_back = taken;
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_given_back_once_when_work_ends_and_not_while_there_is_some() {
        let mut lull = Lull::default();
        let mut taken = Duration::ZERO;
        let mut begins = |millis: u64| {
            taken += Duration::from_millis(millis);
            lull.begins(taken, EVERY)
        };
        assert_eq!([begins(1), begins(8000), begins(15_000), begins(200)], [false; 4]);
        assert_eq!([begins(1), begins(1), begins(0)], [true, false, false]);
        assert_eq!([begins(9000), begins(0)], [false, true]);
        assert!(begins(30), "a burst that is over when it is looked");
        assert_eq!([begins(1), begins(1)], [false; 2]);
    }
}
