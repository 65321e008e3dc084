//! A worker's tray: the calls it has taken but not begun, and the replies it has not sent yet.
//!
//! It lies where others can reach it. An I/O arbiter adds quick calls while the worker is at work, and takes out what
//! is stuck behind a call that turned out slow (the replies that are ready too). So a call waits in a worker's tray
//! only as long as the estimates hold.
//!
//! Bound: calls of [`QUANTUM`] by their estimates, or one call that is slower. Locked for moments only.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::estimate::{QUANTUM, QUANTUM_NS};
use crate::job::{Job, Shell, Ticket};
use crate::pool::growth::State;
use crate::reply::{Outbox, Replies};
use crate::stats::outcome::Verdict;
use crate::time::Instant;

/// How long a worker may hold back what it has not begun or not sent before it is taken from it.
pub(crate) const OVERDUE: Duration = Duration::from_millis(1);

/// How long a thread that is ready to run may wait for a core under load: a few of the scheduler's slices. Measured on
/// two cores under saturation, where counting from 1 ms had the pool grow to its maximum for calls of 300 ns.
pub(crate) const PREEMPTED: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Tray {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Whether the worker comes back to look: what is added to a closed tray, nobody takes.
    open: bool,
    /// Whether the worker has left for good: nothing is put in any more.
    gone: bool,
    /// Whether the worker has begun any call.
    has_run: bool,
    jobs: VecDeque<Laid>,
    /// How many of those are of another client than the one before.
    changes: usize,
    /// Expected nanoseconds of the running call and of those not begun.
    load: u64,
    running: u64,
    /// When the running call began, or when the tray was filled.
    since: Instant,
    /// Replies that are not sent yet, by hub.
    replies: Vec<Replies>,
    has_replies: bool,
    /// Whether those are to leave before another call runs.
    is_ripe: bool,
}

/// A call that is not begun.
#[derive(Debug)]
struct Laid {
    job: Job,
    /// The nanoseconds that it is expected to take.
    estimate: u64,
    /// Whether it is of another client than the one before it.
    is_change: bool,
}

/// What was taken from a worker that is busy for longer than expected.
#[derive(Debug)]
pub(crate) struct Rescued {
    pub(crate) jobs: Vec<Job>,
    pub(crate) replies: Vec<Replies>,
}

impl Tray {
    pub(crate) fn new(hubs: usize, now: Instant) -> Self {
        let replies = std::iter::repeat_with(Replies::default).take(hubs).collect();
        let inner = Inner {
            open: false,
            gone: false,
            has_run: false,
            jobs: VecDeque::new(),
            changes: 0,
            load: 0,
            running: 0,
            since: now,
            replies,
            has_replies: false,
            is_ripe: false,
        };
        Self { inner: Mutex::new(inner) }
    }

    /// Fills the tray of a worker that is idle and was claimed, or of the caller itself: takes from `jobs` what the
    /// worker is expected to finish within the quantum, at least one. False when the worker has left.
    pub(crate) fn fill(&self, jobs: &mut impl Source, now: Instant) -> bool {
        let mut inner = self.lock();
        if inner.gone {
            return false;
        }
        if inner.jobs.is_empty() {
            inner.since = now;
        }
        inner.open = true;
        while let Some(estimate) = jobs.estimate() {
            if !inner.jobs.is_empty() && inner.load + estimate > QUANTUM_NS {
                break;
            }
            let Some(job) = jobs.take() else { break };
            inner.add(job, estimate);
        }
        true
    }

    /// Adds jobs to the tray of a worker that is at work, as far as it is expected to come to them in time.
    pub(crate) fn offer(&self, jobs: &mut impl Source, now: Instant) {
        let mut inner = self.lock();
        if !inner.open || now.saturating_duration_since(inner.since) > QUANTUM {
            return;
        }
        while let Some(estimate) = jobs.estimate() {
            if inner.load + estimate > QUANTUM_NS {
                break;
            }
            let Some(job) = jobs.take() else { break };
            inner.add(job, estimate);
        }
    }

    /// The next job for the worker itself; the one before is done. `outbox`, which has none, gets the replies that are to
    /// be sent before that runs: the job is expected to be slow, or behind many quick ones, or there is none.
    ///
    /// When there is neither, the tray is closed. While replies are sent it is open, for a worker that stays: what is put
    /// in meanwhile is for it.
    pub(crate) fn next(&self, now: Instant, leaves: bool, outbox: &mut Outbox) -> Option<Job> {
        self.lock().next(now, leaves, outbox)
    }

