//! The listener: the actor that owns the listening sockets and the event loop.
//!
//! It accepts connections, reads who is at the other end, and gives each to an I/O arbiter's [`Hub`](crate::hub), in
//! turn ([`entrance`]). It refuses what is beyond `max_clients`, and what comes when the process has no descriptors
//! left; both are told why. It never reads from a client.
//!
//! Sockets and pauses are watched by the [event loop](crate::event_loop), which runs on this actor's thread and is open
//! to handlers and embedding programs too. Bound of its mailbox: one message for each watch of its own, and one for
//! the client that leaves during a pause.

mod accept;
pub(crate) mod bind;
pub(crate) mod census;
pub(crate) mod entrance;
mod reserve;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::task::{self, Poll, Waker};

use actix::fut::WrapFuture;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use futures::future::LocalBoxFuture;
use postroom_protocol::{Address, Error, encode_announcement};
use rustix::net::sockopt::{set_tcp_nodelay, socket_peercred};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::event_loop::{Delivery, Driver, EventLoop, Events, HandleEvent, HandleId, Interval, TimerEvent, TimerId};
use crate::peer::{Credentials, Transport};
use crate::reader::Stream;
use accept::{Accepted, Accepting, Then};
use bind::Bound;
use entrance::Entrance;
use reserve::Reserve;

/// How many newcomers are told at once that there are no descriptors.
const TOLD_AT_ONCE: usize = 64;

/// The actor that owns the listening sockets and the event loop.
pub(crate) struct Listener {
    /// Sockets on which accepting has not begun.
    sockets: Vec<Bound>,
    accepting: BTreeMap<HandleId, Accepting>,
    /// Sockets at which nothing is accepted for a while, by the timers that end that.
    paused: BTreeMap<TimerId, HandleId>,
    door: Door,
    events: EventLoop,
    drive: Option<Drive>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("accepting", &self.accepting).finish_non_exhaustive()
    }
}

/// The event loop as it runs on the listener's arbiter. It ends when it is dropped.
pub(crate) type Drive = LocalBoxFuture<'static, io::Result<()>>;

/// Begins to run the event loop on this arbiter, and takes a descriptor in reserve.
///
/// # Errors
///
/// There are not enough descriptors for that: known before anybody is told that the service listens.
pub(crate) fn begin(mut driver: Driver) -> io::Result<(Drive, Reserve)> {
    let reserve = Reserve::new()?;
    let mut drive: Drive = Box::pin(async move { driver.drive().await });
    // The first poll makes what it needs; the listener goes on with it, and is woken for what comes meanwhile.
    match drive.as_mut().poll(&mut task::Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(error)) => Err(error),
        _ => Ok((drive, reserve)),
    }
}

/// A client has left while the listener waits for descriptors.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ClientLeft;

/// The service stops: no more clients. The sockets are closed and their files removed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Close;

/// The service has stopped: the event loop ends too.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct End;

impl Listener {
    pub(crate) fn new(
        sockets: Vec<Bound>,
        entrance: Arc<Entrance>,
        (events, drive): (EventLoop, Drive),
        reserve: Reserve,
    ) -> Self {
        let door = Door { entrance, reserve: RefCell::new(reserve) };
        let (accepting, paused) = Default::default();
        Self { sockets, accepting, paused, door, events, drive: Some(drive) }
    }

    /// Accepts what is there, and pauses where there are no descriptors.
    fn accept(&mut self, socket: HandleId, ctx: &Context<Self>) {
        let Some(accepting) = self.accepting.get_mut(&socket) else { return };
        let Then::Pause(pause) = accepting.turn(&self.door) else { return };
        let timer = self.events.add_timeout_recipient(Interval::Every(pause), ctx.address().recipient());
        match timer {
            Ok(timer) => {
                self.paused.insert(timer, socket);
                self.watch(socket, Events::NONE);
            }
            // Without a pause it would be tried again at once, for as long as there are no descriptors.
            Err(error) => log::error!("cannot pause at {}: {error}", accepting.bound.address),
        }
    }

    /// A pause is over.
    fn resume(&mut self, timer: TimerId) {
        if let Some(socket) = self.paused.remove(&timer) {
            // It is there: it was added for this pause, and is removed here only.
            let _ = self.events.remove_timeout(timer);
            self.watch(socket, Events::READABLE);
        }
    }

    fn watch(&self, socket: HandleId, events: Events) {
        if let (Err(error), Some(accepting)) = (self.events.update_handle(socket, events), self.accepting.get(&socket))
        {
            log::error!("cannot watch {}: {error}; nothing more is accepted there", accepting.bound.address);
        }
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.door.entrance.census().set_listener(ctx.address());
        for bound in std::mem::take(&mut self.sockets) {
            let recipient = ctx.address().recipient();
            match self.events.add_handle_recipient(bound.fd.as_raw_fd(), Events::READABLE, recipient) {
                Ok(socket) => {
                    self.accepting.insert(socket, Accepting::new(bound));
                }
                Err(error) => log::error!("cannot watch {}: {error}; nothing is accepted there", bound.address),
            }
        }
        if let Some(drive) = self.drive.take() {
            // The driver ends, and with it the loop, when this actor does.
            let drive = async move {
                if let Err(error) = drive.await {
                    log::error!("the event loop has failed, nothing more is accepted: {error}");
                }
            };
            ctx.spawn(drive.into_actor(self));
        }
    }
}

impl Handler<ClientLeft> for Listener {
    type Result = ();

    fn handle(&mut self, _: ClientLeft, _: &mut Self::Context) {
        let paused: Vec<TimerId> = self.paused.keys().copied().collect();
        paused.into_iter().for_each(|timer| self.resume(timer));
    }
}

impl Handler<Delivery<HandleEvent>> for Listener {
    type Result = ();

    fn handle(&mut self, ready: Delivery<HandleEvent>, ctx: &mut Self::Context) {
        self.accept(ready.id, ctx);
    }
}

impl Handler<Delivery<TimerEvent>> for Listener {
    type Result = ();

    fn handle(&mut self, expired: Delivery<TimerEvent>, _: &mut Self::Context) {
        self.resume(expired.id);
    }
}

impl Handler<Close> for Listener {
    type Result = ();

    fn handle(&mut self, _: Close, _: &mut Self::Context) {
        for (timer, _) in std::mem::take(&mut self.paused) {
            let _ = self.events.remove_timeout(timer);
        }
        for (socket, Accepting { bound, .. }) in std::mem::take(&mut self.accepting) {
            let _ = self.events.remove_handle(socket);
            // The socket is closed before its file is removed.
            drop(bound.fd);
            drop(bound.file);
        }
    }
}

impl Handler<End> for Listener {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Where connections come in.
#[derive(Debug)]
struct Door {
    entrance: Arc<Entrance>,
    reserve: RefCell<Reserve>,
}

impl Accepted for Door {
    fn connected(&self, fd: OwnedFd, at: &Address, transport: Transport) {
        self.reserve.borrow_mut().refill();
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
}

/// Tells a newcomer why it is not served; the caller closes it.
fn turn_away(fd: &OwnedFd, reason: &Error) {
    let mut packet = Vec::new();
    encode_announcement(reason, &mut packet);
    // A fresh socket takes this little at once, unless its other end is gone.
    let _ = send(fd, &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
    // Closing a socket with unread input would take the reason from the client, or the end behind it. A client of one
    // call has sent it by now, or is about to: at a Unix socket it cannot any more after the second step. One that sends
    // more than this is not waited for.
    throw_away_input(fd);
    let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Read);
    throw_away_input(fd);
}

fn throw_away_input(fd: &OwnedFd) {
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
