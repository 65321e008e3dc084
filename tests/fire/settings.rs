//! What the environment says: the seed, and for how long.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} = {text}: expected a number")))
}

/// `POSTROOM_SEED`; without it one that no run had before.
pub fn seed() -> u64 {
    number("POSTROOM_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        // Short enough to be typed again.
        now.as_millis() as u64 % 1_000_000_000
    })
}

/// How long the storms rage, all together.
pub fn fire_time() -> Duration {
    Duration::from_secs(number("POSTROOM_FIRE_SECONDS").unwrap_or(6))
}

/// How long cases are made up.
pub fn fuzz_time() -> Duration {
    Duration::from_secs(number("POSTROOM_FUZZ_SECONDS").unwrap_or(2))
}

/// Held by each test while it runs: they look at memory, descriptors and panics of the whole process.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
