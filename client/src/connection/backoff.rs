//! How long to wait between attempts to connect.
//!
//! The driver owns one for as long as its client lives.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::settings::Reconnect;

/// Delays that double from the first to the longest.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(reconnect: &Reconnect) -> Self {
        Self { first: reconnect.first_delay, max: reconnect.max_delay, next: reconnect.first_delay }
    }

    /// How long to wait now; twice as long the next time.
    pub(super) fn delay(&mut self) -> Duration {
        let delay = self.next.min(self.max);
        self.next = delay.saturating_mul(2).min(self.max);
        jitter(delay, random())
    }

    /// A connection lasted for `lived`. Only one that lasted longer than the wait that is due starts the delays anew:
    /// a service that accepts and closes at once is not asked any faster for that.
    pub(super) fn lived(&mut self, lived: Duration) {
        if lived > self.next {
            self.next = self.first;
        }
    }
}

/// `delay` without a part of up to half of it.
fn jitter(delay: Duration, random: u32) -> Duration {
    delay - delay.mul_f64(0.5 * f64::from(random) / f64::from(u32::MAX))
}

/// A number that differs from client to client; the hash maps of the standard library need such a one too.
fn random() -> u32 {
    RandomState::new().hash_one(()) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff() -> Backoff {
        let (first_delay, max_delay) = (Duration::from_millis(100), Duration::from_millis(350));
        Backoff::new(&Reconnect { first_delay, max_delay, ..Reconnect::default() })
    }

    #[test]
    fn delays_double_up_to_the_cap_and_lose_at_most_half() {
        let mut backoff = backoff();
        for full in [100, 200, 350, 350] {
            let delay = backoff.delay();
            assert!(delay <= Duration::from_millis(full) && delay >= Duration::from_millis(full / 2), "{delay:?}");
        }
    }

    #[test]
    fn only_a_connection_that_lasted_starts_anew() {
        let mut backoff = backoff();
        backoff.delay();
        backoff.lived(Duration::from_millis(150));
        assert_eq!(backoff.next, Duration::from_millis(200));
        backoff.lived(Duration::from_millis(250));
        assert_eq!(backoff.next, Duration::from_millis(100));
    }

    #[test]
    fn jitter_stays_in_its_bounds() {
        let delay = Duration::from_secs(1);
        assert_eq!(jitter(delay, 0), delay);
        assert_eq!(jitter(delay, u32::MAX), delay / 2);
    }
}
