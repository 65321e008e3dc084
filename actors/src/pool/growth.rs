//! How many workers there should be: plain code, told the time.
//!
//! [`decide`] looks at what waits and at what each worker does, and says how many are to start, who is to leave, and
//! when to look again. It knows neither threads nor calls; the supervisor does what it says.
//!
//! A call is worth another worker when it would wait longer than [`MAX_WAIT`] by measured time, or has. Quick calls
//! (at most [`QUANTUM`](crate::estimate::QUANTUM) each) compute rather than wait, so they are worth no more than a
//! worker for each core that is not stuck in something slow.

use std::time::Duration;

use crate::estimate::{MAX_WAIT, MAX_WAIT_NS};
use crate::time::Instant;

/// How many workers there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// After this time an idle worker leaves, if there are more than `min`.
    pub(crate) idle_timeout: Duration,
    pub(crate) cores: usize,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is idle, or was just started.
    Idle {
        /// Since when.
        since: Instant,
    },
    /// It runs calls.
    Busy {
        /// When it is expected to be done with them.
        free_in: Duration,
    },
}

/// The calls that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) calls: usize,
    /// The expected time of the quick ones.
    pub(crate) quick_ns: u64,
    /// The expected time of the others, each [`MAX_WAIT`] at most: more of it does not let the next wait longer.
    pub(crate) slow_ns: u64,
    /// How long the next one has waited.
    pub(crate) waited: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// So many workers are to start.
    pub(crate) start: usize,
    /// These are to leave because they have been idle for long; one that is claimed meanwhile stays.
    pub(crate) idle: Vec<usize>,
    /// These are to leave because there are too many; those at work when they are done.
    pub(crate) surplus: Vec<usize>,
    /// When to look again, if nothing happens before.
    pub(crate) again: Option<Instant>,
}

/// Decides about workers, given those that are not about to leave, by number.
pub(crate) fn decide(bounds: &Bounds, workers: &[(usize, State)], demand: &Demand, now: Instant) -> Decision {
    let count = workers.len();
    if count > bounds.max {
        let again = (bounds.max > bounds.min).then(|| now + bounds.idle_timeout);
        return Decision { surplus: surplus(workers, count - bounds.max), again, ..Decision::default() };
    }
    let wanted = wanted(bounds, workers, demand).min(bounds.max - count);
    let start = wanted.max(bounds.min.saturating_sub(count));
    let mut decision = Decision { start, ..Decision::default() };
    if demand.calls > 0 {
        if count + start < bounds.max {
            decision.again = Some(now + MAX_WAIT);
        } else if count + start > bounds.min {
            // Somebody has to send them away again.
            decision.again = Some(now + bounds.idle_timeout);
        }
    } else if count > bounds.min {
        // The highest numbers leave first: claims prefer the lowest, so these were idle for longest.
        let mut next = None;
        for &(worker, state) in workers.iter().rev() {
            let due = match state {
                State::Idle { since } => since + bounds.idle_timeout,
                State::Busy { .. } => now + bounds.idle_timeout,
            };
            if due <= now && decision.idle.len() < count - bounds.min {
                decision.idle.push(worker);
            } else {
                next = Some(next.map_or(due, |next: Instant| next.min(due)));
            }
        }
        if count - decision.idle.len() > bounds.min {
            decision.again = next;
        }
    }
    decision
}

/// How many more workers the waiting calls are worth.
fn wanted(bounds: &Bounds, workers: &[(usize, State)], demand: &Demand) -> usize {
    if demand.calls == 0 {
        return 0;
    }
    // What the workers can do within the time that a call may wait.
    let mut supply = 0;
    let mut unstuck = 0;
    for (_, state) in workers {
        let free = match state {
            State::Idle { .. } => MAX_WAIT,
            State::Busy { free_in } => MAX_WAIT.saturating_sub(*free_in),
        };
        if !free.is_zero() {
            unstuck += 1;
            // At most a millisecond.
            supply += free.as_nanos() as u64;
        }
    }
    let quick_counts = unstuck < bounds.cores;
    let quick = if quick_counts { demand.quick_ns } else { demand.quick_ns.min(supply) };
    let missing = (demand.slow_ns + quick).saturating_sub(supply);
    let by_time = usize::try_from((missing + MAX_WAIT_NS / 2) / MAX_WAIT_NS).unwrap_or(usize::MAX);
    let has_idle = workers.iter().any(|(_, state)| matches!(state, State::Idle { .. }));
    let has_waited = demand.waited > MAX_WAIT && !has_idle && (quick_counts || demand.slow_ns > 0);
    // Who has waited although all are stuck was measured wrongly; the longer it takes, the more so.
    let by_waiting = if supply == 0 { (demand.waited.as_nanos() / MAX_WAIT.as_nanos()) as usize } else { 0 };
    by_time.max(by_waiting.min(demand.calls)).max(usize::from(supply == 0 || has_waited))
}

