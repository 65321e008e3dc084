//! The bell of a worker: how others wake it when they have put something where it looks.
//!
//! Cheaper than a message, and it outlives the worker: a place keeps its bell when its worker is replaced.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Context;

use futures::task::AtomicWaker;

#[derive(Debug, Default)]
pub(crate) struct Bell {
    waker: AtomicWaker,
    rung: AtomicBool,
}

impl Bell {
    /// Wakes the worker, now or when it comes to listen.
    pub(crate) fn ring(&self) {
        self.rung.store(true, SeqCst);
        self.waker.wake();
    }

    /// Whether it was rung since the last time. The task is woken when it is rung again.
    pub(crate) fn heard(&self, task: &Context<'_>) -> bool {
        self.waker.register(task.waker());
        self.rung.swap(false, SeqCst)
    }
}
