//! Where handler actors sit and get their calls.
//!
//! A desk belongs to one arbiter: a worker's, an async worker's, or an I/O arbiter's for inline procedures. It seats
//! at most one instance of each handler actor, hands it the jobs that are for it, in order, and puts a fresh instance
//! in its place when one has panicked or stopped. Where jobs come from and where replies go is the desk's [`Feed`].
//!
//! A user's handler is an actix actor with a context of its own, and only a poll of that context gets at both. So
//! each instance carries a [`Resident`], a future in its context that asks the desk for jobs and runs
//! `Handler::handle` on each, a whole batch in one poll. The context is in the instance's [`Seat`]: whoever has calls for
//! an idle desk has it polled there and then; for a call that another handler has found, its task is woken.
//!
//! ```text
//! feed ──pop──► desk ──poll──► resident in the handler's context ──handle──► reply ──► feed
//! ```
//!
//! The desk holds no borrow while a handler runs. It has no queue of its own beside the one job that was popped for
//! another handler than the one that is running.

use std::cell::{RefCell, RefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Instant;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, ActorState, Context};
use futures::future::LocalBoxFuture;
use postroom_protocol::Error;

use crate::call;
use crate::hub::Hubs;
use crate::incident;
use crate::job::{Content, Job, Ticket};
use crate::program::handler::{Answer, AsyncReply, Request, Run, panic_text};
use crate::program::registry::Registry;
use crate::stage::Share;
use crate::stats::outcome::Verdict;
use crate::supervisor::watch::Blocked;

mod seat;

pub(crate) use seat::Seat;

/// Where a desk's jobs come from and its replies go.
pub(crate) trait Feed {
    /// The next job, which has begun with this. `None` means that the desk is idle from now on: the feed wakes it by
    /// [`Desk::begin`].
    fn pop(&self) -> Option<Job>;
    /// Lends the room for replies, which are written behind what lies there. There is no other until it goes back.
    fn room(&self) -> Vec<u8>;
    /// Takes the room back. What was written behind the last reply that was taken is dropped.
    fn keep(&self, room: Vec<u8>);
    /// Takes the reply to a job, one whole packet at the end of the room; and the job, for its block.
    fn answer(&self, job: Job, verdict: Verdict, room: &mut Vec<u8>);
    /// The same for a job that is needed no more, or is gone.
    fn reply(&self, ticket: &Ticket, verdict: Verdict, room: &mut Vec<u8>);
    /// [`Self::answer`] and [`Self::pop`] in one, for feeds that do both under one lock and one look at the clock.
    fn go_on(&self, job: Job, verdict: Verdict, room: &mut Vec<u8>) -> Option<Job> {
        self.answer(job, verdict, room);
        self.pop()
    }
    /// Has [`Desk::begin`] called later, from the arbiter's loop. Called from drops too: it must not call back.
    fn nudge(&self);
    /// Runs the future of an async call; only the feed of an async worker gets any.
    fn spawn(&self, job: Running, future: LocalBoxFuture<'static, Answer>);
}

/// An async call that runs: what is left of its job.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) ticket: Ticket,
    pub(crate) trace: Option<Arc<str>>,
    /// The instance that made its future.
    seat: Rc<Seat>,
    pub(crate) job: Job,
}

/// A job that was popped and waits for the handler it is for, which is polled or woken.
#[derive(Debug)]
struct OnItsWay {
    job: Job,
    /// Whether the handler was started for this job: if it ends before it takes the job, the job has cost it.
    is_first: bool,
}

