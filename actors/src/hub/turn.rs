//! The hub's own future: runs once in a turn of the arbiter's loop when there is something for it, and keeps the one
//! timer of the arbiter.

use std::cell::Cell;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use actix::Context;
use actix::fut::ActorFuture;
use tokio::time::Sleep;

use crate::hub::Hub;
use crate::hub::core::HubCore;
use crate::time::Instant;

pub(super) struct Turn {
    core: Rc<HubCore>,
    timer: Pin<Box<Sleep>>,
    /// Until when the timer is set, while it is.
    set: Option<Instant>,
    readers: Rc<Cell<Readers>>,
}

/// Whether the readers have read what has come, before clients whose time is over are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    Unasked,
    HaveTheirTurn,
    HadTheirTurn,
}

impl Turn {
    pub(super) fn new(core: Rc<HubCore>) -> Self {
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { core, timer, set: None, readers: Rc::new(Cell::new(Readers::Unasked)) }
    }

    /// What has come is read before its time is over: it may lie in the socket since the process was stopped, or since
    /// an inline call began to hold this thread. False until the reactor was asked once more and those whose sockets
    /// are ready were polled; the turn is woken then.
    fn readers_had_their_turn(&self, task: &Task<'_>) -> bool {
        match self.readers.get() {
            Readers::Unasked => {
                self.readers.set(Readers::HaveTheirTurn);
                let (readers, turn) = (self.readers.clone(), task.waker().clone());
                actix_rt::spawn(async move {
                    // It comes back behind whoever the reactor wakes.
                    tokio::task::yield_now().await;
                    readers.set(Readers::HadTheirTurn);
                    turn.wake();
                });
                false
            }
            Readers::HaveTheirTurn => false,
            Readers::HadTheirTurn => {
                self.readers.set(Readers::Unasked);
                true
            }
        }
    }
}

impl ActorFuture<Hub> for Turn {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Hub, _: &mut Context<Hub>, task: &mut Task<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.core.set_turn(task.waker());
        // One look at the clock for all of a turn that has nothing special.
        let mut now = Instant::now();
        this.core.flush(now);
        if this.core.pass_events() {
            // The others of this arbiter come first, those whom the reactor is about to wake among them: polled once,
            // it wakes this turn behind them.
            let _ = std::pin::pin!(tokio::task::yield_now()).poll(task);
        }
        if this.core.has_expired(now) && !this.readers_had_their_turn(task) {
            return Poll::Pending;
        }
        while let Some(next) = this.core.tick(now) {
            // A timer that goes off too early is set again then: cheaper than setting it back and forth.
            if this.set.is_none_or(|set| next < set) {
                this.timer.as_mut().reset(next.to_std().into());
                this.set = Some(next);
                if this.timer.as_mut().poll(task).is_pending() {
                    break;
                }
                this.set = None;
            } else if this.set.is_some_and(|set| set <= now) {
                this.set = None;
            } else {
                break;
            }
            now = Instant::now();
        }
        Poll::Pending
    }
}
