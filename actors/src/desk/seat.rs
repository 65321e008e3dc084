//! One instance of a handler actor, with its context, and the task that polls it.
//!
//! A context is polled by its task when anything has come for it, and by whoever has a call for its handler, on the same
//! thread: so an inline call can run where it was read, without a way over the arbiter's queue.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures::future::LocalBoxFuture;

/// Where one instance of a handler actor sits.
#[derive(Default)]
pub(crate) struct Seat {
    /// The context with its handler; none when it has ended. Borrowed while it is polled.
    context: RefCell<Option<LocalBoxFuture<'static, ()>>>,
    /// Wakes the task.
    waker: RefCell<Option<Waker>>,
    vacant: Cell<bool>,
}

/// The task of a seat.
struct Sit(Rc<Seat>);

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("vacant", &self.vacant).finish_non_exhaustive()
    }
}

impl Seat {
    /// An instance sits down: its context lives from now on, on this thread's arbiter.
    pub(crate) fn take(self: &Rc<Self>, context: impl Future<Output = ()> + 'static) {
        *self.context.borrow_mut() = Some(Box::pin(context));
        actix_rt::spawn(Sit(self.clone()));
    }

    /// Whether the instance is to get no more calls.
    pub(super) fn is_vacant(&self) -> bool {
        self.vacant.get()
    }

    /// The instance is to get no more calls. Returns whether that was so already.
    pub(super) fn vacate(&self) -> bool {
        self.vacant.replace(true)
    }

    /// Has its task poll the context.
    pub(super) fn wake(&self) {
        // A seat that was not polled yet has no waker: its first poll is under way, since its task was just spawned.
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Polls the context here, as its task would.
    pub(super) fn poll_now(&self) {
        // As above.
        let waker = self.waker.borrow();
        if let Some(waker) = &*waker
            && self.poll(&mut Context::from_waker(waker)).is_ready()
        {
            // The task has nothing left to poll.
            waker.wake_by_ref();
        }
    }

    fn poll(&self, task: &mut Context<'_>) -> Poll<()> {
        let Ok(mut context) = self.context.try_borrow_mut() else {
            // It is being polled; what it is to see, it sees in its next poll.
            task.waker().wake_by_ref();
            return Poll::Pending;
        };
        let Some(polled) = &mut *context else { return Poll::Ready(()) };
        // Outside of a call, in a future of the handler's own, a panic ends the handler, not whoever polls it.
        match catch_unwind(AssertUnwindSafe(|| polled.as_mut().poll(task))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) | Err(_) => {
                let ended = context.take();
                drop(context);
                let _ = catch_unwind(AssertUnwindSafe(|| drop(ended)));
                Poll::Ready(())
            }
        }
    }
}

impl Future for Sit {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let Self(seat) = &*self;
        let is_known = seat.waker.borrow().as_ref().is_some_and(|waker| waker.will_wake(task.waker()));
        if !is_known {
            *seat.waker.borrow_mut() = Some(task.waker().clone());
        }
        seat.poll(task)
    }
}

impl Drop for Sit {
    fn drop(&mut self) {
        // The arbiter ends. The context has its seat, so neither would be dropped otherwise.
        let context = self.0.context.try_borrow_mut().ok().and_then(|mut context| context.take());
        drop(context);
    }
}