/// The handler actors of one arbiter and the calls they run.
pub(crate) struct Desk {
    registry: Arc<Registry>,
    hubs: Arc<Share>,
    max_packet: u32,
    seats: RefCell<Vec<Option<Rc<Seat>>>>,
    current: RefCell<Option<OnItsWay>>,
    feed: Box<dyn Feed>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl Desk {
    pub(crate) fn new(registry: Arc<Registry>, hubs: Arc<Hubs>, max_packet: u32, feed: Box<dyn Feed>) -> Rc<Self> {
        let seats = RefCell::new(vec![None; registry.groups.len()]);
        let hubs = Arc::new(Share(hubs));
        Rc::new(Self { registry, hubs, max_packet, seats, current: RefCell::new(None), feed })
    }

    /// Has jobs run, here and now, until there is none, or one for another handler than the first is on its way to it.
    /// What the handler waits for, and a handler that has not started, goes on by its own task.
    ///
    /// The feed calls it when it has jobs for an idle desk, and after each [`Feed::nudge`]. It must hold no borrow then.
    pub(crate) fn begin(self: &Rc<Self>) {
        if let Some(seat) = self.send_next() {
            seat.poll_now();
        }
    }

    /// The job that is on its way to a handler that could not take it at once.
    pub(crate) fn on_its_way(&self) -> Option<RefMut<'_, Job>> {
        let current = RefMut::filter_map(self.current.borrow_mut(), Option::as_mut).ok()?;
        Some(RefMut::map(current, |it| &mut it.job))
    }

    /// Sends the next job on its way, if there is one and none is already. Returns where it is to run.
    fn send_next(self: &Rc<Self>) -> Option<Rc<Seat>> {
        let waiting = self.current.borrow_mut().take();
        let next = match waiting {
            Some(OnItsWay { job, is_first }) if self.is_seated(&job) => {
                // To poll it again is harmless.
                return self.call(job, is_first);
            }
            // The instance that it was on its way to ended for a reason of its own: another takes it.
            Some(OnItsWay { job, is_first: false }) => return self.call(job, false),
            Some(OnItsWay { job, is_first: true }) => {
                // Its handler was started for it and ended before it took it: `started` panicked or stopped.
                self.ended_early(&job);
                self.feed.pop()
            }
            None => self.feed.pop(),
        };
        next.and_then(|job| self.call(job, false))
    }

    /// The next job, if it is for this group of handlers; else its handler is woken for it.
    fn next(self: &Rc<Self>, group: usize) -> Option<Job> {
        let waiting = self.current.borrow_mut().take();
        let (job, is_first) = match waiting {
            Some(OnItsWay { job, is_first }) => (job, is_first),
            None => (self.feed.pop()?, false),
        };
        self.give(group, job, is_first)
    }

    /// The same after one of this group was run. None is on its way: those who run calls come for the next themselves.
    /// If there is none for them, the room has gone back.
    #[inline(always)]
    fn go_on(self: &Rc<Self>, group: usize, job: Job, verdict: Verdict, room: &mut Vec<u8>) -> Option<Job> {
        debug_assert!(self.current.borrow().is_none());
        let next = self.feed.go_on(job, verdict, room);
        if next.as_ref().is_some_and(|next| self.group(next) == group) {
            return next;
        }
        self.feed.keep(std::mem::take(room));
        self.give(group, next?, false)
    }

    fn give(self: &Rc<Self>, group: usize, job: Job, is_first: bool) -> Option<Job> {
        if self.group(&job) == group {
            Some(job)
        } else {
            // Not from within the poll of another handler: polls would be as deep as there are handlers.
            if let Some(seat) = self.call(job, is_first) {
                seat.wake();
            }
            None
        }
    }

    /// Sends a job on its way to the handler it is for, a fresh one if need be; one that is refused is followed by the
    /// next. Returns where it is to run.
    fn call(self: &Rc<Self>, mut job: Job, mut is_first: bool) -> Option<Rc<Seat>> {
        loop {
            let group = self.group(&job);
            let seated = self.seats.borrow()[group].clone().filter(|seat| !seat.is_vacant());
            let seat = match seated {
                Some(seat) => Ok(seat),
                None => match self.registry.watch.may_start(group, Instant::now()) {
                    Ok(()) => {
                        is_first = true;
                        self.registry.groups[group].seat(self.clone(), group)
                    }
                    Err(Blocked { incident, retry_after }) => {
                        // At most 10 s.
                        let ms = retry_after.as_millis().max(1) as u32;
                        self.refuse(&job.ticket, &Error::internal(incident).with_retry_after_ms(ms));
                        (job, is_first) = (self.feed.pop()?, false);
                        continue;
                    }
                },
            };
            match seat {
                Ok(seat) => {
                    *self.current.borrow_mut() = Some(OnItsWay { job, is_first });
                    if is_first {
                        self.seats.borrow_mut()[group] = Some(seat.clone());
                    }
                    return Some(seat);
                }
                Err(panic) => {
                    let incident = incident::next();
                    let name = self.registry.groups[group].type_name();
                    call::within(job.ticket.call_id(), job.trace(), || {
                        log::error!("the factory of handler {name} panicked: {panic}; incident {incident}");
                    });
                    self.did_not_start(group, "its factory panicked", &incident);
                    self.fail(&job.ticket, incident);
                    (job, is_first) = (self.feed.pop()?, false);
                }
            }
        }
    }

