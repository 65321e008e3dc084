//! Where clients come in, whether by a listening socket or from inside the process.
//!
//! Gives each its number, its place among `max_clients`, and a hub, in turn. Shared by the listener and by whoever
//! connects inside the process; it has no queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use postroom_protocol::Error;

use crate::hub::{Hubs, Welcome};
use crate::listener::census::Census;
use crate::peer::{Credentials, Peer, Transport};
use crate::reader::Stream;

/// Takes new clients in.
#[derive(Debug)]
pub(crate) struct Entrance {
    hubs: Arc<Hubs>,
    census: Arc<Census>,
    next_hub: AtomicUsize,
    next_client: AtomicU64,
    is_closed: AtomicBool,
}

impl Entrance {
    pub(crate) fn new(hubs: Arc<Hubs>, census: Arc<Census>) -> Arc<Self> {
        Arc::new(Self {
            hubs,
            census,
            next_hub: AtomicUsize::new(0),
            next_client: AtomicU64::new(1),
            is_closed: AtomicBool::new(false),
        })
    }

    /// No more clients come in.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    pub(crate) fn census(&self) -> &Arc<Census> {
        &self.census
    }

    /// Gives a new client its reader, or gives it back with what it is to be told.
    pub(crate) fn enter(
        &self,
        stream: Stream,
        transport: Transport,
        credentials: Option<Credentials>,
        at: &dyn std::fmt::Display,
    ) -> Result<(), (Stream, Error)> {
        let client_id = self.next_client.fetch_add(1, Relaxed);
        let Some(place) = self.census.enter() else {
            let max = self.census.max_clients() as u64;
            log::warn!(client = client_id; "refused: max_clients = {max} are connected");
            return Err((stream, Error::overloaded("max_clients", max, 1000)));
        };
        log::debug!(client = client_id; "connected at {at}: {credentials:?}");
        let peer = Peer::new(client_id, transport, credentials);
        let hub = self.next_hub.fetch_add(1, Relaxed) % self.hubs.len();
        if let Some(address) = self.hubs.get(hub) {
            address.do_send(Welcome { stream, peer, place });
        }
        Ok(())
    }
}
