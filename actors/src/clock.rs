//! The clock of a thread that looks at it for each call: [`Clock`].
//!
//! To ask the system takes 27 ns, a twelfth of what an inline call takes, and to read the processor's counter 11: the
//! system waits until all that was begun has ended before it reads it. So it is asked once for a batch of calls, and
//! between them the counter says how much time has passed since. How long a tick of it is, two looks at both tell. Where
//! there is no counter that goes on at the same rate whatever the processor does, each look is one at the system's clock.
//!
//! Owned by one thread, and used by no other. No time that it tells is further from a look at the system's clock than
//! [`FAR_NS`], so whatever is wrong with the counter, it does not last.

use std::cell::Cell;

use crate::time::Instant;

/// What is so long ago that the system is asked again. 1 ms, in which a counter that is off by a thousandth is off by 1 µs.
const FAR_NS: u64 = 1_000_000;

/// For so long both are watched before a tick is known for the first time, and again before it is corrected.
const FIRST_NS: u64 = 10_000_000;
const AGAIN_NS: u64 = 1_000_000_000;

/// Who took more ticks between the counter, the clock and the counter again was interrupted, and learns nothing: 20,000
/// ticks are 4 to 10 µs.
const AT_ONCE: u64 = 20_000;

/// A tick of 1/16 to 16 ns is believed, as fractions of 2³² of a nanosecond.
const SANE: std::ops::RangeInclusive<u64> = 1 << 28..=1 << 36;

/// What time it is, for one thread.
#[derive(Debug)]
pub(crate) struct Clock {
    has_counter: bool,
    /// The last look at the system's clock, and the counter then.
    seen: Cell<Instant>,
    ticks: Cell<u64>,
    /// How long a tick is, in 2³² of a nanosecond.
    tick: Cell<u64>,
    /// So many ticks are [`FAR_NS`]; none while it is not known how long one is.
    far: Cell<u64>,
    /// The look from which on ticks are compared with nanoseconds, and when they are.
    mark: Cell<Option<(Instant, u64)>>,
    due: Cell<Instant>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self::with_counter(counter::is_steady())
    }

    fn with_counter(has_counter: bool) -> Self {
        let (ticks, tick, far, mark) = Default::default();
        let (seen, due) = (Cell::new(Instant::from_nanos(1)), Cell::new(Instant::from_nanos(1)));
        Self { has_counter, seen, ticks, tick, far, mark, due }
    }

    /// Asks the system.
    pub(crate) fn look(&self) -> Instant {
        if !self.has_counter {
            return Instant::now();
        }
        let before = counter::read();
        let now = Instant::now();
        self.saw(now, before, counter::read());
        now
    }

    /// The time, by the counter if that can be. May be earlier than a look at the system's clock that was taken before it,
    /// by what the counter is off in a millisecond and by what lay between clock and counter at the last look: 10 µs at
    /// most.
    #[inline(always)]
    pub(crate) fn now(&self) -> Instant {
        if self.has_counter
            && let Some(now) = self.at(counter::read())
        {
            return now;
        }
        self.look()
    }

    /// The time when the counter says this, if the last look at the system's clock tells.
    #[inline(always)]
    fn at(&self, ticks: u64) -> Option<Instant> {
        // Much, if the counter went back.
        let passed = ticks.wrapping_sub(self.ticks.get());
        if passed >= self.far.get() {
            return None;
        }
        // No more than `FAR_NS` times 2³².
        Some(Instant::from_nanos(self.seen.get().to_nanos() + ((passed * self.tick.get()) >> 32)))
    }

    /// It is now by the system's clock, which was asked between these two looks at the counter.
    #[inline]
    fn saw(&self, now: Instant, before: u64, ticks: u64) {
        self.seen.set(now);
        if ticks.wrapping_sub(before) > AT_ONCE {
            // What the counter says from here on is too late: far from now, so that the system is asked again.
            self.ticks.set(ticks.wrapping_sub(u64::MAX / 2));
            return;
        }
        self.ticks.set(ticks);
        if now >= self.due.get() {
            self.learn(now, ticks);
        }
    }

    /// Learns from two looks at once how long a tick is.
    #[cold]
    fn learn(&self, now: Instant, ticks: u64) {
        if let Some((marked_at, marked)) = self.mark.get() {
            let passed = u128::from(now.nanos_since(marked_at)) << 32;
            let tick = passed.checked_div(ticks.wrapping_sub(marked).into());
            let tick = tick.and_then(|tick| u64::try_from(tick).ok()).filter(|tick| SANE.contains(tick));
            match tick {
                // A machine that slept, or was moved to another one, has another idea of either.
                Some(tick) if self.far.get() == 0 || tick.abs_diff(self.tick.get()) <= tick / 1000 => {
                    self.tick.set(tick);
                    self.far.set((FAR_NS << 32) / tick);
                }
                _ => self.far.set(0),
            }
        }
        let window = if self.far.get() > 0 { AGAIN_NS } else { FIRST_NS };
        self.mark.set(Some((now, ticks)));
        self.due.set(Instant::from_nanos(now.to_nanos().saturating_add(window)));
    }
}

