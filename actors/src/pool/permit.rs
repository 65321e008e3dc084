//! Permits for pending calls: the bound of the pool's mailbox and of what the pool actor keeps.
//!
//! An actix mailbox bounds nothing, so the bound travels inside the message: a call gets a permit before it is sent
//! to the pool, and the permit is given back when the call is taken by a worker, or dropped with its message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::limits::Limits;

/// How much is pending, and how much may be.
#[derive(Debug)]
pub(crate) struct Gauge {
    calls: AtomicUsize,
    bytes: AtomicU64,
    max_calls: usize,
    max_bytes: u64,
    /// How often there was no room in calls, and in bytes.
    full_calls: AtomicU64,
    full_bytes: AtomicU64,
}

/// The right of one call to be pending.
#[derive(Debug)]
pub(crate) struct Permit {
    gauge: Arc<Gauge>,
    bytes: u64,
}

/// The limit that left no room for another pending call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) key: &'static str,
    pub(crate) value: u64,
}

impl Gauge {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            max_calls: limits.max_pending_calls,
            max_bytes: limits.max_pending_bytes,
            full_calls: AtomicU64::new(0),
            full_bytes: AtomicU64::new(0),
        })
    }

    /// A permit for one call of this many bytes. The bound in bytes may be exceeded by one call.
    pub(crate) fn acquire(self: &Arc<Self>, bytes: u64) -> Result<Permit, Full> {
        let full_calls = Full { key: "max_pending_calls", value: self.max_calls as u64 };
        let full_bytes = Full { key: "max_pending_bytes", value: self.max_bytes };
        self.calls.fetch_update(Relaxed, Relaxed, |calls| (calls < self.max_calls).then(|| calls + 1)).map_err(
            |_| {
                self.full_calls.fetch_add(1, Relaxed);
                full_calls
            },
        )?;
        let room = |held: u64| (held < self.max_bytes).then(|| held + bytes);
        if self.bytes.fetch_update(Relaxed, Relaxed, room).is_err() {
            self.calls.fetch_sub(1, Relaxed);
            self.full_bytes.fetch_add(1, Relaxed);
            return Err(full_bytes);
        }
        Ok(Permit { gauge: self.clone(), bytes })
    }
}

impl Gauge {
    /// How many calls are pending, and their bytes.
    pub(crate) fn held(&self) -> (u64, u64) {
        (self.calls.load(Relaxed) as u64, self.bytes.load(Relaxed))
    }

    /// How often there was no room in calls, and in bytes.
    pub(crate) fn was_full(&self) -> (u64, u64) {
        (self.full_calls.load(Relaxed), self.full_bytes.load(Relaxed))
    }

    /// Whether any call is pending.
    pub(crate) fn in_use(&self) -> bool {
        self.calls.load(Relaxed) > 0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gauge.calls.fetch_sub(1, Relaxed);
        self.gauge.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(max_pending_calls: usize, max_pending_bytes: u64) -> Arc<Gauge> {
        Gauge::new(&Limits { max_pending_calls, max_pending_bytes, ..Limits::default() })
    }

    #[test]
    fn a_permit_that_is_dropped_makes_room_for_another() {
        let gauge = gauge(2, 1000);
        let first = gauge.acquire(1).unwrap();
        let _second = gauge.acquire(1).unwrap();
        assert_eq!(gauge.acquire(1).unwrap_err(), Full { key: "max_pending_calls", value: 2 });
        drop(first);
        gauge.acquire(1).unwrap();
    }

    #[test]
    fn the_bound_in_bytes_is_exceeded_by_one_call_and_no_more() {
        let gauge = gauge(10, 1000);
        let big = gauge.acquire(5000).unwrap();
        assert_eq!(gauge.acquire(1).unwrap_err(), Full { key: "max_pending_bytes", value: 1000 });
        drop(big);
        gauge.acquire(1).unwrap();
    }
}
