//! Which watches have something to be told: the beginning of an iteration.

use super::{Delivering, Kind, Ready, Registry};
use crate::event_loop::descriptors::NIL;
use crate::event_loop::events::Events;

impl Registry {
    /// The watches of a descriptor that `happened` concerns. Those whose last message has not been dealt with are not
    /// told but muted; returns whether any was, so that the descriptor may want less now.
    pub(crate) fn gather_descriptor(&mut self, descriptor: u32, happened: Events, ready: &mut Vec<Ready>) -> bool {
        let mut muted = false;
        let mut slot = self.descriptors.get(descriptor).map_or(NIL, |entry| entry.first);
        while let Some(watch) = self.watches.get_mut(slot) {
            let Kind::Handle(polling) = &watch.kind else { break };
            let events = polling.mask.reported(happened);
            if !events.is_empty() {
                match watch.delivering {
                    Delivering::Free | Delivering::Idle => {
                        ready.push(Ready { order: watch.order, slot, events, closed: false });
                    }
                    Delivering::Outstanding => {
                        watch.delivering = Delivering::Muted;
                        muted = true;
                        if let Some(entry) = self.descriptors.get_mut(descriptor) {
                            entry.change(polling.mask, Events::NONE);
                        }
                    }
                    Delivering::Muted => {}
                }
            }
            slot = polling.next;
        }
        muted
    }

    /// The watches of all descriptors that cannot be polled. Any that were muted are added to `changed`.
    pub(crate) fn gather_always_ready(&mut self, ready: &mut Vec<Ready>, changed: &mut Vec<u32>) {
        for place in 0..self.descriptors.always_ready().len() {
            let descriptor = self.descriptors.always_ready()[place];
            if self.gather_descriptor(descriptor, Events::READABLE | Events::WRITABLE, ready) {
                changed.push(descriptor);
            }
        }
    }

    /// The timers that are due. They are armed again when their turn comes.
    pub(crate) fn gather_timers(&mut self, now: u64, ready: &mut Vec<Ready>) {
        while let Some(slot) = self.queue.pop_due(now) {
            let Some(watch) = self.watches.get_mut(slot) else { continue };
            if watch.delivering == Delivering::Outstanding {
                watch.delivering = Delivering::Muted;
            } else {
                ready.push(Ready { order: watch.order, slot, events: Events::NONE, closed: false });
            }
        }
    }

    /// The watches that were disabled because their descriptor was closed.
    pub(crate) fn gather_broken(&mut self, ready: &mut Vec<Ready>) {
        for (slot, order) in self.broken.drain(..) {
            let Some(watch) = self.watches.get_mut(slot).filter(|watch| watch.order == order) else { continue };
            match (&mut watch.kind, watch.delivering) {
                (Kind::Handle(polling), Delivering::Outstanding | Delivering::Muted) => polling.owes_error = true,
                _ => ready.push(Ready { order, slot, events: Events::ERROR, closed: true }),
            }
        }
    }

    /// Disables all watches of a descriptor that was found closed; each is told in the next iteration, or in this one
    /// if it is only beginning, in the order in which they were.
    pub(crate) fn disable_all(&mut self, descriptor: u32) {
        let mut concerned = Vec::new();
        let mut slot = self.descriptors.get(descriptor).map_or(NIL, |entry| entry.first);
        while let Some(watch) = self.watches.get(slot) {
            let Kind::Handle(polling) = &watch.kind else { break };
            if !polling.mask.is_empty() {
                concerned.push((watch.order, slot));
            }
            slot = polling.next;
        }
        concerned.sort_unstable();
        for (_, slot) in concerned {
            let order = self.next_order();
            let Some(watch) = self.watches.get_mut(slot) else { continue };
            let Kind::Handle(polling) = &mut watch.kind else { continue };
            watch.order = order;
            let mask = std::mem::take(&mut polling.mask);
            if watch.delivering != Delivering::Muted
                && let Some(entry) = self.descriptors.get_mut(descriptor)
            {
                entry.change(mask, Events::NONE);
            }
            self.broken.push((slot, order));
        }
    }

    /// Whether the next iteration has something to do whatever the poller says.
    pub(crate) fn is_busy(&self) -> bool {
        !self.discarded.is_empty() || !self.broken.is_empty() || !self.descriptors.always_ready().is_empty()
    }
}
