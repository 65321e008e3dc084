//! Where calls that wait and workers that are idle find each other: lock-free, tried in every order by `actors/loom`.
//!
//! The pool keeps calls, and then says here how many wait; a worker that has nothing to do puts itself into the idle
//! set. Each side looks at the other again after it has said its own, with a fence between the two: so one of them sees
//! the other. It knows neither calls nor threads, and has no queue.

use crate::pool::idle::IdleSet;
use crate::sync::{AtomicBool, AtomicUsize, SeqCst, fence};

#[derive(Debug)]
pub(crate) struct Meeting {
    idle: IdleSet,
    waiting: AtomicUsize,
}

impl Meeting {
    /// For workers 0 to `slots` - 1, none of which is in use yet.
    pub(crate) fn new(slots: usize) -> Self {
        Self { idle: IdleSet::new(slots), waiting: AtomicUsize::new(0) }
    }

    /// Workers 0 to `slots` - 1 are in use, or will be: claims look at no others.
    pub(crate) fn use_slots(&self, slots: usize) {
        self.idle.use_slots(slots);
    }

    /// How many slots may be in use.
    pub(crate) fn used_slots(&self) -> usize {
        self.idle.used_slots()
    }

    /// How many workers are idle.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// How many calls wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// So many calls wait now. When they have become more, the pool looks for idle workers again.
    pub(crate) fn announce(&self, calls: usize) {
        self.waiting.store(calls, SeqCst);
    }

    /// Takes an idle worker: the caller fills its tray and wakes it.
    pub(crate) fn claim(&self) -> Option<usize> {
        self.idle.claim()
    }

    /// The pool's second look, after it has announced calls: takes a worker that has become idle meanwhile.
    pub(crate) fn claim_again(&self) -> Option<usize> {
        fence(SeqCst);
        self.idle.claim()
    }

    /// Takes out this worker; false when it is not idle, or somebody has claimed it.
    pub(crate) fn withdraw(&self, worker: usize) -> bool {
        self.idle.remove(worker)
    }

    /// A worker that has nothing to do goes idle. False when something came in between: it has to look again.
    pub(crate) fn rest(&self, worker: usize, leaving: &AtomicBool) -> bool {
        self.idle.insert(worker);
        fence(SeqCst);
        // The worker's second look. Whoever claims the worker wakes it; if it can still take itself out, nobody has.
        let nothing_came = self.waiting.load(SeqCst) == 0 && !leaving.load(SeqCst);
        nothing_came || !self.idle.remove(worker)
    }
}
