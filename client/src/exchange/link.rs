//! The state behind its lock, and who must be woken when it changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::watch;

use super::state::{Closing, Phase, State};
use crate::error::CloseReason;
use crate::names::Names;

/// What the handles of one client share with the task of its connection.
#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    /// What the service's directory said, until the connection is lost.
    pub(crate) names: Mutex<Option<Arc<Names>>>,
    /// Why the client has ended, once it has.
    pub(crate) ended: watch::Sender<Option<CloseReason>>,
}

impl Link {
    pub(crate) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), names: Mutex::new(None), ended: watch::Sender::new(None) }
    }

    /// A panic within the lock cannot leave the state half changed in a way that matters more than going on:
    /// no user code runs there, so what could panic is only a lack of memory.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the end of the client. The task of the connection does the rest.
    pub(crate) fn close(&self, how: Closing) {
        let driver = {
            let mut state = self.lock();
            state.closing = state.closing.max(Some(how));
            state.driver.clone()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Ready when [`Link::close`] was called, for the task of the connection while it has none.
    pub(crate) fn poll_closing(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.closing.is_some() {
            return Poll::Ready(());
        }
        let old = state.set_driver(context.waker());
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Changes how things stand, and wakes the callers whom that concerns.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        let (wakers, driver) = {
            let mut state = self.lock();
            change(&mut state);
            (state.take_wakers(), state.unpark())
        };
        wakers.into_iter().chain(driver).for_each(std::task::Waker::wake);
    }

    /// Ends the client for good: every call fails with `reason`, now and from now on.
    pub(crate) fn finish(&self, reason: CloseReason) {
        self.change(|state| {
            state.fail_all(&crate::CallError::Closed(reason.clone()));
            state.end_inboxes(&reason);
            state.phase = Phase::Ended(reason.clone());
        });
        self.ended.send_replace(Some(reason));
    }
}
