//! Where I/O arbiters, workers and the pool actor meet.
//!
//! ```text
//! I/O arbiter ──offer──► tray of a worker at work (quick calls)
//!      │──claim──► idle set ──fill, wake──► worker
//!      └──basket──► mailbox of the pool actor ──► pending ◄──refill── worker that became free
//! ```
//!
//! An arbiter hands a basket to an idle worker directly, and sends it to the pool actor only when there is none.
//! Between the two a worker may have become idle, so the pool looks again after it has taken the basket in, and a
//! worker looks at the pending calls again after it has put itself into the idle set: one of the two sees the other.
//!
//! Queues: the trays (bounded by the quantum), the pool's mailbox and the pending calls (bounded together by the
//! permits of [`Gauge`]), the async workers' mailboxes (bounded by the places reserved here). Locks are held for
//! moments and never while a handler runs; `pending` is locked before a tray, never after.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use actix::Addr;
use bytes::Bytes;
use postroom_protocol::Error;

use crate::hub::Hubs;
use crate::job::{Basket, Job};
use crate::limits::Limits;
use crate::pool::idle::IdleSet;
use crate::pool::pending::{End, Pending};
use crate::pool::permit::{Full, Gauge};
use crate::pool::tray::{Source, Tray};
use crate::pool::{Pool, TakeIn};
use crate::program::Class;
use crate::program::registry::Registry;
use crate::stage::CallRef;
use crate::stats;
use crate::worker::asynchronous::{Abort, AsyncWorker};
use crate::worker::{Wake, Worker};

/// A payload below this size lies in a buffer that it shares with others, and is copied when it has to wait.
pub(crate) const SHARED_PAYLOAD: usize = 4096;

#[derive(Debug)]
pub(crate) struct Handover {
    registry: Arc<Registry>,
    hubs: Arc<Hubs>,
    gauge: Arc<Gauge>,
    idle: IdleSet,
    workers: Box<[WorkerPlace]>,
    async_workers: Box<[AsyncPlace]>,
    pool: OnceLock<Addr<Pool>>,
    pending: Mutex<Pending>,
    /// How many blocking calls `pending` holds, and how many async ones: written under its lock, read without.
    waiting: AtomicUsize,
    waiting_async: AtomicUsize,
}

#[derive(Debug)]
struct WorkerPlace {
    tray: Tray,
    address: OnceLock<Addr<Worker>>,
}

#[derive(Debug)]
struct AsyncPlace {
    /// How many more calls may run there.
    free: AtomicUsize,
    address: OnceLock<Addr<AsyncWorker>>,
}