    /// Keeps the reply to a job until the worker sends what it has.
    pub(crate) fn answer(&self, job: Job, verdict: Verdict, now: Instant, packet: &mut Vec<u8>) {
        // What it has is dropped before the lock is taken.
        let shell = job.empty();
        self.lock().answer(shell, verdict, now, packet);
    }

    /// The same, and then [`Self::next`], under one lock.
    pub(crate) fn go_on(
        &self,
        (job, verdict, packet): (Job, Verdict, &mut Vec<u8>),
        now: Instant,
        leaves: bool,
        outbox: &mut Outbox,
    ) -> Option<Job> {
        let shell = job.empty();
        let mut inner = self.lock();
        inner.answer(shell, verdict, now, packet);
        inner.next(now, leaves, outbox)
    }

    /// Keeps the reply to a job that is needed no more, or is gone.
    pub(crate) fn reply(&self, ticket: &Ticket, verdict: Verdict, now: Instant, packet: &mut Vec<u8>) {
        self.lock().reply(ticket, verdict, now, packet);
    }

    /// The next job, for a worker that has no replies.
    #[cfg(test)]
    pub(crate) fn pop(&self, now: Instant) -> Option<Job> {
        let mut outbox = Outbox::default();
        let next = self.next(now, false, &mut outbox);
        assert!(!outbox.is_due);
        next
    }

    /// Takes away what is overdue. `None` when the worker has nothing that others could do for it; `Some` and empty
    /// when it has, and is not overdue yet.
    pub(crate) fn rescue(&self, now: Instant) -> Option<Rescued> {
        let mut inner = self.lock();
        if inner.jobs.is_empty() && !inner.has_replies {
            return None;
        }
        if now.saturating_duration_since(inner.since) < OVERDUE {
            return Some(Rescued { jobs: Vec::new(), replies: Vec::new() });
        }
        inner.load = inner.running;
        Some(Rescued { jobs: inner.take_jobs(), replies: inner.rescue_replies() })
    }

    /// The worker leaves or has ended: nothing is put in from now on. Returns what it leaves behind.
    pub(crate) fn leave(&self) -> Rescued {
        let mut inner = self.lock();
        inner.open = false;
        inner.gone = true;
        inner.load = 0;
        inner.running = 0;
        Rescued { jobs: inner.take_jobs(), replies: inner.rescue_replies() }
    }

    /// A new worker gets this tray.
    pub(crate) fn reset(&self, now: Instant) {
        let mut inner = self.lock();
        inner.gone = false;
        inner.has_run = false;
        inner.since = now;
    }

    /// Whether the worker has begun any call.
    pub(crate) fn has_run(&self) -> bool {
        self.lock().has_run
    }

    /// What the worker does, as far as the growth of the pool is concerned.
    pub(crate) fn state(&self, now: Instant) -> State {
        let inner = self.lock();
        if !inner.open {
            return State::Idle { since: inner.since };
        }
        let elapsed = now.saturating_duration_since(inner.since);
        let running = Duration::from_nanos(inner.running);
        // A call that takes longer than measured is expected to take as long again. One of a quick procedure does so
        // most often because its thread was not scheduled: that is no reason for another thread.
        let is_preempted = inner.running <= QUANTUM_NS && elapsed < PREEMPTED;
        let left = match running.checked_sub(elapsed) {
            Some(left) => left,
            None if is_preempted => running,
            None => elapsed,
        };
        State::Busy { free_in: left + Duration::from_nanos(inner.load - inner.running) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No panic can come between two writes to a tray, so a poisoned one is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, job: Job, estimate: u64) {
        self.load += estimate;
        let is_change = self.jobs.back().is_some_and(|last| last.job.ticket.client_id != job.ticket.client_id);
        self.changes += usize::from(is_change);
        self.jobs.push_back(Laid { job, estimate, is_change });
    }

    fn next(&mut self, now: Instant, leaves: bool, outbox: &mut Outbox) -> Option<Job> {
        self.load -= self.running;
        self.running = 0;
        self.since = now;
        let Some(Laid { job, estimate, is_change }) = self.jobs.pop_front() else {
            self.open = self.has_replies && !leaves;
            self.take_replies(outbox);
            return None;
        };
        self.changes -= usize::from(is_change);
        if let Some(next) = self.jobs.front() {
            next.job.prefetch();
        }
        self.running = estimate;
        self.has_run = true;
        if self.is_ripe || estimate > QUANTUM_NS {
            self.take_replies(outbox);
        }
        Some(job)
    }

    fn answer(&mut self, shell: Shell, verdict: Verdict, now: Instant, packet: &mut Vec<u8>) {
        self.reply(shell.ticket(), verdict, now, packet).give_back(shell);
    }

    fn reply(&mut self, ticket: &Ticket, verdict: Verdict, now: Instant, packet: &mut Vec<u8>) -> &mut Replies {
        let replies = &mut self.replies[usize::from(ticket.hub)];
        replies.push(ticket, verdict, now, packet);
        self.has_replies = true;
        self.is_ripe |= replies.is_ripe(self.changes, now);
        replies
    }

    fn take_jobs(&mut self) -> Vec<Job> {
        self.changes = 0;
        self.jobs.drain(..).map(|laid| laid.job).collect()
    }

    fn take_replies(&mut self, outbox: &mut Outbox) {
        self.is_ripe = false;
        if std::mem::take(&mut self.has_replies) {
            outbox.is_due = true;
            outbox.by_hub.resize_with(self.replies.len(), Replies::default);
            for (replies, out) in self.replies.iter_mut().zip(&mut outbox.by_hub) {
                *out = replies.take_for(std::mem::take(out));
            }
        }
    }

    fn rescue_replies(&mut self) -> Vec<Replies> {
        let mut outbox = Outbox::default();
        self.take_replies(&mut outbox);
        outbox.take()
    }
}

/// Jobs in order, each with its expected time.
pub(crate) trait Source {
    /// The expected nanoseconds of the job that comes next.
    fn estimate(&self) -> Option<u64>;
    /// Takes that job.
    fn take(&mut self) -> Option<Job>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::EARLY;

