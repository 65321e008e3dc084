//! Moments on the way of a call, as nanoseconds of the system's monotonic clock.
//!
//! The same clock as that of [`std::time::Instant`], which counts seconds and nanoseconds apart: a difference of two of
//! those takes some forty instructions, and a call takes half a dozen of them. Plain values; the event loop and what
//! users see keep the type of the standard library.

use std::fmt;
use std::num::NonZero;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A moment. Never 0, so that an `Option` of it is no bigger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(NonZero<u64>);

impl Instant {
    pub(crate) fn now() -> Self {
        // It does not fail: every Linux has this clock. Neither part is negative, and they fit for 584 years after the
        // machine was started.
        let nanos = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64);
        Self::from_nanos(nanos)
    }

    /// So many nanoseconds of the clock.
    #[inline]
    pub(crate) fn from_nanos(nanos: u64) -> Self {
        Self(NonZero::new(nanos).unwrap_or(NonZero::<u64>::MIN))
    }

    #[inline]
    pub(crate) fn to_nanos(self) -> u64 {
        self.0.get()
    }

    /// The nanoseconds since an earlier moment; 0 when that is a later one.
    #[inline]
    pub(crate) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }

    /// The same as a duration.
    #[inline]
    pub(crate) fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::now() - self
    }

    /// As the standard library has it. Good to the time between two looks at the clock.
    pub(crate) fn to_std(self) -> std::time::Instant {
        let (now, std_now) = (Self::now(), std::time::Instant::now());
        if self >= now { std_now + (self - now) } else { std_now.checked_sub(now - self).unwrap_or(std_now) }
    }
}

/// The earlier of two moments, of which neither needs to be.
#[inline]
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: what is so far away is never.
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_clock_of_the_standard_library() {
        let before = std::time::Instant::now();
        let now = Instant::now();
        let soon = now + Duration::from_secs(5);
        let (at, then) = (now.to_std(), soon.to_std());
        let slack = Duration::from_secs(1);
        assert!(at + slack > before && at < before + slack);
        assert!(then > before + Duration::from_secs(4) && then < before + Duration::from_secs(6));
        assert!(now.elapsed() < slack);
    }

    #[test]
    fn differences_and_sums_saturate() {
        let now = Instant::now();
        let later = now + Duration::from_nanos(1_234_567_891);
        assert_eq!((later.nanos_since(now), now.nanos_since(later)), (1_234_567_891, 0));
        assert_eq!((later - now, now - later), (Duration::from_nanos(1_234_567_891), Duration::ZERO));
        let never = now + Duration::MAX;
        assert!(never > later && never + Duration::MAX == never);
        assert!(never.to_std() > later.to_std());
    }

    #[test]
    fn an_option_of_it_takes_no_more_room() {
        assert_eq!(size_of::<Option<Instant>>(), size_of::<u64>());
    }
}
