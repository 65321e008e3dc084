//! The hub's own future: runs once in a turn of the arbiter's loop when there is something for it, and keeps the one
//! timer of the arbiter.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll};
use std::time::Instant;

use actix::Context;
use actix::fut::ActorFuture;
use tokio::time::Sleep;

use crate::hub::Hub;
use crate::hub::core::HubCore;

pub(super) struct Turn {
    core: Rc<HubCore>,
    timer: Pin<Box<Sleep>>,
    /// Until when the timer is set, while it is.
    set: Option<Instant>,
}

impl Turn {
    pub(super) fn new(core: Rc<HubCore>) -> Self {
        Self { core, timer: Box::pin(tokio::time::sleep_until(Instant::now().into())), set: None }
    }
}

impl ActorFuture<Hub> for Turn {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Hub, _: &mut Context<Hub>, task: &mut Task<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.core.set_turn(task.waker());
        this.core.flush();
        while let Some(next) = this.core.tick() {
            // A timer that goes off too early is set again then: cheaper than setting it back and forth.
            if this.set.is_none_or(|set| next < set) {
                this.timer.as_mut().reset(next.into());
                this.set = Some(next);
                if this.timer.as_mut().poll(task).is_pending() {
                    break;
                }
                this.set = None;
            } else if this.set.is_some_and(|set| set <= Instant::now()) {
                this.set = None;
            } else {
                break;
            }
        }
        Poll::Pending
    }
}
