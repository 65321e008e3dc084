//! Why a connection ended.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use postroom_protocol::Error;

/// Why a connection ended, and which one. Every caller that was waiting gets the same.
#[derive(Clone, Debug)]
pub struct CloseReason(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    peer: Arc<str>,
    cause: CloseCause,
}

/// What ended a connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum CloseCause {
    /// The service said why before it closed, for example `shutting_down`.
    Announced(Error),
    /// The service closed without a word: it was killed, or it crashed.
    EndOfInput {
        /// Whether it ended within a packet.
        mid_packet: bool,
    },
    /// Reading or writing failed.
    Io(io::Error),
    /// The service left pings unanswered.
    Keepalive {
        /// How long nothing came.
        silence: Duration,
        /// How many pings were sent in that time.
        pings: u32,
    },
    /// The service broke the format: the sentence says how.
    Protocol(String),
    /// This program closed the client, or dropped the last handle.
    ClosedHere,
    /// The tokio runtime that ran the connection has shut down.
    RuntimeGone,
}

impl CloseReason {
    pub(crate) fn new(peer: Arc<str>, cause: CloseCause) -> Self {
        Self(Arc::new(Inner { peer, cause }))
    }

    /// What ended the connection.
    #[must_use]
    pub fn cause(&self) -> &CloseCause {
        &self.0.cause
    }

    /// The address of the service.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.0.peer
    }

    /// The error by which the service announced the close, if it did.
    #[must_use]
    pub fn announced(&self) -> Option<&Error> {
        match &self.0.cause {
            CloseCause::Announced(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { peer, cause } = &*self.0;
        write!(f, "the connection to {peer} ended: ")?;
        match cause {
            CloseCause::Announced(error) => write!(f, "the service announced {error}"),
            CloseCause::EndOfInput { mid_packet: false } => f.write_str("the service closed it without a reason"),
            CloseCause::EndOfInput { mid_packet: true } => f.write_str("the service closed it within a packet"),
            CloseCause::Io(error) => write!(f, "{error}"),
            CloseCause::Keepalive { silence, pings } => {
                write!(f, "the service said nothing for {silence:?} and left {pings} pings unanswered")
            }
            CloseCause::Protocol(how) => write!(f, "the service broke the format: {how}"),
            CloseCause::ClosedHere => f.write_str("this program closed it"),
            CloseCause::RuntimeGone => f.write_str("the tokio runtime that it ran on has shut down"),
        }
    }
}

impl std::error::Error for CloseReason {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            CloseCause::Announced(error) => Some(error),
            CloseCause::Io(error) => Some(error),
            _ => None,
        }
    }
}