    /// A handler ended before it took the job that it was started for: it panicked or stopped in `started`.
    fn ended_early(&self, job: &Job) {
        let incident = incident::next();
        let name = &self.registry.procedure(job.ticket.entry).name;
        call::within(job.ticket.call_id(), job.trace(), || {
            log::error!("the handler of {name} ended while it started; incident {incident}");
        });
        self.did_not_start(self.group(job), "it ended while it started", &incident);
        self.fail(&job.ticket, incident);
    }

    /// A handler failed while it was made or started: its budget is charged.
    fn did_not_start(&self, group: usize, what: &str, incident: &str) {
        let name = self.registry.groups[group].type_name();
        self.registry.watch.will_restart();
        self.registry.watch.handler_failed(group, name, what, incident, Instant::now());
    }

    /// The arbiter ends. Returns the job that was on its way to a handler; one whose handler was started for it and has
    /// ended already has cost that, and is answered here. A handler that is still there has not seen it.
    pub(crate) fn abandon(&self) -> Option<Job> {
        let OnItsWay { job, is_first } = self.current.borrow_mut().take()?;
        if is_first && !self.is_seated(&job) {
            self.ended_early(&job);
            return None;
        }
        Some(job)
    }

    fn group(&self, job: &Job) -> usize {
        self.registry.procedure(job.ticket.entry).group as usize
    }

    fn is_seated(&self, job: &Job) -> bool {
        self.seats.borrow()[self.group(job)].as_ref().is_some_and(|seat| !seat.is_vacant())
    }

    /// Answers a call whose handler failed it.
    fn fail(&self, ticket: &Ticket, incident: String) {
        self.refuse(ticket, &Error::internal(incident));
    }

    fn refuse(&self, ticket: &Ticket, error: &Error) {
        let mut room = self.feed.room();
        self.refuse_in(&mut room, ticket, error);
        self.feed.keep(room);
    }

    /// The same for who has the room.
    fn refuse_in(&self, room: &mut Vec<u8>, ticket: &Ticket, error: &Error) {
        ticket.fail(error, room);
        self.feed.reply(ticket, Verdict::of(error), room);
    }

    /// A handler has panicked in a call. Returns what the client is told.
    fn panicked(
        &self,
        ticket: &Ticket,
        trace: Option<&Arc<str>>,
        arguments: &[u8],
        panic: &(dyn std::any::Any + Send),
    ) -> Error {
        self.registry.watch.will_restart();
        self.registry.poison.panicked(ticket.client_id, ticket.entry, arguments, crate::time::Instant::now());
        let incident = incident::next();
        let name = &self.registry.procedure(ticket.entry).name;
        let text = panic_text(panic);
        call::within(ticket.call_id(), trace, || {
            log::error!("the handler of {name} panicked: {text}; incident {incident}; a fresh one takes over");
        });
        Error::internal(incident)
    }

    /// After an async call's future has panicked: answers it and puts a fresh handler in its place.
    pub(crate) fn future_panicked(&self, running: &Running, panic: &(dyn std::any::Any + Send)) {
        let error = self.panicked(&running.ticket, running.trace.as_ref(), &running.job.payload, panic);
        self.refuse(&running.ticket, &error);
        // Only the instance that made the future goes; the one there now may be another already.
        if !running.seat.vacate() {
            running.seat.wake();
        }
    }
}

/// Runs a handler actor's calls, in the actor's own context.
pub(crate) struct Resident<A: Actor<Context = Context<A>>> {
    runs: Arc<[Run<A>]>,
    desk: Rc<Desk>,
    seat: Rc<Seat>,
    group: usize,
    /// Whether the handler was seen to have started.
    has_started: bool,
}

