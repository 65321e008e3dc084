//! The event by which a service tells who comes and goes.
//!
//! Hubs publish it, by whatever publisher and event the service was given.

use serde::Serialize;

use crate::events::{Event, Publisher};
use crate::peer::Peer;

/// A client has come or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[non_exhaustive]
pub struct ClientChange {
    /// The number of the connection.
    pub client_id: u64,
    /// `unix`, `tcp` or `local`.
    pub transport: &'static str,
    /// The user of the client, where the kernel tells.
    pub uid: Option<u32>,
    /// Its process, where the kernel tells.
    pub pid: Option<i32>,
    /// Whether it has come or gone.
    pub state: ClientState,
}

/// Whether a client has come or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientState {
    /// Its connection was accepted.
    Connected,
    /// Its connection has ended.
    Left,
}

/// By which event of which program a service tells of its clients.
#[derive(Clone, Debug)]
pub struct ClientEvents {
    /// Publishes for the program that has declared the event.
    pub publisher: Publisher,
    /// The event.
    pub event: Event<ClientChange>,
}

impl ClientEvents {
    pub(crate) fn tell(&self, peer: &Peer, state: ClientState) {
        let change = ClientChange {
            client_id: peer.client_id(),
            transport: peer.transport().as_str(),
            uid: peer.uid(),
            pid: peer.pid(),
            state,
        };
        self.publisher.publish(self.event, &change);
    }
}
