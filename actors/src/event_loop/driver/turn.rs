//! What the driver does while it is awake: the callbacks of one iteration, and the drop of those that were removed, as
//! much at a time as a budget allows.
//!
//! Everything that may be somebody's code is called here, with no lock held, and no panic of it goes further.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Driver;
use crate::event_loop::message::Watched;
use crate::event_loop::registry::{Callback, Ready};

/// Where in an iteration the driver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// In none.
    Between,
    Dispatching,
    Dropping,
}

/// How much to do before others get the thread: at least one thing, in any case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    n_things: usize,
    nanos: u64,
}

impl Budget {
    /// Until the iteration is over.
    pub(super) const WHOLE: Budget = Budget { n_things: usize::MAX, nanos: u64::MAX };
    /// As much as the other tasks of an arbiter may have to wait for.
    pub(super) const TURN: Budget = Budget { n_things: 64, nanos: 500_000 };

    fn allows(self, n_done: usize, nanos: u64) -> bool {
        n_done == 0 || (n_done < self.n_things && nanos < self.nanos)
    }
}

impl Driver {
    /// The beginning of an iteration: collects what is ready.
    pub(super) fn begin(&mut self) {
        let now = self.shared.now();
        self.ready.clear();
        self.n_done = 0;
        self.phase = Phase::Dispatching;
        let gathered = match self.shared.lock().as_mut() {
            Some(state) => state.gather(self.reported.iter(), now, &mut self.ready),
            None => Ok(()),
        };
        match gathered {
            Ok(()) => self.told_of_renewal = false,
            Err(error) if !std::mem::replace(&mut self.told_of_renewal, true) => {
                log::warn!("the event loop is busy with a closed descriptor, and there is none for a new set: {error}");
            }
            Err(_) => {}
        }
    }

    /// Goes on with the iteration. Returns how many callbacks ran.
    pub(super) fn proceed(&mut self, budget: Budget) -> usize {
        let begun = self.shared.now();
        let (mut now, mut n_things, mut n_called) = (begun, 0, 0);
        if self.phase == Phase::Dispatching {
            let mut finished = None;
            while budget.allows(n_things, now - begun)
                && let Some(next) = self.ready.get(self.n_done).copied()
            {
                self.n_done += 1;
                n_things += 1;
                let Some(mut callback) = self.next_turn(finished.take(), next, now) else { continue };
                if next.closed {
                    log::warn!("descriptor closed under {}, which is disabled now", callback.watched());
                }
                let outcome = catch_unwind(AssertUnwindSafe(|| callback.run(next.events)));
                now = self.account(now, callback.watched(), "");
                if let Err(payload) = outcome {
                    self.lose(callback.watched(), payload);
                }
                finished = Some((next.slot, callback));
                n_called += 1;
            }
            self.end_turns(finished);
        }
        if self.phase == Phase::Dropping {
            while budget.allows(n_things, now - begun)
                && let Some(callback) = self.discarded.pop_front()
            {
                n_things += 1;
                let watched = callback.watched();
                forget_safely(watched, callback);
                now = self.account(now, watched, "the drop of ");
            }
            if self.discarded.is_empty() {
                self.phase = Phase::Between;
            }
        }
        n_called
    }

    /// Puts back the callback that ran, and takes that of the next one, if it is still there and the same.
    fn next_turn(&self, finished: Option<(u32, Callback)>, next: Ready, now: u64) -> Option<Callback> {
        let mut guard = self.shared.lock();
        let registry = &mut guard.as_mut()?.registry;
        if let Some((slot, callback)) = finished {
            registry.end_turn(slot, callback);
        }
        registry.take_turn(&next, now)
    }

    /// Puts back the callback that ran last. After the last turn of the iteration, what was removed so far is to be
    /// dropped; what those drops remove in turn is dropped in the next iteration.
    fn end_turns(&mut self, finished: Option<(u32, Callback)>) {
        let is_over = self.n_done == self.ready.len();
        if let Some(state) = self.shared.lock().as_mut() {
            if let Some((slot, callback)) = finished {
                state.registry.end_turn(slot, callback);
            }
            if is_over {
                self.discarded.extend(state.registry.discarded.drain(..));
            }
        }
        if is_over {
            self.phase = Phase::Dropping;
        }
    }

    /// A callback panicked: its watch is removed, and the callback will be dropped with the others.
    fn lose(&self, watched: Watched, payload: Box<dyn Any + Send>) {
        log::error!("{watched} is removed, its callback panicked: {}", text(&*payload));
        if let Some(state) = self.shared.lock().as_mut() {
            state.lose(watched);
        }
        forget_safely(watched, payload);
    }

    /// Reports what took too long since `started`. Returns the time.
    fn account(&self, started: u64, watched: Watched, what: &str) -> u64 {
        let now = self.shared.now();
        let held = Duration::from_nanos(now.saturating_sub(started));
        if held >= self.slow_after {
            log::warn!("{what}{watched} held the event loop for {} ms", held.as_millis());
        }
        now
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let state = self.shared.lock().take();
        let left = state.map(|mut state| state.registry.drain()).unwrap_or_default();
        for callback in self.discarded.drain(..).chain(left) {
            forget_safely(callback.watched(), callback);
        }
    }
}

/// Drops what belongs to a callback, whose drop may be anybody's code.
fn forget_safely<T>(watched: Watched, value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        log::error!("the drop of {watched} panicked: {}", text(&*payload));
        // The drop of a payload may panic too, and somewhere this has to end.
        std::mem::forget(payload);
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
