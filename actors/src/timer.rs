//! The service's own timers: points in time that its event loop waits for.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::event_loop::{EventLoop, Interval, TimerId};

/// Completes after this time.
///
/// # Cancel safety
///
/// Cancel safe: dropped, it removes its timer.
pub(crate) async fn sleep(events: &EventLoop, time: Duration) {
    let (fire, fired) = oneshot::channel();
    let mut fire = Some(fire);
    let expired = move |_| {
        if let Some(fire) = fire.take() {
            // Nobody may be waiting any more.
            let _ = fire.send(());
        }
    };
    match events.add_timeout(Interval::Every(time), expired) {
        Ok(timer) => {
            let _timer = Timer(events, timer);
            // An error means that the loop has ended, and then nothing is to be waited for.
            let _ = fired.await;
        }
        Err(error) => {
            log::error!("the event loop has no timer: {error}");
            tokio::time::sleep(time).await;
        }
    }
}

/// Removed when it is dropped.
struct Timer<'a>(&'a EventLoop, TimerId);

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        // It fails only when the loop has ended, and then the timer has too.
        let _ = self.0.remove_timeout(self.1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn it_completes_when_the_time_has_passed_and_leaves_nothing() {
        actix_rt::System::new().block_on(async {
            let (events, mut driver) = EventLoop::new().unwrap();
            let start = Instant::now();
            actix_rt::spawn(async move { driver.drive().await });
            sleep(&events, Duration::from_millis(5)).await;
            assert!(start.elapsed() >= Duration::from_millis(5));
            events.stop();
        });
    }
}
