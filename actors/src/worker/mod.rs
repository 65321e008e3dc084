//! Workers: each an actor on an arbiter of its own that decodes calls, runs their handlers and encodes replies.
//!
//! A [`Worker`] takes what lies in its tray, one call after the other, then what waits with the pool, then it goes
//! idle. Its mailbox holds wake-ups only: one when it was claimed, and its own. A handler that blocks here blocks
//! this worker and nothing else.

pub(crate) mod asynchronous;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use futures::future::LocalBoxFuture;

use crate::desk::{Desk, Feed, Running};
use crate::estimate::QUANTUM_NS;
use crate::job::{Job, Ticket};
use crate::pool::handover::Handover;
use crate::program::handler::Answer;
use crate::server::Ready;
use crate::stats::outcome::Verdict;

/// A worker for blocking procedures.
#[derive(Debug)]
pub(crate) struct Worker {
    number: usize,
    handover: Arc<Handover>,
    max_packet: u32,
    desk: Option<Rc<Desk>>,
}

/// There is something to do: the tray of an idle worker was filled, or its desk asked to go on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Wake;

impl Worker {
    pub(crate) fn new(number: usize, handover: Arc<Handover>, max_packet: u32) -> Self {
        Self { number, handover, max_packet, desk: None }
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
        self.handover.worker_started(self.number, ctx.address());
        let feed = WorkerFeed {
            number: self.number,
            address: ctx.address(),
            running: Cell::new(None),
            answered: Cell::new(None),
            handover,
        };
        let (registry, hubs) = (self.handover.registry().clone(), self.handover.hubs().clone());
        let desk = Desk::new(registry, hubs, self.max_packet, Box::new(feed));
        // Finds nothing to do yet, and so puts the worker into the idle set.
        desk.begin();
        self.desk = Some(desk);
    }
}

impl Handler<Wake> for Worker {
    type Result = ();

    fn handle(&mut self, _: Wake, _: &mut Self::Context) {
        if let Some(desk) = &self.desk {
            desk.begin();
        }
    }
}

/// Jobs from the tray and from the pool; replies through the tray to the hubs.
struct WorkerFeed {
    number: usize,
    handover: Arc<Handover>,
    address: Addr<Worker>,
    /// The procedure that runs, and since when.
    running: Cell<Option<(u32, Instant)>>,
    /// When it was answered, which is when the next one begins.
    answered: Cell<Option<Instant>>,
}

impl WorkerFeed {
    fn send_replies(&self) {
        self.handover.hubs().deliver_all(self.handover.tray(self.number).take_replies());
    }
}

impl Feed for WorkerFeed {
    fn pop(&self) -> Option<Job> {
        // One look at the clock for each call: the end of one is the beginning of the next.
        let now = self.answered.take().unwrap_or_else(Instant::now);
        if let Some((entry, since)) = self.running.take() {
            self.handover.registry().procedure(entry).estimate.observe(now - since);
        }
        loop {
            if let Some(mut job) = self.handover.tray(self.number).pop(now) {
                if !job.begin(self.handover.hubs(), now) {
                    continue;
                }
                if self.handover.registry().procedure(job.entry).estimate.get() > QUANTUM_NS {
                    // What is ready does not wait for a call that is expected to be slow.
                    self.send_replies();
                }
                log::trace!(
                    client = job.ticket.client_id, serial = job.ticket.serial, trace = job.trace.as_deref();
                    "worker {} takes it", self.number
                );
                self.running.set(Some((job.entry, now)));
                return Some(job);
            }
            self.send_replies();
            if self.handover.refill(self.number, now) {
                continue;
            }
            if self.handover.rest(self.number) {
                return None;
            }
        }
    }

    fn answer(&self, ticket: &Ticket, verdict: Verdict, packet: &mut Vec<u8>) {
        let now = Instant::now();
        self.answered.set(Some(now));
        self.handover.tray(self.number).answer(ticket, verdict, now, packet);
    }

    fn nudge(&self) {
        self.address.do_send(Wake);
    }

    fn spawn(&self, running: Running, _: LocalBoxFuture<'static, Answer>) {
        // Async procedures are dispatched to async workers only.
        debug_assert!(false, "an async call came to a blocking worker: {running:?}");
    }
}
