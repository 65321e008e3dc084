//! Workers and their supervisor: models that take from real trays, inboxes and queues, and do what `growth` decides.
//!
//! A worker here is "runs a call until a time"; around that it follows `worker/mod.rs`, `worker/asynchronous.rs` and
//! `supervisor/mod.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use super::config::PRIORITY;
use super::hub::Shared;
use crate::job::{Job, Ticket};
use crate::pool::growth::{self, Bounds, Demand};
use crate::pool::place::ORDINARY;
use crate::reply::{Outbox, Replies};
use crate::stats::outcome::Verdict;
use crate::time::Instant;

/// Which workers were woken by their bells.
pub(super) type Rung = Arc<Mutex<Vec<Seat>>>;

/// A worker's place, and which worker at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    pub(super) is_async: bool,
    pub(super) place: usize,
    pub(super) generation: u64,
}

struct Ear {
    seat: Seat,
    rung: Rung,
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.rung.lock().unwrap().push(self.seat);
    }
}

/// A call that runs until then.
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) seat: Seat,
    pub(super) until: Instant,
    /// Which of an async worker's calls.
    pub(super) number: u64,
}

pub(super) struct Worker {
    pub(super) seat: Seat,
    ear: Waker,
    running: Option<(Job, Instant)>,
    answered: Option<Instant>,
    /// Calls of an async worker: those that run, those taken from its inbox, and replies that are ready.
    futures: BTreeMap<u64, Job>,
    queue: VecDeque<Job>,
    outbox: Vec<Replies>,
    next: u64,
    leaving: bool,
    collected: usize,
    /// It has ended; its seat is another's when the supervisor has heard.
    pub(super) has_ended: bool,
}

impl Worker {
    pub(super) fn new(seat: Seat, rung: Rung, hubs: usize) -> Self {
        let ear = Waker::from(Arc::new(Ear { seat, rung }));
        let outbox = std::iter::repeat_with(Replies::default).take(hubs).collect();
        Self {
            seat,
            ear,
            running: None,
            answered: None,
            futures: BTreeMap::new(),
            queue: VecDeque::new(),
            outbox,
            next: 0,
            leaving: false,
            collected: 0,
            has_ended: false,
        }
    }

    /// Its thread has come to it: the worker starts, or its bell was rung.
    pub(super) fn poll(&mut self, shared: &Shared, runs: &mut Vec<Runs>) {
        if self.has_ended {
            return;
        }
        let ear = self.ear.clone();
        let task = Context::from_waker(&ear);
        if self.seat.is_async {
            if shared.handover.async_place(self.seat.place).bell.heard(&task) {
                self.abort(shared);
                self.send(shared);
                self.begin_async(shared, runs);
            }
            return;
        }
        while self.running.is_none() && !self.has_ended && shared.handover.place(self.seat.place).bell.heard(&task) {
            self.pop(shared, runs);
        }
    }

    /// A call's handler returns.
    pub(super) fn done(&mut self, number: u64, shared: &Shared, runs: &mut Vec<Runs>) {
        if self.seat.is_async {
            let Some(job) = self.futures.remove(&number) else { return };
            let mut packet = finished(&job, shared);
            self.outbox[usize::from(job.ticket.hub)].push(&job.ticket, Verdict::OK, shared.now.get(), &mut packet);
            return self.left(shared);
        }
        let now = shared.now.get();
        let Some((job, since)) = self.running.take() else { return };
        let mut packet = finished(&job, shared);
        shared.handover.tray(self.seat.place).reply(&job.ticket, Verdict::OK, now, &mut packet);
        self.answered = Some(now);
        shared.handover.registry().procedure(job.ticket.entry).estimate.observe(now.nanos_since(since));
        self.pop(shared, runs);
        self.poll(shared, runs);
    }

    fn pop(&mut self, shared: &Shared, runs: &mut Vec<Runs>) {
        let (handover, place) = (&shared.handover, self.seat.place);
        let now = self.answered.take().unwrap_or(shared.now.get());
        loop {
            let leaves = handover.place(place).leaving.load(SeqCst);
            let mut outbox = Outbox::default();
            let next = handover.tray(place).next(now, leaves, &mut outbox);
            let (is_over, replies) = (next.is_none() && !outbox.is_due, outbox.take());
            if let Some(mut job) = next {
                let may_run = job.begin(handover.hubs(), now);
                handover.hubs().deliver_all(replies);
                if !may_run {
                    continue;
                }
                let is_priority = job.ticket.entry as usize == PRIORITY;
                begun(&job, [true, is_priority], shared);
                if shared.random.borrow_mut().once_in(shared.config.deaths) {
                    return self.die(Some(job), shared);
                }
                let takes = shared.config.runs(job.ticket.entry as usize, &mut shared.random.borrow_mut());
                runs.push(Runs { seat: self.seat, until: now + takes, number: 0 });
                self.running = Some((job, now));
                return;
            }
            handover.hubs().deliver_all(replies);
            if !is_over {
                continue;
            }
            if leaves {
                handover.leave(place, None, now);
                self.has_ended = true;
                return;
            }
            if handover.refill(place, now) {
                continue;
            }
            if handover.rest(place) {
                return;
            }
        }
    }

