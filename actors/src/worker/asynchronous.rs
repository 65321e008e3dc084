//! Async workers: each an actor on an arbiter of its own that runs the futures of async procedures, many at once.
//!
//! Bound of its mailbox and of its queue: `max_async_calls`, by the places that are reserved before a call is sent.
//! Replies that become ready in one turn of the arbiter's loop leave together.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use futures::future::{LocalBoxFuture, poll_fn};

use crate::call;
use crate::desk::{Desk, Feed, Running};
use crate::job::{Job, Ticket};
use crate::pool::TakeIn;
use crate::pool::handover::Handover;
use crate::reply::Replies;
use crate::server::Ready;

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
            outbox: RefCell::new(outbox),
            turn: Cell::new(false),
            desk: RefCell::default(),
        });
        let desk = Desk::new(self.handover.registry().clone(), self.max_packet, Box::new(feed.clone()));
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

/// Jobs from the mailbox; replies collected until the turn ends.
struct AsyncFeed {
    number: usize,
    handover: Arc<Handover>,
    address: Addr<AsyncWorker>,
    queue: RefCell<VecDeque<Job>>,
    outbox: RefCell<Vec<Replies>>,
    /// Whether a [`Turn`] is on its way.
    turn: Cell<bool>,
    desk: RefCell<Weak<Desk>>,
}

impl Feed for Rc<AsyncFeed> {
    fn pop(&self) -> Option<Job> {
        self.queue.borrow_mut().pop_front()
    }

    fn answer(&self, ticket: &Ticket, packet: &mut Vec<u8>) {
        self.outbox.borrow_mut()[usize::from(ticket.hub)].push(ticket, packet);
        if let Some(next) = self.handover.async_done(self.number) {
            self.queue.borrow_mut().push_back(next);
        }
        self.nudge();
    }

    fn nudge(&self) {
        if !self.turn.replace(true) {
            self.address.do_send(Turn);
        }
    }

    fn spawn(&self, running: Running, mut future: LocalBoxFuture<'static, Vec<u8>>) {
        let feed = self.clone();
        actix_rt::spawn(async move {
            let call = running.ticket.call_id();
            let outcome = poll_fn(|task| {
                let polled = call::within(call, || catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(task))));
                match polled {
                    Ok(poll) => poll.map(Ok),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            })
            .await;
            match outcome {
                Ok(mut packet) => feed.answer(&running.ticket, &mut packet),
                Err(panic) => {
                    let desk = feed.desk.borrow().upgrade();
                    if let Some(desk) = desk {
                        desk.future_panicked(&running, &*panic);
                    }
                }
            }
        });
    }
}
