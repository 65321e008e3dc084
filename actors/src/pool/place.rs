//! The places of workers: a fixed array, of which only the places in use cost more than a pointer.
//!
//! A place outlives its worker: when one leaves or ends, the next to sit there gets the same tray and the same bell.
//! Ordinary workers have the first [`ORDINARY`] places, priority workers those behind them.
//!
//! Queues: a worker's tray, bounded by the quantum; an async worker's inbox, bounded by the places for calls that are
//! reserved before one is put in, and for each of those one word that it was ended.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::job::Job;
use crate::pool::bell::Bell;
use crate::pool::pending::Takes;
use crate::pool::tray::Tray;
use crate::time::Instant;
use crate::watchdog::beat::Beat;
use crate::worker::asynchronous::Abort;

/// The most ordinary workers that a service may have, as the limit `max_workers` says.
pub(crate) const ORDINARY: usize = 1024;
/// The same of priority workers.
pub(crate) const PRIORITY: usize = 256;
/// The same of async workers.
pub(crate) const ASYNC: usize = 256;

#[derive(Debug)]
pub(crate) struct Places {
    workers: Box<[OnceLock<Arc<WorkerPlace>>]>,
    asynchronous: Box<[OnceLock<Box<AsyncPlace>>]>,
    used_async: AtomicUsize,
    hubs: usize,
    now: Instant,
}

#[derive(Debug)]
pub(crate) struct WorkerPlace {
    pub(crate) tray: Tray,
    pub(crate) bell: Bell,
    /// What the worker runs, for the watchdog.
    pub(crate) beat: Beat,
    /// Whether the worker is to leave when it is done with what it runs.
    pub(crate) leaving: AtomicBool,
}

#[derive(Debug, Default)]
pub(crate) struct AsyncPlace {
    /// How many more calls may run there.
    pub(crate) free: AtomicUsize,
    pub(crate) bell: Bell,
    /// What the worker runs between two waits, for the watchdog.
    pub(crate) beat: Beat,
    /// Whether the worker is to take no more calls.
    pub(crate) leaving: AtomicBool,
    inbox: Mutex<Inbox>,
}

/// The calls that an async worker has not begun.
#[derive(Debug, Default)]
struct Inbox {
    gone: bool,
    has_run: bool,
    jobs: VecDeque<Job>,
    /// Calls that were ended while they ran, here or elsewhere.
    aborts: Vec<Abort>,
}

impl Places {
    pub(crate) fn new(hubs: usize, now: Instant) -> Self {
        Self {
            workers: (0..ORDINARY + PRIORITY).map(|_| OnceLock::new()).collect(),
            asynchronous: (0..ASYNC).map(|_| OnceLock::new()).collect(),
            used_async: AtomicUsize::new(0),
            hubs,
            now,
        }
    }

    pub(crate) fn worker(&self, worker: usize) -> &Arc<WorkerPlace> {
        self.workers[worker].get_or_init(|| {
            let (tray, bell) = (Tray::new(self.hubs, self.now), Bell::default());
            Arc::new(WorkerPlace { tray, bell, beat: Beat::default(), leaving: AtomicBool::new(false) })
        })
    }

    pub(crate) fn asynchronous(&self, worker: usize) -> &AsyncPlace {
        self.asynchronous[worker].get_or_init(Box::default)
    }

    /// The places of async workers that may be in use.
    pub(crate) fn used_async(&self) -> impl Iterator<Item = (usize, &AsyncPlace)> {
        (0..self.used_async.load(SeqCst)).map(|worker| (worker, self.asynchronous(worker)))
    }

    /// Async workers 0 to `workers` - 1 may be there.
    pub(crate) fn use_async(&self, workers: usize) {
        self.used_async.store(workers.min(ASYNC), SeqCst);
    }
}

/// The name of a worker by its place.
pub(crate) fn name(worker: usize) -> String {
    if worker < ORDINARY { format!("worker {worker}") } else { format!("priority {}", worker - ORDINARY) }
}

/// Which calls this worker takes.
pub(crate) fn takes(worker: usize) -> Takes {
    if worker < ORDINARY { Takes::All } else { Takes::PriorityOnly }
}

impl AsyncPlace {
    /// Puts calls in, for which places are reserved. Gives them back when the worker has ended.
    pub(crate) fn put(&self, jobs: Vec<Job>) -> Result<(), Vec<Job>> {
        let mut inbox = self.lock();
        if inbox.gone {
            return Err(jobs);
        }
        inbox.jobs.extend(jobs);
        drop(inbox);
        self.bell.ring();
        Ok(())
    }

    /// Takes what is in the inbox into `queue`, which is empty.
    pub(crate) fn take(&self, queue: &mut VecDeque<Job>) {
        let mut inbox = self.lock();
        std::mem::swap(&mut inbox.jobs, queue);
        inbox.has_run |= !queue.is_empty();
    }

    /// A call was ended that may run here.
    pub(crate) fn abort(&self, abort: Abort) {
        let mut inbox = self.lock();
        if inbox.gone {
            return;
        }
        inbox.aborts.push(abort);
        drop(inbox);
        self.bell.ring();
    }

    /// Takes the calls that were ended since the last time.
    pub(crate) fn take_aborts(&self) -> Vec<Abort> {
        std::mem::take(&mut self.lock().aborts)
    }

    /// Whether the worker has taken any call.
    pub(crate) fn has_run(&self) -> bool {
        self.lock().has_run
    }

    /// The worker has ended: no more calls are put in. Returns those that are.
    pub(crate) fn end(&self) -> VecDeque<Job> {
        self.free.store(0, SeqCst);
        let mut inbox = self.lock();
        inbox.gone = true;
        inbox.aborts = Vec::new();
        std::mem::take(&mut inbox.jobs)
    }

    /// A new worker gets this place, for so many calls at once.
    pub(crate) fn reset(&self, calls: usize) {
        self.leaving.store(false, SeqCst);
        let mut inbox = self.lock();
        inbox.gone = false;
        inbox.has_run = false;
        drop(inbox);
        self.free.store(calls, SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // No panic can come between two writes to an inbox, so a poisoned one is still whole.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