/// The processor's counter.
#[cfg(all(target_arch = "x86_64", not(miri), not(feature = "bench")))]
mod counter {
    use std::arch::x86_64::{__cpuid, _rdtsc};

    /// Whether there is one that counts at the same rate whatever the processor does.
    pub(super) fn is_steady() -> bool {
        const POWER: u32 = 0x8000_0007;
        const STEADY: u32 = 1 << 8;
        // SAFETY: every processor of this architecture has this instruction.
        #[allow(unused_unsafe, reason = "safe from Rust 1.94 on")]
        let ask = |leaf| unsafe { __cpuid(leaf) };
        ask(0x8000_0000).eax >= POWER && ask(POWER).edx & STEADY != 0
    }

    #[inline(always)]
    pub(super) fn read() -> u64 {
        // SAFETY: it reads a register that every processor of this architecture has, and that Linux lets everybody read
        // who has not asked for the opposite (`PR_SET_TSC`).
        unsafe { _rdtsc() }
    }
}

/// None: the benchmarks have a clock of their own, which goes the same way each time.
#[cfg(not(all(target_arch = "x86_64", not(miri), not(feature = "bench"))))]
mod counter {
    pub(super) fn is_steady() -> bool {
        false
    }

    pub(super) fn read() -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MS: u64 = 1_000_000;

    /// Has seen a tick of half a nanosecond for as long as it takes to believe it.
    fn clock() -> (Clock, Instant, u64) {
        let clock = Clock::with_counter(true);
        clock.saw(ns(MS), 7, 7);
        assert_eq!(clock.at(8), None);
        let (now, ticks) = (ns(MS + FIRST_NS), 7 + 2 * FIRST_NS);
        clock.saw(now, ticks, ticks);
        (clock, now, ticks)
    }

    fn ns(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    fn later(now: Instant, nanos: u64) -> Instant {
        now + Duration::from_nanos(nanos)
    }

    #[test]
    fn a_tick_is_as_long_as_two_looks_at_the_clock_say() {
        let (clock, now, ticks) = clock();
        assert_eq!(clock.at(ticks), Some(now));
        assert_eq!(clock.at(ticks + 2000), Some(later(now, 1000)));
    }

    #[test]
    fn the_system_is_asked_again_after_a_millisecond_and_where_the_counter_goes_back() {
        let (clock, now, ticks) = clock();
        assert_eq!(clock.at(ticks + 2 * FAR_NS - 2), Some(later(now, FAR_NS - 1)));
        assert_eq!(clock.at(ticks + 2 * FAR_NS), None);
        assert_eq!(clock.at(ticks - 1), None);
    }

    #[test]
    fn a_tick_is_corrected_where_it_is_a_little_off_and_not_believed_where_it_is_much() {
        let (clock, mut now, mut ticks) = clock();
        let mut after_a_second = |n_ticks: u64| {
            (now, ticks) = (later(now, AGAIN_NS), ticks.wrapping_add(n_ticks));
            clock.saw(now, ticks, ticks);
            clock.at(ticks.wrapping_add(1_000_000)).map(|then| then.nanos_since(now))
        };
        assert_eq!(after_a_second(2 * AGAIN_NS), Some(500_000));
        assert_eq!(after_a_second(2 * AGAIN_NS + AGAIN_NS / 1000), Some(499_750));
        // As after the machine slept.
        assert_eq!(after_a_second(1000 * AGAIN_NS), None);
        assert_eq!(after_a_second(4 * AGAIN_NS), Some(250_000));
        assert_eq!(after_a_second(0), None);
        assert_eq!(after_a_second(AGAIN_NS / 32), None);
    }

    #[test]
    fn who_was_interrupted_between_clock_and_counter_learns_nothing_and_asks_again() {
        let (clock, now, ticks) = clock();
        let (then, late) = (later(now, AGAIN_NS), ticks + 2 * AGAIN_NS);
        clock.saw(then, late, late + AT_ONCE + 1);
        assert_eq!(clock.at(late + AT_ONCE + 1 + 2000), None);
        assert_eq!(clock.mark.get(), Some((now, ticks)));
        clock.saw(then, late, late + AT_ONCE);
        // A tick is 10 millionths shorter by what was learnt just now.
        assert_eq!(clock.at(late + AT_ONCE + 2000), Some(later(then, 999)));
    }

    #[test]
    fn it_is_the_clock_of_the_system() {
        let clock = Clock::new();
        let end = Instant::now() + Duration::from_millis(50);
        let mut told = Instant::now();
        while told < end {
            let before = Instant::now();
            // What it is off in a millisecond, by a rate that the first ten told.
            let slack = Duration::from_micros(20);
            told = clock.now();
            let after = Instant::now();
            assert!(told + slack >= before && told <= after + slack, "{before:?} {told:?} {after:?}");
        }
    }

    #[test]
    fn without_a_counter_each_look_is_one_at_the_system_s_clock() {
        let clock = Clock::with_counter(false);
        let before = Instant::now();
        let (now, look) = (clock.now(), clock.look());
        assert!(before <= now && now <= look && look <= Instant::now());
        assert_eq!(clock.mark.get(), None);
    }
}
