//! The handle of the loop: the six operations, and the lock that they share with the driver.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{fmt, io};

use actix::Recipient;

use super::driver::Driver;
use super::error::LoopError;
use super::events::Events;
use super::id::{HandleId, TimerId};
use super::interval::Interval;
use super::message::{Delivery, HandleEvent, TimerEvent, Watched};
use super::registry::{HandleFn, TimerFn};
use super::state::State;

/// The handle of an event loop. Clones are the same loop.
///
/// Every operation can be called from any thread and from inside any callback. None blocks for longer than another
/// operation takes. After the loop's end each returns [`LoopError::Ended`].
#[derive(Clone)]
pub struct EventLoop {
    shared: Arc<Shared>,
    /// Whether this handle may stop the loop.
    may_stop: bool,
}

/// What handles and driver share.
pub(super) struct Shared {
    /// `None` after the end.
    state: Mutex<Option<State>>,
    epoch: Instant,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<State>> {
        // Nobody's code runs with the lock held, so a panic in there is a defect of this module. What it leaves behind
        // is still better than a loop that is lost for everybody.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop's time, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        // It fits for 584 years.
        self.epoch.elapsed().as_nanos() as u64
    }

    pub(super) fn rearm(&self, watched: Watched) {
        let now = self.now();
        if let Some(state) = self.lock().as_mut() {
            state.rearm(watched, now);
        }
    }

    fn with<T>(&self, operation: impl FnOnce(&mut State) -> Result<T, LoopError>) -> Result<T, LoopError> {
        self.lock().as_mut().ok_or(LoopError::Ended).and_then(operation)
    }
}

impl EventLoop {
    /// A loop and the driver that has to run it.
    ///
    /// # Errors
    ///
    /// The process has no descriptors left: the loop needs three.
    pub fn new() -> io::Result<(EventLoop, Driver)> {
        let shared = Arc::new(Shared { state: Mutex::new(Some(State::new()?)), epoch: Instant::now() });
        Ok((EventLoop { shared: shared.clone(), may_stop: true }, Driver::new(shared)))
    }

    /// A handle that cannot stop the loop, nor can its clones: for a loop that belongs to somebody else.
    #[must_use]
    pub fn without_stop(&self) -> EventLoop {
        EventLoop { shared: self.shared.clone(), may_stop: false }
    }

    /// Watches a descriptor. The callback runs on the loop's thread whenever something is pending that the mask asks
    /// for, and is told all of it (rule 1), again and again until it is drained (rule 2). A descriptor may have several
    /// watches, also with the same mask (rule 13).
    ///
    /// The descriptor stays the caller's, who removes the watch before closing it. The loop never closes it.
    ///
    /// # Errors
    ///
    /// [`LoopError::NotOpen`] for a number that is no open descriptor, [`LoopError::Refused`] where the kernel will not
    /// watch it, [`LoopError::Full`], [`LoopError::Ended`]. The callback is then dropped here.
    pub fn add_handle(
        &self,
        fd: RawFd,
        mask: Events,
        callback: impl FnMut(HandleEvent) + Send + 'static,
    ) -> Result<HandleId, LoopError> {
        self.insert_handle(fd, mask, false, Box::new(callback))
    }

    /// Watches a descriptor for an actor. The watch has at most one message on its way, and is armed again when the
    /// actor drops it (see [`Delivery`]). When the actor is found stopped, the watch is removed.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::add_handle`].
    pub fn add_handle_recipient(
        &self,
        fd: RawFd,
        mask: Events,
        recipient: Recipient<Delivery<HandleEvent>>,
    ) -> Result<HandleId, LoopError> {
        let shared = Arc::downgrade(&self.shared);
        let deliver = move |event: HandleEvent| {
            let watch = Watched::Handle(event.id);
            if recipient.connected() {
                // One message per watch, so the mailbox's own capacity is not what bounds them.
                recipient.do_send(Delivery::new(event, watch, shared.clone()));
            } else if let Some(shared) = shared.upgrade() {
                let _ = shared.with(|state| state.remove_handle(event.id));
                log::debug!("{watch} is removed: its actor has stopped");
            }
        };
        self.insert_handle(fd, mask, true, Box::new(deliver))
    }

    fn insert_handle(&self, fd: RawFd, mask: Events, delivers: bool, call: HandleFn) -> Result<HandleId, LoopError> {
        let now = self.shared.now();
        let mut call = Some(call);
        self.shared.with(|state| state.add_handle(fd, mask, delivers, &mut call, now))
    }

