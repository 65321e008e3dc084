//! A timer of the kernel that makes a descriptor readable: what sleeps on an epoll set is woken by it, and unlike the
//! timeout of the wait it costs nothing for each wait.
//!
//! Meant for edge-triggered sets: each expiry is one event, and nobody reads it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// One that is not set.
pub(crate) fn create() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    Ok(timerfd_create(TimerfdClockId::Monotonic, flags)?)
}

/// Has it expire once, when so many nanoseconds have passed, and not when it would have before.
pub(crate) fn set(timer: impl AsFd, nanos: u64) -> io::Result<()> {
    // Zero would disarm it.
    let nanos = nanos.max(1);
    // Both parts fit: it is at most 2⁶⁴ - 1 nanoseconds.
    let value = Timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(())
}
