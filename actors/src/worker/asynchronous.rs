//! Async workers: each an actor on an arbiter of its own that runs the futures of async procedures, many at once.
//!
//! Bound of its inbox and of its queue: `max_async_calls`, by the places that are reserved before a call is put in.
//! Replies that become ready in one turn of the arbiter's loop leave together. The future of a call that was ended is
//! dropped. When the worker ends, what it has not begun goes to others, and the calls whose futures end with it are
//! answered.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::fut::ActorFuture;
use actix::{Actor, AsyncContext, Context, Handler};
use actix_rt::task::JoinHandle;
use futures::future::{LocalBoxFuture, poll_fn};

use crate::call;
use crate::desk::{Desk, Feed, Running};
use crate::incident;
use crate::job::{Job, Ticket};
use crate::pool::handover::Handover;
use crate::program::handler::Answer;
use crate::reply::Outbox;
use crate::server::Ready;
use crate::stage::CallRef;
use crate::stats::outcome::Verdict;
use crate::supervisor::{Ended, Post};
use crate::time::Instant;
use crate::watchdog::rounds::MAX_POLL;

/// A worker for async procedures.
#[derive(Debug)]
pub(crate) struct AsyncWorker {
    appointment: Appointment,
    handover: Arc<Handover>,
    max_packet: u32,
    started: Option<Started>,
}

/// Tells the supervisor, when it is dropped, that the worker has ended.
///
/// It is made before the worker is, on the way to its thread: one that is told to leave before it runs ends too.
#[derive(Debug)]
pub(crate) struct Appointment {
    post: Post,
    handover: Arc<Handover>,
}

impl Appointment {
    pub(crate) fn new(post: Post, handover: Arc<Handover>) -> Self {
        Self { post, handover }
    }
}

impl Drop for Appointment {
    fn drop(&mut self) {
        // A worker that began has done this with what it left; its place is nobody else's before this is told.
        self.handover.async_ended(self.post.place, Vec::new(), Instant::now());
        self.handover.async_place(self.post.place).bell.forget();
        if let Some(supervisor) = self.handover.supervisor() {
            supervisor.do_send(Ended(self.post));
        }
    }
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

/// A call of this hub was ended while it ran here, or on another async worker: its future is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abort {
    pub(crate) hub: u16,
    pub(crate) call: CallRef,
}

impl AsyncWorker {
    pub(crate) fn new(appointment: Appointment, max_packet: u32) -> Self {
        let handover = appointment.handover.clone();
        Self { appointment, handover, max_packet, started: None }
    }
}

impl Handler<Ready> for AsyncWorker {
    type Result = ();

    fn handle(&mut self, _: Ready, _: &mut Self::Context) {}
}

impl Actor for AsyncWorker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let outbox = Outbox::new(self.handover.hubs().len());
        let feed = Rc::new(AsyncFeed {
            number: self.appointment.post.place,
            handover: self.handover.clone(),
            queue: RefCell::default(),
            futures: RefCell::default(),
            outbox: RefCell::new(outbox),
            has_ended: Cell::new(false),
            desk: RefCell::default(),
        });
        let (registry, hubs) = (self.handover.registry().clone(), self.handover.hubs().clone());
        let desk = Desk::new(registry, hubs, self.max_packet, Box::new(feed.clone()));
        *feed.desk.borrow_mut() = Rc::downgrade(&desk);
        self.started = Some(Started { feed, desk });
        ctx.spawn(Listen);
    }
}

impl Drop for AsyncWorker {
    fn drop(&mut self) {
        // It was told to leave, or its thread was stopped, or it panicked, which is a defect of this crate.
        let mut unbegun = Vec::new();
        if let Some(Started { feed, desk }) = &self.started {
            feed.has_ended.set(true);
            feed.send_replies();
            unbegun.extend(desk.abandon());
            unbegun.extend(feed.queue.borrow_mut().drain(..));
        }
        self.handover.async_ended(self.appointment.post.place, unbegun, Instant::now());
    }
}

/// A turn of the worker whenever its bell was rung: replies are sent, and the desk goes on with what waits.
struct Listen;

