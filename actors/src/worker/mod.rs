//! Workers: each an actor on an arbiter of its own that decodes calls, runs their handlers and encodes replies.
//!
//! A [`Worker`] takes what lies in its tray, one call after the other, then what waits with the pool, then it goes
//! idle until its bell is rung. Its mailbox is empty but for one question when it starts, and one note if nobody listens
//! to its bell any more. A handler that blocks here blocks this worker and nothing else. However it ends, what it has not
//! begun goes to others, and the supervisor is told.

pub(crate) mod asynchronous;

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};
use futures::future::LocalBoxFuture;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::desk::{Desk, Feed, Running};
use crate::job::{Job, Ticket};
use crate::pool::handover::Handover;
use crate::pool::place::WorkerPlace;
use crate::program::handler::Answer;
use crate::reply::Outbox;
use crate::server::Ready;
use crate::stats::outcome::Verdict;
use crate::supervisor::{Ended, Post};
use crate::time::Instant;

/// A worker for blocking procedures.
#[derive(Debug)]
pub(crate) struct Worker {
    post: Post,
    handover: Arc<Handover>,
    max_packet: u32,
    desk: Option<Rc<Desk>>,
    listens: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn new(post: Post, handover: Arc<Handover>, max_packet: u32) -> Self {
        Self { post, handover, max_packet, desk: None, listens: None }
    }
}

impl Handler<Ready> for Worker {
    type Result = ();

    fn handle(&mut self, _: Ready, _: &mut Self::Context) {}
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let number = self.post.place;
        let place = self.handover.place(number).clone();
        let feed = WorkerFeed {
            number,
            handover: self.handover.clone(),
            place,
            outbox: RefCell::default(),
            room: Cell::default(),
            clock: Clock::new(),
            seen: Cell::default(),
        };
        let (registry, hubs) = (self.handover.registry().clone(), self.handover.hubs().clone());
        let desk = Desk::new(registry, hubs, self.max_packet, Box::new(feed));
        // Finds nothing to do yet, and so puts the worker into the idle set.
        let place = self.handover.place(number).clone();
        place.bell.ring();
        self.listens = Some(actix_rt::spawn(Listen { place, desk: desk.clone(), worker: ctx.address() }));
        self.desk = Some(desk);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(listens) = &self.listens {
            listens.abort();
        }
        // It was told to leave, or its thread was stopped, or it panicked, which is a defect of this crate.
        let unbegun = self.desk.as_ref().and_then(|desk| desk.abandon());
        self.handover.leave(self.post.place, unbegun, Instant::now());
        self.handover.place(self.post.place).bell.forget();
        if let Some(supervisor) = self.handover.supervisor() {
            supervisor.do_send(Ended(self.post));
        }
    }
}

/// The worker's task, beside its context, whose mailbox need not be looked into for each call: has the desk go on
/// whenever the worker's bell was rung, because its tray was filled, or the desk asked for it.
struct Listen {
    place: Arc<WorkerPlace>,
    desk: Rc<Desk>,
    worker: Addr<Worker>,
}

impl Future for Listen {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut std::task::Context<'_>) -> Poll<()> {
        while self.place.bell.heard(task) {
            self.desk.begin();
        }
        Poll::Pending
    }
}

impl Drop for Listen {
    fn drop(&mut self) {
        // With the worker, or by a panic: then the worker ends, too.
        self.worker.do_send(Deaf);
    }
}

/// Nobody listens to the worker's bell any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Deaf;

impl Handler<Deaf> for Worker {
    type Result = ();

    fn handle(&mut self, _: Deaf, ctx: &mut Self::Context) {
        ctx.terminate();
    }
}

