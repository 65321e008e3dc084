//! What a thread runs right now, where the watchdog can see it.
//!
//! Written by that thread alone, with plain stores: a count that is odd while a call runs, who it is, and since when. The
//! watchdog tells by the count whether it still is the same call, and notes which it has told of.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::job::Ticket;
use crate::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Beat {
    count: AtomicU64,
    entry: AtomicU32,
    client: AtomicU64,
    serial: AtomicU32,
    /// Since when, in nanoseconds of the clock.
    since: AtomicU64,
    /// The count of the call that the watchdog has told of last.
    told: AtomicU64,
}

/// A call that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    /// Tells it from those before and after it on the same thread.
    pub(crate) count: u64,
    pub(crate) entry: u32,
    pub(crate) client_id: u64,
    pub(crate) serial: u32,
    pub(crate) since: Instant,
}

impl Beat {
    /// A call begins, or goes on.
    pub(crate) fn begin(&self, entry: u32, ticket: &Ticket, now: Instant) {
        self.since.store(now.to_nanos(), Ordering::Relaxed);
        self.entry.store(entry, Ordering::Relaxed);
        self.client.store(ticket.client_id, Ordering::Relaxed);
        self.serial.store(ticket.serial, Ordering::Relaxed);
        self.count.store(self.count.load(Ordering::Relaxed) | 1, Ordering::Release);
    }

    /// It is done, or waits. Returns whether the watchdog has told of it.
    pub(crate) fn end(&self) -> bool {
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count + (count & 1), Ordering::Release);
        count % 2 == 1 && self.told.load(Ordering::Relaxed) == count
    }

    /// The watchdog tells of this call.
    pub(crate) fn tell(&self, runs: &Runs) {
        self.told.store(runs.count, Ordering::Relaxed);
    }

    /// The call that runs, if one does. When it changes just now, it is not one to worry about.
    pub(crate) fn read(&self) -> Option<Runs> {
        let count = self.count.load(Ordering::Acquire);
        let runs = Runs {
            count,
            entry: self.entry.load(Ordering::Relaxed),
            client_id: self.client.load(Ordering::Relaxed),
            serial: self.serial.load(Ordering::Relaxed),
            since: Instant::from_nanos(self.since.load(Ordering::Relaxed)),
        };
        std::sync::atomic::fence(Ordering::Acquire);
        (count % 2 == 1 && self.count.load(Ordering::Relaxed) == count).then_some(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ClientKey;

    #[test]
    fn each_call_has_a_count_of_its_own_and_between_calls_there_is_none() {
        let beat = Beat::default();
        assert_eq!(beat.read(), None);
        let ticket = Ticket::for_test(ClientKey { slot: 0, generation: 0 }, 7, 28);
        let now = Instant::now();
        beat.begin(3, &ticket, now);
        let first = beat.read().unwrap();
        assert_eq!((first.entry, first.client_id, first.serial, first.since), (3, 1, 7, now));
        beat.tell(&first);
        assert!(beat.end());
        assert!(!beat.end());
        assert_eq!(beat.read(), None);
        beat.begin(3, &ticket, now);
        assert_ne!(beat.read().unwrap().count, first.count);
        assert!(!beat.end(), "of this one nobody has told");
    }
}
