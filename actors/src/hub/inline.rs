//! Where inline procedures get their calls from, and where their replies go: the hub itself.
//!
//! A call becomes a job when its handler is about to run, always in the same block of memory. Most run in the turn in
//! which they were read and nobody ever looks for them, so they have no record. Those that come with a deadline or a key
//! have one, and those that could not run get one ([`HubCore::begin_inline`]); as do all that wait when somebody looks for
//! a call: for a cancel packet that comes with them, or when a client turns out to have left while the first replies are
//! written. With its reply the record is closed, on the same thread.
//!
//! Queue: the inline calls of one turn, handed over whole and emptied in one go, unless their handler cannot start.
//! Replies: those of the calls that ran since, at most as many.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use futures::future::LocalBoxFuture;

use crate::desk::{Feed, Running};
use crate::hub::calls::Calls;
use crate::hub::core::HubCore;
use crate::hub::{GoOn, Hub, Hubs};
use crate::job::{ClientKey, Content, Job, Payload, Ticket};
use crate::peer::Peer;
use crate::program::handler::Answer;
use crate::reply::{Done, EARLY, FEW};
use crate::runs::Runs;
use crate::stats::outcome::Verdict;
use crate::time::Instant;
use crate::watchdog::beat::Beat;
use crate::watchdog::rounds::MAX_INLINE_NS;

/// Room for so many calls is kept.
const KEPT: usize = 1024;

pub(super) struct InlineFeed {
    queue: RefCell<Queue>,
    /// The block of the last job.
    block: RefCell<Option<Job>>,
    runs: RefCell<Runs>,
    /// The keys of calls that are done: the next with each may start.
    keys: RefCell<Keys>,
    hubs: Arc<Hubs>,
    number: usize,
    hub: RefCell<Weak<HubCore>>,
    address: Addr<Hub>,
}

/// The keys of calls that are done, with their clients.
pub(super) type Keys = Vec<(ClientKey, Arc<[u8]>)>;

/// Inline calls of one turn, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    calls: VecDeque<Waiting>,
    /// So many at its front have records.
    taken_down: usize,
    /// How often the next call of the turn was of another client than the one before.
    changes: usize,
}

/// An inline call on its way to its handler.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) peer: Peer,
    pub(super) payload: Payload,
}

impl InlineFeed {
    pub(super) fn new(hubs: Arc<Hubs>, number: u16, address: Addr<Hub>) -> Rc<Self> {
        let (queue, block, runs, keys, hub) = Default::default();
        Rc::new(Self { queue, block, runs, keys, hubs, number: number.into(), hub, address })
    }

    pub(super) fn set_hub(&self, hub: &Rc<HubCore>) {
        *self.hub.borrow_mut() = Rc::downgrade(hub);
    }

    /// Whether there are calls that no handler has taken.
    pub(super) fn has_calls(&self) -> bool {
        !self.queue.borrow().calls.is_empty()
    }

    /// Takes the calls of a turn, and leaves the room of those before for the calls of the next.
    pub(super) fn push_all(&self, calls: &mut VecDeque<Waiting>, changes: usize) {
        let mut queue = self.queue.borrow_mut();
        queue.changes = changes;
        if queue.calls.is_empty() {
            queue.taken_down = 0;
            queue.calls.shrink_to(KEPT);
            std::mem::swap(&mut queue.calls, calls);
        } else {
            queue.calls.append(calls);
            calls.shrink_to(KEPT);
        }
    }

    /// Gives the calls that no handler has taken records.
    pub(super) fn take_down(&self, calls: &mut Calls) {
        let queue = &mut *self.queue.borrow_mut();
        queue.calls.iter_mut().skip(queue.taken_down).for_each(|waiting| calls.take_down(&mut waiting.ticket));
        queue.taken_down = queue.calls.len();
    }

    /// Sends what is to leave before more calls run, and gives the next of these.
    fn proceed(&self, hub: &Rc<HubCore>, block: Option<Job>, mut now: Instant) -> Option<Job> {
        if self.is_ripe() {
            self.send(hub, now);
            // The calls behind this are not to count for it.
            now = Instant::now();
        }
        let next = self.next(hub, block, now);
        if next.is_none() {
            self.send(hub, now);
        }
        next
    }