    /// Changes what a watch asks for. [`Events::NONE`] keeps the watch and polls nothing. A watch that is ready in the
    /// iteration under way is skipped and polled anew (rule 4), and goes to the end of the order (rule 3). The same mask
    /// again changes nothing.
    ///
    /// # Errors
    ///
    /// [`LoopError::UnknownHandle`]; [`LoopError::NotOpen`] where the descriptor was closed meanwhile, which also
    /// disables all its watches and tells them (rule 9); [`LoopError::Refused`], which leaves the mask as it was.
    pub fn update_handle(&self, id: HandleId, mask: Events) -> Result<(), LoopError> {
        self.shared.with(|state| state.update_handle(id, mask))
    }

    /// Ends a watch. Its callback is not called any more, except that on another thread than the loop's it may be
    /// running right now; it is dropped on the loop's thread when all is quiet (rule 6). The descriptor is not closed.
    ///
    /// # Errors
    ///
    /// [`LoopError::UnknownHandle`], also the second time.
    pub fn remove_handle(&self, id: HandleId) -> Result<(), LoopError> {
        self.shared.with(|state| state.remove_handle(id))
    }

    /// Adds a timer. The callback runs on the loop's thread at every expiry (rule 7).
    ///
    /// # Errors
    ///
    /// [`LoopError::Full`], [`LoopError::Ended`]. The callback is then dropped here.
    pub fn add_timeout(
        &self,
        interval: Interval,
        callback: impl FnMut(TimerEvent) + Send + 'static,
    ) -> Result<TimerId, LoopError> {
        self.insert_timeout(interval, false, Box::new(callback))
    }

    /// Adds a timer for an actor. It has at most one message on its way, and fires again when the actor has dropped it
    /// (see [`Delivery`]). When the actor is found stopped, the timer is removed.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::add_timeout`].
    pub fn add_timeout_recipient(
        &self,
        interval: Interval,
        recipient: Recipient<Delivery<TimerEvent>>,
    ) -> Result<TimerId, LoopError> {
        let shared = Arc::downgrade(&self.shared);
        let deliver = move |event: TimerEvent| {
            let watch = Watched::Timer(event.id);
            if recipient.connected() {
                // As for handles.
                recipient.do_send(Delivery::new(event, watch, shared.clone()));
            } else if let Some(shared) = shared.upgrade() {
                let _ = shared.with(|state| state.remove_timeout(event.id));
                log::debug!("{watch} is removed: its actor has stopped");
            }
        };
        self.insert_timeout(interval, true, Box::new(deliver))
    }

    fn insert_timeout(&self, interval: Interval, delivers: bool, call: TimerFn) -> Result<TimerId, LoopError> {
        let now = self.shared.now();
        let mut call = Some(call);
        self.shared.with(|state| state.add_timeout(interval, delivers, &mut call, now))
    }

    /// Sets the interval of a timer and starts to count anew, also with the same interval. A timer that has expired in
    /// the iteration under way is skipped (rule 4), and goes to the end of the order (rule 3).
    ///
    /// # Errors
    ///
    /// [`LoopError::UnknownTimer`].
    pub fn update_timeout(&self, id: TimerId, interval: Interval) -> Result<(), LoopError> {
        let now = self.shared.now();
        self.shared.with(|state| state.update_timeout(id, interval, now))
    }

    /// Ends a timer, as [`EventLoop::remove_handle`] ends a watch.
    ///
    /// # Errors
    ///
    /// [`LoopError::UnknownTimer`], also the second time.
    pub fn remove_timeout(&self, id: TimerId) -> Result<(), LoopError> {
        self.shared.with(|state| state.remove_timeout(id))
    }

    /// Stops the loop after the iteration under way: [`Driver::run`] and [`Driver::drive`] return, and
    /// [`Driver::iterate`] does nothing any more. When the driver is then dropped, the loop has ended. Once is enough,
    /// and again does no harm. On a handle made by [`EventLoop::without_stop`] it does nothing: the loop of a service ends
    /// with the service.
    pub fn stop(&self) {
        if !self.may_stop {
            return log::debug!("this event loop is not stopped by those who use it");
        }
        if let Some(state) = self.shared.lock().as_mut() {
            state.stopping = true;
            state.wake();
        }
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").finish_non_exhaustive()
    }
}
