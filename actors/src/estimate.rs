//! How long the calls of a procedure take, by measurement.
//!
//! One number per procedure, shared by all workers, read when calls are put together into batches. It rises fast and
//! falls slowly, so that a procedure that is sometimes slow soon travels alone; one outlier (a thread that was not
//! scheduled for a while) raises it by a bounded factor only. Written with relaxed atomics: a lost update costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The time of work that a worker may take in one batch, by these estimates. Waking a thread costs about half of it.
pub(crate) const QUANTUM: Duration = Duration::from_micros(50);

/// [`QUANTUM`] in nanoseconds.
pub(crate) const QUANTUM_NS: u64 = QUANTUM.as_nanos() as u64;

/// A call that would wait longer than this is a reason for another worker.
pub(crate) const MAX_WAIT: Duration = Duration::from_millis(1);

/// [`MAX_WAIT`] in nanoseconds: also what a call of a procedure counts that was never measured.
pub(crate) const MAX_WAIT_NS: u64 = MAX_WAIT.as_nanos() as u64;

/// The measured time of one procedure in nanoseconds. Before the first measurement it counts as slow.
///
/// Workers write it and I/O arbiters read it, so it has cache lines of its own (two, because processors fetch them in
/// pairs), what changes little is not written, and a worker looks at it again only where a call says something new.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Estimate(AtomicU64);

impl Default for Estimate {
    fn default() -> Self {
        Self(AtomicU64::new(UNKNOWN))
    }
}

const UNKNOWN: u64 = u64::MAX;

/// A measurement that differs from the estimate by at most one part in so many leaves it as it is.
const NEAR: u64 = 8;

impl Estimate {
    /// The expected time of a call in nanoseconds; [`MAX_WAIT_NS`] when nothing is known.
    pub(crate) fn get(&self) -> u64 {
        match self.0.load(Ordering::Relaxed) {
            UNKNOWN => MAX_WAIT_NS,
            known => known,
        }
    }

    /// Takes in the time of one call, in nanoseconds.
    #[cfg(test)]
    pub(crate) fn observe(&self, took: u64) {
        self.observe_after(&mut None, took);
    }

    /// Takes in the time of one call, in nanoseconds, for one who has `seen` the estimate before, and looks at it again
    /// only where this call says something new: while others write it, each look costs as much as a quick call.
    #[inline]
    pub(crate) fn observe_after(&self, seen: &mut Option<u64>, took: u64) {
        let took = took.min(UNKNOWN - 1);
        if seen.is_some_and(|seen| is_near(seen, took)) {
            return;
        }
        let mut known = self.0.load(Ordering::Relaxed);
        if !is_near(known, took) {
            known = next(known, took);
            self.0.store(known, Ordering::Relaxed);
        }
        *seen = Some(known);
    }
}

fn is_near(known: u64, took: u64) -> bool {
    known.abs_diff(took) <= known / NEAR
}

fn next(old: u64, took: u64) -> u64 {
    if old == UNKNOWN {
        took
    } else if took > old {
        let bounded = took.min(old.saturating_mul(8).saturating_add(2_000));
        old + (bounded - old) / 4
    } else {
        old - (old - took).div_ceil(16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_procedure_travels_alone_and_the_first_measurement_counts_whole() {
        let estimate = Estimate::default();
        assert!(estimate.get() > QUANTUM_NS);
        estimate.observe(300);
        assert_eq!(estimate.get(), 300);
    }

    #[test]
    fn who_has_seen_the_estimate_looks_at_it_again_only_when_a_call_says_something_new() {
        let estimate = Estimate::default();
        let mut seen = None;
        estimate.observe_after(&mut seen, 800);
        assert_eq!(seen, Some(800));
        // Another thread changes it.
        estimate.0.store(5_000, Ordering::Relaxed);
        estimate.observe_after(&mut seen, 850);
        assert_eq!((seen, estimate.get()), (Some(800), 5_000));
        estimate.observe_after(&mut seen, 1_000);
        assert_eq!((seen, estimate.get()), (Some(4_750), 4_750));
        estimate.observe_after(&mut seen, 850);
        assert_eq!((seen, estimate.get()), (Some(4_506), 4_506), "it has seen what it is now");
    }

    #[test]
    fn measurements_near_the_estimate_leave_it_as_it_is() {
        let estimate = Estimate::default();
        for nanos in [800, 880, 720] {
            estimate.observe(nanos);
            assert_eq!(estimate.get(), 800);
        }
        estimate.observe(600);
        assert!(estimate.get() < 800);
    }

    #[test]
    fn a_procedure_that_turned_slow_is_known_as_slow_within_six_calls() {
        let mut estimate = 300;
        let calls = (1..).find(|_| {
            estimate = next(estimate, 1_000_000);
            estimate > QUANTUM_NS
        });
        assert!(calls <= Some(6), "{calls:?}");
    }

    #[test]
    fn one_outlier_does_not_make_a_quick_procedure_slow() {
        assert!(next(300, 4_000_000) < QUANTUM_NS / 10);
    }

    #[test]
    fn it_falls_back_to_what_is_measured() {
        let mut estimate = 1_000_000;
        for _ in 0..500 {
            estimate = next(estimate, 300);
        }
        assert_eq!(estimate, 300);
    }
}
