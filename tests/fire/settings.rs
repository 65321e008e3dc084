//! What the environment says: the seed, and for how long.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} = {text}: expected a number")))
}

/// `POSTROOM_SEED`; without it the same each time in a short run, so that whoever runs the tests gets what the one before
/// got, and in a long run one that no run had before.
pub fn seed() -> u64 {
    let is_long =
        ["POSTROOM_FIRE_SECONDS", "POSTROOM_FUZZ_SECONDS"].iter().any(|name| std::env::var_os(name).is_some());
    number("POSTROOM_SEED").unwrap_or_else(|| {
        if !is_long {
            return 51;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        // Short enough to be typed again.
        now.as_millis() as u64 % 1_000_000_000
    })
}

/// How long the storms rage, all together.
pub fn fire_time() -> Duration {
    Duration::from_secs(number("POSTROOM_FIRE_SECONDS").unwrap_or(6))
}

/// Whether the storms are so long that each kind of fault has to be among what they were made of.
pub fn is_long_fire() -> bool {
    fire_time() >= Duration::from_secs(60)
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
