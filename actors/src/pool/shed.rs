//! Controlled delay: whether a call that has waited this long is shed instead of served late.
//!
//! Plain code with time as an argument, one for each class of pending calls. It looks at the shortest wait within an
//! interval: a burst has some calls that waited little, a standing queue has none. While there is a standing queue
//! longer than the target, calls that waited twice the target are shed, so those that are served are served in time,
//! and whoever is shed learns it early. The last call that waits is served in any case, or the worker would have
//! nothing to do. After CoDel (RFC 8289), as servers use it: the queue of a server has callers behind it who have given
//! up, so it is cut back to the target at once and not slowly.
//!
//! Since clients take turns, each has a queue of its own, and that may stand while calls of others pass by it: each is
//! looked at for itself ([`Standing`]), and all together, for many clients with a call each (as FQ-CoDel, RFC 8290).

use std::time::Duration;

use crate::time::Instant;

/// Which calls of one class are shed.
#[derive(Debug)]
pub(crate) struct Shed {
    target: Duration,
    interval: Duration,
    /// All clients' calls together.
    all: Standing,
}

/// Whether a queue stands. To be made anew when the queue has been empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// When the interval under way ends; none before the first call.
    until: Option<Instant>,
    /// The shortest wait in it.
    shortest: Duration,
    is_standing: bool,
}

impl Shed {
    /// A target of zero sheds nothing.
    pub(crate) fn new(target: Duration, interval: Duration) -> Self {
        Self { target, interval, all: Standing::default() }
    }

    /// Nothing waits any more.
    pub(crate) fn emptied(&mut self) {
        self.all = Standing::default();
    }

    /// A call leaves the queue of its client now, after this wait. Whether it is to be shed.
    pub(crate) fn sheds(&mut self, client: &mut Standing, waited: Duration, is_last: bool, now: Instant) -> bool {
        if self.target.is_zero() {
            return false;
        }
        let all = self.all.look(waited, now, self.target, self.interval);
        let client = client.look(waited, now, self.target, self.interval);
        (all || client) && waited > 2 * self.target && !is_last
    }
}

impl Standing {
    /// A call leaves the queue now, after this wait. Whether the queue stands.
    fn look(&mut self, waited: Duration, now: Instant, target: Duration, interval: Duration) -> bool {
        match self.until {
            Some(until) if now < until => self.shortest = self.shortest.min(waited),
            until => {
                self.is_standing = until.is_some() && self.shortest > target;
                self.until = Some(now + interval);
                self.shortest = waited;
            }
        }
        // What is behind this call has waited less, but nothing has left before it for all that time.
        self.is_standing || waited > interval
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
        let (mut shed, mut line) = (Shed::new(TARGET, INTERVAL), Standing::default());
        assert!((0..90).all(|n| !shed.sheds(&mut line, ms(n), false, now + ms(n))), "a burst");
        let (mut shed, mut line) = (Shed::new(TARGET, INTERVAL), Standing::default());
        let sheds: Vec<bool> = (0..300).map(|n| shed.sheds(&mut line, ms(50), false, now + ms(n))).collect();
        assert!(sheds[..100].iter().all(|sheds| !sheds), "it is not known as standing yet");
        assert!(sheds[101..].iter().all(|sheds| *sheds));
    }

    #[test]
    fn a_queue_that_was_empty_meanwhile_is_not_standing() {
        let now = Instant::now();
        let (mut shed, mut line) = (Shed::new(TARGET, INTERVAL), Standing::default());
        let _: Vec<bool> = (0..200).map(|n| shed.sheds(&mut line, ms(50), false, now + ms(n))).collect();
        assert!(shed.sheds(&mut line, ms(50), false, now + ms(5000)), "it was not");
        (shed, line) = (shed, Standing::default());
        shed.emptied();
        assert!(!shed.sheds(&mut line, ms(50), false, now + ms(5000)));
    }

    #[test]
    fn a_call_that_has_waited_for_longer_than_an_interval_is_shed_at_once_unless_it_is_the_last() {
        let now = Instant::now();
        let mut shed = Shed::new(TARGET, INTERVAL);
        assert!(!shed.sheds(&mut Standing::default(), ms(3000), true, now));
        assert!(shed.sheds(&mut Standing::default(), ms(3000), false, now));
    }

    #[test]
    fn without_a_target_nothing_is_shed() {
        let now = Instant::now();
        let (mut shed, mut line) = (Shed::new(Duration::ZERO, INTERVAL), Standing::default());
        assert!((0..1000).all(|n| !shed.sheds(&mut line, ms(10_000), false, now + ms(n))));
    }

    /// One server with 1 ms for each call, three calls a millisecond, each of use for 50 ms: how many are served in
    /// time, of what could be.
    fn goodput(target: Duration) -> f64 {
        let start = Instant::now();
        let (mut shed, mut line) = (Shed::new(target, INTERVAL), Standing::default());
        let mut queue: VecDeque<u64> = VecDeque::new();
        let (mut in_time, total) = (0, 5000);
        for now in 0..total {
            queue.extend([now; 3]);
            while let Some(received) = queue.pop_front() {
                let waited = ms(now - received);
                if shed.sheds(&mut line, waited, queue.is_empty(), start + ms(now)) {
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
