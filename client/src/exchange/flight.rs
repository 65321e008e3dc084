//! The future of one call.
//!
//! It knows nothing of a runtime: any executor can poll it, and so can a thread that parks.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::calls::{Answer, Outgoing};
use super::link::Link;
use crate::error::CallError;

/// A call on its way. The first poll hands it in; dropping it before it is done cancels it.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    link: &'a Link,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Prepared(Outgoing),
    Submitted(u32),
    Over,
}

impl<'a> Flight<'a> {
    #[inline]
    pub(crate) fn new(link: &'a Link, outgoing: Outgoing) -> Self {
        Self { link, stage: Stage::Prepared(outgoing) }
    }
}

impl Future for Flight<'_> {
    type Output = Result<Answer, CallError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Stage::Submitted(serial) = self.stage {
            // A waker is dropped after the lock.
            let mut old = None;
            let taken = self.link.lock().take(serial, context.waker(), &mut old);
            return match taken {
                Some(result) => {
                    self.stage = Stage::Over;
                    Poll::Ready(result)
                }
                None => Poll::Pending,
            };
        }
        let Self { link, stage } = &mut *self;
        // Polled after it was ready: there is nothing to give, and nobody who may ask.
        let Stage::Prepared(outgoing) = stage else { return Poll::Pending };
        let mut state = link.lock();
        let submitted = state.submit(outgoing, context.waker());
        let driver = state.unpark();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        match submitted {
            Ok(serial) => {
                *stage = Stage::Submitted(serial);
                Poll::Pending
            }
            Err(error) => {
                *stage = Stage::Over;
                Poll::Ready(Err(error))
            }
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let Stage::Submitted(serial) = self.stage else {
            return;
        };
        let (_call, driver) = {
            let mut state = self.link.lock();
            (state.abandon(serial), state.unpark())
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}
