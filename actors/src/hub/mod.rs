//! Hubs: the actor of one I/O arbiter, around which its readers stand.
//!
//! A [`Hub`] takes new clients from the listener and gives each a reader; it takes replies from the workers and has
//! them written; it owns what the readers of an arbiter share ([`HubCore`]): the table of clients, the
//! read buffer, the basket, the deadlines with their one timer, and the handlers of inline procedures.
//!
//! Bounds of its mailbox: new clients by `max_clients`, replies by the calls in progress.

pub(crate) mod core;
mod inline;
mod table;
mod turn;

use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use postroom_protocol::Error;
use tokio::sync::mpsc;

use self::core::HubCore;
use crate::job::Job;
use crate::limits::Limits;
use crate::listener::census::Place;
use crate::peer::Peer;
use crate::pool::handover::Handover;
use crate::reader::Stream;
use crate::reply::Replies;
use crate::server::Ready;

/// The hubs of a service, by number.
#[derive(Debug)]
pub(crate) struct Hubs(Box<[OnceLock<Addr<Hub>>]>);

impl Hubs {
    /// So many hubs, none of which is there yet.
    pub(crate) fn new(hubs: usize) -> Self {
        Self((0..hubs).map(|_| OnceLock::new()).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn started(&self, hub: usize, address: Addr<Hub>) {
        // Set once, by the one hub of this number.
        let _ = self.0[hub].set(address);
    }

    pub(crate) fn get(&self, hub: usize) -> Option<&Addr<Hub>> {
        self.0[hub].get()
    }

    /// Sends replies to one hub.
    pub(crate) fn deliver(&self, hub: usize, replies: Replies) {
        if let Some(address) = self.get(hub) {
            address.do_send(Deliver(replies));
        }
    }

    /// Sends replies to all hubs that have any, by number.
    pub(crate) fn deliver_all(&self, replies: Vec<Replies>) {
        for (hub, replies) in replies.into_iter().enumerate() {
            if !replies.is_empty() {
                self.deliver(hub, replies);
            }
        }
    }

    /// Answers calls that will not run.
    pub(crate) fn refuse(&self, jobs: Vec<Job>, error: &Error) {
        let mut replies: Vec<Replies> = std::iter::repeat_with(Replies::default).take(self.len()).collect();
        let mut packet = Vec::new();
        for job in jobs {
            log::debug!(
                client = job.ticket.client_id, serial = job.ticket.serial;
                "refused: {error}"
            );
            postroom_protocol::encode_reply_error(&job.ticket.header(), error, &mut packet);
            replies[usize::from(job.ticket.hub)].push(&job.ticket, &mut packet);
        }
        self.deliver_all(replies);
    }
}

/// The actor of one I/O arbiter.
#[derive(Debug)]
pub(crate) struct Hub {
    number: u16,
    handover: Arc<Handover>,
    limits: Limits,
    core: Option<Rc<HubCore>>,
}

/// A client has connected.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Welcome {
    pub(crate) stream: Stream,
    pub(crate) peer: Peer,
    pub(crate) place: Place,
}

/// Replies have become ready.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Deliver(Replies);

/// The service stops: every client is told once its calls are answered, and closed.
///
/// The sender is dropped when no client is left.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Drain(pub(crate) mpsc::Sender<()>);

/// The time to stop is over: every client that is left is cut. Returns how many there were.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub(crate) struct Cut;

impl Hub {
    pub(crate) fn new(number: u16, handover: Arc<Handover>, limits: Limits) -> Self {
        Self { number, handover, limits, core: None }
    }
}

impl Handler<Ready> for Hub {
    type Result = ();

    fn handle(&mut self, _: Ready, _: &mut Self::Context) {}
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let core = HubCore::new(self.number, self.handover.clone(), Rc::new(self.limits.clone()), ctx.address());
        ctx.spawn(turn::Turn::new(core.clone()));
        self.core = Some(core);
        self.handover.hubs().started(usize::from(self.number), ctx.address());
    }
}

impl Handler<Welcome> for Hub {
    type Result = ();

    fn handle(&mut self, welcome: Welcome, _: &mut Self::Context) {
        if let Some(core) = &self.core {
            core.welcome(welcome);
        }
    }
}

impl Handler<Deliver> for Hub {
    type Result = ();

    fn handle(&mut self, replies: Deliver, _: &mut Self::Context) {
        if let Some(core) = &self.core {
            core.deliver(replies.0);
        }
    }
}

/// An inline handler's desk has something to go on with.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct GoOn;

impl Handler<GoOn> for Hub {
    type Result = ();

    fn handle(&mut self, _: GoOn, _: &mut Self::Context) {
        if let Some(core) = &self.core {
            core.begin_inline();
        }
    }
}

impl Handler<Drain> for Hub {
    type Result = ();

    fn handle(&mut self, drain: Drain, _: &mut Self::Context) {
        if let Some(core) = &self.core {
            core.drain(drain.0);
        }
    }
}

impl Handler<Cut> for Hub {
    type Result = usize;

    fn handle(&mut self, _: Cut, _: &mut Self::Context) -> usize {
        self.core.as_ref().map_or(0, |core| core.cut())
    }
}