    /// Its thread ends, with a call that no handler has seen.
    fn die(&mut self, unbegun: Option<Job>, shared: &Shared) {
        self.has_ended = true;
        if let Some(job) = &unbegun {
            shared.ledger.borrow_mut().returned(job.ticket.client_id, job.ticket.serial);
        }
        shared.handover.leave(self.seat.place, unbegun, shared.now.get());
    }

    fn abort(&mut self, shared: &Shared) {
        for abort in shared.handover.async_place(self.seat.place).take_aborts() {
            let is_it = |ticket: &Ticket| ticket.hub == abort.hub && ticket.call == abort.call;
            let found = self.futures.iter().find(|(_, job)| is_it(&job.ticket)).map(|(&number, _)| number);
            if let Some(job) = found.and_then(|number| self.futures.remove(&number)) {
                shared.ledger.borrow_mut().done(job.ticket.client_id, job.ticket.serial);
                self.outbox[usize::from(job.ticket.hub)].gone(&job.ticket, shared.now.get());
                self.left(shared);
            }
        }
    }

    fn left(&mut self, shared: &Shared) {
        self.queue.extend(shared.handover.async_done(self.seat.place));
        shared.handover.async_place(self.seat.place).bell.ring();
    }

    fn send(&mut self, shared: &Shared) {
        for (hub, replies) in self.outbox.iter_mut().enumerate() {
            if !replies.is_empty() {
                shared.handover.hubs().deliver(hub, std::mem::take(replies));
            }
        }
    }

    fn begin_async(&mut self, shared: &Shared, runs: &mut Vec<Runs>) {
        loop {
            if self.queue.is_empty() {
                shared.handover.async_place(self.seat.place).take(&mut self.queue);
            }
            let Some(mut job) = self.queue.pop_front() else { return };
            let now = shared.now.get();
            if !job.begin(shared.handover.hubs(), now) {
                self.left(shared);
                continue;
            }
            begun(&job, [false; 2], shared);
            let takes = shared.config.runs(job.ticket.entry as usize, &mut shared.random.borrow_mut());
            self.next += 1;
            runs.push(Runs { seat: self.seat, until: now + takes, number: self.next });
            self.futures.insert(self.next, job);
        }
    }
}

fn begun(job: &Job, may: [bool; 2], shared: &Shared) {
    shared.ledger.borrow_mut().begun(job.ticket.client_id, job.ticket.serial, may, shared.now.get());
}

fn finished(job: &Job, shared: &Shared) -> Vec<u8> {
    shared.ledger.borrow_mut().done(job.ticket.client_id, job.ticket.serial);
    shared.reply(job)
}

/// The supervisor, without threads.
#[derive(Default)]
pub(super) struct Supervisor {
    /// Ordinary workers, priority workers, async workers, by place.
    pub(super) seated: [BTreeMap<usize, Worker>; 3],
    pub(super) wanted: [(usize, usize); 3],
    generation: u64,
    pub(super) last_look: Option<Instant>,
    /// When it looks again.
    pub(super) again: Option<Instant>,
    pub(super) rung: Rung,
    /// Workers that start.
    pub(super) starting: Vec<Seat>,
}

impl Supervisor {
    pub(super) fn worker(&mut self, seat: Seat) -> Option<&mut Worker> {
        let kind = if seat.is_async { 2 } else { usize::from(seat.place >= ORDINARY) };
        self.seated[kind].get_mut(&seat.place).filter(|worker| worker.seat == seat)
    }

    fn start(&mut self, kind: usize, shared: &Shared) {
        let first = if kind == 1 { ORDINARY } else { 0 };
        let place = (first..).find(|place| !self.seated[kind].contains_key(place)).unwrap();
        self.generation += 1;
        let seat = Seat { is_async: kind == 2, place, generation: self.generation };
        self.seated[kind].insert(place, Worker::new(seat, self.rung.clone(), shared.config.hubs));
        self.use_places(shared);
        if seat.is_async {
            shared.handover.reset_async(place);
        } else {
            shared.handover.reset(place, shared.now.get());
        }
        self.starting.push(seat);
    }

