//! The one timer of an I/O arbiter: wakes the hub's turn.
//!
//! A timer of the kernel, not the arbiter's own: that one would be the timeout of each wait for the sockets, which a call
//! that comes alone pays for twice, in the kernel and with the looks at the clock around it.

use std::future::{Future as _, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop::unconstrained;

use crate::time::Instant;
use crate::timerfd;
use crate::watch::watch;

/// A timer of the kernel, on no arbiter yet.
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    /// # Errors
    ///
    /// When there are too few descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        timerfd::create().map(Self)
    }
}

/// A timer that wakes a task of the arbiter on which it was made.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: AsyncFd<Arc<OwnedFd>>,
    /// Until when it is set, while it is.
    set: Option<Instant>,
}

/// From so long before its time on it is asked whether it has gone off: the kernel's look at the clock and this
/// thread's need not agree to the nanosecond.
const NEAR: Duration = Duration::from_micros(100);

impl Alarm {
    /// # Errors
    ///
    /// When the arbiter cannot watch the timer.
    pub(super) fn new(Timer(timer): Timer) -> io::Result<Self> {
        Ok(Self { timer: watch(Arc::new(timer), Interest::READABLE)?, set: None })
    }

    /// Has the task woken at a time that is yet to come, or earlier: one that is set too early is left, because setting it
    /// back and forth costs more than to be woken for nothing.
    ///
    /// # Errors
    ///
    /// When the kernel does not set it.
    pub(super) fn wake_at(&mut self, time: Instant, now: Instant, task: &mut Context<'_>) -> io::Result<()> {
        if self.set.is_some_and(|set| set <= time && now + NEAR < set) {
            return Ok(());
        }
        // Nobody has the task woken unless it has been asked since it was woken last.
        while self.has_gone_off(task)? {
            self.set = None;
        }
        if self.set.is_none_or(|set| time < set) {
            timerfd::set(self.timer.get_ref(), time.nanos_since(now))?;
            self.set = Some(time);
        }
        Ok(())
    }

    /// Whether it has gone off since it was asked last. If not, the task is woken when it does: also one that has done all
    /// that tokio lets a task do before others have their turn, which else would be refused and only be polled again.
    fn has_gone_off(&self, task: &mut Context<'_>) -> io::Result<bool> {
        match pin!(unconstrained(poll_fn(|task| self.timer.poll_read_ready(task)))).poll(task) {
            Poll::Ready(gone_off) => {
                gone_off?.clear_ready();
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_an_arbiter(body: impl AsyncFnOnce(&mut Alarm)) {
        actix_rt::System::new().block_on(async {
            let mut alarm = Alarm::new(Timer::new().unwrap()).unwrap();
            body(&mut alarm).await;
        });
    }

    /// Until it is time; returns how often it was woken before.
    async fn sleep(alarm: &mut Alarm, time: Instant) -> usize {
        let mut polls: usize = 0;
        poll_fn(|task| {
            let now = Instant::now();
            if now >= time {
                return Poll::Ready(());
            }
            polls += 1;
            alarm.wake_at(time, now, task).unwrap();
            Poll::Pending
        })
        .await;
        polls.saturating_sub(1)
    }

    #[test]
    fn it_goes_off_once_for_each_time_that_it_is_set_and_not_before() {
        on_an_arbiter(async |alarm| {
            for _ in 0..100 {
                let time = Instant::now() + Duration::from_micros(300);
                let woken = sleep(alarm, time).await;
                // The kernel's clock may be a little ahead of this thread's look at it.
                assert!(woken <= 1, "woken {woken} times too early");
            }
        });
    }

    #[test]
    fn an_earlier_time_goes_off_earlier_and_a_later_one_is_set_when_that_has_gone_off() {
        on_an_arbiter(async |alarm| {
            let start = Instant::now();
            let [early, late, never] = [5, 20, 3_600_000].map(|ms| start + Duration::from_millis(ms));
            poll_fn(|task| {
                for (time, set) in [(never, never), (early, early), (late, early)] {
                    alarm.wake_at(time, start, task).unwrap();
                    assert_eq!(alarm.set, Some(set));
                }
                Poll::Ready(())
            })
            .await;
            poll_fn(|task| alarm.timer.poll_read_ready(task).map(|gone_off| gone_off.map(drop))).await.unwrap();
            assert!(Instant::now() + NEAR >= early);
            poll_fn(|task| {
                alarm.wake_at(late, Instant::now(), task).unwrap();
                Poll::Ready(())
            })
            .await;
            assert_eq!(alarm.set, Some(late));
            sleep(alarm, late).await;
        });
    }
}