    /// The next call that is to run, now: in the block of the last, if that is not on loan to a handler.
    fn next(&self, hub: &HubCore, mut block: Option<Job>, now: Instant) -> Option<Job> {
        let mut queue = self.queue.borrow_mut();
        while let Some(Waiting { ticket, peer, payload }) = queue.calls.pop_front() {
            queue.taken_down = queue.taken_down.saturating_sub(1);
            let (deadline, ties) = if ticket.call.is_none() {
                (None, None)
            } else if let Some(begun) = hub.begin_call(ticket.call, now) {
                begun
            } else {
                continue;
            };
            let mut job = block.take().unwrap_or_else(|| Job::new(Content::new(ticket, peer)));
            job.ticket = ticket;
            job.ticket.begun = now;
            (job.deadline, job.ties) = (deadline, ties);
            job.peer = peer;
            job.payload = payload;
            self.beat().begin(job.ticket.entry, &job.ticket, now);
            return Some(job);
        }
        // What is done with holds nothing.
        if let Some(job) = &mut block {
            job.payload.clear();
        }
        *self.block.borrow_mut() = block;
        None
    }

    /// A call is answered, at this time.
    fn end(&self, hub: &HubCore, ticket: &Ticket, verdict: Verdict, packet: &mut Vec<u8>, now: Instant) {
        let was_told = self.beat().end();
        let took = now.nanos_since(ticket.begun);
        if took > MAX_INLINE_NS && !was_told {
            hub.slow_inline(ticket, Duration::from_nanos(took));
        }
        let done = Done::ran(ticket, verdict, took);
        let cost = if ticket.call.is_none() {
            hub.count(ticket.entry, &done);
            Some(ticket.cost)
        } else {
            hub.finish_call(&done, &mut self.keys.borrow_mut())
        };
        match cost {
            Some(cost) => self.runs.borrow_mut().push(ticket.client, packet, cost),
            None => packet.clear(),
        }
    }

    fn beat(&self) -> &Beat {
        self.hubs.beat(self.number)
    }

    /// Whether replies leave before more calls run.
    fn is_ripe(&self) -> bool {
        self.runs.borrow().replies() >= EARLY && self.queue.borrow().changes < FEW
    }

    /// Has the replies written that are ready.
    fn send(&self, hub: &Rc<HubCore>, now: Instant) {
        // On the thread that is to write them anyway. Nothing of what follows runs a call, so that there is nothing to add.
        let mut runs = self.runs.borrow_mut();
        if runs.replies() > 0 {
            hub.hand_out(&mut runs, now);
        }
        drop(runs);
        let keys = self.keys.take();
        if !keys.is_empty() {
            hub.keys_done(keys, now);
        }
    }
}

impl Feed for Rc<InlineFeed> {
    fn pop(&self) -> Option<Job> {
        // The hub is there for as long as its arbiter.
        let hub = self.hub.borrow().upgrade()?;
        self.proceed(&hub, self.block.take(), Instant::now())
    }

    fn answer(&self, job: Job, verdict: Verdict, packet: &mut Vec<u8>) {
        self.reply(&job.ticket, verdict, packet);
        *self.block.borrow_mut() = Some(job);
    }

    fn go_on(&self, job: Job, verdict: Verdict, packet: &mut Vec<u8>) -> Option<Job> {
        let hub = self.hub.borrow().upgrade()?;
        // One look at the clock for each call: the end of one is the beginning of the next.
        let now = Instant::now();
        self.end(&hub, &job.ticket, verdict, packet, now);
        self.proceed(&hub, Some(job), now)
    }

    fn reply(&self, ticket: &Ticket, verdict: Verdict, packet: &mut Vec<u8>) {
        let Some(hub) = self.hub.borrow().upgrade() else { return packet.clear() };
        self.end(&hub, ticket, verdict, packet, Instant::now());
    }

    fn nudge(&self) {
        self.address.do_send(GoOn);
    }

    fn spawn(&self, running: Running, _: LocalBoxFuture<'static, Answer>) {
        // Async procedures are dispatched to async workers only.
        debug_assert!(false, "an async call came to an I/O arbiter: {running:?}");
    }
}
