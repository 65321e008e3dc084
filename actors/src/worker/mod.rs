//! Workers: each an actor on an arbiter of its own that decodes calls, runs their handlers and encodes replies.
//!
//! A [`Worker`] takes what lies in its tray, one call after the other, then what waits with the pool, then it goes
//! idle until its bell is rung. Its mailbox is empty but for one question when it starts. A handler that blocks here
//! blocks this worker and nothing else. However it ends, what it has not begun goes to others, and the supervisor is
//! told.

pub(crate) mod asynchronous;

use crate::time::Instant;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;

use actix::fut::ActorFuture;
use actix::{Actor, AsyncContext, Context, Handler};
use futures::future::LocalBoxFuture;

use crate::desk::{Desk, Feed, Running};
use crate::estimate::QUANTUM_NS;
use crate::job::{Job, Ticket};
use crate::pool::handover::Handover;
use crate::program::handler::Answer;
use crate::server::Ready;
use crate::stats::outcome::Verdict;
use crate::supervisor::{Ended, Post};

/// A worker for blocking procedures.
#[derive(Debug)]
pub(crate) struct Worker {
    post: Post,
    handover: Arc<Handover>,
    max_packet: u32,
    desk: Option<Rc<Desk>>,
}

impl Worker {
    pub(crate) fn new(post: Post, handover: Arc<Handover>, max_packet: u32) -> Self {
        Self { post, handover, max_packet, desk: None }
    }
}

impl Handler<Ready> for Worker {
    type Result = ();

    fn handle(&mut self, _: Ready, _: &mut Self::Context) {}
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let handover = self.handover.clone();
        let feed = WorkerFeed {
            number: self.post.place,
            running: Cell::new(None),
            answered: Cell::new(None),
            is_ripe: Cell::new(false),
            handover,
        };
        let (registry, hubs) = (self.handover.registry().clone(), self.handover.hubs().clone());
        let desk = Desk::new(registry, hubs, self.max_packet, Box::new(feed));
        self.desk = Some(desk);
        // Finds nothing to do yet, and so puts the worker into the idle set.
        self.handover.place(self.post.place).bell.ring();
        ctx.spawn(Listen);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It was told to leave, or its thread was stopped, or it panicked, which is a defect of this crate.
        let unbegun = self.desk.as_ref().and_then(|desk| desk.abandon());
        self.handover.leave(self.post.place, unbegun, Instant::now());
        self.handover.place(self.post.place).bell.forget();
        if let Some(supervisor) = self.handover.supervisor() {
            supervisor.do_send(Ended(self.post));
        }
    }
}

/// Has the desk go on whenever the worker's bell was rung: its tray was filled, or the desk asked for it.
struct Listen;

impl ActorFuture<Worker> for Listen {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        worker: &mut Worker,
        _: &mut Context<Worker>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<()> {
        while worker.handover.place(worker.post.place).bell.heard(task) {
            if let Some(desk) = &worker.desk {
                desk.begin();
            }
        }
        Poll::Pending
    }
}

/// Jobs from the tray and from the pool; replies through the tray to the hubs.
struct WorkerFeed {
    number: usize,
    handover: Arc<Handover>,
    /// The procedure that runs, and since when.
    running: Cell<Option<(u32, Instant)>>,
    /// When it was answered, which is when the next one begins.
    answered: Cell<Option<Instant>>,
    /// Whether the replies in the tray are to leave before another call runs.
    is_ripe: Cell<bool>,
}

impl WorkerFeed {
    /// A call is done. Returns when that was.
    fn end(&self) -> Instant {
        let now = Instant::now();
        self.answered.set(Some(now));
        self.handover.place(self.number).beat.end();
        now
    }

    /// Sends what is ready. Returns when that was done: the calls behind it are not to count for it.
    fn send_replies(&self, now: Instant) -> Instant {
        self.is_ripe.set(false);
        let replies = self.handover.tray(self.number).take_replies();
        if replies.is_empty() {
            return now;
        }
        self.handover.hubs().answer_all(replies);
        Instant::now()
    }
}

impl Feed for WorkerFeed {
    fn pop(&self) -> Option<Job> {
        // One look at the clock for each call: the end of one is the beginning of the next.
        let mut now = self.answered.take().unwrap_or_else(Instant::now);
        if let Some((entry, since)) = self.running.take() {
            self.handover.registry().procedure(entry).estimate.observe(now.nanos_since(since));
        }
        loop {
            if let Some(mut job) = self.handover.tray(self.number).pop(now) {
                if !job.begin(self.handover.hubs(), now) {
                    continue;
                }
                let is_slow = self.handover.registry().procedure(job.ticket.entry).estimate.get() > QUANTUM_NS;
                if is_slow || self.is_ripe.get() {
                    // What is ready does not wait for a call that is expected to be slow, or for many quick ones.
                    now = self.send_replies(now);
                    job.ticket.begun = now;
                }
                log::trace!(
                    client = job.ticket.client_id, serial = job.ticket.serial, trace = job.trace.as_deref();
                    "worker {} takes it", self.number
                );
                self.handover.place(self.number).beat.begin(job.ticket.entry, &job.ticket, now);
                self.running.set(Some((job.ticket.entry, now)));
                return Some(job);
            }
            now = self.send_replies(now);
            if self.handover.place(self.number).leaving.load(SeqCst) {
                self.handover.leave(self.number, None, now);
                actix_rt::Arbiter::current().stop();
                return None;
            }
            if self.handover.refill(self.number, now) {
                continue;
            }
            if self.handover.rest(self.number) {
                return None;
            }
        }
    }

    fn answer(&self, job: Job, verdict: Verdict, packet: &mut Vec<u8>) {
        let now = self.end();
        self.is_ripe.set(self.handover.tray(self.number).answer(job, verdict, now, packet));
    }

    fn reply(&self, ticket: &Ticket, verdict: Verdict, packet: &mut Vec<u8>) {
        let now = self.end();
        self.is_ripe.set(self.handover.tray(self.number).reply(ticket, verdict, now, packet));
    }

    fn nudge(&self) {
        self.handover.place(self.number).bell.ring();
    }

    fn spawn(&self, running: Running, _: LocalBoxFuture<'static, Answer>) {
        // Async procedures are dispatched to async workers only.
        debug_assert!(false, "an async call came to a blocking worker: {running:?}");
    }
}
