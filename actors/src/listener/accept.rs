//! Accepting: what is done at a listening socket that is ready.
//!
//! Plain code: accepts what is there, a portion at a time, and says how to go on. When the process has run out of
//! descriptors that is a pause, longer each time. What happens to a connection is the listener's business
//! ([`Accepted`]); when it is called, the event loop's.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use postroom_protocol::Address;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::listener::bind::Bound;
use crate::peer::Transport;

/// How many connections are accepted before others on the listener's thread get their turn.
const PORTION: usize = 64;

/// The first pause when there are no descriptors; doubled each time up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What the listener does with what comes.
pub(crate) trait Accepted {
    /// A connection is there.
    fn connected(&self, fd: OwnedFd, at: &Address, transport: Transport);
    /// There are no descriptors: tells those who wait at the listening socket, with the one in reserve.
    fn exhausted(&self, listening: &OwnedFd, at: &Address, error: io::Error);
}

/// How to go on at a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// When it is ready again, which it may be already.
    Watch,
    /// After this time, or when a client has left.
    Pause(Duration),
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Accepting {
    pub(crate) bound: Bound,
    pause: Duration,
}

impl Accepting {
    pub(crate) fn new(bound: Bound) -> Self {
        Self { bound, pause: FIRST_PAUSE }
    }

    /// Accepts what is there, at most a portion.
    pub(crate) fn turn(&mut self, to: &impl Accepted) -> Then {
        let Bound { fd, address, transport, .. } = &self.bound;
        for _ in 0..PORTION {
            match accept_one(fd) {
                Ok(connection) => {
                    self.pause = FIRST_PAUSE;
                    to.connected(connection, address, *transport);
                }
                Err(Errno::AGAIN) => return Then::Watch,
                // The client went away before it was accepted, or the call was interrupted.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(error) => {
                    to.exhausted(fd, address, error.into());
                    let pause = self.pause;
                    self.pause = (pause * 2).min(LONGEST_PAUSE);
                    return Then::Pause(pause);
                }
            }
        }
        Then::Watch
    }
}

/// Accepts one connection, if one waits.
pub(crate) fn accept_one(fd: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    accept_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}
