//! A gate: handlers wait at it until the test lets them pass, and the test waits until handlers are there.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long a gate waits before it takes the test for stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// A gate, shut at first. Clones are the same gate.
///
/// A handler passes it by [`pass`](Self::pass), which blocks its thread, or by [`passed`](Self::passed), which waits
/// without blocking. The test sees how many have come ([`wait_for`](Self::wait_for)) and opens it.
///
/// Every wait ends after 30 seconds with a panic, so that a test that is wrong fails instead of hanging.
#[derive(Clone, Debug)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// How many may pass, for those that wait without blocking.
    admitted: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    /// How many have come to the gate so far.
    arrived: usize,
    /// How many of them may pass, in the order in which they came.
    admitted: usize,
}

impl Default for Gate {
    fn default() -> Self {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new(), admitted: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }
}

impl Gate {
    /// A gate that is shut.
    pub fn new() -> Self {
        Self::default()
    }

    /// For handlers: waits until the gate lets this one pass. Blocks the thread.
    #[track_caller]
    pub fn pass(&self) {
        let number = self.arrive();
        self.wait(|state| state.admitted >= number, "nobody opened the gate");
    }

    /// For async handlers: waits until the gate lets this one pass.
    pub async fn passed(&self) {
        let number = self.arrive();
        let mut admitted = self.shared.admitted.subscribe();
        let passed = tokio::time::timeout(PATIENCE, admitted.wait_for(|admitted| *admitted >= number)).await;
        assert!(passed.is_ok(), "nobody opened the gate within {PATIENCE:?}");
    }

    /// For the test: waits until so many have come in all, passed or not.
    #[track_caller]
    pub fn wait_for(&self, arrived: usize) {
        self.wait(|state| state.arrived >= arrived, "too few came to the gate");
    }

    /// How many have come in all.
    pub fn arrived(&self) -> usize {
        self.lock().arrived
    }

    /// Lets one more pass, the first in order of arrival.
    pub fn open_one(&self) {
        self.admit(|admitted| admitted + 1);
    }

    /// Lets everyone pass, from now on.
    pub fn open(&self) {
        self.admit(|_| usize::MAX);
    }

    fn arrive(&self) -> usize {
        let mut state = self.lock();
        state.arrived += 1;
        self.shared.changed.notify_all();
        state.arrived
    }

    fn admit(&self, admit: impl FnOnce(usize) -> usize) {
        let mut state = self.lock();
        if state.admitted < usize::MAX {
            state.admitted = admit(state.admitted);
        }
        self.shared.admitted.send_replace(state.admitted);
        self.shared.changed.notify_all();
    }

    #[track_caller]
    fn wait(&self, is_so: impl Fn(&State) -> bool, complaint: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        while !is_so(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{complaint} within {PATIENCE:?}: {state:?}");
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A handler or a test that panics at the gate leaves it as it is.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_wait_pass_in_order_of_arrival() {
        let gate = Gate::new();
        let passing = gate.clone();
        let first = std::thread::spawn(move || passing.pass());
        gate.wait_for(1);
        assert!(!first.is_finished());
        gate.open_one();
        first.join().unwrap();
        gate.open();
        gate.pass();
        assert_eq!(gate.arrived(), 2);
    }
}
