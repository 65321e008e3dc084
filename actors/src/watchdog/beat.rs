//! What a thread runs right now, where the watchdog can see it.
//!
//! Written by that thread alone, with plain stores: a count that is odd while a call runs, and who it is. The watchdog
//! tells by the count whether it still is the same call, so nobody has to look at a clock for it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::job::Ticket;

#[derive(Debug, Default)]
pub(crate) struct Beat {
    count: AtomicU64,
    entry: AtomicU32,
    client: AtomicU64,
    serial: AtomicU32,
}

/// A call that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    /// Tells it from those before and after it on the same thread.
    pub(crate) count: u64,
    pub(crate) entry: u32,
    pub(crate) client_id: u64,
    pub(crate) serial: u32,
}

impl Beat {
    /// A call begins, or goes on.
    pub(crate) fn begin(&self, entry: u32, ticket: &Ticket) {
        self.entry.store(entry, Ordering::Relaxed);
        self.client.store(ticket.client_id, Ordering::Relaxed);
        self.serial.store(ticket.serial, Ordering::Relaxed);
        self.count.store(self.count.load(Ordering::Relaxed) | 1, Ordering::Release);
    }

    /// It is done, or waits.
    pub(crate) fn end(&self) {
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count + (count & 1), Ordering::Release);
    }

    /// The call that runs, if one does. When it changes just now, it is not one to worry about.
    pub(crate) fn read(&self) -> Option<Runs> {
        let count = self.count.load(Ordering::Acquire);
        let runs = Runs {
            count,
            entry: self.entry.load(Ordering::Relaxed),
            client_id: self.client.load(Ordering::Relaxed),
            serial: self.serial.load(Ordering::Relaxed),
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
        beat.begin(3, &ticket);
        let first = beat.read().unwrap();
        assert_eq!((first.entry, first.client_id, first.serial), (3, 1, 7));
        beat.end();
        beat.end();
        assert_eq!(beat.read(), None);
        beat.begin(3, &ticket);
        assert_ne!(beat.read().unwrap().count, first.count);
    }
}
