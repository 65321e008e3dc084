//! Where inline procedures get their calls from, and where their replies go: the hub itself.
//!
//! Most calls run in the turn in which they were read and nobody ever looks for them, so they have no record. Those that
//! come with a deadline or a key have one, and those that could not run get one ([`HubCore::begin_inline`]); as do all that
//! wait when somebody looks for a call: for a cancel packet that comes with them, or when a client turns out to have left
//! while the first replies are written. With its reply the record is closed, on the same thread.
//!
//! Queue: the inline calls of one turn, handed over whole and emptied in one go, unless their handler cannot start.
//! Replies: those of the calls that ran since, at most as many; handlers' results are encoded where they leave from.

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use futures::future::LocalBoxFuture;

use crate::clock::Clock;
use crate::desk::{Feed, Running};
use crate::hub::calls::Calls;
use crate::hub::core::HubCore;
use crate::hub::{GoOn, Hub, Hubs};
use crate::job::{ClientKey, Job, Shell, Ticket};
use crate::program::handler::Answer;
use crate::reply::{Done, EARLY, FEW};
use crate::runs::Runs;
use crate::stats::outcome::Verdict;
use crate::time::Instant;
use crate::watchdog::beat::Beat;
use crate::watchdog::rounds::MAX_INLINE_NS;

/// Room for so many calls is kept, and so many blocks of calls.
const KEPT: usize = 1024;

pub(super) struct InlineFeed {
    queue: RefCell<Queue>,
    runs: RefCell<Runs>,
    /// The keys of calls that are done: the next with each may start.
    keys: RefCell<Keys>,
    clock: Clock,
    hubs: Arc<Hubs>,
    number: usize,
    /// Not there only while both are made. It is there for as long as its arbiter.
    hub: OnceCell<Weak<HubCore>>,
    address: Addr<Hub>,
}

/// The keys of calls that are done, with their clients.
pub(super) type Keys = Vec<(ClientKey, Arc<[u8]>)>;

/// Inline calls of one turn, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    calls: VecDeque<Job>,
    /// The blocks of those that are done with. The last is used first: it is the likeliest to be in the first cache.
    shells: Vec<Shell>,
    /// So many at its front have records.
    taken_down: usize,
    /// How often the next call of the turn was of another client than the one before.
    changes: usize,
}

impl InlineFeed {
    pub(super) fn new(hubs: Arc<Hubs>, number: u16, address: Addr<Hub>) -> Rc<Self> {
        let (queue, runs, keys, hub) = Default::default();
        Rc::new(Self { queue, runs, keys, clock: Clock::new(), hubs, number: number.into(), hub, address })
    }

    pub(super) fn set_hub(&self, hub: &Rc<HubCore>) {
        let _ = self.hub.set(Rc::downgrade(hub));
    }

    fn hub(&self) -> Option<Rc<HubCore>> {
        self.hub.get()?.upgrade()
    }

    /// Whether there are calls that no handler has taken.
    pub(super) fn has_calls(&self) -> bool {
        !self.queue.borrow().calls.is_empty()
    }

    /// Takes the calls of a turn, and leaves the room of those before for the calls of the next, and their blocks.
    pub(super) fn push_all(&self, calls: &mut VecDeque<Job>, shells: &mut Vec<Shell>, changes: usize) {
        let mut queue = self.queue.borrow_mut();
        queue.changes = changes;
        if shells.is_empty() {
            std::mem::swap(&mut queue.shells, shells);
        } else {
            let cold = queue.shells.len().saturating_sub(KEPT.saturating_sub(shells.len()));
            queue.shells.drain(..cold);
            shells.append(&mut queue.shells);
        }
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
        queue.calls.iter_mut().skip(queue.taken_down).for_each(|job| calls.take_down(&mut job.ticket));
        queue.taken_down = queue.calls.len();
    }

    /// Sends what is to leave before more calls run, and gives the next of these.
    #[inline(always)]
    fn proceed(
        &self,
        hub: &Rc<HubCore>,
        beat: &Beat,
        done: Option<Job>,
        room: &mut Vec<u8>,
        mut now: Instant,
    ) -> Option<Job> {
        if self.is_ripe() {
            self.send(hub, room, now);
            // The calls behind this are not to count for it.
            now = self.clock.look();
        }
        let next = self.next(hub, beat, done, now);
        if next.is_none() {
            self.send(hub, room, now);
        }
        next
    }

