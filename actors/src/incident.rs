//! Incident ids: what ties an `internal` error that a client saw to the line in the log that tells its cause.
//!
//! An id needs to be unique, not secret: the time the process first needed one, and a counter.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A new id: seconds since 1970 and a count, in hex, for example `692295a1-3`.
pub(crate) fn next() -> String {
    // A counter is the one thing here that all services of a process may share: it only keeps ids apart.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    format!("{seconds:x}-{:x}", COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_differ() {
        assert_ne!(super::next(), super::next());
    }
}
