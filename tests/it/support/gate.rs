//! Gates: a handler under test says that it has started, and waits until the test lets it go on.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::PATIENCE;

/// A gate with many doors, by number. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    opened: Notify,
}

#[derive(Default)]
struct State {
    /// Who came to the gate, in order.
    entered: Vec<u64>,
    open: HashSet<u64>,
    all_open: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For handlers: comes to a door and blocks until it is open.
    pub fn pass(&self, door: u64) {
        let mut state = self.lock();
        state.entered.push(door);
        self.0.changed.notify_all();
        while !state.all_open && !state.open.contains(&door) {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same without blocking the thread.
    pub async fn pass_async(&self, door: u64) {
        {
            self.lock().entered.push(door);
            self.0.changed.notify_all();
        }
        loop {
            let mut opened = std::pin::pin!(self.0.opened.notified());
            opened.as_mut().enable();
            {
                let state = self.lock();
                if state.all_open || state.open.contains(&door) {
                    return;
                }
            }
            opened.await;
        }
    }

    /// Opens one door for good.
    pub fn open(&self, door: u64) {
        self.lock().open.insert(door);
        self.0.changed.notify_all();
        self.0.opened.notify_waiters();
    }

    /// Opens all doors for good.
    pub fn open_all(&self) {
        self.lock().all_open = true;
        self.0.changed.notify_all();
        self.0.opened.notify_waiters();
    }

    /// Who came to the gate so far, in order.
    pub fn entered(&self) -> Vec<u64> {
        self.lock().entered.clone()
    }

    /// Waits until so many came to the gate; returns who.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<u64> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        while state.entered.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "only {:?} came to the gate, {count} were expected", state.entered);
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.entered.clone()
    }
}