    /// Jobs with their expected times, in microseconds.
    struct Jobs(VecDeque<(u32, u64)>);

    impl Source for Jobs {
        fn estimate(&self) -> Option<u64> {
            self.0.front().map(|(_, micros)| micros * 1000)
        }
        fn take(&mut self) -> Option<Job> {
            self.0.pop_front().map(|(serial, _)| Job::for_test(serial))
        }
    }

    fn jobs(micros: &[u64]) -> Jobs {
        Jobs((0..).zip(micros.iter().copied()).collect())
    }

    fn serial(job: Option<Job>) -> Option<u32> {
        job.map(|job| job.ticket.serial)
    }

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_tray_takes_a_quantum_of_quick_calls_or_one_slow_one() {
        let now = Instant::now();
        let mut quick = jobs(&[20, 20, 20]);
        Tray::new(1, now).fill(&mut quick, now);
        assert_eq!(quick.0.len(), 1);
        let mut slow = jobs(&[1000, 1]);
        Tray::new(1, now).fill(&mut slow, now);
        assert_eq!(slow.0.len(), 1);
    }

    #[test]
    fn nothing_is_added_to_a_tray_that_its_worker_has_left() {
        let now = Instant::now();
        let tray = Tray::new(1, now);
        let mut more = jobs(&[1]);
        tray.offer(&mut more, now);
        assert_eq!(more.0.len(), 1, "never opened");
        tray.fill(&mut jobs(&[1]), now);
        tray.offer(&mut more, now);
        assert_eq!(more.0.len(), 0);
        assert_eq!((serial(tray.pop(now)), serial(tray.pop(now)), serial(tray.pop(now))), (Some(0), Some(0), None));
        let mut late = jobs(&[1]);
        tray.offer(&mut late, now);
        assert_eq!(late.0.len(), 1, "closed by the pop that found nothing");
    }

    #[test]
    fn what_is_put_in_while_a_worker_sends_its_replies_is_for_it_unless_it_leaves() {
        let now = Instant::now();
        for leaves in [false, true] {
            let (tray, mut outbox) = (Tray::new(1, now), Outbox::default());
            tray.fill(&mut jobs(&[1]), now);
            let first = tray.next(now, leaves, &mut outbox).unwrap();
            assert!(tray.go_on((first, Verdict::OK, &mut b"reply".to_vec()), now, leaves, &mut outbox).is_none());
            assert!(outbox.is_due && outbox.take()[0].len() == 1);
            let mut more = jobs(&[1]);
            tray.offer(&mut more, now);
            assert_eq!(more.0.len(), usize::from(leaves));
            assert_eq!(tray.next(now, leaves, &mut outbox).is_some(), !leaves);
            tray.next(now, leaves, &mut outbox);
            assert_eq!(tray.state(now), State::Idle { since: now }, "it has nothing more to send");
        }
    }

    #[test]
    fn replies_leave_before_a_call_that_is_expected_to_be_slow_and_not_before_a_quick_one() {
        let now = Instant::now();
        for (micros, is_due) in [(20, false), (60, true)] {
            let (tray, mut outbox) = (Tray::new(1, now), Outbox::default());
            tray.fill(&mut jobs(&[1]), now);
            let first = tray.pop(now).unwrap();
            tray.inner.lock().unwrap().add(Job::for_test(7), micros * 1000);
            let next = tray.go_on((first, Verdict::OK, &mut b"reply".to_vec()), now, false, &mut outbox);
            assert_eq!((serial(next), outbox.is_due), (Some(7), is_due));
        }
    }