impl ActorFuture<AsyncWorker> for Listen {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        worker: &mut AsyncWorker,
        _: &mut Context<AsyncWorker>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<()> {
        if let Some(Started { feed, desk }) = &worker.started {
            // Once a poll: what rings it meanwhile wakes it again, behind the futures that are ready.
            if worker.handover.async_place(feed.number).bell.heard(task) {
                feed.abort();
                feed.send_replies();
                desk.begin();
            }
        }
        Poll::Pending
    }
}

/// The futures that run, each at a place of its own.
#[derive(Default)]
struct Futures {
    places: Vec<Option<Future>>,
    free: Vec<usize>,
}

/// A future that runs.
struct Future {
    ticket: Ticket,
    task: JoinHandle<()>,
    /// Whether its call was ended, so that it is dropped soon.
    is_aborted: bool,
}

impl Futures {
    /// The place that the next future gets.
    fn next(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        })
    }

    /// Takes out the future of a call at its place. Whether it was aborted; none if there is no such future.
    fn take(&mut self, place: usize, ticket: &Ticket) -> Option<bool> {
        let future = self.places[place].take_if(|future| future.is_of(ticket.hub, ticket.call))?;
        self.free.push(place);
        Some(future.is_aborted)
    }

    /// Has the future of a call that was ended dropped, soon. There are at most `max_async_calls`, and few calls are
    /// ended early.
    fn abort(&mut self, Abort { hub, call }: Abort) {
        let future = self.places.iter_mut().flatten().find(|future| future.is_of(hub, call));
        if let Some(future) = future {
            future.is_aborted = true;
            future.task.abort();
        }
    }
}

impl Future {
    fn is_of(&self, hub: u16, call: CallRef) -> bool {
        self.ticket.hub == hub && self.ticket.call == call
    }
}

/// Jobs from the inbox; replies collected until the turn ends.
struct AsyncFeed {
    number: usize,
    handover: Arc<Handover>,
    queue: RefCell<VecDeque<Job>>,
    futures: RefCell<Futures>,
    outbox: RefCell<Outbox>,
    /// Whether the worker has ended, and its place may be another's.
    has_ended: Cell<bool>,
    desk: RefCell<Weak<Desk>>,
}

impl AsyncFeed {
    fn send_replies(&self) {
        self.handover.hubs().answer_all(&mut self.outbox.borrow_mut());
    }

    /// Drops the futures of calls that were ended.
    fn abort(&self) {
        for abort in self.handover.async_place(self.number).take_aborts() {
            self.futures.borrow_mut().abort(abort);
        }
    }

    /// A poll has come to its end before the watchdog saw it, after this time.
    fn look_at_poll(&self, running: &Running, took: Duration) {
        if took >= MAX_POLL {
            let procedure = &self.handover.registry().procedure(running.ticket.entry).name;
            let thread = format!("async {}", self.number);
            self.handover.findings().slow_poll(procedure, &thread, running.ticket.call_id(), took);
        }
    }

    /// A call has left this worker: its place goes to the next.
    fn left(&self) {
        if self.has_ended.get() {
            self.send_replies();
            return;
        }
        if let Some(next) = self.handover.async_done(self.number) {
            self.queue.borrow_mut().push_back(next);
        }
        self.handover.async_place(self.number).bell.ring();
    }

    /// A call that was answered before has ended without a result.
    fn gone(&self, ticket: &Ticket) {
        self.outbox.borrow_mut().by_hub[usize::from(ticket.hub)].gone(ticket, Instant::now());
        self.left();
    }
}

impl Feed for Rc<AsyncFeed> {
    fn pop(&self) -> Option<Job> {
        loop {
            let next = {
                let mut queue = self.queue.borrow_mut();
                if queue.is_empty() {
                    self.handover.async_place(self.number).take(&mut queue);
                }
                queue.pop_front()
            };
            let mut job = next?;
            let now = Instant::now();
            if job.begin(self.handover.hubs(), now) {
                self.handover.async_place(self.number).beat.begin(job.ticket.entry, &job.ticket, now);
                return Some(job);
            }
            self.left();
        }
    }

    fn room(&self) -> Vec<u8> {
        // Most replies come later, each with its own.
        Vec::new()
    }

    fn keep(&self, _: Vec<u8>) {}

