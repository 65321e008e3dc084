//! What callbacks and actors are told.

use std::fmt;
use std::ops::Deref;
use std::os::fd::RawFd;
use std::sync::Weak;

use actix::Message;

use super::events::Events;
use super::handle::Shared;
use super::id::{HandleId, TimerId};

/// A watched descriptor is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandleEvent {
    /// The watch.
    pub id: HandleId,
    /// Its descriptor.
    pub fd: RawFd,
    /// All that is pending and was asked for, and errors and hang-ups in any case.
    pub events: Events,
}

/// A timer has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerEvent {
    /// The timer.
    pub id: TimerId,
}

/// An event as a message to an actor. It dereferences to the [`HandleEvent`] or [`TimerEvent`].
///
/// A watch has at most one of these on its way: until the actor drops it, which it does by returning from its handler
/// unless it keeps it for longer, the watch is not polled and the timer does not fire again. Dropped, it arms the watch
/// anew: what is still ready is reported again, and a timer that has expired meanwhile fires once.
pub struct Delivery<E> {
    event: E,
    rearm: Rearm,
}

impl<E> Delivery<E> {
    pub(super) fn new(event: E, watch: Watched, shared: Weak<Shared>) -> Delivery<E> {
        Delivery { event, rearm: Rearm { watch, shared } }
    }
}

impl<E> Deref for Delivery<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.event
    }
}

impl<E: fmt::Debug> fmt::Debug for Delivery<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("event", &self.event).field("watch", &self.rearm.watch).finish()
    }
}

impl Message for Delivery<HandleEvent> {
    type Result = ();
}

impl Message for Delivery<TimerEvent> {
    type Result = ();
}

/// Which watch, of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Watched {
    Handle(HandleId),
    Timer(TimerId),
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Watched::Handle(id) => id.fmt(f),
            Watched::Timer(id) => id.fmt(f),
        }
    }
}

struct Rearm {
    watch: Watched,
    /// Weak, so that a message that nobody reads keeps no loop's memory.
    shared: Weak<Shared>,
}

impl Drop for Rearm {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.rearm(self.watch);
        }
    }
}