    /// The next call that is to run, now. The block of the one that is done is kept for another.
    #[inline(always)]
    fn next(&self, hub: &HubCore, beat: &Beat, done: Option<Job>, now: Instant) -> Option<Job> {
        let mut queue = self.queue.borrow_mut();
        if let Some(job) = done {
            queue.give_back(job);
        }
        while let Some(mut job) = queue.calls.pop_front() {
            queue.taken_down = queue.taken_down.saturating_sub(1);
            if !job.ticket.call.is_none() && !hub.begin_call(job.ticket.call, now) {
                queue.give_back(job);
                continue;
            }
            job.ticket.begun = now;
            beat.begin(job.ticket.entry, &job.ticket, now);
            return Some(job);
        }
        None
    }

    /// A call is answered, at this time.
    #[inline(always)]
    fn end(&self, hub: &HubCore, beat: &Beat, ticket: &Ticket, verdict: Verdict, room: &mut Vec<u8>, now: Instant) {
        let was_told = beat.end();
        let took = now.nanos_since(ticket.begun);
        let cost = if ticket.call.is_none() {
            let queued = ticket.begun.nanos_since(ticket.received);
            hub.count(ticket.entry, verdict, queued, took);
            Some(ticket.cost)
        } else {
            self.close(hub, &Done::ran(ticket, verdict, took))
        };
        match cost {
            Some(cost) => self.runs.borrow_mut().push(ticket.client, room, cost),
            None => self.runs.borrow().drop_last(room),
        }
        if took > MAX_INLINE_NS && !was_told {
            hub.slow_inline(ticket, Duration::from_nanos(took));
        }
    }

    /// A call that has a record is answered. Returns what it has cost its client, if that waits for the reply.
    #[inline(never)]
    fn close(&self, hub: &HubCore, done: &Done) -> Option<u32> {
        hub.finish_call(done, &mut self.keys.borrow_mut())
    }

    fn beat(&self) -> &Beat {
        self.hubs.beat(self.number)
    }

    /// Whether replies leave before more calls run.
    fn is_ripe(&self) -> bool {
        self.runs.borrow().replies() >= EARLY && self.queue.borrow().changes < FEW
    }

    /// Has the replies written that are ready, and lie in this room.
    fn send(&self, hub: &Rc<HubCore>, room: &mut Vec<u8>, now: Instant) {
        // On the thread that is to write them anyway. Nothing of what follows runs a call, so that there is nothing to add.
        let mut runs = self.runs.borrow_mut();
        if runs.replies() > 0 {
            hub.hand_out(&mut runs, room, now);
        }
        drop(runs);
        let keys = self.keys.take();
        if !keys.is_empty() {
            hub.keys_done(keys, now);
        }
    }
}

impl Queue {
    /// A job is done with.
    #[inline(always)]
    fn give_back(&mut self, job: Job) {
        let shell = job.empty();
        if self.shells.len() < KEPT {
            self.shells.push(shell);
        }
    }
}

impl Feed for Rc<InlineFeed> {
    fn pop(&self) -> Option<Job> {
        let hub = self.hub()?;
        let mut room = self.room();
        let next = self.proceed(&hub, self.beat(), None, &mut room, self.clock.look());
        self.keep(room);
        next
    }

    fn room(&self) -> Vec<u8> {
        self.runs.borrow_mut().lend()
    }

    fn keep(&self, room: Vec<u8>) {
        self.runs.borrow_mut().keep(room);
    }

    fn answer(&self, job: Job, verdict: Verdict, room: &mut Vec<u8>) {
        self.reply(&job.ticket, verdict, room);
        self.queue.borrow_mut().give_back(job);
    }

    fn go_on(&self, job: Job, verdict: Verdict, room: &mut Vec<u8>) -> Option<Job> {
        let hub = self.hub()?;
        // One look at the clock for each call: the end of one is the beginning of the next.
        let now = self.clock.now();
        let beat = self.beat();
        self.end(&hub, beat, &job.ticket, verdict, room, now);
        self.proceed(&hub, beat, Some(job), room, now)
    }

    fn reply(&self, ticket: &Ticket, verdict: Verdict, room: &mut Vec<u8>) {
        let Some(hub) = self.hub() else { return };
        self.end(&hub, self.beat(), ticket, verdict, room, self.clock.now());
    }

    fn nudge(&self) {
        self.address.do_send(GoOn);
    }

    fn spawn(&self, running: Running, _: LocalBoxFuture<'static, Answer>) {
        // Async procedures are dispatched to async workers only.
        debug_assert!(false, "an async call came to an I/O arbiter: {running:?}");
    }
}
