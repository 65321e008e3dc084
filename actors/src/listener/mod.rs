//! The listener: the actor that owns the listening sockets.
//!
//! It accepts connections, reads who is at the other end, and gives each to an I/O arbiter's [`Hub`](crate::hub), in
//! turn ([`entrance`]). It refuses what is beyond `max_clients`, and what comes when the process has no descriptors left; both are
//! told why. It never reads from a client.
//!
//! Waiting for sockets and time is in [`accept`] only. Bound of its mailbox: one message for each pause.

mod accept;
pub(crate) mod bind;
pub(crate) mod census;
pub(crate) mod entrance;
mod reserve;

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use actix::fut::WrapFuture;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use postroom_protocol::{Address, Error, encode_announcement};
use rustix::net::sockopt::{set_tcp_nodelay, socket_peercred};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::sync::Notify;

use crate::peer::{Credentials, Transport};
use crate::reader::Stream;
use accept::Accepted;
use bind::Bound;
use entrance::Entrance;
use reserve::Reserve;

/// How many newcomers are told at once that there are no descriptors.
const TOLD_AT_ONCE: usize = 64;

/// The actor that owns the listening sockets.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Sockets on which accepting has not begun.
    sockets: Vec<Bound>,
    door: Rc<Door>,
}

/// A client has left while the listener waits for descriptors.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ClientLeft;

/// The service stops: no more clients. The sockets are closed and their files removed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Close;

impl Listener {
    pub(crate) fn new(sockets: Vec<Bound>, entrance: Arc<Entrance>) -> Self {
        let door = Door { entrance, reserve: RefCell::new(Reserve::new()), left: Notify::new() };
        Self { sockets, door: Rc::new(door) }
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.door.entrance.census().set_listener(ctx.address());
        for bound in std::mem::take(&mut self.sockets) {
            ctx.spawn(accept::accept(bound, self.door.clone()).into_actor(self));
        }
    }
}

impl Handler<ClientLeft> for Listener {
    type Result = ();

    fn handle(&mut self, _: ClientLeft, _: &mut Self::Context) {
        self.door.left.notify_waiters();
    }
}

impl Handler<Close> for Listener {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        // Ends the futures that accept, and with them the sockets and their files.
        ctx.stop();
    }
}

/// Where connections come in.
#[derive(Debug)]
struct Door {
    entrance: Arc<Entrance>,
    reserve: RefCell<Reserve>,
    left: Notify,
}

impl Accepted for Door {
    fn connected(&self, fd: OwnedFd, at: &Address, transport: Transport) {
        let credentials = credentials(&fd, transport);
        if transport == Transport::Tcp {
            // A reply should not wait for the acknowledgement of the one before. Best effort: it works without.
            let _ = set_tcp_nodelay(&fd, true);
        }
        let stream = if transport == Transport::Tcp { Stream::Tcp(fd) } else { Stream::Unix(fd) };
        if let Err((Stream::Unix(fd) | Stream::Tcp(fd), reason)) =
            self.entrance.enter(stream, transport, credentials, at)
        {
            turn_away(&fd, &reason);
        }
    }

    fn exhausted(&self, listening: &OwnedFd, at: &Address, error: io::Error) {
        self.entrance.census().tell_listener();
        let told = self.reserve.borrow_mut().lend(|| {
            let accept = || accept::accept_one(listening).ok();
            let turn_away = |fd| turn_away(&fd, &no_descriptors());
            std::iter::from_fn(accept).take(TOLD_AT_ONCE).map(turn_away).count()
        });
        log::warn!("cannot accept at {at}: {error}; {told} newcomers were told");
    }

    fn client_left(&self) -> &Notify {
        &self.left
    }
}

/// Tells a newcomer why it is not served; the caller closes it.
fn turn_away(fd: &OwnedFd, reason: &Error) {
    let mut packet = Vec::new();
    encode_announcement(reason, &mut packet);
    // A fresh socket takes this little at once, unless its other end is gone.
    let _ = send(fd, &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
    // Closing a socket with unread input would take the reason from the client. A client of one call has sent it by
    // now; one that sends more than this is not waited for.
    let mut scratch = [0; 4096];
    for _ in 0..16 {
        if !recv(fd, &mut scratch[..], RecvFlags::DONTWAIT).is_ok_and(|(bytes, _)| bytes > 0) {
            break;
        }
    }
}

fn no_descriptors() -> Error {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    Error::overloaded("nofile", limit, 200)
}

fn credentials(fd: &OwnedFd, transport: Transport) -> Option<Credentials> {
    if transport != Transport::Unix {
        return None;
    }
    let peer = socket_peercred(fd).ok()?;
    Some(Credentials { uid: peer.uid.as_raw(), gid: peer.gid.as_raw(), pid: peer.pid.as_raw_pid() })
}

/// Raises the soft limit of open descriptors to the hard one. Returns what it is now.
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// The addresses of these sockets.
pub(crate) fn addresses(sockets: &[Bound]) -> Vec<Address> {
    sockets.iter().map(|bound| bound.address.clone()).collect()
}