    /// The worker's thread has come up.
    pub(super) fn started(&mut self, seat: Seat, shared: &Shared, runs: &mut Vec<Runs>) {
        match seat.is_async {
            true => shared.handover.async_place(seat.place).bell.ring(),
            false => shared.handover.place(seat.place).bell.ring(),
        }
        if let Some(worker) = self.worker(seat) {
            worker.poll(shared, runs);
        }
    }

    /// A worker's actor is dropped, and then its end is told.
    pub(super) fn ended(&mut self, seat: Seat, shared: &Shared) {
        let now = shared.now.get();
        let kind = if seat.is_async { 2 } else { usize::from(seat.place >= ORDINARY) };
        if self.worker(seat).is_none() {
            return;
        }
        let mut worker = self.seated[kind].remove(&seat.place).unwrap();
        assert!(worker.running.is_none() && worker.futures.is_empty());
        if seat.is_async {
            worker.send(shared);
            shared.handover.async_ended(seat.place, worker.queue.drain(..).collect(), now);
        } else {
            shared.handover.leave(seat.place, None, now);
        }
        self.use_places(shared);
        self.look(shared);
    }

    fn use_places(&self, shared: &Shared) {
        let used =
            |kind: usize, first: usize| self.seated[kind].keys().next_back().map_or(0, |place| place + 1 - first);
        shared.handover.use_places(used(0, 0), used(1, ORDINARY), used(2, 0));
    }

    fn staying(&self, kind: usize) -> impl Iterator<Item = usize> {
        self.seated[kind].iter().filter(|(_, worker)| !worker.leaving).map(|(&place, _)| place)
    }

    fn dismiss(&mut self, kind: usize, place: usize, shared: &Shared) {
        let now = shared.now.get();
        let worker = self.seated[kind].get_mut(&place).unwrap();
        worker.leaving = true;
        if kind == 2 {
            worker.has_ended |= shared.handover.drain_async(place, &mut worker.collected);
            return;
        }
        shared.handover.place(place).leaving.store(true, SeqCst);
        if shared.handover.withdraw(place) {
            shared.handover.leave(place, None, now);
            worker.has_ended = true;
        }
    }

    pub(super) fn look(&mut self, shared: &Shared) {
        let now = shared.now.get();
        self.last_look = Some(now);
        let (min, max) = self.wanted[0];
        let bounds = Bounds { min, max, idle_timeout: shared.limits.worker_idle_timeout, cores: shared.config.cores };
        let workers: Vec<_> = self.staying(0).map(|place| (place, shared.handover.state(place, now))).collect();
        let demand = if workers.len() < max { shared.handover.demand(now) } else { Demand::default() };
        let decision = growth::decide(&bounds, &workers, &demand, now);
        for &place in &decision.idle {
            if shared.handover.withdraw(place) {
                shared.handover.place(place).leaving.store(true, SeqCst);
                let worker = self.seated[0].get_mut(&place).unwrap();
                worker.leaving = true;
                shared.handover.leave(place, None, now);
                worker.has_ended = true;
            }
        }
        decision.surplus.iter().for_each(|&place| self.dismiss(0, place, shared));
        (0..decision.start).for_each(|_| self.start(0, shared));
        let staying = self.staying(0).count();
        assert!((min..=max).contains(&staying), "{staying} workers: {bounds:?}");
        for kind in [1, 2] {
            let wanted = self.wanted[kind].0;
            let staying: Vec<usize> = self.staying(kind).collect();
            for &place in staying.iter().rev().take(staying.len().saturating_sub(wanted)) {
                self.dismiss(kind, place, shared);
            }
            if wanted > staying.len() {
                (staying.len()..wanted).for_each(|_| self.start(kind, shared));
                shared.handover.take_in(Vec::new(), crate::pool::End::Back, now);
            }
        }
        self.again = decision.again;
        for worker in self.seated[2].values_mut().filter(|worker| worker.leaving) {
            worker.has_ended |= shared.handover.drain_async(worker.seat.place, &mut worker.collected);
            let soon = now + std::time::Duration::from_millis(10);
            self.again = Some(self.again.map_or(soon, |again| again.min(soon)));
        }
    }

    /// Workers that have ended and of which it has not heard.
    pub(super) fn endings(&self) -> impl Iterator<Item = Seat> {
        self.seated.iter().flat_map(BTreeMap::values).filter(|worker| worker.has_ended).map(|worker| worker.seat)
    }
}
