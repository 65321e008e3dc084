//! The six operations, under the lock.

use super::*;

impl State {
    /// Where it is refused, the callback is still the caller's, who drops it when the lock is released.
    pub(crate) fn add_handle(
        &mut self,
        fd: RawFd,
        mask: Events,
        delivers: bool,
        call: &mut Option<HandleFn>,
        now: u64,
    ) -> Result<HandleId, LoopError> {
        if fd < 0 {
            return Err(LoopError::NotOpen(fd));
        }
        let (id, descriptor) = self.registry.add_handle(fd, mask, delivers).ok_or(LoopError::Full)?;
        if let Err(error) = self.sync_anew(descriptor) {
            self.registry.remove_handle(id);
            if matches!(error, LoopError::NotOpen(_)) {
                self.disable(descriptor);
            }
            self.registry.descriptors.forget_if_unused(descriptor);
            return Err(error);
        }
        if let Some(call) = call.take() {
            self.registry.complete(Callback::Handle { id, fd, call });
        }
        self.sweep.start(now);
        self.wake_by(self.sweep.next_due());
        Ok(id)
    }

    pub(crate) fn update_handle(&mut self, id: HandleId, mask: Events) -> Result<(), LoopError> {
        let (descriptor, before) = self.registry.set_mask(id, mask).ok_or(LoopError::UnknownHandle(id))?;
        // Where nothing changes, for the kernel or at all, somebody still wants to know how things stand (rule 9).
        let synced = if before == mask && mask.is_empty() { Ok(()) } else { self.sync_anew(descriptor) };
        match &synced {
            Ok(()) => {}
            Err(LoopError::NotOpen(_)) => self.disable(descriptor),
            // What the kernel polls is what it was, and so is the mask again.
            Err(_) => {
                self.registry.set_mask(id, before);
            }
        }
        synced
    }

    pub(crate) fn remove_handle(&mut self, id: HandleId) -> Result<(), LoopError> {
        let descriptor = self.registry.remove_handle(id).ok_or(LoopError::UnknownHandle(id))?;
        let has_others = self.registry.descriptors.get(descriptor).is_some_and(|entry| entry.first != NIL);
        if has_others && self.sync_anew(descriptor).is_err() {
            // The watch is gone in any case; the others are told (rule 9).
            self.disable(descriptor);
        }
        self.sync_or_disable(descriptor);
        self.registry.descriptors.forget_if_unused(descriptor);
        self.wake();
        Ok(())
    }

    /// As with [`State::add_handle`], a refused callback is still the caller's.
    pub(crate) fn add_timeout(
        &mut self,
        interval: Interval,
        delivers: bool,
        call: &mut Option<TimerFn>,
        now: u64,
    ) -> Result<TimerId, LoopError> {
        let id = self.registry.add_timer(interval, delivers, now).ok_or(LoopError::Full)?;
        if let Some(call) = call.take() {
            self.registry.complete(Callback::Timer { id, call });
        }
        self.wake_by(self.registry.queue.next_due());
        Ok(id)
    }

    pub(crate) fn update_timeout(&mut self, id: TimerId, interval: Interval, now: u64) -> Result<(), LoopError> {
        self.registry.set_interval(id, interval, now).ok_or(LoopError::UnknownTimer(id))?;
        self.wake_by(self.registry.queue.next_due());
        Ok(())
    }

    pub(crate) fn remove_timeout(&mut self, id: TimerId) -> Result<(), LoopError> {
        self.registry.remove_timer(id).ok_or(LoopError::UnknownTimer(id))?;
        self.wake();
        Ok(())
    }

    /// The message of a watch has been dealt with.
    pub(crate) fn rearm(&mut self, watched: Watched, now: u64) {
        if let Some(descriptor) = self.registry.rearm(watched, now) {
            self.sync_or_disable(descriptor);
        }
        if self.registry.is_busy() {
            self.wake();
        }
        self.wake_by(self.registry.queue.next_due());
    }

    /// A callback panicked: its watch goes.
    pub(crate) fn lose(&mut self, watched: Watched) {
        // It may be gone already: the callback can have removed itself before it panicked.
        let _ = match watched {
            Watched::Handle(id) => self.remove_handle(id),
            Watched::Timer(id) => self.remove_timeout(id),
        };
    }
}