impl Handover {
    pub(crate) fn new(registry: Arc<Registry>, hubs: Arc<Hubs>, limits: &Limits, now: Instant) -> Arc<Self> {
        let worker = || WorkerPlace { tray: Tray::new(hubs.len(), now), address: OnceLock::new() };
        let async_worker = || AsyncPlace { free: AtomicUsize::new(limits.max_async_calls), address: OnceLock::new() };
        Arc::new(Self {
            gauge: Gauge::new(limits),
            idle: IdleSet::new(limits.min_workers),
            workers: std::iter::repeat_with(worker).take(limits.min_workers).collect(),
            async_workers: std::iter::repeat_with(async_worker).take(limits.async_workers).collect(),
            pool: OnceLock::new(),
            pending: Mutex::default(),
            waiting: AtomicUsize::new(0),
            waiting_async: AtomicUsize::new(0),
            registry,
            hubs,
        })
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(crate) fn hubs(&self) -> &Arc<Hubs> {
        &self.hubs
    }

    pub(crate) fn tray(&self, worker: usize) -> &Tray {
        &self.workers[worker].tray
    }

    /// The pool actor is there.
    pub(crate) fn pool_started(&self, pool: Addr<Pool>) {
        // Set once, by the one pool actor.
        let _ = self.pool.set(pool);
    }

    /// A worker is there; it calls [`Self::rest`] next.
    pub(crate) fn worker_started(&self, worker: usize, address: Addr<Worker>) {
        let _ = self.workers[worker].address.set(address);
    }

    /// An async worker is there.
    pub(crate) fn async_worker_started(&self, worker: usize, address: Addr<AsyncWorker>) {
        let _ = self.async_workers[worker].address.set(address);
    }

    /// Hands on what an I/O arbiter got in one turn of its loop. `last` is the worker it gave to before.
    ///
    /// Returns whether a call may now wait behind another, so that somebody has to look after it ([`Self::rescue`]).
    pub(crate) fn dispatch(&self, jobs: VecDeque<Job>, last: &Cell<usize>, now: Instant) -> bool {
        let mut jobs = Batch { jobs, registry: &self.registry };
        let before = jobs.jobs.len();
        // What waits with the pool goes first: a tray that is topped up all the time would never come to it.
        if self.waiting.load(SeqCst) == 0 {
            self.tray(last.get()).offer(&mut jobs, now);
        }
        let mut watch = jobs.jobs.len() < before;
        while !jobs.jobs.is_empty() {
            let Some(worker) = self.idle.claim() else { break };
            let before = jobs.jobs.len();
            self.give(worker, |tray| tray.fill(&mut jobs, now));
            watch |= before - jobs.jobs.len() > 1;
            last.set(worker);
        }
        if jobs.jobs.is_empty() {
            return watch;
        }
        self.pend(jobs.jobs.into());
        true
    }

    /// Hands on async calls.
    pub(crate) fn dispatch_async(&self, mut jobs: Vec<Job>) {
        if self.waiting_async.load(SeqCst) == 0 {
            while !jobs.is_empty() {
                let Some((worker, places)) = self.reserve(jobs.len()) else { break };
                let rest = jobs.split_off(places);
                self.give_async(worker, std::mem::replace(&mut jobs, rest));
            }
        }
        if !jobs.is_empty() {
            self.pend(jobs);
        }
    }

    /// Sends calls that no worker can take now to the pool actor, or answers them when too many wait.
    fn pend(&self, jobs: Vec<Job>) {
        let mut admitted = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            match self.gauge.acquire(u64::from(job.ticket.cost)) {
                Ok(permit) => {
                    job.permit = Some(permit);
                    // A call that waits must not hold the buffer that it came in with others.
                    if job.payload.len() < SHARED_PAYLOAD {
                        job.payload = Bytes::copy_from_slice(&job.payload);
                    }
                    admitted.push(job);
                }
                Err(Full { key, value }) => {
                    let error = Error::overloaded(key, value, self.retry_after_ms(&job));
                    self.hubs.refuse(vec![job], &error);
                }
            }
        }
        let basket = TakeIn(Basket::new(admitted, self.hubs.clone()));
        match self.pool.get() {
            Some(pool) => pool.do_send(basket),
            // The pool actor starts before the first client; a basket that is dropped is answered.
            None => drop(basket),
        }
    }

    /// When a refused call may be tried again: when what waits now is done, by the measured time of this procedure.
    fn retry_after_ms(&self, job: &Job) -> u32 {
        let each = self.registry.procedure(job.entry).estimate.get();
        let waiting = self.waiting.load(SeqCst) as u64;
        let ms = each.saturating_mul(waiting) / self.workers.len() as u64 / 1_000_000;
        ms.clamp(10, 10_000) as u32
    }

    /// The pool actor's part: calls start to wait, unless a worker has become free since.
    pub(crate) fn take_in(&self, jobs: Vec<Job>, end: End, now: Instant) {
        let mut pending = self.lock();
        match end {
            End::Back => jobs.into_iter().for_each(|job| pending.push(job, end, &self.registry)),
            End::Front => jobs.into_iter().rev().for_each(|job| pending.push(job, end, &self.registry)),
        }
        self.count(&pending);
        while pending.len(Class::Blocking) > 0 {
            let Some(worker) = self.idle.claim() else { break };
            self.give(worker, |tray| pending.fill(tray, &self.registry, now));
            self.count(&pending);
        }
        while pending.len(Class::Asynchronous) > 0 {
            let Some((worker, places)) = self.reserve(pending.len(Class::Asynchronous)) else { break };
            let jobs = std::iter::from_fn(|| pending.pop(Class::Asynchronous)).take(places).collect();
            self.count(&pending);
            self.give_async(worker, jobs);
        }
    }

    /// A worker whose tray is empty takes what waits. False when nothing does.
    pub(crate) fn refill(&self, worker: usize, now: Instant) -> bool {
        if self.waiting.load(SeqCst) == 0 {
            return false;
        }
        let mut pending = self.lock();
        if pending.len(Class::Blocking) == 0 {
            return false;
        }
        pending.fill(self.tray(worker), &self.registry, now);
        self.count(&pending);
        true
    }

    /// A worker that has nothing to do goes idle. False when something came in between: it has to look again.
    pub(crate) fn rest(&self, worker: usize) -> bool {
        self.idle.insert(worker);
        // Whoever claims it wakes it; if it can still take itself out, nobody has.
        self.waiting.load(SeqCst) == 0 || !self.idle.remove(worker)
    }