impl<A: Actor<Context = Context<A>>> Resident<A> {
    pub(crate) fn new(runs: Arc<[Run<A>]>, desk: Rc<Desk>, seat: Rc<Seat>, group: usize) -> Self {
        Self { runs, desk, seat, group, has_started: false }
    }

    /// Runs one job, and writes its reply behind what lies in the room.
    fn run(&mut self, actor: &mut A, ctx: &mut Context<A>, mut job: Job, room: &mut Vec<u8>) -> Ran {
        let Content { ticket, payload, .. } = &*job;
        let trace = job.trace();
        let procedure = self.desk.registry.procedure(ticket.entry);
        log::trace!(
            client = ticket.client_id, serial = ticket.serial, trace = trace.map(AsRef::<str>::as_ref);
            "the handler of {} runs", procedure.name
        );
        if let Err(error) = self.desk.registry.poison.check(ticket.client_id, ticket.entry, payload, ticket.begun) {
            call::within(ticket.call_id(), trace, || log::debug!("refused: {error}"));
            self.desk.refuse_in(room, ticket, &error);
            return Ran::Over;
        }
        let run = &self.runs[procedure.run as usize];
        let request = Request { call: &job, hubs: &self.desk.hubs, max_packet: self.desk.max_packet };
        let start = room.len();
        let ran = call::within(ticket.call_id(), trace, || {
            catch_unwind(AssertUnwindSafe(|| match run {
                Run::Sync(run) => Ok(run(actor, ctx, request, room)),
                Run::Async(run) => match run(actor, ctx, request) {
                    AsyncReply::Ready((verdict, ready)) => {
                        room.extend_from_slice(&ready);
                        Ok(verdict)
                    }
                    AsyncReply::Later(future) => Err(future),
                },
            }))
        });
        match ran {
            Ok(Ok(verdict)) => Ran::Done(job, verdict),
            Ok(Err(future)) => {
                job.payload.keep_alone();
                let (ticket, trace, seat) = (job.ticket, job.trace().cloned(), self.seat.clone());
                self.desk.feed.spawn(Running { ticket, trace, seat, job }, future);
                Ran::Over
            }
            Err(panic) => {
                // It may have come in the middle of the reply.
                room.truncate(start);
                let error = self.desk.panicked(ticket, trace, payload, &*panic);
                self.desk.refuse_in(room, ticket, &error);
                Ran::Panicked
            }
        }
    }
}

/// What has become of a job.
enum Ran {
    /// Its reply is the last in the room.
    Done(Job, Verdict),
    /// It is answered already, or will be elsewhere.
    Over,
    /// So has the handler, and the call is answered.
    Panicked,
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Resident<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        task: &mut task::Context<'_>,
    ) -> Poll<Self::Output> {
        let this = self.get_mut();
        while !this.seat.is_vacant() {
            if ctx.state() != ActorState::Running {
                // The handler stops its context. Should it decide otherwise in `stopping`, it goes on; else this
                // future is dropped, and the desk learns of it there.
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !std::mem::replace(&mut this.has_started, true) {
                this.desk.registry.watch.handler_started(this.group);
            }
            let Some(mut job) = this.desk.next(this.group) else { return Poll::Pending };
            let mut room = this.desk.feed.room();
            loop {
                match this.run(actor, ctx, job, &mut room) {
                    Ran::Done(done, verdict) if ctx.state() == ActorState::Running => {
                        match this.desk.go_on(this.group, done, verdict, &mut room) {
                            Some(next) => job = next,
                            None => return Poll::Pending,
                        }
                    }
                    Ran::Done(done, verdict) => break this.desk.feed.answer(done, verdict, &mut room),
                    Ran::Over => break,
                    Ran::Panicked => {
                        this.seat.vacate();
                        break this.desk.feed.nudge();
                    }
                }
            }
            this.desk.feed.keep(room);
        }
        // Its state is not to be trusted after a panic, so the instance ends without `stopping`.
        ctx.terminate();
        Poll::Ready(())
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Resident<A> {
    fn drop(&mut self) {
        // The instance ended by itself, or a panic outside of a call took it. What it left undone goes to a fresh one.
        if !self.seat.vacate() {
            self.desk.feed.nudge();
        }
    }
}
