//! Where I/O arbiters, workers and the pool actor meet.
//!
//! ```text
//! I/O arbiter ──offer──► tray of a worker at work (quick calls; again when none is idle)
//!      │──claim──► idle set ──fill, wake──► worker
//!      └──basket──► mailbox of the pool actor ──► pending ◄──refill── worker that became free
//! ```
//!
//! An arbiter hands a basket to an idle worker directly, and sends it to the pool actor only when there is none.
//! Between the two a worker may have become idle, so the pool looks again after it has taken the basket in, and a
//! worker looks at the pending calls again after it has put itself into the idle set: one of the two sees the other
//! ([`Meeting`]).
//!
//! Calls of priority procedures are never put into the tray of a worker at work. They go to an idle ordinary worker,
//! else to an idle priority worker, else they wait, before the others. When calls are left waiting, the supervisor is
//! asked to look whether they are worth another worker.
//!
//! Queues: the trays (bounded by the quantum), the pool's mailbox and the pending calls (bounded together by the
//! permits of [`Gauge`]), the async workers' inboxes (bounded by the places reserved here). Locks are held for
//! moments and never while a handler runs; `pending` is locked before a tray or an inbox, never after.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use actix::Addr;
use postroom_protocol::Error;

use crate::hub::Hubs;
#[cfg(test)]
use crate::job::Basket;
use crate::job::Job;
use crate::limits::Limits;
use crate::pool::Pool;
use crate::pool::growth::{Demand, State};
use crate::pool::meeting::Meeting;
use crate::pool::pending::{End, Pending};
use crate::pool::permit::Gauge;
use crate::pool::place::{AsyncPlace, ORDINARY, PRIORITY, Places, WorkerPlace, takes};
use crate::pool::tray::Tray;
use crate::program::Class;
use crate::program::registry::Registry;
use crate::reply::Replies;
use crate::stage::CallRef;
use crate::stats;
use crate::supervisor::{Look, Supervisor};
use crate::time::Instant;
use crate::watchdog::Findings;
use crate::watchdog::beat::{Beat, Runs};
use crate::watchdog::rounds::{Kind, Place};
use crate::worker::asynchronous::Abort;

mod dispatch;

/// So many calls, or so many bytes of them, may be ended while they wait before the pending ones are looked through for
/// them; at once where a call would be refused for want of their room.
const SWEEP: usize = 64;
const SWEEP_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Handover {
    registry: Arc<Registry>,
    hubs: Arc<Hubs>,
    gauge: Arc<Gauge>,
    places: Places,
    /// Blocking calls and ordinary workers; priority calls and priority workers. How many calls wait is written under
    /// the lock of `pending`, read without.
    ordinary: Meeting,
    priority: Meeting,
    pool: OnceLock<Addr<Pool>>,
    supervisor: OnceLock<Addr<Supervisor>>,
    /// Whether the supervisor was asked to look and has not begun to.
    asked: AtomicBool,
    /// Whether the service stops, so that nobody takes over what a worker leaves.
    stopping: AtomicBool,
    pending: Mutex<Pending>,
    queue_target: Duration,
    queue_interval: Duration,
    /// How many calls were shed for their time in the queue.
    shed: AtomicU64,
    waiting_async: AtomicUsize,
    /// How many calls were ended while they waited, since the pending ones were looked through for them.
    ended: AtomicUsize,
    /// The bytes of those.
    ended_bytes: AtomicU64,
    has_priority: bool,
    max_async_calls: usize,
    findings: Arc<Findings>,
    /// What was sent to a pool actor that is not there, for a simulation that stands in its place.
    #[cfg(test)]
    baskets: Mutex<Vec<Basket>>,
    /// The same of how often the supervisor was asked.
    #[cfg(test)]
    asks: AtomicUsize,
}

