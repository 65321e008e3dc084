//! What is known of handlers and workers that fail while they start: shared by all desks of a service.
//!
//! A desk asks here before it makes a handler, and tells how that went; the supervisor tells of workers. Looked at only
//! when a handler or a worker starts, never for a call. What decides is [`Budget`]; [`Health`] is made from it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::supervisor::budget::{Budget, FAILURES};
use crate::supervisor::health::{Health, Reason};

#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Whether there is anything in `state` that a success would change.
    is_touched: AtomicBool,
    state: Mutex<State>,
    /// How often a handler was made in place of one that failed.
    restarts: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Types of handlers that have failed since they last started, by group.
    handlers: BTreeMap<usize, Failing>,
    /// Threads that cannot be started, and workers that end by themselves.
    threads: Option<Failing>,
    workers: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    budget: Budget,
    subject: String,
    what: String,
    incident: Option<String>,
}

/// A handler is left alone for a while.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// That of the last failure.
    pub(crate) incident: String,
    pub(crate) retry_after: Duration,
}

/// What can go wrong with workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A thread cannot be started.
    NoThread,
    /// A worker ended before it ran a call.
    Ended,
}

impl Watch {
    /// A handler has failed, in a call or while it started: the next call gets a fresh one.
    pub(crate) fn will_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// How often a handler was made in place of one that failed.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }

    /// Whether a handler of this group may be made now.
    pub(crate) fn may_start(&self, group: usize, now: Instant) -> Result<(), Blocked> {
        if !self.is_touched.load(SeqCst) {
            return Ok(());
        }
        let mut state = self.lock();
        let Some(failing) = state.handlers.get_mut(&group) else { return Ok(()) };
        let blocked = |retry_after| Blocked { incident: failing.incident.clone().unwrap_or_default(), retry_after };
        failing.budget.ask(now).map_err(blocked)
    }

    /// A handler of this group failed while it was made or started.
    pub(crate) fn handler_failed(&self, group: usize, name: &str, what: &str, incident: &str, now: Instant) {
        let mut state = self.lock();
        let failing = state.handlers.entry(group).or_insert_with(|| Failing::new(format!("handler {name}"), FAILURES));
        failing.what = format!("{what}, again and again");
        failing.incident = Some(incident.to_owned());
        let is_new = failing.budget.failed(now);
        self.is_touched.store(true, SeqCst);
        changed(&state, is_new);
    }

    /// A handler of this group has started.
    pub(crate) fn handler_started(&self, group: usize) {
        if self.is_touched.load(SeqCst) {
            let mut state = self.lock();
            let ended = state.handlers.remove(&group).is_some_and(|mut failing| failing.budget.succeeded());
            self.is_touched.store(!state.is_untouched(), SeqCst);
            changed(&state, ended);
        }
    }

    /// Forgets handlers that failed and that no call has asked for in a long time: either there are no such calls, or
    /// instances that were there before answer them all.
    pub(crate) fn forget(&self, now: Instant) {
        if self.is_touched.load(SeqCst) {
            let mut state = self.lock();
            let before = state.handlers.len();
            state.handlers.retain(|_, failing| !failing.budget.forget(now));
            self.is_touched.store(!state.is_untouched(), SeqCst);
            changed(&state, state.handlers.len() < before);
        }
    }

    /// Whether workers may be started now; else after how long.
    pub(crate) fn may_start_workers(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock();
        let State { threads, workers, .. } = &mut *state;
        for failing in [threads, workers].into_iter().flatten() {
            failing.budget.ask(now)?;
        }
        Ok(())
    }

    /// A worker could not be started, or ended without having run a call.
    pub(crate) fn worker_failed(&self, trouble: Trouble, what: String, now: Instant) {
        let mut state = self.lock();
        let failing = state.of(trouble).get_or_insert_with(|| {
            // A thread that cannot be started is not tried again at once.
            let allowed = if trouble == Trouble::NoThread { 1 } else { FAILURES };
            Failing::new("workers".to_owned(), allowed)
        });
        failing.what = what;
        let is_new = failing.budget.failed(now);
        changed(&state, is_new);
    }

    /// Workers start again, or live.
    pub(crate) fn workers_recovered(&self, trouble: Trouble) {
        let mut state = self.lock();
        let ended = state.of(trouble).take().is_some_and(|mut failing| failing.budget.succeeded());
        changed(&state, ended);
    }

