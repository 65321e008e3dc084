//! What the watchdog makes of what it sees: plain code, with time as an argument.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::time::Instant;
use crate::watchdog::beat::Runs;

/// What a thread is there for, and so how long a call may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A worker: a blocking call has all the time until `stuck_after`.
    Worker,
    /// An async worker: between two waits of a call.
    Async,
    /// An I/O arbiter: an inline call.
    Inline,
}

/// A thread, by what it is there for and its place among those.
pub(crate) type Place = (Kind, usize);

/// The calls that hold their threads, from round to round.
#[derive(Debug)]
pub(crate) struct Rounds {
    stuck_after: Duration,
    seen: HashMap<Place, Seen>,
}

#[derive(Debug)]
struct Seen {
    runs: Runs,
    told: bool,
}

/// Something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A call holds its thread for too long.
    Stuck(Place, Runs, Duration),
    /// One of which that was told does so no more.
    Over(Place, Runs, Duration),
}

/// How long an async call may hold its thread between two waits.
pub(crate) const MAX_POLL: Duration = Duration::from_millis(100);
/// How long an inline call may hold its I/O arbiter.
pub(crate) const MAX_INLINE: Duration = Duration::from_millis(10);

/// [`MAX_INLINE`] in nanoseconds.
pub(crate) const MAX_INLINE_NS: u64 = MAX_INLINE.as_nanos() as u64;

impl Rounds {
    pub(crate) fn new(stuck_after: Duration) -> Self {
        Self { stuck_after, seen: HashMap::new() }
    }

    /// How long a call may hold a thread of this kind.
    fn limit(&self, kind: Kind) -> Duration {
        match kind {
            Kind::Worker => self.stuck_after,
            Kind::Async => MAX_POLL,
            Kind::Inline => MAX_INLINE,
        }
    }

    /// Looks at every thread once.
    pub(crate) fn look(&mut self, now: Instant, threads: impl Iterator<Item = (Place, Option<Runs>)>) -> Vec<News> {
        let mut news = Vec::new();
        let mut places = HashSet::new();
        for (place, runs) in threads {
            places.insert(place);
            let limit = self.limit(place.0);
            let is_same = |seen: &Seen| runs.is_some_and(|runs| runs.count == seen.runs.count);
            if !self.seen.get(&place).is_some_and(is_same) {
                let before = match runs {
                    Some(runs) => self.seen.insert(place, Seen { runs, told: false }),
                    None => self.seen.remove(&place),
                };
                if let Some(Seen { runs, told: true }) = before {
                    news.push(News::Over(place, runs, now.saturating_duration_since(runs.since)));
                }
            }
            if let Some(seen) = self.seen.get_mut(&place) {
                let age = now.saturating_duration_since(seen.runs.since);
                if age >= limit && !seen.told {
                    seen.told = true;
                    news.push(News::Stuck(place, seen.runs, age));
                }
            }
        }
        // A thread that has ended since holds nothing any more, and its place may be beyond those that are in use.
        self.seen.retain(|place, seen| {
            let is_there = places.contains(place);
            if !is_there && seen.told {
                news.push(News::Over(*place, seen.runs, now.saturating_duration_since(seen.runs.since)));
            }
            is_there
        });
        news
    }

    /// The calls that were told of and still hold their threads, with their ages.
    pub(crate) fn stuck(&self, now: Instant) -> Vec<(Place, Runs, Duration)> {
        let stuck = self.seen.iter().filter(|(_, seen)| seen.told);
        let mut stuck: Vec<_> =
            stuck.map(|(place, seen)| (*place, seen.runs, now.saturating_duration_since(seen.runs.since))).collect();
        stuck.sort_unstable_by_key(|(place, ..)| *place);
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: Place = (Kind::Worker, 0);

    fn runs(count: u64, since: Instant) -> Option<Runs> {
        Some(Runs { count, entry: 0, client_id: 1, serial: 2, since })
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_call_that_holds_its_worker_is_told_of_once_and_when_it_is_over() {
        let start = Instant::now();
        let mut rounds = Rounds::new(ms(1000));
        let mut look = |at: u64, runs| rounds.look(start + ms(at), [(WORKER, runs)].into_iter());
        let first = runs(1, start);
        assert_eq!(look(0, first), []);
        assert_eq!(look(900, first), []);
        assert_eq!(look(1000, first), [News::Stuck(WORKER, first.unwrap(), ms(1000))]);
        assert_eq!(look(1100, first), []);
        let third = runs(3, start + ms(1150));
        assert_eq!(look(1200, third), [News::Over(WORKER, first.unwrap(), ms(1200))]);
        assert_eq!(look(1300, None), []);
        // One that is seen late, because the watchdog itself was held up, is as old as it is.
        let fifth = runs(5, start + ms(1400));
        assert_eq!(look(2500, fifth), [News::Stuck(WORKER, fifth.unwrap(), ms(1100))]);
        assert_eq!(look(2600, None), [News::Over(WORKER, fifth.unwrap(), ms(1200))]);
        assert!(rounds.stuck(start + ms(2600)).is_empty());
    }

    #[test]
    fn a_thread_that_is_looked_at_no_more_holds_nothing() {
        let start = Instant::now();
        let mut rounds = Rounds::new(ms(100));
        let first = runs(1, start);
        assert_eq!(rounds.look(start + ms(200), [(WORKER, first)].into_iter()).len(), 1);
        let over = News::Over(WORKER, first.unwrap(), ms(300));
        assert_eq!(rounds.look(start + ms(300), std::iter::empty()), [over]);
        assert!(rounds.stuck(start + ms(300)).is_empty());
    }

    #[test]
    fn calls_that_follow_each_other_are_never_stuck_however_busy_the_worker() {
        let start = Instant::now();
        let mut rounds = Rounds::new(ms(100));
        let mut look =
            |n: u64| rounds.look(start + ms(50 * n), [(WORKER, runs(2 * n + 1, start + ms(50 * n)))].into_iter());
        assert!((0..1000).all(|n| look(n).is_empty()));
    }

    #[test]
    fn async_and_inline_calls_have_less_time() {
        let start = Instant::now();
        let mut rounds = Rounds::new(ms(100_000));
        let runs = runs(1, start);
        let threads = || [((Kind::Async, 0), runs), ((Kind::Inline, 0), runs), (WORKER, runs)].into_iter();
        assert_eq!(rounds.look(start, threads()), []);
        let told: Vec<Place> = rounds
            .look(start + ms(50), threads())
            .into_iter()
            .map(|news| match news {
                News::Stuck(place, ..) | News::Over(place, ..) => place,
            })
            .collect();
        assert_eq!(told, [(Kind::Inline, 0)]);
        assert_eq!(rounds.look(start + ms(100), threads()).len(), 1);
        assert_eq!(rounds.stuck(start + ms(100)).len(), 2);
    }
}
