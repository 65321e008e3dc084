//! The supervisor: the actor that owns the threads of workers. It starts, replaces, dismisses and joins them.
//!
//! It runs on the control thread. The pool asks it to look when calls wait ([`Look`]), a worker that ends tells it
//! ([`Ended`]), an embedding program changes how many there are to be ([`Controls::resize`]). What to do is decided by
//! plain code: [`growth`] for the number of workers, [`budget`] for how soon to try again.
//! It never runs handlers, and never waits for one: a thread is joined when it has ended.
//!
//! Bound of its mailbox: one look at a time, an end for each worker, changes as fast as their author makes them.

pub(crate) mod budget;
pub(crate) mod health;
pub(crate) mod poison;
pub(crate) mod thread;
pub(crate) mod watch;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use actix::dev::MessageResponse;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, Recipient};

use crate::estimate::MAX_WAIT;
use crate::event_loop::{Delivery, Interval, TimerEvent, TimerId};
use crate::limits::{LimitErrors, Workers, cores};
use crate::pool::growth::{self, Bounds, Demand};
use crate::pool::handover::Handover;
use crate::pool::place::{ASYNC, ORDINARY, PRIORITY};
use crate::server::{Ready, StartError};
use crate::stats;
use crate::supervisor::thread::Thread;
use crate::supervisor::watch::{Trouble, Watch};
use crate::time::Instant;
use crate::worker::Worker;
use crate::worker::asynchronous::{Appointment, AsyncWorker};

/// How often it looks whether threads that are about to end have.
const REAP_INTERVAL: Duration = Duration::from_millis(10);
/// A worker that has lived so long has started well.
const SETTLED: Duration = Duration::from_secs(1);

/// What a worker does and where it sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Post {
    kind: Kind,
    /// Its place: that of a worker, or that of an async worker.
    pub(crate) place: usize,
    /// Tells it from those who had the place before.
    generation: u64,
}

