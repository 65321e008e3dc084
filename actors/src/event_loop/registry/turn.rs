//! The turn of one watch: its callback is taken out, run by the driver, and put back; and what a dealt-with message
//! sets going again.

use super::{Callback, Delivering, Kind, Ready, Registry};
use crate::event_loop::events::Events;
use crate::event_loop::message::Watched;

impl Registry {
    /// Takes the callback of a watch whose turn has come, unless it was removed or changed since it was found ready.
    /// A timer starts to count its next interval.
    pub(crate) fn take_turn(&mut self, ready: &Ready, now: u64) -> Option<Callback> {
        let watch = self.watches.get_mut(ready.slot).filter(|watch| watch.order == ready.order)?;
        let callback = watch.callback.take()?;
        if watch.delivering == Delivering::Idle {
            watch.delivering = Delivering::Outstanding;
        }
        self.running = Some(ready.slot);
        if let Kind::Timer(interval) = watch.kind {
            self.arm(ready.slot, interval, now);
        }
        Some(callback)
    }

    /// Puts a callback back whose turn is over. Where its watch has gone meanwhile, it is discarded.
    pub(crate) fn end_turn(&mut self, slot: u32, callback: Callback) {
        match self.watches.get_mut(slot) {
            Some(watch) if self.running == Some(slot) => watch.callback = Some(callback),
            _ => self.discarded.push(callback),
        }
        self.running = None;
    }

    /// The message of a watch has been dealt with. Returns its descriptor if it is to be polled again.
    pub(crate) fn rearm(&mut self, watched: Watched, now: u64) -> Option<u32> {
        let slot = self.slot(watched)?;
        let watch = self.watches.get_mut(slot)?;
        let was = std::mem::replace(&mut watch.delivering, Delivering::Idle);
        match &mut watch.kind {
            Kind::Handle(polling) => {
                if std::mem::take(&mut polling.owes_error) {
                    self.broken.push((slot, watch.order));
                }
                let (descriptor, mask) = (polling.descriptor, polling.mask);
                if was != Delivering::Muted {
                    return None;
                }
                self.descriptors.get_mut(descriptor)?.change(Events::NONE, mask);
                Some(descriptor)
            }
            Kind::Timer(_) => {
                if was == Delivering::Muted {
                    self.queue.set(slot, now);
                }
                None
            }
        }
    }

    /// All callbacks that are left, in the order of registration.
    pub(crate) fn drain(&mut self) -> Vec<Callback> {
        let mut left: Vec<(u64, Callback)> = self
            .watches
            .iter_mut()
            .filter_map(|watch| watch.callback.take().map(|callback| (watch.order, callback)))
            .collect();
        left.sort_unstable_by_key(|(order, _)| *order);
        self.discarded.drain(..).chain(left.into_iter().map(|(_, callback)| callback)).collect()
    }
}
