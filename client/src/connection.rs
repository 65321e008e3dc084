//! The task that owns the socket of a client.
//!
//! - `origin`: where the service is, and a new stream to it.
//! - `stream`: the socket, whatever its kind.
//! - `conversation`: one connection: writes what callers put in, reads, hands out replies.
//! - `heartbeat`: the clock of keepalive.
//! - `greeting`: what a connection begins with, and what else than a service may answer it.
//! - `driver`: the task: one conversation after another, as the client's settings have it.
//! - `backoff`: how long to wait between attempts.
//!
//! Only the driver is a task. It never waits for callers, and callers never touch the socket.
//! Bounds: the read buffer by `MAX_INPUT`, a packet in parts by the client's limit for replies,
//! output by that of the exchange, twice: what is being written, and what is collected meanwhile.

mod backoff;
mod conversation;
mod driver;
mod greeting;
mod heartbeat;
mod origin;
mod stream;

pub(crate) use driver::{Driver, connect};
pub(crate) use origin::Origin;
