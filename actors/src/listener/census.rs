//! How many clients there are, and who wants to know when one leaves.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use actix::Addr;

use crate::listener::{ClientLeft, Listener};

/// Counts the clients of a service.
#[derive(Debug)]
pub(crate) struct Census {
    clients: AtomicUsize,
    max_clients: usize,
    /// How many were turned away.
    refused: AtomicU64,
    /// Whether the listener waits for descriptors to become free.
    listener_waits: AtomicBool,
    listener: OnceLock<Addr<Listener>>,
}

/// One client's place among `max_clients`; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Census>);

impl Census {
    pub(crate) fn new(max_clients: usize) -> Arc<Self> {
        Arc::new(Self {
            clients: AtomicUsize::new(0),
            max_clients,
            refused: AtomicU64::new(0),
            listener_waits: AtomicBool::new(false),
            listener: OnceLock::new(),
        })
    }

    pub(crate) fn set_listener(&self, listener: Addr<Listener>) {
        // Set once, by the one listener.
        let _ = self.listener.set(listener);
    }

    /// A place for one more client; none when there are `max_clients`.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let room = |clients: usize| (clients < self.max_clients).then(|| clients + 1);
        if self.clients.fetch_update(SeqCst, SeqCst, room).is_err() {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        Some(Place(self.clone()))
    }

    /// How many clients there are.
    pub(crate) fn clients(&self) -> u64 {
        self.clients.load(SeqCst) as u64
    }

    /// How many were turned away.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    pub(crate) fn max_clients(&self) -> usize {
        self.max_clients
    }

    /// The listener is to be told when the next client leaves.
    pub(crate) fn tell_listener(&self) {
        self.listener_waits.store(true, SeqCst);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, SeqCst);
        if self.0.listener_waits.swap(false, SeqCst)
            && let Some(listener) = self.0.listener.get()
        {
            listener.do_send(ClientLeft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_given_back_is_taken_by_the_next() {
        let census = Census::new(1);
        let place = census.enter().unwrap();
        assert!(census.enter().is_none());
        drop(place);
        assert!(census.enter().is_some());
    }
}
