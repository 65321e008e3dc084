//! The watches: who they are, in which order they were registered, and which of them have something to be told.
//!
//! Plain data: it makes no system call, time is an argument, and the poller is told by [`super::state`] whenever what
//! a descriptor wants may have changed. It runs no callback and drops none, it only hands them out.
//!
//! What becomes of a callback:
//!
//! ```text
//!   added ──► in its watch ◄──► taken for its turn        removed: what was in its watch goes to `discarded` at once,
//!                 │                      │                what was taken goes there when its turn is over
//!                 └──────► discarded ◄───┘ ──► dropped by the driver
//! ```

use std::os::fd::RawFd;

use super::arena::Arena;
use super::descriptors::{Descriptors, NIL};
use super::events::Events;
use super::id::{HandleId, IdMap, TimerId};
use super::interval::Interval;
use super::message::{HandleEvent, TimerEvent, Watched};
use super::timers::TimerQueue;

pub(super) type HandleFn = Box<dyn FnMut(HandleEvent) + Send>;
pub(super) type TimerFn = Box<dyn FnMut(TimerEvent) + Send>;

/// A callback, with what it is told beside the events.
pub(super) enum Callback {
    Handle { id: HandleId, fd: RawFd, call: HandleFn },
    Timer { id: TimerId, call: TimerFn },
}

impl Callback {
    pub(super) fn watched(&self) -> Watched {
        match self {
            Callback::Handle { id, .. } => Watched::Handle(*id),
            Callback::Timer { id, .. } => Watched::Timer(*id),
        }
    }

    pub(super) fn run(&mut self, events: Events) {
        match self {
            Callback::Handle { id, fd, call } => call(HandleEvent { id: *id, fd: *fd, events }),
            Callback::Timer { id, call } => call(TimerEvent { id: *id }),
        }
    }
}

/// Whether a watch may be dispatched, as far as its last message to an actor is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivering {
    /// It runs a callback, or its last message has been dealt with.
    Free,
    /// It sends messages, and none is on its way.
    Idle,
    /// Its message is on its way. Nothing has happened since.
    Outstanding,
    /// It would have more to tell, and is not polled until its message has been dealt with.
    Muted,
}

struct Watch {
    /// Its place in the order of registration. A new one with every change, so that it also tells a watch from what it
    /// was, and from others that had its slot.
    order: u64,
    /// `None` while it runs.
    callback: Option<Callback>,
    delivering: Delivering,
    kind: Kind,
}

enum Kind {
    Handle(Polling),
    Timer(Interval),
}

struct Polling {
    descriptor: u32,
    /// The neighbours in the descriptor's list of watches.
    next: u32,
    previous: u32,
    mask: Events,
    /// The descriptor was closed, and its owner is yet to be told.
    owes_error: bool,
}

/// Something that a watch is to be told in this iteration, if it is still the same when its turn comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) order: u64,
    pub(super) slot: u32,
    pub(super) events: Events,
    pub(super) closed: bool,
}

#[derive(Default)]
pub(super) struct Registry {
    watches: Arena<Watch>,
    handles: IdMap,
    timers: IdMap,
    last_handle: u64,
    last_timer: u64,
    last_order: u64,
    /// The watch whose callback was taken, as long as it exists.
    running: Option<u32>,
    pub(super) descriptors: Descriptors,
    pub(super) queue: TimerQueue,
    /// Watches whose descriptor was found closed, with their order.
    broken: Vec<(u32, u64)>,
    /// Callbacks for the driver to drop.
    pub(super) discarded: Vec<Callback>,
}

mod gather;
mod turn;

impl Registry {
    fn next_order(&mut self) -> u64 {
        self.last_order += 1;
        self.last_order
    }

    /// Adds a watch. Its descriptor may want something else now. `None` where no more fit.
    pub(super) fn add_handle(&mut self, fd: RawFd, mask: Events, delivers: bool) -> Option<(HandleId, u32)> {
        let descriptor = self.descriptors.of(fd)?;
        let first = self.descriptors.get(descriptor).map_or(NIL, |entry| entry.first);
        let polling = Polling { descriptor, next: first, previous: NIL, mask, owes_error: false };
        let Some(slot) = self.insert(Kind::Handle(polling), delivers) else {
            self.descriptors.forget_if_unused(descriptor);
            return None;
        };
        if let Some(second) = self.polling_mut(first) {
            second.previous = slot;
        }
        if let Some(entry) = self.descriptors.get_mut(descriptor) {
            entry.first = slot;
            entry.change(Events::NONE, mask);
        }
        self.last_handle += 1;
        self.handles.insert(self.last_handle, slot);
        Some((HandleId(self.last_handle), descriptor))
    }

