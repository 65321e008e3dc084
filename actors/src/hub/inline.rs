//! Where inline procedures get their calls from, and where their replies go: the hub itself.
//!
//! Queue: the inline calls of one turn, handed over whole and emptied in one go.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use actix::Addr;
use futures::future::LocalBoxFuture;

use crate::desk::{Feed, Running};
use crate::hub::core::HubCore;
use crate::hub::{GoOn, Hub};
use crate::job::{Job, Ticket};
use crate::reply::Replies;

pub(super) struct InlineFeed {
    queue: RefCell<VecDeque<Job>>,
    replies: RefCell<Replies>,
    hub: RefCell<Weak<HubCore>>,
    address: Addr<Hub>,
}

impl InlineFeed {
    pub(super) fn new(address: Addr<Hub>) -> Rc<Self> {
        Rc::new(Self { queue: RefCell::default(), replies: RefCell::default(), hub: RefCell::default(), address })
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
        let next = self.queue.borrow_mut().pop_front();
        if next.is_none() {
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

    fn answer(&self, ticket: &Ticket, packet: &mut Vec<u8>) {
        self.replies.borrow_mut().push(ticket, packet);
    }

    fn nudge(&self) {
        self.address.do_send(GoOn);
    }

    fn spawn(&self, running: Running, _: LocalBoxFuture<'static, Vec<u8>>) {
        // Async procedures are dispatched to async workers only.
        debug_assert!(false, "an async call came to an I/O arbiter: {running:?}");
    }
}
