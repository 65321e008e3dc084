//! Hubs: the actor of one I/O arbiter, around which its readers stand.
//!
//! A [`Hub`] takes new clients from the listener and gives each a reader; it takes replies from the workers and has
//! them written; it owns what the readers of an arbiter share ([`HubCore`]): the table of clients, the
//! read buffer, the basket, the deadlines with their one timer, and the handlers of inline procedures.
//!
//! Bounds: new clients in its mailbox by `max_clients`; one note there that something lies beside it: what the workers
//! send, by the calls in progress, which is taken at the beginning of a turn too, and events (`events/inlet.rs`).

mod alarm;
pub(crate) mod calls;
pub(crate) mod core;
mod events;
mod free;
mod inbox;
mod inline;
pub(crate) mod line;
pub(crate) mod table;
mod turn;

use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};
use postroom_protocol::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::alarm::Alarm;
pub(crate) use self::alarm::Timer;
use self::core::HubCore;
use self::inbox::Inbox;
pub(crate) use self::inbox::{Mail, Room, SOON};
use self::line::Lines;
use self::turn::Turn;
use crate::event_loop::EventLoop;
use crate::events::Bulletin;
use crate::job::{ClientKey, Job};
use crate::limits::Limits;
use crate::listener::census::Place;
use crate::peer::Peer;
use crate::pool::handover::Handover;
use crate::reader::Stream;
use crate::reply::{Outbox, Replies, Sent};
use crate::server::Ready;
use crate::stage::Stages;
use crate::stats::block::{Block, SharedBlock};
use crate::stats::outcome::Verdict;
use crate::time::Instant;
use crate::watchdog::beat::Beat;

/// The hubs of a service, by number, as others reach them; and for the handlers that they all have, the event loop and
/// the events.
#[derive(Debug)]
pub(crate) struct Hubs(Box<[HubPlace]>, OnceLock<EventLoop>, OnceLock<Arc<Bulletin>>);

#[derive(Debug)]
struct HubPlace {
    address: OnceLock<Addr<Hub>>,
    stages: Stages,
    lines: Lines,
    inbox: Inbox,
    block: Arc<Block>,
    by_workers: SharedBlock,
    /// The inline call that runs, for the watchdog.
    beat: Beat,
}

