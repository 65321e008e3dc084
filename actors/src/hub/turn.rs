//! The hub's own task: runs once in a turn of the arbiter's loop when there is something for it, and keeps the one
//! timer of the arbiter.
//!
//! Not a future in the hub's context, whose mailbox would be looked into for each turn.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix::Addr;

use crate::hub::alarm::Alarm;
use crate::hub::core::HubCore;
use crate::hub::{Hub, TurnEnded};
use crate::time::Instant;

pub(super) struct Turn {
    hub: Addr<Hub>,
    core: Rc<HubCore>,
    alarm: Alarm,
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
    pub(super) fn new(hub: Addr<Hub>, core: Rc<HubCore>, alarm: Alarm) -> Self {
        Self { hub, core, alarm, readers: Rc::new(Cell::new(Readers::Unasked)) }
    }

    /// What has come is read before its time is over: it may lie in the socket since the process was stopped, or since
    /// an inline call began to hold this thread. False until the reactor was asked once more and those whose sockets
    /// are ready were polled; the turn is woken then.
    fn readers_had_their_turn(&self, task: &Context<'_>) -> bool {
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

impl Drop for Turn {
    fn drop(&mut self) {
        // With the hub, or by a panic, which is a defect of this crate: then the hub ends, too.
        self.hub.do_send(TurnEnded);
    }
}

impl Future for Turn {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.core.set_turn(task.waker());
        // One look at the clock for all of a turn that has nothing special.
        let mut now = Instant::now();
        if this.core.flush(now) {
            now = Instant::now();
        }
        if this.core.pass_events() {
            // The others of this arbiter come first, those whom the reactor is about to wake among them: polled once,
            // it wakes this turn behind them.
            let _ = std::pin::pin!(tokio::task::yield_now()).poll(task);
        }
        if this.core.has_expired(now) && !this.readers_had_their_turn(task) {
            return Poll::Pending;
        }
        if let Some(next) = this.core.tick(now)
            && let Err(error) = this.alarm.wake_at(next, now, task)
        {
            log::error!("hub {} is not woken in time: {error}", this.core.number());
        }
        Poll::Pending
    }
}