#[cfg(feature = "bench")]
impl Post {
    /// Of a worker that no supervisor knows.
    pub(crate) fn for_bench(place: usize) -> Self {
        Self { kind: Kind::Ordinary, place, generation: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ordinary,
    Priority,
    Async,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Ordinary, Self::Priority, Self::Async];

    /// The first place of this kind, and the one behind the last.
    fn places(self) -> (usize, usize) {
        match self {
            Self::Ordinary => (0, ORDINARY),
            Self::Priority => (ORDINARY, ORDINARY + PRIORITY),
            Self::Async => (0, ASYNC),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ordinary => "worker",
            Self::Priority => "priority",
            Self::Async => "async",
        }
    }
}

/// A worker, as its supervisor sees it.
#[derive(Debug)]
struct Seated {
    post: Post,
    thread: Thread,
    since: Instant,
    leaving: bool,
    /// The places for calls taken from an async worker that is to leave.
    collected: usize,
}

/// What a service's handle and its supervisor share.
#[derive(Debug)]
pub(crate) struct Controls {
    wanted: Mutex<Workers>,
    watch: Arc<Watch>,
    /// How many workers of each kind there are, and how often one was started in place of another.
    seated: [AtomicUsize; 3],
    replaced: AtomicU64,
    supervisor: OnceLock<Addr<Supervisor>>,
}

impl Controls {
    pub(crate) fn new(wanted: Workers, watch: Arc<Watch>) -> Arc<Self> {
        let (seated, replaced) = Default::default();
        Arc::new(Self { wanted: Mutex::new(wanted), watch, seated, replaced, supervisor: OnceLock::new() })
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The workers there are, so many of them idle.
    pub(crate) fn count(&self, idle: usize) -> stats::Workers {
        let wanted = self.wanted();
        let seated = |kind: Kind| self.seated[kind as usize].load(Relaxed) as u64;
        stats::Workers {
            minimum: wanted.min_workers as u64,
            maximum: wanted.max_workers as u64,
            current: seated(Kind::Ordinary),
            free: idle as u64,
            priority: seated(Kind::Priority),
            asynchronous: seated(Kind::Async),
            restarts: self.replaced.load(Relaxed) + self.watch.restarts(),
            ..stats::Workers::default()
        }
    }

    pub(crate) fn wanted(&self) -> Workers {
        *self.lock()
    }

    /// Changes how many workers there are to be: all values, or none.
    pub(crate) fn resize(&self, workers: Workers) -> Result<(), LimitErrors> {
        workers.check()?;
        *self.lock() = workers;
        if let Some(supervisor) = self.supervisor.get() {
            let (done, is_done) = std_mpsc::sync_channel(1);
            supervisor.do_send(Resized(done));
            // It fails when the service has ended meanwhile, and then there is nothing to wait for.
            let _ = is_done.recv();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Workers> {
        // The values are written in one go.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the workers that are always there; answers with where to ask whether each is ready.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Recipient<Ready>>, StartError>")]
pub(crate) struct Open;

/// Calls wait: are they worth another worker?
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Look;

/// A worker has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Ended(pub(crate) Post);

/// The number of workers that are wanted has changed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Resized(std_mpsc::SyncSender<()>);

/// The service stops: answers with all threads, for them to be joined.
#[derive(Debug, Message)]
#[rtype(result = "Dismissed")]
pub(crate) struct Dismiss;

#[derive(Debug, MessageResponse)]
pub(crate) struct Dismissed(pub(crate) Vec<Thread>);

#[derive(Debug)]
pub(crate) struct Supervisor {
    handover: Arc<Handover>,
    controls: Arc<Controls>,
    max_packet: u32,
    cores: usize,
    seated: [BTreeMap<usize, Seated>; 3],
    /// Threads that are about to end.
    ending: Vec<Thread>,
    generation: u64,
    last_look: Option<Instant>,
    /// Its timer on the event loop, and for when that is set.
    timer: Option<TimerId>,
    set: Option<Instant>,
    /// Whether it looks after calls that a worker left when it ended: they may have come to wait behind others.
    rescues: bool,
    is_dismissed: bool,
}

impl Supervisor {
    pub(crate) fn new(handover: Arc<Handover>, controls: Arc<Controls>, max_packet: u32) -> Self {
        Self {
            handover,
            controls,
            max_packet,
            cores: cores(),
            seated: Default::default(),
            ending: Vec::new(),
            generation: 0,
            last_look: None,
            timer: None,
            set: None,
            rescues: false,
            is_dismissed: false,
        }
    }

    fn watch(&self) -> &Watch {
        &self.controls.watch
    }

    /// How many workers of this kind there are, without those that are about to leave.
    fn count(&self, kind: Kind) -> usize {
        self.seated[kind as usize].values().filter(|seated| !seated.leaving).count()
    }

    /// Starts a worker at the lowest free place of its kind.
    fn start(&mut self, kind: Kind, now: Instant) -> Result<Recipient<Ready>, StartError> {
        let seated = &self.seated[kind as usize];
        let (first, end) = kind.places();
        let Some(place) = (first..end).find(|place| !seated.contains_key(place)) else {
            let cause = std::io::Error::other(format!("all {} places are taken", end - first));
            return Err(StartError::Thread { name: kind.name().to_owned(), cause });
        };
        let thread = Thread::start(format!("{} {}", kind.name(), place - first))?;
        self.generation += 1;
        let post = Post { kind, place, generation: self.generation };
        let (handle, handover, max_packet) = (thread.handle(), self.handover.clone(), self.max_packet);
        let seated = Seated { post, thread, since: now, leaving: false, collected: 0 };
        self.seated[kind as usize].insert(place, seated);
        self.use_places();
        if kind == Kind::Async {
            self.handover.reset_async(place);
            let appointment = Appointment::new(post, handover);
            let worker = AsyncWorker::start_in_arbiter(&handle, move |_| AsyncWorker::new(appointment, max_packet));
            Ok(worker.recipient())
        } else {
            self.handover.reset(place, now);
            let worker = Worker::start_in_arbiter(&handle, move |_| Worker::new(post, handover, max_packet));
            Ok(worker.recipient())
        }
    }

    /// Starts so many workers, as far as that works. Returns when to try again what did not.
    fn start_many(&mut self, kind: Kind, count: usize, now: Instant) -> Option<Instant> {
        let is_relieved = kind == Kind::Ordinary && self.watch().is_in_trouble(Trouble::NoThread) && self.is_complete();
        if count == 0 && !is_relieved {
            return None;
        }
        if let Err(after) = self.watch().may_start_workers(now.to_std()) {
            return Some(now + after);
        }
        if count == 0 {
            // It is time to try again, and the thread that could not be started is not needed any more.
            self.watch().workers_recovered(Trouble::NoThread);
            return None;
        }
        for started in 0..count {
            if let Err(error) = self.start(kind, now) {
                let what = format!("{error}; {} of {} are there", self.count(kind), self.count(kind) + count - started);
                log::warn!("{what}");
                self.watch().worker_failed(Trouble::NoThread, what, now.to_std());
                return Some(now + REAP_INTERVAL);
            }
        }
        log::debug!("started {count} of kind {}: {} are there", kind.name(), self.count(kind));
        if self.watch().is_in_trouble(Trouble::NoThread) {
            self.watch().workers_recovered(Trouble::NoThread);
        }
        None
    }

    /// Has a worker leave: at once when it is idle, else when it is done with what it runs.
    fn dismiss(&mut self, kind: Kind, place: usize, now: Instant) {
        let Some(seated) = self.seated[kind as usize].get_mut(&place) else { return };
        seated.leaving = true;
        log::debug!("{} {place} is to leave", kind.name());
        if kind == Kind::Async {
            if self.handover.drain_async(place, &mut seated.collected) {
                seated.thread.stop();
            }
            return;
        }
        self.handover.place(place).leaving.store(true, std::sync::atomic::Ordering::SeqCst);
        if self.handover.withdraw(place) {
            self.handover.leave(place, None, now);
            seated.thread.stop();
        }
    }

    /// Has a worker leave that has been idle for long. False when it was claimed meanwhile.
    fn dismiss_idle(&mut self, place: usize, now: Instant) -> bool {
        let is_idle = self.handover.withdraw(place);
        if is_idle {
            // It is in no set any more, so nobody gives it anything.
            self.handover.place(place).leaving.store(true, std::sync::atomic::Ordering::SeqCst);
            if let Some(seated) = self.seated[Kind::Ordinary as usize].get_mut(&place) {
                seated.leaving = true;
                self.handover.leave(place, None, now);
                seated.thread.stop();
                log::debug!("worker {place} was idle for long and leaves");
            }
        }
        is_idle
    }

    fn use_places(&self) {
        for kind in Kind::ALL {
            self.controls.seated[kind as usize].store(self.seated[kind as usize].len(), Relaxed);
        }
        let used = |kind: Kind| {
            let last = self.seated[kind as usize].keys().next_back();
            last.map_or(0, |place| place + 1 - kind.places().0)
        };
        self.handover.use_places(used(Kind::Ordinary), used(Kind::Priority), used(Kind::Async));
    }

    /// Does whatever is to be done now, and sets the timer for the rest.
    fn look(&mut self) {
        if self.is_dismissed {
            return;
        }
        let now = Instant::now();
        self.last_look = Some(now);
        self.reap();
        let mut again = self.look_at_ordinary(now);
        let wanted = self.controls.wanted();
        let has_priority = self.handover.registry().has_priority();
        // As with ordinary workers, the places of those that are stuck are filled up to twice their number.
        let stuck = self.handover.findings().stuck_priority().min(wanted.prio_workers);
        let priority = if has_priority { wanted.prio_workers + stuck } else { 0 };
        for (kind, count) in [(Kind::Priority, priority), (Kind::Async, wanted.async_workers)] {
            again = earliest(again, self.look_at_fixed(kind, count, now));
        }
        if !self.ending.is_empty() || self.has_leaving_async() {
            again = earliest(again, Some(now + REAP_INTERVAL));
        }
        if self.rescues {
            self.rescues = self.handover.rescue(now);
            again = earliest(again, self.rescues.then(|| now + MAX_WAIT));
        }
        if self.watch().is_in_trouble(Trouble::Ended) {
            let is_settled = |seated: &Seated| now.saturating_duration_since(seated.since) >= SETTLED;
            if self.seated.iter().all(|kind| kind.values().all(is_settled)) && self.is_complete() {
                self.watch().workers_recovered(Trouble::Ended);
            } else {
                again = earliest(again, Some(now + SETTLED));
            }
        }
        if let Some(again) = again {
            self.come_back(again);
        }
    }

    /// Whether all workers are there that always are.
    fn is_complete(&self) -> bool {
        let wanted = self.controls.wanted();
        self.count(Kind::Ordinary) >= wanted.min_workers && self.count(Kind::Async) >= wanted.async_workers
    }

    fn look_at_ordinary(&mut self, now: Instant) -> Option<Instant> {
        let Workers { min_workers, max_workers, worker_idle_timeout, .. } = self.controls.wanted();
        // The places of workers that a call does not leave are filled, as far as the budget goes.
        let stuck = self.handover.findings().stuck_workers().min(max_workers);
        let bounds = Bounds {
            min: min_workers + stuck,
            max: max_workers + stuck,
            idle_timeout: worker_idle_timeout,
            cores: self.cores,
        };
        let staying = self.seated[Kind::Ordinary as usize].values().filter(|seated| !seated.leaving);
        let workers: Vec<_> =
            staying.map(|seated| (seated.post.place, self.handover.state(seated.post.place, now))).collect();
        // Nobody needs to ask while no more can be started; the next look comes when that has changed.
        let demand = if workers.len() < bounds.max { self.handover.demand(now) } else { Demand::default() };
        let decision = growth::decide(&bounds, &workers, &demand, now);
        let mut again = decision.again;
        for &place in &decision.idle {
            if !self.dismiss_idle(place, now) {
                // It is at work after all, and nobody else comes back for it.
                again = earliest(again, Some(now + worker_idle_timeout));
            }
        }
        for &place in &decision.surplus {
            self.dismiss(Kind::Ordinary, place, now);
        }
        let retry = self.start_many(Kind::Ordinary, decision.start, now);
        earliest(again, retry)
    }

    fn look_at_fixed(&mut self, kind: Kind, wanted: usize, now: Instant) -> Option<Instant> {
        let count = self.count(kind);
        if count > wanted {
            let staying = self.seated[kind as usize].values().filter(|seated| !seated.leaving);
            let last: Vec<usize> = staying.rev().map(|seated| seated.post.place).take(count - wanted).collect();
            last.into_iter().for_each(|place| self.dismiss(kind, place, now));
            return None;
        }
        let retry = self.start_many(kind, wanted - count, now);
        if wanted > count && retry.is_none() {
            // New places: what waits may go there.
            self.handover.take_in(Vec::new(), crate::pool::End::Back, now);
        }
        retry
    }

    fn has_leaving_async(&mut self) -> bool {
        let mut some = false;
        for seated in self.seated[Kind::Async as usize].values_mut().filter(|seated| seated.leaving) {
            some = true;
            if self.handover.drain_async(seated.post.place, &mut seated.collected) {
                seated.thread.stop();
            }
        }
        some
    }

    /// Joins threads that have ended.
    fn reap(&mut self) {
        let ending = std::mem::take(&mut self.ending);
        self.ending = ending.into_iter().filter_map(Thread::reap).collect();
    }

    /// Looks again at this time, or before.
    fn come_back(&mut self, at: Instant) {
        if self.set.is_some_and(|set| set <= at) {
            return;
        }
        self.set = Some(at);
        // A time that is over already is the next iteration.
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        self.set_timer(Interval::Every(left));
    }

    fn set_timer(&self, interval: Interval) {
        if let (Some(events), Some(timer)) = (self.handover.hubs().event_loop(), self.timer)
            && let Err(error) = events.update_timeout(timer, interval)
        {
            log::error!("the supervisor has no timer: {error}");
        }
    }
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.handover.supervisor_started(ctx.address());
        // Set once, by the one supervisor.
        let _ = self.controls.supervisor.set(ctx.address());
        if let Some(events) = self.handover.hubs().event_loop() {
            match events.add_timeout_recipient(Interval::Disabled, ctx.address().recipient()) {
                Ok(timer) => self.timer = Some(timer),
                Err(error) => log::error!("the supervisor has no timer: {error}"),
            }
        }
    }
}

impl Handler<Open> for Supervisor {
    type Result = Result<Vec<Recipient<Ready>>, StartError>;

    fn handle(&mut self, _: Open, _: &mut Self::Context) -> Self::Result {
        let now = Instant::now();
        let wanted = self.controls.wanted();
        let mut recipients = Vec::new();
        for kind in Kind::ALL {
            let count = match kind {
                Kind::Ordinary => wanted.min_workers,
                Kind::Priority if self.handover.registry().has_priority() => wanted.prio_workers,
                Kind::Priority => 0,
                Kind::Async => wanted.async_workers,
            };
            for _ in 0..count {
                recipients.push(self.start(kind, now)?);
            }
        }
        Ok(recipients)
    }
}

impl Handler<Look> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Look, _: &mut Self::Context) {
        // Under load every basket asks. Looking once in a while is enough, and costs nothing then.
        let now = Instant::now();
        match self.last_look {
            Some(last) if now.saturating_duration_since(last) < MAX_WAIT / 2 => self.come_back(last + MAX_WAIT),
            _ => self.look(),
        }
    }
}

impl Handler<Ended> for Supervisor {
    type Result = ();

    fn handle(&mut self, ended: Ended, _: &mut Self::Context) {
        let post = ended.0;
        self.rescues = true;
        let seated = &mut self.seated[post.kind as usize];
        if seated.get(&post.place).is_none_or(|seated| seated.post != post) {
            return;
        }
        let Some(Seated { thread, leaving, .. }) = seated.remove(&post.place) else { return };
        thread.stop();
        self.ending.push(thread);
        self.use_places();
        if !leaving && !self.is_dismissed {
            let name = format!("{} {}", post.kind.name(), post.place - post.kind.places().0);
            log::warn!("the thread of {name} ended by itself; another takes its place");
            self.controls.replaced.fetch_add(1, Relaxed);
            let has_run = match post.kind {
                Kind::Async => self.handover.async_place(post.place).has_run(),
                Kind::Ordinary | Kind::Priority => self.handover.tray(post.place).has_run(),
            };
            if !has_run {
                let what = format!("the thread of {name} ended before it ran a call");
                self.watch().worker_failed(Trouble::Ended, what, std::time::Instant::now());
            }
        }
        self.look();
    }
}

impl Handler<Delivery<TimerEvent>> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Delivery<TimerEvent>, _: &mut Self::Context) {
        self.set = None;
        self.set_timer(Interval::Disabled);
        self.look();
    }
}

impl Handler<Resized> for Supervisor {
    type Result = ();

    fn handle(&mut self, resized: Resized, _: &mut Self::Context) {
        self.look();
        // There is room for one.
        let _ = resized.0.try_send(());
    }
}

impl Handler<Dismiss> for Supervisor {
    type Result = Dismissed;

    fn handle(&mut self, _: Dismiss, _: &mut Self::Context) -> Dismissed {
        self.is_dismissed = true;
        self.handover.stop();
        let mut threads = std::mem::take(&mut self.ending);
        for kind in [Kind::Async, Kind::Ordinary, Kind::Priority] {
            threads.extend(std::mem::take(&mut self.seated[kind as usize]).into_values().map(|seated| seated.thread));
        }
        Dismissed(threads)
    }
}