    fn answer(&self, job: Job, verdict: Verdict, packet: &mut Vec<u8>) {
        self.handover.async_place(self.number).beat.end();
        let shell = job.empty();
        let hub = usize::from(shell.ticket().hub);
        self.outbox.borrow_mut().by_hub[hub].push(shell.ticket(), verdict, Instant::now(), packet);
        self.outbox.borrow_mut().by_hub[hub].give_back(shell);
        self.left();
    }

    fn reply(&self, ticket: &Ticket, verdict: Verdict, packet: &mut Vec<u8>) {
        self.handover.async_place(self.number).beat.end();
        self.outbox.borrow_mut().by_hub[usize::from(ticket.hub)].push(ticket, verdict, Instant::now(), packet);
        self.left();
    }

    fn nudge(&self) {
        if !self.has_ended.get() {
            self.handover.async_place(self.number).bell.ring();
        }
    }

    fn spawn(&self, running: Running, future: LocalBoxFuture<'static, Answer>) {
        let ticket = running.ticket;
        self.handover.async_place(self.number).beat.end();
        if !self.handover.hubs().stages(ticket.hub).is_wanted(ticket.call) {
            // It was ended between its begin and here, where an abort does not find it. A panic in the drop is in the log.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
            return self.gone(&ticket);
        }
        let feed = self.clone();
        let place = self.futures.borrow_mut().next();
        let (entry, trace) = (running.ticket.entry, running.trace.clone());
        let unanswered = Unanswered(Some(OfFuture { feed: feed.clone(), place, ticket, entry, trace }));
        let task = actix_rt::spawn(async move {
            // In this order: however this ends, the future is dropped before its call is reported to be over, for the
            // next one with its key begins then.
            let unanswered = unanswered;
            let mut future = future;
            let call = running.ticket.call_id();
            let outcome = poll_fn(|task| {
                let poll = || catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(task)));
                let beat = &feed.handover.async_place(feed.number).beat;
                let begun = Instant::now();
                beat.begin(running.ticket.entry, &running.ticket, begun);
                let polled = call::within(call, running.trace.as_ref(), poll);
                if !beat.end() {
                    feed.look_at_poll(&running, begun.elapsed());
                }
                match polled {
                    Ok(poll) => poll.map(Ok),
                    Err(panic) => Poll::Ready(Err(panic)),
                }
            })
            .await;
            unanswered.disarm();
            match outcome {
                Ok((verdict, mut packet)) => feed.answer(running.job, verdict, &mut packet),
                Err(panic) => {
                    let desk = feed.desk.borrow().upgrade();
                    if let Some(desk) = desk {
                        desk.future_panicked(&running, &*panic);
                    }
                }
            }
        });
        // It cannot have run yet: its task is polled later, on this thread.
        self.futures.borrow_mut().places[place] = Some(Future { ticket, task, is_aborted: false });
    }
}

/// Reports a call whose future was aborted, and answers one whose future ends with its worker.
struct Unanswered(Option<OfFuture>);

/// What is left of a call whose future runs.
struct OfFuture {
    feed: Rc<AsyncFeed>,
    place: usize,
    ticket: Ticket,
    entry: u32,
    trace: Option<Arc<str>>,
}

impl Unanswered {
    fn disarm(mut self) {
        if let Some(OfFuture { feed, place, ticket, .. }) = self.0.take() {
            let _ = feed.futures.borrow_mut().take(place, &ticket);
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let Some(OfFuture { feed, place, ticket, entry, trace }) = self.0.take() else { return };
        let was_aborted = feed.futures.borrow_mut().take(place, &ticket);
        match was_aborted {
            // It is answered already.
            Some(true) => return feed.gone(&ticket),
            Some(false) if !feed.handover.is_stopping() => {}
            _ => return,
        }
        let incident = incident::next();
        let name = &feed.handover.registry().procedure(entry).name;
        call::within(ticket.call_id(), trace.as_ref(), || {
            log::error!("the thread of async worker {} ended while {name} ran; incident {incident}", feed.number);
        });
        let mut packet = Vec::new();
        let error = postroom_protocol::Error::internal(incident);
        ticket.fail(&error, &mut packet);
        let now = Instant::now();
        feed.outbox.borrow_mut().by_hub[usize::from(ticket.hub)].push(&ticket, Verdict::of(&error), now, &mut packet);
        // Whichever is dropped last, the worker or this, sends it.
        feed.send_replies();
    }
}
