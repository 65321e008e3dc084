//! Controlled delay: whether a call that has waited this long is shed instead of served late.
//!
//! Plain code with time as an argument, one for each class of pending calls. It looks at the shortest wait within an
//! interval: a burst has some calls that waited little, a standing queue has none. While there is a standing queue
//! longer than the target, calls that waited twice the target are shed, so those that are served are served in time,
//! and whoever is shed learns it early. After CoDel (RFC 8289), as servers use it: the queue of a server has callers
//! behind it who have given up, so it is cut back to the target at once and not slowly.

use std::time::{Duration, Instant};

/// The state of one queue.
#[derive(Debug)]
pub(crate) struct Shed {
    target: Duration,
    interval: Duration,
    /// When the interval under way ends; none before the first call.
    until: Option<Instant>,
    /// The shortest wait in it.
    shortest: Duration,
    is_standing: bool,
}

impl Shed {
    /// A target of zero sheds nothing.
    pub(crate) fn new(target: Duration, interval: Duration) -> Self {
        Self { target, interval, until: None, shortest: Duration::ZERO, is_standing: false }
    }

    /// A call leaves the queue now, after this wait. Whether it is to be shed.
    pub(crate) fn sheds(&mut self, waited: Duration, now: Instant) -> bool {
        if self.target.is_zero() {
            return false;
        }
        match self.until {
            Some(until) if now < until => self.shortest = self.shortest.min(waited),
            until => {
                // Of an interval that ended long ago nothing is known any more: the queue was empty since.
                let is_recent = until.is_some_and(|until| now < until + self.interval);
                self.is_standing = is_recent && self.shortest > self.target;
                self.until = Some(now + self.interval);
                self.shortest = waited;
            }
        }
        self.is_standing && waited > 2 * self.target
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const TARGET: Duration = Duration::from_millis(10);
    const INTERVAL: Duration = Duration::from_millis(100);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_is_served_whole_and_a_standing_queue_is_cut() {
        let now = Instant::now();
        let mut shed = Shed::new(TARGET, INTERVAL);
        assert!((0..90).all(|n| !shed.sheds(ms(n), now + ms(n))), "a burst");
        let mut shed = Shed::new(TARGET, INTERVAL);
        let sheds: Vec<bool> = (0..300).map(|n| shed.sheds(ms(50), now + ms(n))).collect();
        assert!(sheds[..100].iter().all(|sheds| !sheds), "it is not known as standing yet");
        assert!(sheds[101..].iter().all(|sheds| *sheds));
    }

    #[test]
    fn a_queue_that_was_empty_for_a_while_is_not_standing() {
        let now = Instant::now();
        let mut shed = Shed::new(TARGET, INTERVAL);
        let _: Vec<bool> = (0..200).map(|n| shed.sheds(ms(50), now + ms(n))).collect();
        assert!(!shed.sheds(ms(50), now + ms(5000)));
    }

    #[test]
    fn without_a_target_nothing_is_shed() {
        let now = Instant::now();
        let mut shed = Shed::new(Duration::ZERO, INTERVAL);
        assert!((0..1000).all(|n| !shed.sheds(ms(10_000), now + ms(n))));
    }

    /// One server with 1 ms for each call, three calls a millisecond, each of use for 50 ms: how many are served in
    /// time, of what could be.
    fn goodput(target: Duration) -> f64 {
        let start = Instant::now();
        let mut shed = Shed::new(target, INTERVAL);
        let mut queue: VecDeque<u64> = VecDeque::new();
        let (mut in_time, total) = (0, 5000);
        for now in 0..total {
            queue.extend([now; 3]);
            while let Some(received) = queue.pop_front() {
                let waited = ms(now - received);
                if shed.sheds(waited, start + ms(now)) {
                    continue;
                }
                in_time += u64::from(waited < ms(50));
                break;
            }
        }
        in_time as f64 / total as f64
    }

    #[test]
    fn at_three_times_the_capacity_nearly_everything_that_is_served_is_served_in_time() {
        assert!(goodput(TARGET) > 0.95, "{}", goodput(TARGET));
        assert!(goodput(Duration::ZERO) < 0.1, "without shedding it collapses: {}", goodput(Duration::ZERO));
    }
}