/// Jobs from the tray and from the pool; replies through the tray to the hubs.
struct WorkerFeed {
    number: usize,
    handover: Arc<Handover>,
    place: Arc<WorkerPlace>,
    /// What is being sent; room for it meanwhile.
    outbox: RefCell<Outbox>,
    /// Where replies are written; empty between them.
    room: Cell<Vec<u8>>,
    clock: Clock,
    /// The procedure that was called last since the worker was woken, and its estimate as it was seen then.
    seen: Cell<(u32, Option<u64>)>,
}

impl WorkerFeed {
    fn leaves(&self) -> bool {
        self.place.leaving.load(SeqCst)
    }

    /// A call is done. Returns when that was.
    fn end(&self, ticket: &Ticket) -> Instant {
        let now = self.clock.now();
        self.place.beat.end();
        let (entry, seen) = self.seen.get();
        let mut seen = if entry == ticket.entry { seen } else { None };
        self.handover
            .registry()
            .procedure(ticket.entry)
            .estimate
            .observe_after(&mut seen, now.nanos_since(ticket.begun));
        self.seen.set((ticket.entry, seen));
        now
    }

    /// Does what the tray says, until there is a job that may run.
    fn work(&self, mut next: Option<Job>, outbox: &mut Outbox, mut now: Instant) -> Option<Job> {
        loop {
            let is_over = next.is_none() && !outbox.is_due;
            let may_run = next.as_mut().is_some_and(|job| job.begin(self.handover.hubs(), now));
            if outbox.is_due {
                self.handover.hubs().answer_all(outbox);
                // Others may have changed it: a worker that is never idle looks again with each batch.
                self.seen.take();
                // The calls behind this are not to count for it.
                now = self.clock.look();
            }
            if let Some(mut job) = next
                && may_run
            {
                job.ticket.begun = now;
                log::trace!(
                    client = job.ticket.client_id, serial = job.ticket.serial, trace = job.trace().map(AsRef::<str>::as_ref);
                    "worker {} takes it", self.number
                );
                self.place.beat.begin(job.ticket.entry, &job.ticket, now);
                return Some(job);
            }
            if is_over {
                if self.leaves() {
                    self.handover.leave(self.number, None, now);
                    actix_rt::Arbiter::current().stop();
                    return None;
                }
                if !self.handover.refill(self.number, now) && self.handover.rest(self.number) {
                    return None;
                }
            }
            next = self.place.tray.next(now, self.leaves(), outbox);
        }
    }
}

impl Feed for WorkerFeed {
    fn pop(&self) -> Option<Job> {
        // Others may have changed what they expect.
        self.seen.take();
        let (now, mut outbox) = (self.clock.look(), self.outbox.borrow_mut());
        let next = self.place.tray.next(now, self.leaves(), &mut outbox);
        self.work(next, &mut outbox, now)
    }

    fn room(&self) -> Vec<u8> {
        self.room.take()
    }

    fn keep(&self, mut room: Vec<u8>) {
        room.clear();
        self.room.set(room);
    }

    fn answer(&self, job: Job, verdict: Verdict, room: &mut Vec<u8>) {
        let now = self.end(&job.ticket);
        self.place.tray.answer(job, verdict, now, room);
    }

    fn go_on(&self, job: Job, verdict: Verdict, room: &mut Vec<u8>) -> Option<Job> {
        // One look at the clock for each call: the end of one is the beginning of the next.
        let (now, mut outbox) = (self.end(&job.ticket), self.outbox.borrow_mut());
        let next = self.place.tray.go_on((job, verdict, room), now, self.leaves(), &mut outbox);
        self.work(next, &mut outbox, now)
    }

    fn reply(&self, ticket: &Ticket, verdict: Verdict, room: &mut Vec<u8>) {
        let now = self.end(ticket);
        self.place.tray.reply(ticket, verdict, now, room);
    }

    fn nudge(&self) {
        self.place.bell.ring();
    }

    fn spawn(&self, running: Running, _: LocalBoxFuture<'static, Answer>) {
        // Async procedures are dispatched to async workers only.
        debug_assert!(false, "an async call came to a blocking worker: {running:?}");
    }
}
