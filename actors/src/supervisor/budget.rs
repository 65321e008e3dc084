//! How often something may fail to start before it is left alone for a while: plain code, told the time.
//!
//! So many failures in a row within a window, and a back-off begins: 100 ms, doubled by each failure that follows it,
//! up to 10 s. When it is over, one try is let through; its success forgets everything, and so does time: when nobody
//! has tried for a while, nothing is known any more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Failures further apart than this do not count together.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// So many failures in a row within [`WINDOW`] begin a back-off.
pub(crate) const FAILURES: usize = 5;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Budget {
    allowed: usize,
    /// When it failed, the last so many times in a row.
    failures: VecDeque<Instant>,
    back_off: Option<BackOff>,
}

#[derive(Debug)]
struct BackOff {
    since: Instant,
    until: Instant,
    delay: Duration,
    /// The one try after the back-off is under way, since then.
    trying: Option<Instant>,
}

impl Budget {
    /// A back-off begins with the failure number `allowed`.
    pub(crate) fn new(allowed: usize) -> Self {
        Self { allowed, failures: VecDeque::new(), back_off: None }
    }

    /// Whether it may be tried now; else after how long.
    pub(crate) fn ask(&mut self, now: Instant) -> Result<(), Duration> {
        let Some(back_off) = &mut self.back_off else { return Ok(()) };
        if now < back_off.until {
            return Err(back_off.until - now);
        }
        // A try that is never heard of again does not block for ever.
        let is_tried = back_off.trying.is_some_and(|since| now.saturating_duration_since(since) < LAST_DELAY);
        if is_tried {
            return Err(back_off.delay);
        }
        back_off.trying = Some(now);
        Ok(())
    }

    /// It failed. Returns whether that begins a back-off.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        if let Some(back_off) = &mut self.back_off {
            // Tries that were under way when the back-off began do not make it longer.
            if back_off.trying.take().is_some() {
                back_off.delay = (back_off.delay * 2).min(LAST_DELAY);
                back_off.until = now + back_off.delay;
            }
            return false;
        }
        self.failures.push_back(now);
        while self.failures.front().is_some_and(|&first| now.saturating_duration_since(first) > WINDOW) {
            self.failures.pop_front();
        }
        if self.failures.len() < self.allowed {
            return false;
        }
        self.failures.clear();
        self.back_off = Some(BackOff { since: now, until: now + FIRST_DELAY, delay: FIRST_DELAY, trying: None });
        true
    }

    /// It succeeded: everything is forgotten. Returns whether that ends a back-off.
    pub(crate) fn succeeded(&mut self) -> bool {
        self.failures.clear();
        self.back_off.take().is_some()
    }

    /// Forgets a back-off that was over so long ago that its failures do not count together with what comes now, and
    /// that nobody has tried anything since. Returns whether there was one.
    pub(crate) fn forget(&mut self, now: Instant) -> bool {
        let last =
            self.back_off.as_ref().map(|back_off| back_off.trying.map_or(back_off.until, |at| at.max(back_off.until)));
        last.is_some_and(|last| now.saturating_duration_since(last) > WINDOW) && self.succeeded()
    }

    /// Whether nothing has failed since the last success.
    pub(crate) fn is_untouched(&self) -> bool {
        self.failures.is_empty() && self.back_off.is_none()
    }

    /// Since when it is left alone, and until when; `None` while it is not.
    pub(crate) fn back_off(&self) -> Option<(Instant, Instant)> {
        self.back_off.as_ref().map(|back_off| (back_off.since, back_off.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn five_failures_in_a_row_within_ten_seconds_begin_a_back_off_of_a_tenth_of_one() {
        let now = Instant::now();
        let mut budget = Budget::new(FAILURES);
        for failure in 1..=4 {
            assert!(!budget.failed(now), "{failure}");
            assert_eq!(budget.ask(now), Ok(()));
        }
        assert!(budget.failed(now + 50 * MS));
        assert_eq!(budget.ask(now + 60 * MS), Err(90 * MS));
        assert_eq!(budget.back_off(), Some((now + 50 * MS, now + 150 * MS)));
    }

    #[test]
    fn failures_that_are_far_apart_or_between_successes_begin_none() {
        let now = Instant::now();
        let mut budget = Budget::new(FAILURES);
        for failure in 0..50 {
            assert!(!budget.failed(now + failure * (WINDOW / 4 + MS)));
        }
        let mut budget = Budget::new(FAILURES);
        for failure in 0..50 {
            assert!(!budget.failed(now));
            if failure % 4 == 3 {
                assert!(!budget.succeeded());
            }
        }
    }

    #[test]
    fn after_a_back_off_one_try_is_let_through_and_its_failure_doubles_the_next_up_to_ten_seconds() {
        let mut now = Instant::now();
        let mut budget = Budget::new(1);
        assert!(budget.failed(now));
        for delay in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            assert_eq!(budget.ask(now), Err(delay * MS));
            now += delay * MS;
            assert_eq!(budget.ask(now), Ok(()));
            assert!(budget.ask(now).is_err(), "a second one");
            assert!(!budget.failed(now));
            // One that was under way all the time changes nothing.
            assert!(!budget.failed(now));
        }
    }

    #[test]
    fn a_try_that_succeeds_forgets_everything() {
        let now = Instant::now();
        let mut budget = Budget::new(1);
        budget.failed(now);
        assert_eq!(budget.ask(now + 100 * MS), Ok(()));
        assert!(budget.succeeded());
        assert!(budget.is_untouched() && budget.back_off().is_none());
        assert!(budget.failed(now + 100 * MS));
        assert_eq!(budget.ask(now + 100 * MS), Err(100 * MS));
    }

    #[test]
    fn a_back_off_that_nobody_cares_for_any_more_is_forgotten() {
        let now = Instant::now();
        let mut budget = Budget::new(1);
        assert!(!budget.forget(now));
        budget.failed(now);
        let over = now + 100 * MS;
        assert!(!budget.forget(over + WINDOW));
        assert_eq!(budget.ask(over + WINDOW), Ok(()));
        assert!(!budget.forget(over + WINDOW + MS), "it is being tried");
        budget.failed(over + WINDOW + 2 * MS);
        let over = over + WINDOW + 202 * MS;
        assert!(!budget.forget(over + WINDOW));
        assert!(budget.forget(over + WINDOW + MS));
        assert!(budget.is_untouched());
    }

    #[test]
    fn a_try_that_is_never_heard_of_again_does_not_block_for_ever() {
        let now = Instant::now() + 100 * MS;
        let mut budget = Budget::new(1);
        budget.failed(now - 100 * MS);
        assert_eq!(budget.ask(now), Ok(()));
        assert!(budget.ask(now + LAST_DELAY / 2).is_err());
        assert_eq!(budget.ask(now + LAST_DELAY), Ok(()));
    }
}
