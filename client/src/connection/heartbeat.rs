//! The clock of keepalive: when to ping, and when to give the peer up.
//!
//! The conversation asks it after it has read, so that what came while the process slept counts.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::settings::Keepalive;

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// The peer was silent for an interval: a ping is due.
    Ping,
    /// So many pings went unanswered.
    Dead { silence: Duration, pings: u32 },
}

#[derive(Debug)]
pub(super) struct Heartbeat {
    keepalive: Keepalive,
    sleep: Pin<Box<Sleep>>,
    heard: Instant,
    n_pings: u32,
}

impl Heartbeat {
    pub(super) fn new(keepalive: Keepalive) -> Self {
        let heard = Instant::now();
        Self { keepalive, sleep: Box::pin(tokio::time::sleep_until(heard + keepalive.interval)), heard, n_pings: 0 }
    }

    /// Something came.
    #[inline]
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
        self.n_pings = 0;
    }

    /// What is due; pending if nothing is.
    #[inline]
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Beat> {
        while self.sleep.as_mut().poll(context).is_ready() {
            let interval = self.keepalive.interval;
            // The timer is not moved with every packet: when it fires, it is put where it belongs by then.
            let due = self.heard + interval * (self.n_pings + 1);
            let now = Instant::now();
            if due > now {
                self.sleep.as_mut().reset(due);
                continue;
            }
            self.sleep.as_mut().reset(now + interval);
            if self.n_pings >= self.keepalive.count {
                return Poll::Ready(Beat::Dead { silence: now - self.heard, pings: self.n_pings });
            }
            self.n_pings += 1;
            return Poll::Ready(Beat::Ping);
        }
        Poll::Pending
    }
}
