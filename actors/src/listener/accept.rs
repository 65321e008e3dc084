//! Accepting: the part of the listener that waits for sockets and time.
//!
//! One future for each listening socket. It accepts what is there in portions, and sleeps when the process has run
//! out of descriptors, until a client leaves or the back-off is over. What happens to a connection is the listener's
//! business ([`Accepted`]).

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use postroom_protocol::Address;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use tokio::sync::Notify;

use crate::listener::bind::Bound;
use crate::peer::Transport;
use crate::watch::watch;

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
    /// Completed when a client has left.
    fn client_left(&self) -> &Notify;
}

/// Accepts until it is dropped.
pub(crate) async fn accept(bound: Bound, to: Rc<dyn Accepted>) {
    // The socket is closed before its file is removed.
    let Bound { fd, address, transport, file: _file } = bound;
    let socket = match watch(fd) {
        Ok(socket) => socket,
        Err(error) => return log::error!("cannot watch {address}: {error}"),
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let mut ready = match socket.readable().await {
            Ok(ready) => ready,
            Err(error) => return log::error!("cannot wait for clients at {address}: {error}"),
        };
        let mut portion = 0;
        loop {
            match accept_one(socket.get_ref()) {
                Ok(fd) => {
                    pause = FIRST_PAUSE;
                    to.connected(fd, &address, transport);
                    portion += 1;
                    if portion == PORTION {
                        tokio::task::yield_now().await;
                        portion = 0;
                    }
                }
                Err(Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                // The client went away before it was accepted, or the call was interrupted.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(error) => {
                    to.exhausted(socket.get_ref(), &address, error.into());
                    // A client that leaves meanwhile frees a descriptor.
                    let _ = tokio::time::timeout(pause, to.client_left().notified()).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    break;
                }
            }
        }
    }
}

/// Accepts one connection, if one waits.
pub(crate) fn accept_one(fd: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    accept_with(fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}