    #[test]
    fn replies_that_have_waited_leave_early_if_the_calls_behind_them_are_of_few_clients_too() {
        let now = Instant::now();
        // Twenty calls of one client, then one each of so many others; the reply to the sixteenth comes so late.
        for (others, late, is_due) in [(0, 6, true), (0, 5, false), (1, 6, true), (2, 6, false)] {
            let (tray, mut outbox) = (Tray::new(1, now), Outbox::default());
            tray.fill(&mut jobs(&[1; 20]), now);
            for client in 0..others {
                let mut job = Job::for_test(99);
                job.ticket.client_id = 7 + client;
                tray.lock().add(job, 1000);
            }
            let mut next = tray.pop(now);
            for reply in 1..=EARLY {
                assert!(!outbox.is_due, "before reply {reply}");
                let now = if reply == EARLY { now + micros(late) } else { now };
                let done = (next.take().unwrap(), Verdict::OK, &mut b"reply".to_vec());
                next = tray.go_on(done, now, false, &mut outbox);
            }
            assert_eq!(outbox.is_due, is_due, "{others} others, {late} µs");
        }
    }

    #[test]
    fn nothing_is_added_behind_a_call_that_takes_longer_than_the_quantum() {
        let now = Instant::now();
        let tray = Tray::new(1, now);
        tray.fill(&mut jobs(&[1]), now);
        tray.pop(now);
        let mut more = jobs(&[1, 60]);
        tray.offer(&mut more, now + QUANTUM + micros(1));
        assert_eq!(more.0.len(), 2, "overrun");
        tray.offer(&mut more, now + micros(10));
        assert_eq!(more.0.len(), 1, "the second is expected to be slow");
    }

    #[test]
    fn a_tray_whose_worker_has_left_takes_nothing_until_another_has_it() {
        let now = Instant::now();
        let tray = Tray::new(1, now);
        tray.fill(&mut jobs(&[1, 1]), now);
        let first = tray.pop(now).unwrap();
        tray.reply(&first.ticket, Verdict::OK, now, &mut b"reply".to_vec());
        let left = tray.leave();
        assert_eq!((left.jobs.len(), left.replies.len(), tray.has_run()), (1, 1, true));
        let mut more = jobs(&[1]);
        assert!(!tray.fill(&mut more, now));
        tray.offer(&mut more, now);
        assert_eq!(more.0.len(), 1);
        tray.reset(now);
        assert!(tray.fill(&mut more, now) && more.0.is_empty() && !tray.has_run());
    }

    #[test]
    fn a_worker_is_expected_to_be_free_when_its_calls_are_done_by_measured_time() {
        let now = Instant::now();
        let tray = Tray::new(1, now);
        assert_eq!(tray.state(now), State::Idle { since: now });
        tray.fill(&mut jobs(&[20, 10]), now);
        tray.pop(now);
        assert_eq!(tray.state(now + micros(5)), State::Busy { free_in: micros(25) });
        // It takes longer than expected: its thread was not scheduled, or if that lasts, who knows how long.
        assert_eq!(tray.state(now + micros(300)), State::Busy { free_in: micros(30) });
        assert_eq!(tray.state(now + PREEMPTED), State::Busy { free_in: PREEMPTED + micros(10) });
        let slow = Tray::new(1, now);
        slow.fill(&mut jobs(&[100]), now);
        slow.pop(now);
        assert_eq!(slow.state(now + micros(300)), State::Busy { free_in: micros(300) });
    }

    #[test]
    fn what_is_stuck_behind_a_slow_call_is_taken_away_with_the_replies_that_are_ready() {
        let now = Instant::now();
        let tray = Tray::new(2, now);
        assert!(tray.rescue(now + 2 * OVERDUE).is_none(), "nothing to rescue");
        tray.fill(&mut jobs(&[1, 1, 1]), now);
        let first = tray.pop(now).unwrap();
        tray.reply(&first.ticket, Verdict::OK, now, &mut b"reply".to_vec());
        tray.pop(now);
        let early = tray.rescue(now + OVERDUE / 2).unwrap();
        assert!(early.jobs.is_empty() && early.replies.is_empty());
        let rescued = tray.rescue(now + OVERDUE).unwrap();
        assert_eq!(rescued.jobs.len(), 1);
        assert_eq!(rescued.replies.iter().filter(|replies| !replies.is_empty()).count(), 1);
        assert!(tray.rescue(now + 2 * OVERDUE).is_none());
        assert_eq!(serial(tray.pop(now + 2 * OVERDUE)), None);
    }
}
