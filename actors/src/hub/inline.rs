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
use crate::job::{Job, Shell, Ticket};
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

    /// Whether there are calls that no handler has taken.
    pub(super) fn has_jobs(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    /// Takes the calls of a turn, and leaves the room of those before for the calls of the next.
    pub(super) fn push_all(&self, jobs: &mut VecDeque<Job>) {
        let mut queue = self.queue.borrow_mut();
        if queue.is_empty() {
            std::mem::swap(&mut *queue, jobs);
        } else {
            queue.append(jobs);
        }
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
            self.hubs.beat(job.ticket.hub.into()).begin(job.ticket.entry, &job.ticket, job.ticket.begun);
        }
        let leaves = match &next {
            Some(_) => self.replies.borrow().is_ripe(),
            None => !self.replies.borrow().is_empty(),
        };
        if leaves {
            // On the thread that is to write it anyway.
            let replies = self.replies.borrow_mut().take();
            if let Some(hub) = self.hub.borrow().upgrade() {
                hub.deliver(replies);
            }
        }
        next
    }

    fn answer(&self, ticket: &Ticket, verdict: Verdict, packet: &mut Vec<u8>, shell: Option<Shell>) {
        let now = Instant::now();
        self.answered.set(Some(now));
        let was_told = self.hubs.beat(ticket.hub.into()).end();
        let took = now.saturating_duration_since(ticket.begun);
        if took > MAX_INLINE
            && !was_told
            && let Some(hub) = self.hub.borrow().upgrade()
        {
            hub.slow_inline(ticket, took);
        }
        let mut replies = self.replies.borrow_mut();
        replies.push(ticket, verdict, now, packet);
        if let Some(shell) = shell {
            replies.give_back(shell);
        }
    }

    fn nudge(&self) {
        self.address.do_send(GoOn);
    }

    fn spawn(&self, running: Running, _: LocalBoxFuture<'static, Answer>) {
        // Async procedures are dispatched to async workers only.
        debug_assert!(false, "an async call came to an I/O arbiter: {running:?}");
    }
}
