//! Calls that panic their handler again and again: refused for a while.
//!
//! A call is known by its client, its procedure and its arguments. Looked up only for clients with a call that has
//! panicked lately, and those few that share a bit with one: a client whose calls panic costs the others a load each.
//! Plain code with time as an argument. What is old is forgotten on the watchdog's rounds, not on the way of a call.
//!
//! Bound: [`ENTRIES`]; the ones that panicked longest ago make room.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::time::Instant;

use postroom_protocol::{Code, Error};

/// How many calls are remembered.
const ENTRIES: usize = 1024;
/// How long a call is refused after its last panic, and after how long it is forgotten.
const REFUSED: Duration = Duration::from_secs(60);

/// The calls that have panicked lately.
#[derive(Debug)]
pub(crate) struct Poison {
    /// So many panics are one too many; 0 turns all of this off.
    after: u32,
    /// The bits of clients with a call that is remembered.
    clients: AtomicU64,
    refused: AtomicU64,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What arguments are hashed with: nobody outside can choose arguments that collide.
    hasher: std::hash::RandomState,
    calls: HashMap<Key, Panics>,
}

/// A call, as far as it is the same as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    client_id: u64,
    entry: u32,
    arguments: u64,
}

#[derive(Clone, Copy, Debug)]
struct Panics {
    count: u32,
    last: Instant,
}

impl Poison {
    pub(crate) fn new(after: u32) -> Self {
        let (clients, refused, state) = Default::default();
        Self { after, clients, refused, state }
    }

    /// A call has panicked.
    pub(crate) fn panicked(&self, client_id: u64, entry: u32, arguments: &[u8], now: Instant) {
        if self.after == 0 {
            return;
        }
        let mut state = self.write();
        if state.calls.len() >= ENTRIES {
            let oldest = state.calls.iter().min_by_key(|(_, panics)| panics.last).map(|(key, _)| *key);
            oldest.map(|oldest| state.calls.remove(&oldest));
        }
        let key = state.key(client_id, entry, arguments);
        let panics = state.calls.entry(key).or_insert(Panics { count: 0, last: now });
        // What is old may not be forgotten yet.
        let count = if is_old(panics, now) { 0 } else { panics.count };
        (panics.count, panics.last) = (count + 1, now);
        self.clients.fetch_or(bit(client_id), Relaxed);
    }

    /// Whether a call is refused, and with what.
    #[inline]
    pub(crate) fn check(&self, client_id: u64, entry: u32, arguments: &[u8], now: Instant) -> Result<(), Error> {
        if self.clients.load(Relaxed) & bit(client_id) == 0 {
            return Ok(());
        }
        self.look_up(client_id, entry, arguments, now)
    }

    #[cold]
    fn look_up(&self, client_id: u64, entry: u32, arguments: &[u8], now: Instant) -> Result<(), Error> {
        let state = self.read();
        let is_bad = |panics: &&Panics| panics.count >= self.after && !is_old(panics, now);
        let Some(panics) = state.calls.get(&state.key(client_id, entry, arguments)).filter(is_bad) else {
            return Ok(());
        };
        self.refused.fetch_add(1, Relaxed);
        let left = REFUSED.saturating_sub(now.saturating_duration_since(panics.last)).as_secs() + 1;
        let text = format!("this very call has failed the service {} times; it is refused for {left} s", panics.count);
        Err(Error::new(Code::POISONED, text).with_limit("poison_after", self.after))
    }

    /// Forgets what is old.
    pub(crate) fn forget(&self, now: Instant) {
        if self.clients.load(Relaxed) == 0 || self.read().calls.values().all(|panics| !is_old(panics, now)) {
            return;
        }
        let mut state = self.write();
        state.calls.retain(|_, panics| !is_old(panics, now));
        self.clients.store(state.calls.keys().fold(0, |bits, key| bits | bit(key.client_id)), Relaxed);
    }

    /// How many calls were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // No panic can come between two writes to it.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        // As above.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the bits that tell most clients apart.
fn bit(client_id: u64) -> u64 {
    1 << (client_id % 64)
}

fn is_old(panics: &Panics, now: Instant) -> bool {
    now.saturating_duration_since(panics.last) >= REFUSED
}

impl State {
    fn key(&self, client_id: u64, entry: u32, arguments: &[u8]) -> Key {
        Key { client_id, entry, arguments: self.hasher.hash_one(arguments) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_call_is_refused_after_so_many_panics_and_for_a_while() {
        let now = Instant::now();
        let poison = Poison::new(3);
        for _ in 0..3 {
            poison.check(1, 2, b"bad", now).unwrap();
            poison.panicked(1, 2, b"bad", now);
        }
        let error = poison.check(1, 2, b"bad", now).unwrap_err();
        assert_eq!(
            (error.code(), error.retryable(), error.limit()),
            (&Code::POISONED, false, Some(("poison_after", 3)))
        );
        for (client, entry, arguments) in [(9, 2, &b"bad"[..]), (1, 9, b"bad"), (1, 2, b"good")] {
            poison.check(client, entry, arguments, now).unwrap();
        }
        poison.check(1, 2, b"bad", now + REFUSED).unwrap();
        assert_eq!(poison.refused(), 1);
        poison.panicked(1, 2, b"bad", now + REFUSED);
        poison.check(1, 2, b"bad", now + REFUSED).unwrap();
    }

    #[test]
    fn calls_of_other_clients_are_not_looked_up_and_what_is_forgotten_is_not_either() {
        let now = Instant::now();
        let poison = Poison::new(1);
        poison.panicked(1, 2, b"bad", now);
        poison.panicked(3, 2, b"bad", now + REFUSED / 2);
        // Whoever looks would wait for this lock for ever.
        let state = poison.write();
        poison.check(2, 2, b"bad", now).unwrap();
        drop(state);
        poison.forget(now + REFUSED / 2);
        assert_eq!(poison.clients.load(Relaxed), bit(1) | bit(3));
        poison.forget(now + REFUSED);
        assert_eq!(poison.clients.load(Relaxed), bit(3));
        poison.forget(now + REFUSED * 2);
        assert_eq!((poison.clients.load(Relaxed), poison.read().calls.len()), (0, 0));
    }

    #[test]
    fn it_remembers_the_latest_and_no_more_than_its_bound() {
        let now = Instant::now();
        let poison = Poison::new(1);
        for client in 0..2 * ENTRIES as u64 {
            poison.panicked(client, 0, b"", now + Duration::from_micros(client));
        }
        assert_eq!(poison.read().calls.len(), ENTRIES);
        poison.check(0, 0, b"", now).unwrap();
        assert!(poison.check(2 * ENTRIES as u64 - 1, 0, b"", now).is_err());
    }

    #[test]
    fn it_can_be_turned_off() {
        let now = Instant::now();
        let poison = Poison::new(0);
        (0..10).for_each(|_| poison.panicked(1, 2, b"bad", now));
        poison.check(1, 2, b"bad", now).unwrap();
    }
}
