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

    /// The worker has ended. Its waker would hold its task, and by it two descriptors of its runtime, until another
    /// worker comes to listen.
    pub(crate) fn forget(&self) {
        self.waker.take();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::{Wake, Waker};

    use super::*;

    struct Ear(AtomicUsize);

    impl Wake for Ear {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn it_is_heard_once_and_holds_nothing_of_a_worker_that_has_ended() {
        let (bell, ear) = (Bell::default(), Arc::new(Ear(AtomicUsize::new(0))));
        bell.ring();
        let waker = Waker::from(ear.clone());
        assert!(bell.heard(&Context::from_waker(&waker)));
        assert!(!bell.heard(&Context::from_waker(&waker)));
        bell.ring();
        assert_eq!(ear.0.load(Relaxed), 1);
        assert!(bell.heard(&Context::from_waker(&waker)));
        drop(waker);
        assert_eq!(Arc::strong_count(&ear), 2);
        bell.forget();
        assert_eq!(Arc::strong_count(&ear), 1);
    }
}