    /// An async call is done: its place goes to one that waits, or is free again.
    pub(crate) fn async_done(&self, worker: usize) -> Option<Job> {
        let free = &self.async_workers[worker].free;
        loop {
            if self.waiting_async.load(SeqCst) > 0 {
                let mut pending = self.lock();
                if let Some(job) = pending.pop(Class::Asynchronous) {
                    self.count(&pending);
                    return Some(job);
                }
            }
            free.fetch_add(1, SeqCst);
            if self.waiting_async.load(SeqCst) == 0 || !take_one(free) {
                return None;
            }
        }
    }

    /// Calls that wait, and their bytes.
    pub(crate) fn count_pending(&self) -> stats::Pending {
        let (calls, bytes) = self.gauge.held();
        stats::Pending { calls, bytes }
    }

    /// How often the limits of the pool had calls answered.
    pub(crate) fn count_limits(&self, limits: &mut BTreeMap<&'static str, u64>) {
        let (calls, bytes) = self.gauge.was_full();
        limits.insert("max_pending_calls", calls);
        limits.insert("max_pending_bytes", bytes);
    }

    /// The workers there are.
    pub(crate) fn count_workers(&self) -> stats::Workers {
        stats::Workers { current: self.workers.len() as u64, ..stats::Workers::default() }
    }

    /// A call of this hub was ended before its result came: an async one that runs is dropped.
    pub(crate) fn ended(&self, hub: u16, call: CallRef, entry: u32, is_running: bool) {
        if is_running && self.registry.procedure(entry).class == Class::Asynchronous {
            for address in self.async_workers.iter().filter_map(|place| place.address.get()) {
                address.do_send(Abort { hub, call });
            }
        }
    }

    /// Looks after calls that wait behind one that turned out slow, and replies that are held up by it.
    ///
    /// Returns whether there is anything left to look after.
    pub(crate) fn rescue(&self, now: Instant) -> bool {
        // In this order: calls move from the pending ones to a tray, so they are seen in one of the two.
        let mut more = self.gauge.in_use() || self.waiting.load(SeqCst) > 0;
        for place in &self.workers {
            let Some(rescued) = place.tray.rescue(now) else { continue };
            more = true;
            self.hubs.deliver_all(rescued.replies);
            if !rescued.jobs.is_empty() {
                self.take_in(rescued.jobs, End::Front, now);
            }
        }
        more
    }

    /// Fills the tray of a claimed worker and wakes it.
    fn give(&self, worker: usize, fill: impl FnOnce(&Tray)) {
        let place = &self.workers[worker];
        fill(&place.tray);
        log::trace!("worker {worker} was idle and is claimed");
        if let Some(address) = place.address.get() {
            address.do_send(Wake);
        }
    }

    fn give_async(&self, worker: usize, jobs: Vec<Job>) {
        if let Some(address) = self.async_workers[worker].address.get() {
            address.do_send(TakeIn(Basket::new(jobs, self.hubs.clone())));
        } else {
            // Async workers start before the first client; what is dropped is answered.
            drop(Basket::new(jobs, self.hubs.clone()));
        }
    }

    /// Reserves up to `wanted` places with the async worker that has most: its number and how many.
    fn reserve(&self, wanted: usize) -> Option<(usize, usize)> {
        let (worker, place) = self.async_workers.iter().enumerate().max_by_key(|(_, place)| place.free.load(SeqCst))?;
        let mut places = 0;
        let take = |free: usize| {
            places = free.min(wanted);
            (places > 0).then(|| free - places)
        };
        place.free.fetch_update(SeqCst, SeqCst, take).ok()?;
        Some((worker, places))
    }

    fn count(&self, pending: &Pending) {
        self.waiting.store(pending.len(Class::Blocking), SeqCst);
        self.waiting_async.store(pending.len(Class::Asynchronous), SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // No panic can come between two writes to the pending calls, so a poisoned lock guards whole data.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_one(free: &AtomicUsize) -> bool {
    free.fetch_update(SeqCst, SeqCst, |free| free.checked_sub(1)).is_ok()
}

/// Jobs on their way out of an I/O arbiter.
struct Batch<'a> {
    jobs: VecDeque<Job>,
    registry: &'a Registry,
}

impl Source for Batch<'_> {
    fn estimate(&self) -> Option<u64> {
        self.jobs.front().map(|job| self.registry.procedure(job.entry).estimate.get())
    }

    fn take(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }
}
