//! How a client behaves, once it is decided.
//!
//! The builder fills it in; the connection reads it and never changes it.

use std::time::Duration;

use postroom_protocol::limits::DEFAULT_MAX_PACKET;

/// Whether and how often the peer is asked if it is still there.
///
/// A peer that says nothing for `interval` is pinged; any packet of it counts as an answer. When `count` pings in a
/// row went unanswered for another `interval`, the connection is closed with
/// [`CloseCause::Keepalive`](crate::CloseCause::Keepalive). Pings of the peer are always answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long the peer may be silent before it is pinged.
    pub interval: Duration,
    /// How many pings may go unanswered.
    pub count: u32,
}

impl Default for Keepalive {
    /// 5 pings, 5 seconds apart: what services use by default.
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), count: 5 }
    }
}

/// What happens when a connection is lost: how to come back, and what is sent again.
///
/// Calls that were never sent stay and wait for the next connection, up to their deadline. Calls marked
/// [idempotent](crate::Request::idempotent) that were under way are sent again, at most `resends` times each.
/// All others that were under way fail with the reason of the loss: whether they ran is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    /// How long to wait before the first attempt. Every failed attempt doubles it, up to `max_delay`.
    /// Of each wait a random part of up to half is left out, so that clients do not come back in step.
    pub first_delay: Duration,
    /// The longest wait between two attempts.
    pub max_delay: Duration,
    /// How many times one idempotent call is sent again.
    pub resends: u32,
    /// Whether calls wait, and the first connect tries again, while there is no service: its socket does not exist or
    /// refuses. If not, such an attempt fails the calls that are waiting, and those made until the next attempt.
    pub wait_for_service: bool,
}

impl Default for Reconnect {
    /// From 50 ms to 5 s, 3 resends, and no waiting for a service that is not there.
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(5),
            resends: 3,
            wait_for_service: false,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) deadline: Option<Duration>,
    pub(crate) connect_timeout: Duration,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) reconnect: Option<Reconnect>,
    pub(crate) max_in_flight: u32,
    pub(crate) max_reply: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            deadline: None,
            connect_timeout: Duration::from_secs(10),
            keepalive: Some(Keepalive::default()),
            reconnect: None,
            max_in_flight: u32::MAX,
            max_reply: DEFAULT_MAX_PACKET,
        }
    }
}