/// Those who leave when there are too many: idle ones first, and of those the highest numbers.
fn surplus(workers: &[(usize, State)], count: usize) -> Vec<usize> {
    let mut order: Vec<(bool, usize)> =
        workers.iter().map(|(worker, state)| (matches!(state, State::Idle { .. }), *worker)).collect();
    order.sort_unstable_by(|one, other| other.cmp(one));
    order.into_iter().take(count).map(|(_, worker)| worker).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { min: 2, max: 5, idle_timeout: Duration::from_secs(60), cores: 2 };

    fn busy(free_in: Duration) -> State {
        State::Busy { free_in }
    }

    fn slow(calls: usize) -> Demand {
        Demand { calls, slow_ns: calls as u64 * MAX_WAIT_NS, ..Demand::default() }
    }

    fn quick(calls: usize) -> Demand {
        Demand { calls, quick_ns: calls as u64 * 300, ..Demand::default() }
    }

    fn all(state: State, count: usize) -> Vec<(usize, State)> {
        (0..count).map(|worker| (worker, state)).collect()
    }

    #[test]
    fn slow_calls_that_wait_get_a_worker_each_at_once_up_to_the_maximum() {
        let now = Instant::now();
        let stuck = all(busy(MAX_WAIT), 2);
        assert_eq!(decide(&BOUNDS, &stuck, &slow(1), now).start, 1);
        assert_eq!(decide(&BOUNDS, &stuck, &slow(2), now).start, 2);
        let decision = decide(&BOUNDS, &stuck, &slow(4), now);
        assert_eq!((decision.start, decision.again), (3, Some(now + BOUNDS.idle_timeout)));
    }

    #[test]
    fn a_worker_that_starts_counts_as_one_that_will_take_a_call() {
        let now = Instant::now();
        let mut workers = all(busy(MAX_WAIT), 2);
        workers.push((2, State::Idle { since: now }));
        assert_eq!(decide(&BOUNDS, &workers, &slow(1), now).start, 0);
        assert_eq!(decide(&BOUNDS, &workers, &slow(2), now).start, 1);
    }

    #[test]
    fn quick_calls_start_no_worker_while_a_core_has_one_that_is_not_stuck() {
        let now = Instant::now();
        let working = all(busy(Duration::from_micros(40)), 2);
        for calls in [1, 100, 10_000] {
            let waited = Demand { waited: 5 * MAX_WAIT, ..quick(calls) };
            assert_eq!(decide(&BOUNDS, &working, &waited, now).start, 0, "{calls}");
        }
        // Both are stuck in slow calls: one more serves the quick ones, and no more than a core can.
        let stuck = all(busy(100 * MAX_WAIT), 2);
        assert_eq!(decide(&BOUNDS, &stuck, &quick(100), now).start, 1);
    }

    #[test]
    fn a_call_that_has_waited_is_worth_a_worker_whatever_was_measured() {
        let now = Instant::now();
        let working = all(busy(Duration::from_micros(400)), 2);
        let demand = Demand { calls: 1, slow_ns: 200_000, ..Demand::default() };
        let decision = decide(&BOUNDS, &working, &demand, now);
        assert_eq!((decision.start, decision.again), (0, Some(now + MAX_WAIT)));
        let waited = Demand { waited: MAX_WAIT + Duration::from_nanos(1), ..demand };
        assert_eq!(decide(&BOUNDS, &working, &waited, now).start, 1);
    }

    #[test]
    fn those_who_were_idle_for_long_leave_down_to_the_minimum_highest_first() {
        let start = Instant::now();
        let now = start + BOUNDS.idle_timeout;
        let workers = all(State::Idle { since: start }, 5);
        let decision = decide(&BOUNDS, &workers, &Demand::default(), now);
        assert_eq!((decision.idle, decision.again), (vec![4, 3, 2], None));
        let early = decide(&BOUNDS, &workers, &Demand::default(), start);
        assert_eq!((early.idle.len(), early.again), (0, Some(now)));
    }

    #[test]
    fn it_looks_again_after_a_worker_that_is_busy_now() {
        let now = Instant::now();
        let decision = decide(&BOUNDS, &all(busy(MAX_WAIT), 3), &Demand::default(), now);
        assert_eq!((decision.idle.len(), decision.again), (0, Some(now + BOUNDS.idle_timeout)));
    }

    #[test]
    fn bounds_that_have_changed_are_met_at_once() {
        let now = Instant::now();
        let mut workers = all(busy(MAX_WAIT), 4);
        workers[1].1 = State::Idle { since: now };
        let smaller = Bounds { min: 1, max: 2, ..BOUNDS };
        assert_eq!(decide(&smaller, &workers, &slow(9), now).surplus, [1, 3]);
        let larger = Bounds { min: 7, max: 9, ..BOUNDS };
        assert_eq!(decide(&larger, &workers, &Demand::default(), now).start, 3);
    }
}