impl Hubs {
    /// So many hubs, none of which is there yet, for so many procedures.
    pub(crate) fn new(hubs: usize, procedures: usize) -> Self {
        let place = || HubPlace {
            address: OnceLock::new(),
            stages: Stages::default(),
            lines: Lines::default(),
            inbox: Inbox::default(),
            block: Arc::new(Block::new(procedures)),
            by_workers: SharedBlock::new(procedures),
            beat: Beat::default(),
        };
        Self(std::iter::repeat_with(place).take(hubs).collect(), OnceLock::new(), OnceLock::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn started(&self, hub: usize, address: Addr<Hub>) {
        // Set once, by the one hub of this number.
        if let (Some(bulletin), Ok(number)) = (self.bulletin(), u16::try_from(hub)) {
            bulletin.inlet(number).started(address.clone());
        }
        let _ = self.0[hub].address.set(address);
    }

    pub(crate) fn get(&self, hub: usize) -> Option<&Addr<Hub>> {
        self.0[hub].address.get()
    }

    /// The stages of the calls of a hub.
    pub(crate) fn stages(&self, hub: u16) -> &Stages {
        &self.0[usize::from(hub)].stages
    }

    /// The event loop of the service, which others may not stop.
    pub(crate) fn event_loop(&self) -> Option<&EventLoop> {
        self.1.get()
    }

    pub(crate) fn set_event_loop(&self, events: EventLoop) {
        // Set once, when the service starts.
        let _ = self.1.set(events);
    }

    /// What there is to subscribe to; none in a simulation.
    pub(crate) fn bulletin(&self) -> Option<&Bulletin> {
        self.2.get().map(AsRef::as_ref)
    }

    pub(crate) fn set_bulletin(&self, bulletin: Arc<Bulletin>) {
        // Set once, before the hubs start.
        let _ = self.2.set(bulletin);
    }

    /// The inline call that a hub runs.
    pub(crate) fn beat(&self, hub: usize) -> &Beat {
        &self.0[hub].beat
    }

    /// What a hub counts.
    pub(crate) fn block(&self, hub: usize) -> &Arc<Block> {
        &self.0[hub].block
    }

    /// What workers count of the calls of a hub: those whose replies they write.
    pub(crate) fn by_workers(&self, hub: usize) -> &SharedBlock {
        &self.0[hub].by_workers
    }

    /// Gives a client a default deadline for its calls.
    pub(crate) fn set_default_deadline(&self, hub: u16, client: ClientKey, deadline: Duration) {
        if let Some(address) = self.get(hub.into()) {
            address.do_send(SetDefaultDeadline { client, deadline });
        }
    }

    /// Has a client take part in keepalive.
    pub(crate) fn enable_keepalive(&self, hub: u16, client: ClientKey) {
        if let Some(address) = self.get(hub.into()) {
            address.do_send(EnableKeepalive(client));
        }
    }

    /// The lines to the clients of a hub.
    pub(crate) fn lines(&self, hub: u16) -> &Lines {
        &self.0[usize::from(hub)].lines
    }

    /// What was sent to a hub and not taken yet.
    pub(crate) fn inbox(&self, hub: u16) -> &Inbox {
        &self.0[usize::from(hub)].inbox
    }

    /// Sends replies to one hub.
    pub(crate) fn deliver(&self, hub: usize, replies: Replies) {
        self.0[hub].inbox.put_replies(replies);
        self.wake(hub);
    }

    /// Has a hub look into its inbox.
    fn wake(&self, hub: usize) {
        if self.0[hub].inbox.ask()
            && let Some(address) = self.get(hub)
        {
            address.do_send(Collect);
        }
    }

    /// Writes replies of calls that the caller has run, as far as it can; the rest is left to the hub. Leaves room in
    /// `replies` and `room` for the next.
    fn answer(&self, hub: usize, replies: &mut Replies, room: &mut Vec<Sent>) {
        let place = &self.0[hub];
        let mut sent = std::mem::take(room);
        let (buffer, mut is_urgent) = {
            let counting = place.by_workers.begin();
            replies.decide(&place.stages, &mut sent, |entry, done| {
                counting.answered(entry, done.verdict, done.queued, done.ran);
            })
        };
        let items = if is_urgent { Vec::new() } else { replies.take_items() };
        *replies = place.inbox.put_replies(std::mem::take(replies));
        replies.set_items(items);
        if !sent.is_empty() {
            for sent in &mut sent {
                is_urgent |= sent.write(&place.lines, &buffer);
            }
            sent = place.inbox.put_sent(sent);
        }
        *room = sent;
        replies.set_room(buffer);
        if is_urgent || !place.inbox.comes() {
            self.wake(hub);
        }
    }

    #[cfg(test)]
    pub(crate) fn has_delivered(&self, hub: usize) -> bool {
        self.0[hub].inbox.has_mail()
    }

    /// What was sent to a hub that is not there.
    #[cfg(test)]
    pub(crate) fn take_delivered(&self, hub: usize) -> Vec<Replies> {
        let mut mails = Vec::new();
        self.0[hub].inbox.take(&mut mails, &mut Room::default());
        let replies = |mail| if let Mail::Replies(replies) = mail { replies } else { panic!("{mail:?}") };
        mails.into_iter().map(replies).collect()
    }

    /// The same as [`Self::answer`] for all hubs that have any replies.
    pub(crate) fn answer_all(&self, outbox: &mut Outbox) {
        outbox.is_due = false;
        for (hub, replies) in outbox.by_hub.iter_mut().enumerate() {
            if !replies.is_empty() {
                self.answer(hub, replies, &mut outbox.sent);
            }
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
        let (now, verdict) = (Instant::now(), Verdict::of(error));
        for job in jobs {
            log::debug!(
                client = job.ticket.client_id, serial = job.ticket.serial, trace = job.trace().map(AsRef::<str>::as_ref);
                "refused: {error}"
            );
            job.ticket.fail(error, &mut packet);
            replies[usize::from(job.ticket.hub)].refuse(&job.ticket, verdict, now, &mut packet);
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
    timer: Option<Timer>,
    core: Option<Rc<HubCore>>,
    turn: Option<JoinHandle<()>>,
}

/// A client has connected.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Welcome {
    pub(crate) stream: Stream,
    pub(crate) peer: Peer,
    pub(crate) place: Place,
}

/// Something lies in the inbox.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Collect;

/// There is something in the hub's inlet.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct TakeEvents;

/// The service stops: every client is told once its calls are answered, and closed.
///
/// The sender is dropped when no client is left.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Drain(pub(crate) mpsc::Sender<()>);

/// A client's calls that come without a deadline get this one from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct SetDefaultDeadline {
    client: ClientKey,
    deadline: Duration,
}

/// A client takes part in keepalive from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct EnableKeepalive(ClientKey);

/// The time to stop is over: every call that is left is answered `shutting_down`. Returns how many there were.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub(crate) struct Finish;

/// Every client that is left is cut. Returns how many there were.
#[derive(Debug, Message)]
#[rtype(result = "usize")]
pub(crate) struct Cut;

impl Hub {
    pub(crate) fn new(number: u16, handover: Arc<Handover>, limits: Limits, timer: Timer) -> Self {
        Self { number, handover, limits, timer: Some(timer), core: None, turn: None }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(turn) = &self.turn {
            turn.abort();
        }
    }
}

impl Handler<Ready> for Hub {
    type Result = ();

    fn handle(&mut self, _: Ready, _: &mut Self::Context) {}
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let alarm = match self.timer.take().map(Alarm::new) {
            Some(Ok(alarm)) => alarm,
            // Who waits for it to start is told that it has ended.
            Some(Err(error)) => {
                log::error!("hub {} cannot watch its timer: {error}", self.number);
                return ctx.stop();
            }
            None => return ctx.stop(),
        };
        let core = HubCore::new(self.number, self.handover.clone(), Rc::new(self.limits.clone()), ctx.address());
        self.turn = Some(actix_rt::spawn(Turn::new(ctx.address(), core.clone(), alarm)));
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

impl Handler<Collect> for Hub {
    type Result = ();

    fn handle(&mut self, _: Collect, _: &mut Self::Context) {
        if let Some(core) = &self.core {
            core.collect(Instant::now());
        }
    }
}

/// The hub has no turns any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct TurnEnded;

impl Handler<TurnEnded> for Hub {
    type Result = ();

    fn handle(&mut self, _: TurnEnded, ctx: &mut Self::Context) {
        ctx.terminate();
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

impl Handler<TakeEvents> for Hub {
    type Result = ();

    fn handle(&mut self, _: TakeEvents, _: &mut Self::Context) {
        if let Some(core) = &self.core {
            core.events_came();
        }
    }
}

impl Handler<SetDefaultDeadline> for Hub {
    type Result = ();

    fn handle(&mut self, set: SetDefaultDeadline, _: &mut Self::Context) {
        if let Some(core) = &self.core {
            core.set_default_deadline(set.client, set.deadline);
        }
    }
}

impl Handler<EnableKeepalive> for Hub {
    type Result = ();

    fn handle(&mut self, EnableKeepalive(client): EnableKeepalive, _: &mut Self::Context) {
        if let Some(core) = &self.core {
            core.enable_keepalive(client);
        }
    }
}

impl Handler<Finish> for Hub {
    type Result = usize;

    fn handle(&mut self, _: Finish, _: &mut Self::Context) -> usize {
        self.core.as_ref().map_or(0, |core| core.finish())
    }
}

impl Handler<Cut> for Hub {
    type Result = usize;

    fn handle(&mut self, _: Cut, _: &mut Self::Context) -> usize {
        self.core.as_ref().map_or(0, |core| core.cut())
    }
}