    /// Whether workers have failed lately.
    pub(crate) fn is_in_trouble(&self, trouble: Trouble) -> bool {
        self.lock().of(trouble).is_some()
    }

    pub(crate) fn health(&self) -> Health {
        self.lock().health()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic can come between two writes to it, so a poisoned lock guards whole data.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failing {
    fn new(subject: String, allowed: usize) -> Self {
        Self { budget: Budget::new(allowed), subject, what: String::new(), incident: None }
    }
}

impl State {
    fn of(&mut self, trouble: Trouble) -> &mut Option<Failing> {
        match trouble {
            Trouble::NoThread => &mut self.threads,
            Trouble::Ended => &mut self.workers,
        }
    }

    fn is_untouched(&self) -> bool {
        self.handlers.values().all(|failing| failing.budget.is_untouched())
    }

    fn health(&self) -> Health {
        let all = self.handlers.values().chain(&self.threads).chain(&self.workers);
        let reasons: Vec<Reason> = all
            .filter_map(|failing| {
                let (since, retry_at) = failing.budget.back_off()?;
                let Failing { subject, what, incident, .. } = failing;
                Some(Reason {
                    subject: subject.clone(),
                    what: what.clone(),
                    incident: incident.clone(),
                    since,
                    retry_at,
                })
            })
            .collect();
        if reasons.is_empty() { Health::Healthy } else { Health::Degraded(reasons) }
    }
}

/// Says in the log that the health has changed.
fn changed(state: &State, is_changed: bool) {
    if is_changed {
        match state.health() {
            Health::Healthy => log::info!("the service is healthy again"),
            degraded @ Health::Degraded(_) => log::error!("the service is {degraded}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::budget::WINDOW;

    #[test]
    fn a_handler_that_keeps_failing_is_left_alone_with_its_last_incident_until_it_starts() {
        let watch = Watch::default();
        let now = Instant::now();
        for incident in ["1", "2", "3", "4", "5"] {
            assert!(watch.health().is_healthy());
            assert_eq!(watch.may_start(7, now), Ok(()));
            watch.handler_failed(7, "Bad", "its factory panicked", incident, now);
        }
        let retry_after = Duration::from_millis(100);
        assert_eq!(watch.may_start(7, now), Err(Blocked { incident: "5".to_owned(), retry_after }));
        assert_eq!(watch.may_start(8, now), Ok(()), "another type");
        let Health::Degraded(reasons) = watch.health() else { panic!("it is healthy") };
        assert_eq!((reasons.len(), reasons[0].subject.as_str()), (1, "handler Bad"));
        assert_eq!((reasons[0].since, reasons[0].retry_at), (now, now + retry_after));
        assert_eq!(watch.may_start(7, now + retry_after), Ok(()));
        watch.handler_started(7);
        assert!(watch.health().is_healthy());
    }

    #[test]
    fn a_handler_that_nobody_asks_for_any_more_is_not_held_against_the_service_for_ever() {
        let watch = Watch::default();
        let now = Instant::now();
        for _ in 0..FAILURES {
            watch.handler_failed(7, "Bad", "its factory panicked", "1", now);
        }
        let long = Duration::from_millis(100) + WINDOW;
        watch.forget(now + long);
        assert!(!watch.health().is_healthy());
        watch.forget(now + long + Duration::from_millis(1));
        assert!(watch.health().is_healthy());
        assert_eq!(watch.may_start(7, now + long), Ok(()));
    }

    #[test]
    fn a_thread_that_cannot_be_started_degrades_at_once_and_a_worker_that_ends_the_fifth_time() {
        let watch = Watch::default();
        let now = Instant::now();
        watch.worker_failed(Trouble::NoThread, "no thread".to_owned(), now);
        assert!(!watch.health().is_healthy() && watch.may_start_workers(now).is_err());
        watch.workers_recovered(Trouble::NoThread);
        for _ in 0..4 {
            watch.worker_failed(Trouble::Ended, "it ended".to_owned(), now);
            assert!(watch.health().is_healthy() && watch.may_start_workers(now).is_ok());
        }
        watch.worker_failed(Trouble::Ended, "it ended".to_owned(), now);
        assert!(!watch.health().is_healthy() && watch.may_start_workers(now).is_err());
        watch.workers_recovered(Trouble::Ended);
        assert!(watch.health().is_healthy());
    }
}