    /// Adds a timer. `None` where no more fit.
    pub(super) fn add_timer(&mut self, interval: Interval, delivers: bool, now: u64) -> Option<TimerId> {
        let slot = self.insert(Kind::Timer(interval), delivers)?;
        self.arm(slot, interval, now);
        self.last_timer += 1;
        self.timers.insert(self.last_timer, slot);
        Some(TimerId(self.last_timer))
    }

    fn insert(&mut self, kind: Kind, delivers: bool) -> Option<u32> {
        let delivering = if delivers { Delivering::Idle } else { Delivering::Free };
        let order = self.next_order();
        self.watches.insert(Watch { order, callback: None, delivering, kind }).ok()
    }

    /// Gives a new watch its callback.
    pub(super) fn complete(&mut self, callback: Callback) {
        let slot = self.slot(callback.watched());
        if let Some(watch) = slot.and_then(|slot| self.watches.get_mut(slot)) {
            watch.callback = Some(callback);
        }
    }

    /// Sets the mask of a watch, which sends it to the end of the order unless that is its mask already. Its descriptor
    /// may want something else now; the mask before is returned with it. `None` where there is no such watch.
    pub(super) fn set_mask(&mut self, id: HandleId, mask: Events) -> Option<(u32, Events)> {
        let slot = *self.handles.get(&id.0)?;
        let order = self.next_order();
        let watch = self.watches.get_mut(slot)?;
        let Kind::Handle(polling) = &mut watch.kind else { return None };
        let before = std::mem::replace(&mut polling.mask, mask);
        if before != mask {
            watch.order = order;
            polling.owes_error = false;
            if watch.delivering != Delivering::Muted
                && let Some(entry) = self.descriptors.get_mut(polling.descriptor)
            {
                entry.change(before, mask);
            }
        }
        Some((polling.descriptor, before))
    }

    /// Sets the interval of a timer, and starts to count anew. `None` where there is no such timer.
    pub(super) fn set_interval(&mut self, id: TimerId, interval: Interval, now: u64) -> Option<()> {
        let slot = *self.timers.get(&id.0)?;
        let order = self.next_order();
        let watch = self.watches.get_mut(slot)?;
        watch.order = order;
        watch.kind = Kind::Timer(interval);
        if watch.delivering == Delivering::Muted {
            watch.delivering = Delivering::Outstanding;
        }
        self.arm(slot, interval, now);
        Some(())
    }

    /// Arms a timer to expire an interval from now, or disarms it.
    fn arm(&mut self, slot: u32, interval: Interval, now: u64) {
        match interval.nanos() {
            Some(nanos) => self.queue.set(slot, now.saturating_add(nanos)),
            None => {
                self.queue.cancel(slot);
            }
        }
    }

    /// Removes a watch; its callback is discarded. Its descriptor is returned, which may want something else now, or
    /// nothing at all. `None` where there is no such watch.
    pub(super) fn remove_handle(&mut self, id: HandleId) -> Option<u32> {
        let slot = self.handles.remove(&id.0)?;
        let watch = self.remove(slot)?;
        let Kind::Handle(Polling { descriptor, next, previous, mask, .. }) = watch.kind else { return None };
        if let Some(entry) = self.descriptors.get_mut(descriptor) {
            if watch.delivering != Delivering::Muted {
                entry.change(mask, Events::NONE);
            }
            if previous == NIL {
                entry.first = next;
            }
        }
        if let Some(neighbour) = self.polling_mut(previous) {
            neighbour.next = next;
        }
        if let Some(neighbour) = self.polling_mut(next) {
            neighbour.previous = previous;
        }
        Some(descriptor)
    }

    /// Removes a timer; its callback is discarded. `None` where there is no such timer.
    pub(super) fn remove_timer(&mut self, id: TimerId) -> Option<()> {
        let slot = self.timers.remove(&id.0)?;
        self.queue.cancel(slot);
        self.remove(slot).map(drop)
    }

    fn remove(&mut self, slot: u32) -> Option<Watch> {
        let mut watch = self.watches.remove(slot)?;
        if self.running == Some(slot) {
            self.running = None;
        }
        self.discarded.extend(watch.callback.take());
        Some(watch)
    }

    fn slot(&self, watched: Watched) -> Option<u32> {
        match watched {
            Watched::Handle(id) => self.handles.get(&id.0).copied(),
            Watched::Timer(id) => self.timers.get(&id.0).copied(),
        }
    }

    fn polling_mut(&mut self, slot: u32) -> Option<&mut Polling> {
        match &mut self.watches.get_mut(slot)?.kind {
            Kind::Handle(polling) => Some(polling),
            Kind::Timer(_) => None,
        }
    }
}
