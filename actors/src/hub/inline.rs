//! Where inline procedures get their calls from, and where their replies go: the hub itself.
//!
//! Queue: the inline calls of one turn, handed over whole and emptied in one go.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use actix::Addr;
use futures::future::LocalBoxFuture;

use crate::desk::{Feed, Running};
use crate::hub::core::HubCore;
use crate::hub::{GoOn, Hub, Hubs};
use crate::job::{Job, Ticket};
use crate::program::handler::Answer;
use crate::reply::Replies;
use crate::stats::outcome::Verdict;
use crate::watchdog::rounds::MAX_INLINE;

pub(super) struct InlineFeed {
    queue: RefCell<VecDeque<Job>>,
    replies: RefCell<Replies>,
    /// When the last call was answered, which is when the next one begins.
    answered: Cell<Option<Instant>>,
    hubs: Arc<Hubs>,
    hub: RefCell<Weak<HubCore>>,
    address: Addr<Hub>,
}

impl InlineFeed {
    pub(super) fn new(hubs: Arc<Hubs>, address: Addr<Hub>) -> Rc<Self> {
        let (queue, replies, hub) = Default::default();
        Rc::new(Self { queue, replies, answered: Cell::new(None), hubs, hub, address })
    }

    pub(super) fn set_hub(&self, hub: &Rc<HubCore>) {
        *self.hub.borrow_mut() = Rc::downgrade(hub);
    }

    pub(super) fn push(&self, job: Job) {
        self.queue.borrow_mut().push_back(job);
    }
}

impl Feed for Rc<InlineFeed> {
    fn pop(&self) -> Option<Job> {
        let mut now = self.answered.take();
        let mut next = self.queue.borrow_mut().pop_front();
        while let Some(job) = &mut next
            && !job.begin(&self.hubs, *now.get_or_insert_with(Instant::now))
        {
            next = self.queue.borrow_mut().pop_front();
        }
        if let Some(job) = &next {
            self.hubs.beat(job.ticket.hub.into()).begin(job.entry, &job.ticket);
        } else {
            // All are done: what is ready leaves, on the thread that is to write it anyway.
            let replies = self.replies.take();
            let hub = self.hub.borrow().upgrade();
            if let Some(hub) = hub
                && !replies.is_empty()
            {
                hub.deliver(replies);
            }
        }
        next
    }

    fn answer(&self, ticket: &Ticket, verdict: Verdict, packet: &mut Vec<u8>) {
        let now = Instant::now();
        self.answered.set(Some(now));
        self.hubs.beat(ticket.hub.into()).end();
        let took = now.saturating_duration_since(ticket.begun);
        if took > MAX_INLINE
            && let Some(hub) = self.hub.borrow().upgrade()
        {
            hub.slow_inline(ticket, took);
        }
        self.replies.borrow_mut().push(ticket, verdict, now, packet);
    }

    fn nudge(&self) {
        self.address.do_send(GoOn);
    }

    fn spawn(&self, running: Running, _: LocalBoxFuture<'static, Answer>) {
        // Async procedures are dispatched to async workers only.
        debug_assert!(false, "an async call came to an I/O arbiter: {running:?}");
    }
}
