//! The client against a service that each test plays itself, packet by packet.
//!
//! Nothing here sleeps to let something happen: tests wait for packets, and time is paused where it matters.

// The lint lets tests unwrap, but does not see that helpers are part of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

mod addresses;
mod blocking;
mod calls;
mod cancel;
mod closing;
mod deadlines;
mod events;
mod keepalive;
mod limits;
mod names;
mod reconnect;
mod strangers;
