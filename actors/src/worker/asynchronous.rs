//! Async workers: each an actor on an arbiter of its own that runs the futures of async procedures, many at once.
//!
//! Bound of its mailbox and of its queue: `max_async_calls`, by the places that are reserved before a call is sent.
//! Replies that become ready in one turn of the arbiter's loop leave together. The future of a call that was ended is
//! dropped.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use actix_rt::task::JoinHandle;
use futures::future::{LocalBoxFuture, poll_fn};

use crate::call;
use crate::desk::{Desk, Feed, Running};
use crate::job::{Job, Ticket};
use crate::pool::TakeIn;
use crate::pool::handover::Handover;
use crate::program::handler::Answer;
use crate::reply::Replies;
use crate::server::Ready;
use crate::stage::CallRef;
use crate::stats::outcome::Verdict;

/// A worker for async procedures.
#[derive(Debug)]
pub(crate) struct AsyncWorker {
    number: usize,
    handover: Arc<Handover>,
    max_packet: u32,
    started: Option<Started>,
}

struct Started {
    feed: Rc<AsyncFeed>,
    desk: Rc<Desk>,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").finish_non_exhaustive()
    }
}

/// The end of a turn: replies are sent, and the desk goes on with what waits.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Turn;

/// A call of this hub was ended while it ran here, or on another async worker: its future is dropped.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Abort {
    pub(crate) hub: u16,
    pub(crate) call: CallRef,
}

impl AsyncWorker {
    pub(crate) fn new(number: usize, handover: Arc<Handover>, max_packet: u32) -> Self {
        Self { number, handover, max_packet, started: None }
    }
}

impl Handler<Ready> for AsyncWorker {
    type Result = ();

    fn handle(&mut self, _: Ready, _: &mut Self::Context) {}
}

impl Actor for AsyncWorker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let outbox = std::iter::repeat_with(Replies::default).take(self.handover.hubs().len()).collect();
        let feed = Rc::new(AsyncFeed {
            number: self.number,
            handover: self.handover.clone(),
            address: ctx.address(),
            queue: RefCell::default(),
            futures: RefCell::default(),
            outbox: RefCell::new(outbox),
            turn: Cell::new(false),
            desk: RefCell::default(),
        });
        let (registry, hubs) = (self.handover.registry().clone(), self.handover.hubs().clone());
        let desk = Desk::new(registry, hubs, self.max_packet, Box::new(feed.clone()));
        *feed.desk.borrow_mut() = Rc::downgrade(&desk);
        self.started = Some(Started { feed, desk });
        self.handover.async_worker_started(self.number, ctx.address());
    }
}

impl Handler<TakeIn> for AsyncWorker {
    type Result = ();

    fn handle(&mut self, basket: TakeIn, _: &mut Self::Context) {
        if let Some(Started { feed, desk }) = &self.started {
            feed.queue.borrow_mut().extend(basket.0.into_jobs());
            desk.begin();
        }
    }
}

impl Handler<Turn> for AsyncWorker {
    type Result = ();

    fn handle(&mut self, _: Turn, _: &mut Self::Context) {
        if let Some(Started { feed, desk }) = &self.started {
            feed.turn.set(false);
            for (hub, replies) in feed.outbox.borrow_mut().iter_mut().enumerate() {
                if !replies.is_empty() {
                    self.handover.hubs().deliver(hub, std::mem::take(replies));
                }
            }
            desk.begin();
        }
    }
}

impl Handler<Abort> for AsyncWorker {
    type Result = ();

    fn handle(&mut self, abort: Abort, _: &mut Self::Context) {
        if let Some(Started { feed, .. }) = &self.started {
            let found = feed.futures.borrow_mut().remove(abort);
            if let Some((ticket, future)) = found {
                future.abort();
                feed.gone(&ticket);
            }
        }
    }
}

/// The futures that run, each at a place of its own.
#[derive(Default)]
struct Futures {
    places: Vec<Option<(Ticket, JoinHandle<()>)>>,
    free: Vec<usize>,
}

impl Futures {
    /// The place that the next future gets.
    fn next(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        })
    }

    fn done(&mut self, place: usize) {
        // One that was aborted has given its place back already, and does not come here.
        self.places[place] = None;
        self.free.push(place);
    }

    /// Takes out the future of a call. There are at most `max_async_calls`, and few calls are ended early.
    fn remove(&mut self, Abort { hub, call }: Abort) -> Option<(Ticket, JoinHandle<()>)> {
        let is_it = |place: &Option<(Ticket, JoinHandle<()>)>| {
            place.as_ref().is_some_and(|(ticket, _)| ticket.hub == hub && ticket.call == call)
        };
        let place = self.places.iter().position(is_it)?;
        self.free.push(place);
        self.places[place].take()
    }
}

/// Jobs from the mailbox; replies collected until the turn ends.
struct AsyncFeed {
    number: usize,
    handover: Arc<Handover>,
    address: Addr<AsyncWorker>,
    queue: RefCell<VecDeque<Job>>,
    futures: RefCell<Futures>,
    outbox: RefCell<Vec<Replies>>,
    /// Whether a [`Turn`] is on its way.
    turn: Cell<bool>,
    desk: RefCell<Weak<Desk>>,
}

impl AsyncFeed {
    /// A call has left this worker: its place goes to the next.
    fn left(&self) {
        if let Some(next) = self.handover.async_done(self.number) {
            self.queue.borrow_mut().push_back(next);
        }
        if !self.turn.replace(true) {
            self.address.do_send(Turn);
        }
    }

    /// A call that was answered before has ended without a result.
    fn gone(&self, ticket: &Ticket) {
        self.outbox.borrow_mut()[usize::from(ticket.hub)].gone(ticket, Instant::now());
        self.left();
    }
}

impl Feed for Rc<AsyncFeed> {
    fn pop(&self) -> Option<Job> {
        loop {
            let mut job = self.queue.borrow_mut().pop_front()?;
            if job.begin(self.handover.hubs(), Instant::now()) {
                return Some(job);
            }
            self.left();
        }
    }

    fn answer(&self, ticket: &Ticket, verdict: Verdict, packet: &mut Vec<u8>) {
        self.outbox.borrow_mut()[usize::from(ticket.hub)].push(ticket, verdict, Instant::now(), packet);
        self.left();
    }

    fn nudge(&self) {
        if !self.turn.replace(true) {
            self.address.do_send(Turn);
        }
    }

    fn spawn(&self, running: Running, mut future: LocalBoxFuture<'static, Answer>) {
        let ticket = running.ticket;
        if !self.handover.hubs().stages(ticket.hub).is_wanted(ticket.call) {
            // It was ended between its begin and here, where an abort does not find it.
            return self.gone(&ticket);
        }
        let feed = self.clone();
        let place = self.futures.borrow_mut().next();
        let task = actix_rt::spawn(async move {
            let call = running.ticket.call_id();
            let outcome = poll_fn(|task| {
                let poll = || catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(task)));
                let polled = call::within(call, running.trace.as_ref(), poll);
                match polled {
                    Ok(poll) => poll.map(Ok),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            })
            .await;
            feed.futures.borrow_mut().done(place);
            match outcome {
                Ok((verdict, mut packet)) => feed.answer(&running.ticket, verdict, &mut packet),
                Err(panic) => {
                    let desk = feed.desk.borrow().upgrade();
                    if let Some(desk) = desk {
                        desk.future_panicked(&running, &*panic);
                    }
                }
            }
        });
        // It cannot have run yet: its task is polled later, on this thread.
        self.futures.borrow_mut().places[place] = Some((ticket, task));
    }
}