impl Handover {
    pub(crate) fn new(registry: Arc<Registry>, hubs: Arc<Hubs>, limits: &Limits, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            gauge: Gauge::new(limits),
            places: Places::new(hubs.len(), now),
            ordinary: Meeting::new(ORDINARY),
            priority: Meeting::new(PRIORITY),
            pool: OnceLock::new(),
            supervisor: OnceLock::new(),
            asked: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            pending: Mutex::new(Pending::new(limits.queue_target, limits.queue_interval)),
            queue_target: limits.queue_target,
            queue_interval: limits.queue_interval,
            shed: AtomicU64::new(0),
            waiting_async: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            ended_bytes: AtomicU64::new(0),
            has_priority: registry.has_priority(),
            max_async_calls: limits.max_async_calls,
            findings: Arc::default(),
            registry,
            hubs,
            #[cfg(test)]
            baskets: Mutex::default(),
            #[cfg(test)]
            asks: AtomicUsize::new(0),
        })
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(crate) fn hubs(&self) -> &Arc<Hubs> {
        &self.hubs
    }

    pub(crate) fn tray(&self, worker: usize) -> &Tray {
        &self.place(worker).tray
    }

    pub(crate) fn place(&self, worker: usize) -> &Arc<WorkerPlace> {
        self.places.worker(worker)
    }

    pub(crate) fn async_place(&self, worker: usize) -> &AsyncPlace {
        self.places.asynchronous(worker)
    }

    /// The pool actor is there.
    pub(crate) fn pool_started(&self, pool: Addr<Pool>) {
        // Set once, by the one pool actor.
        let _ = self.pool.set(pool);
    }

    /// The supervisor is there.
    pub(crate) fn supervisor_started(&self, supervisor: Addr<Supervisor>) {
        // Set once, by the one supervisor.
        let _ = self.supervisor.set(supervisor);
    }

    pub(crate) fn supervisor(&self) -> Option<&Addr<Supervisor>> {
        self.supervisor.get()
    }

    /// From now on workers end because the service does.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, SeqCst);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    /// The pool actor's part: calls start to wait, unless a worker has become free since.
    pub(crate) fn take_in(&self, jobs: Vec<Job>, end: End, now: Instant) {
        let mut pending = self.lock();
        // One that was ended on its way here was counted before it could be found.
        let jobs = jobs.into_iter().filter(|job| job.is_wanted(&self.hubs)).collect::<Vec<_>>();
        match end {
            End::Back => jobs.into_iter().for_each(|job| pending.push(job, end, &self.registry, now)),
            End::Front => jobs.into_iter().rev().for_each(|job| pending.push(job, end, &self.registry, now)),
        }
        self.count(&pending);
        while pending.len(Class::Blocking) > 0 {
            let Some(worker) = self.ordinary.claim_again() else { break };
            self.give(worker, |tray| pending.fill(takes(worker), tray, &self.registry, now));
            self.count(&pending);
        }
        while pending.priority_len() > 0 {
            let Some(worker) = self.priority.claim_again() else { break };
            let worker = ORDINARY + worker;
            self.give(worker, |tray| pending.fill(takes(worker), tray, &self.registry, now));
            self.count(&pending);
        }
        while pending.len(Class::Asynchronous) > 0 {
            let Some((worker, places)) = self.reserve(pending.len(Class::Asynchronous)) else { break };
            let jobs: Vec<Job> = std::iter::from_fn(|| pending.pop(Class::Asynchronous, now)).take(places).collect();
            // Some may have been shed.
            self.async_place(worker).free.fetch_add(places - jobs.len(), SeqCst);
            if let Err(given_back) = self.async_place(worker).put(jobs) {
                let back = given_back.into_iter().rev();
                back.for_each(|job| pending.push(job, End::Front, &self.registry, now));
            }
            self.count(&pending);
        }
        let is_left = pending.len(Class::Blocking) > 0;
        self.unlock(pending);
        if is_left {
            self.ask_for_workers();
        }
    }

    /// Has the supervisor look whether what waits is worth another worker.
    fn ask_for_workers(&self) {
        if self.asked.swap(true, SeqCst) {
            return;
        }
        #[cfg(test)]
        self.asks.fetch_add(1, SeqCst);
        if let Some(supervisor) = self.supervisor.get() {
            supervisor.do_send(Look);
        }
    }

    /// Has the supervisor look, also when nobody has to ask for more workers because no more may be.
    pub(crate) fn look_after_workers(&self) {
        if let Some(supervisor) = self.supervisor.get() {
            supervisor.do_send(Look);
        }
    }

    /// The supervisor looks: what waits now, and nobody else has asked since.
    pub(crate) fn demand(&self, now: Instant) -> Demand {
        self.asked.store(false, SeqCst);
        // What was ended is worth no worker.
        self.sweep();
        self.lock().demand(now)
    }

    /// A worker whose tray is empty takes what waits. False when nothing does that it may take.
    pub(crate) fn refill(&self, worker: usize, now: Instant) -> bool {
        if self.meeting(worker).0.waiting() == 0 {
            return false;
        }
        let mut pending = self.lock();
        let waits = if worker < ORDINARY { pending.len(Class::Blocking) } else { pending.priority_len() };
        if waits == 0 || !pending.fill(takes(worker), self.tray(worker), &self.registry, now) {
            return false;
        }
        self.count(&pending);
        self.unlock(pending);
        true
    }

    /// A worker that has nothing to do goes idle. False when something came in between: it has to look again.
    pub(crate) fn rest(&self, worker: usize) -> bool {
        let (meeting, number) = self.meeting(worker);
        meeting.rest(number, &self.place(worker).leaving)
    }

    /// Takes an idle worker out of the idle set. False when it is not there.
    pub(crate) fn withdraw(&self, worker: usize) -> bool {
        let (meeting, number) = self.meeting(worker);
        meeting.withdraw(number)
    }

    fn meeting(&self, worker: usize) -> (&Meeting, usize) {
        if worker < ORDINARY { (&self.ordinary, worker) } else { (&self.priority, worker - ORDINARY) }
    }

    /// The places that may be in use, from now on: ordinary, priority and async ones.
    pub(crate) fn use_places(&self, ordinary: usize, priority: usize, asynchronous: usize) {
        self.ordinary.use_slots(ordinary);
        self.priority.use_slots(priority);
        self.places.use_async(asynchronous);
    }

    /// What a worker does.
    pub(crate) fn state(&self, worker: usize, now: Instant) -> State {
        self.tray(worker).state(now)
    }

    /// A new worker is about to sit at this place.
    pub(crate) fn reset(&self, worker: usize, now: Instant) {
        let place = self.place(worker);
        place.leaving.store(false, SeqCst);
        place.tray.reset(now);
    }

    /// A worker leaves or has ended: what it has not begun goes to others, and replies that are ready leave.
    /// `unbegun` is a call that it had taken out of its tray.
    pub(crate) fn leave(&self, worker: usize, unbegun: Option<Job>, now: Instant) {
        self.withdraw(worker);
        let left = self.tray(worker).leave();
        self.hubs.deliver_all(left.replies);
        let unbegun = self.given_back(unbegun, now);
        self.inherit(unbegun.into_iter().chain(left.jobs).collect(), now);
    }

    /// An async worker has ended: what it has not begun goes to others.
    pub(crate) fn async_ended(&self, worker: usize, unbegun: Vec<Job>, now: Instant) {
        let inbox = self.async_place(worker).end();
        let unbegun = self.given_back(unbegun, now);
        self.inherit(unbegun.into_iter().chain(inbox).collect(), now);
    }

    /// Calls that a worker had taken for a handler and that no handler has seen. For those that were ended meanwhile
    /// their hub hears that they are gone.
    fn given_back(&self, unbegun: impl IntoIterator<Item = Job>, now: Instant) -> Vec<Job> {
        let (wanted, gone): (Vec<Job>, Vec<Job>) =
            unbegun.into_iter().partition(|job| self.hubs.stages(job.ticket.hub).unbegin(job.ticket.call));
        for job in gone {
            let mut replies = Replies::default();
            replies.gone(&job.ticket, now);
            self.hubs.deliver(job.ticket.hub.into(), replies);
        }
        wanted
    }

    fn inherit(&self, jobs: Vec<Job>, now: Instant) {
        if jobs.is_empty() {
            return;
        }
        if self.is_stopping() {
            self.hubs.refuse(jobs, &Error::shutting_down());
        } else {
            self.take_in(jobs, End::Front, now);
        }
    }

    /// A new async worker is about to sit at this place.
    pub(crate) fn reset_async(&self, worker: usize) {
        self.async_place(worker).reset(self.max_async_calls);
    }

    /// Takes free places of an async worker that is to leave. Returns whether no call runs there any more.
    pub(crate) fn drain_async(&self, worker: usize, collected: &mut usize) -> bool {
        let place = self.async_place(worker);
        place.leaving.store(true, SeqCst);
        *collected += place.free.swap(0, SeqCst);
        *collected >= self.max_async_calls
    }

    /// An async call is done: its place goes to one that waits, or is free again.
    pub(crate) fn async_done(&self, worker: usize) -> Option<Job> {
        let place = self.async_place(worker);
        loop {
            if self.waiting_async.load(SeqCst) > 0 && !place.leaving.load(SeqCst) {
                let mut pending = self.lock();
                let next = pending.pop(Class::Asynchronous, Instant::now());
                self.count(&pending);
                self.unlock(pending);
                if next.is_some() {
                    return next;
                }
            }
            place.free.fetch_add(1, SeqCst);
            let is_over = self.waiting_async.load(SeqCst) == 0 || place.leaving.load(SeqCst);
            if is_over || !take_one(&place.free) {
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
        limits.insert("queue_target", self.shed.load(Relaxed));
    }

    /// What the watchdog has found.
    pub(crate) fn findings(&self) -> &Arc<Findings> {
        &self.findings
    }

    /// What each thread runs now.
    pub(crate) fn running(&self) -> impl Iterator<Item = (Place, Option<Runs>)> {
        let priority = ORDINARY..ORDINARY + self.priority.used_slots();
        let workers = (0..self.ordinary.used_slots()).chain(priority);
        let workers = workers.map(|worker| ((Kind::Worker, worker), self.place(worker).beat.read()));
        let asynchronous = self.places.used_async().map(|(place, it)| ((Kind::Async, place), it.beat.read()));
        let hubs = (0..self.hubs.len()).map(|hub| ((Kind::Inline, hub), self.hubs.beat(hub).read()));
        workers.chain(asynchronous).chain(hubs)
    }

    /// Where a thread says what it runs.
    pub(crate) fn beat(&self, (kind, place): Place) -> &Beat {
        match kind {
            Kind::Worker => &self.place(place).beat,
            Kind::Async => &self.async_place(place).beat,
            Kind::Inline => self.hubs.beat(place),
        }
    }

    /// Whether this is the place of an ordinary worker.
    pub(crate) fn is_ordinary(&self, worker: usize) -> bool {
        worker < ORDINARY
    }

    /// How many ordinary workers have nothing to do.
    pub(crate) fn idle_workers(&self) -> usize {
        self.ordinary.idle()
    }

    /// A call of this hub was ended before its result came: an async one that runs is dropped, one that waits will not
    /// take up room for long.
    pub(crate) fn ended(&self, hub: u16, call: CallRef, entry: u32, cost: u32, is_running: bool) {
        if is_running && self.registry.procedure(entry).class == Class::Asynchronous {
            // Which of them runs it nobody has written down: ending calls is rare, and async workers are few.
            self.places.used_async().for_each(|(_, place)| place.abort(Abort { hub, call }));
        } else if !is_running {
            // What was ended still takes up the room of others. Looking when it may be half of all costs each of them
            // a constant.
            let (calls, bytes) = self.gauge.held();
            let ended = self.ended.fetch_add(1, SeqCst);
            let ended_bytes = self.ended_bytes.fetch_add(cost.into(), SeqCst) + u64::from(cost);
            if ended >= SWEEP.max(calls as usize / 2) || ended_bytes >= SWEEP_BYTES.max(bytes / 2) {
                self.sweep();
            }
        }
    }

    /// Drops calls that were ended while they waited. False when there were none since the last time.
    fn sweep(&self) -> bool {
        if self.ended.swap(0, SeqCst) == 0 {
            return false;
        }
        self.ended_bytes.store(0, SeqCst);
        let mut pending = self.lock();
        pending.retain(|job| job.is_wanted(&self.hubs));
        self.count(&pending);
        true
    }

    /// Looks after calls that wait behind one that turned out slow, and replies that are held up by it.
    ///
    /// Returns whether there is anything left to look after.
    pub(crate) fn rescue(&self, now: Instant) -> bool {
        // In this order: calls move from the pending ones to a tray, so they are seen in one of the two.
        let mut more = self.gauge.in_use() || self.ordinary.waiting() > 0;
        let priority = ORDINARY..ORDINARY + self.priority.used_slots();
        for worker in (0..self.ordinary.used_slots()).chain(priority) {
            let Some(rescued) = self.tray(worker).rescue(now) else { continue };
            more = true;
            self.hubs.deliver_all(rescued.replies);
            if !rescued.jobs.is_empty() {
                self.take_in(rescued.jobs, End::Front, now);
            }
        }
        more
    }

    /// Fills the tray of a claimed worker and wakes it. One that has left takes nothing.
    fn give(&self, worker: usize, fill: impl FnOnce(&Tray) -> bool) {
        let place = self.place(worker);
        if fill(&place.tray) {
            log::trace!("worker {worker} was idle and is claimed");
            place.bell.ring();
        }
    }

    /// Reserves up to `wanted` places with the async worker that has most: its number and how many.
    fn reserve(&self, wanted: usize) -> Option<(usize, usize)> {
        loop {
            let staying = self.places.used_async().filter(|(_, place)| !place.leaving.load(SeqCst));
            let free = staying.map(|(worker, place)| (worker, place, place.free.load(SeqCst)));
            let (worker, place, _) = free.max_by_key(|(.., free)| *free).filter(|(.., free)| *free > 0)?;
            let mut places = 0;
            let take = |free: usize| {
                places = free.min(wanted);
                (places > 0).then(|| free - places)
            };
            if place.free.fetch_update(SeqCst, SeqCst, take).is_ok() {
                return Some((worker, places));
            }
            // Others have just taken what it had; somebody else may have some.
        }
    }

    fn count(&self, pending: &Pending) {
        self.ordinary.announce(pending.len(Class::Blocking));
        self.priority.announce(pending.priority_len());
        self.waiting_async.store(pending.len(Class::Asynchronous), SeqCst);
    }

    /// Unlocks the pending calls, and answers those that were shed meanwhile.
    fn unlock(&self, mut pending: MutexGuard<'_, Pending>) {
        let shed = pending.take_shed();
        drop(pending);
        if !shed.is_empty() {
            self.shed.fetch_add(shed.len() as u64, Relaxed);
            let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
            let error = Error::overloaded("queue_target", ms(self.queue_target), ms(self.queue_interval));
            self.hubs.refuse(shed, &error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // No panic can come between two writes to the pending calls, so a poisoned lock guards whole data.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For a simulation that stands in the place of the actors.
#[cfg(test)]
impl Handover {
    /// What was sent to the pool actor.
    pub(crate) fn take_baskets(&self) -> Vec<Basket> {
        std::mem::take(&mut *self.baskets.lock().unwrap())
    }

    pub(crate) fn has_baskets(&self) -> bool {
        !self.baskets.lock().unwrap().is_empty()
    }

    /// Calls that have a permit to wait, and their bytes.
    pub(crate) fn gauge(&self) -> (u64, u64) {
        self.gauge.held()
    }

    /// How often the supervisor was asked to look.
    pub(crate) fn asks(&self) -> usize {
        self.asks.load(SeqCst)
    }

    /// How many calls wait and how many workers are idle: ordinary ones, then priority ones.
    pub(crate) fn waiting_and_idle(&self) -> [(usize, usize); 2] {
        [&self.ordinary, &self.priority].map(|meeting| (meeting.waiting(), meeting.idle()))
    }
}

fn take_one(free: &AtomicUsize) -> bool {
    free.fetch_update(SeqCst, SeqCst, |free| free.checked_sub(1)).is_ok()
}

#[cfg(test)]
mod tests;
