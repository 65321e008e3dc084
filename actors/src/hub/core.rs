//! What the readers of one arbiter share; see [`HubCore`].
//!
//! Calls that its readers accept go into the basket; a reader that has brought some wakes the hub's
//! [`Turn`](super::turn), which runs after all readers that were ready in this turn of the arbiter's loop, and hands on the
//! whole basket. Only calls of a client that is alone do not wait for it. Replies come back as one message and are written
//! in one go per client. Calls whose deadline passes, whose client cancels them or leaves, are ended here.
//!
//! Queues: the basket, bounded by what the readers of one turn may accept (`max_client_requests` each); inline calls
//! move from it to their handlers in the same turn.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use actix::Addr;
use postroom_protocol::Error;
use tokio::sync::mpsc;

use crate::desk::Desk;
use crate::events::Bulletin;
use crate::hub::calls::Calls;
use crate::hub::events::Subscriptions;
use crate::hub::inline::{InlineFeed, Keys};
use crate::hub::line::Line;
use crate::hub::table::Table;
use crate::hub::{Hub, Mail, Room, SOON, Welcome};
use crate::job::{ClientKey, Shell, Ticket};
use crate::limits::Limits;
use crate::peer::Peer;
use crate::pool::handover::Handover;
use crate::pool::tray::OVERDUE;
use crate::reader::client::Client;
use crate::reader::deadlines::Deadlines;
use crate::reader::{Connection, Reader, Socket};
use crate::reply::{Done, Replies, Sent};
use crate::runs::{Run, Runs};
use crate::stage::CallRef;
use crate::stats::block::Block;
use crate::stats::buckets::bucket;
use crate::stats::outcome::Verdict;
use crate::time::{Instant, earlier};

mod collected;
mod sink;

use collected::{Collected, KEPT};
pub(crate) use sink::HubSink;
use sink::LastFound;

/// The size of the buffer that the readers of an arbiter read into, one after the other.
const READ_BUFFER: usize = 64 * 1024;

/// What the readers of one arbiter share.
pub(crate) struct HubCore {
    number: u16,
    handover: Arc<Handover>,
    limits: Rc<Limits>,
    stats: Arc<Block>,
    /// What is read goes here first; an idle client holds no buffer of its own.
    pub(crate) buffer: RefCell<Box<[u8]>>,
    clients: RefCell<Table<Rc<RefCell<Connection>>>>,
    basket: RefCell<Collected>,
    /// Whether a reader is at it, which says when it is done: until then the basket need not be looked at.
    is_reading: Cell<bool>,
    /// The client that was read last.
    last_read: Cell<Option<ClientKey>>,
    /// Blocks for jobs of the pool; the first that came back is used first, so that they stay in the order in which they
    /// lie.
    shells: RefCell<VecDeque<Shell>>,
    calls: RefCell<Calls>,
    deadlines: RefCell<Deadlines>,
    /// Wakes the turn.
    turn: RefCell<Option<Waker>>,
    /// Until when the turn sleeps.
    sleeps_until: Cell<Option<Instant>>,
    last_found: Cell<Option<LastFound>>,
    inline: Rc<InlineFeed>,
    inline_desk: OnceCell<Rc<Desk>>,
    /// Room for what lies in the inbox, and for what will.
    mails: RefCell<(Vec<Mail>, Room)>,
    /// The worker that got the last basket.
    last_worker: Cell<usize>,
    /// When to look after calls that may be stuck.
    rescue_at: Cell<Option<Instant>>,
    /// When to look what the workers have sent, if nothing comes of it before.
    collect_at: Cell<Option<Instant>>,
    /// Set while the service stops; dropped when no client is left.
    draining: RefCell<Option<mpsc::Sender<()>>>,
    drained: Cell<bool>,
    subscriptions: Subscriptions,
}

impl std::fmt::Debug for HubCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubCore").field("number", &self.number).finish_non_exhaustive()
    }
}

impl HubCore {
    pub(crate) fn new(number: u16, handover: Arc<Handover>, limits: Rc<Limits>, address: Addr<Hub>) -> Rc<Self> {
        let hubs = handover.hubs().clone();
        let inline = InlineFeed::new(hubs.clone(), number, address);
        let core = Rc::new(Self {
            number,
            limits: limits.clone(),
            stats: hubs.block(number.into()).clone(),
            buffer: RefCell::new(vec![0; READ_BUFFER].into_boxed_slice()),
            clients: RefCell::default(),
            basket: RefCell::default(),
            is_reading: Cell::new(false),
            last_read: Cell::new(None),
            shells: RefCell::default(),
            calls: RefCell::new(Calls::new(hubs.clone(), number)),
            deadlines: RefCell::default(),
            turn: RefCell::default(),
            sleeps_until: Cell::new(None),
            last_found: Cell::new(None),
            inline: inline.clone(),
            inline_desk: OnceCell::new(),
            mails: RefCell::default(),
            last_worker: Cell::new(0),
            rescue_at: Cell::new(None),
            collect_at: Cell::new(None),
            draining: RefCell::default(),
            drained: Cell::new(false),
            subscriptions: Subscriptions::default(),
            handover,
        });
        inline.set_hub(&core);
        let desk = Desk::new(core.handover.registry().clone(), hubs, limits.max_packet, Box::new(inline));
        let _ = core.inline_desk.set(desk);
        core
    }

    /// Gives a new client its reader.
    pub(crate) fn welcome(self: &Rc<Self>, welcome: Welcome) {
        let Welcome { stream, peer, place } = welcome;
        let socket = match Socket::new(stream) {
            Ok(socket) => socket,
            Err(error) => {
                log::warn!(client = peer.client_id(); "lost a new client, its socket cannot be watched: {error}");
                return;
            }
        };
        log::trace!(client = peer.client_id(); "hub {} gives it a reader", self.number);
        let now = Instant::now();
        let mut client = Client::new(peer, self.limits.clone(), self.stats.clone(), now);
        if self.draining.borrow().is_some() || self.drained.get() {
            client.close(Some(Error::shutting_down()));
        }
        let shared = socket.share();
        let connection = Rc::new(RefCell::new(Connection::new(client, socket)));
        let key = self.clients.borrow_mut().insert(|_| connection.clone());
        self.handover.hubs().lines(self.number).open(key, shared);
        self.client_came(&peer);
        actix_rt::spawn(Reader::new(connection, self.clone(), key, place));
    }

    /// A reader has ended.
    pub(crate) fn forget(&self, key: ClientKey) {
        self.close_line(key);
        let left = self.clients.borrow_mut().remove(key);
        let peer = left.and_then(|it| it.try_borrow().ok().map(|connection| *connection.client.peer()));
        self.client_left(key, peer);
        let clients = self.clients.borrow();
        let mut deadlines = self.deadlines.borrow_mut();
        if deadlines.len() > 2 * clients.len() + 1024 {
            deadlines.retain(|key| clients.get(key).is_some());
        }
        drop(clients);
        self.is_drained();
    }

    /// Takes what the workers have sent.
    pub(crate) fn collect(self: &Rc<Self>, now: Instant) {
        let inbox = self.handover.hubs().inbox(self.number);
        if inbox.is_quiet() {
            return;
        }
        let (mut mails, mut room) = self.mails.take();
        // What comes while this is worked off has asked again, or is seen here.
        while inbox.take(&mut mails, &mut room) {
            for mail in mails.drain(..) {
                match mail {
                    Mail::Replies(mut replies) => {
                        self.deliver(&mut replies, now);
                        room.keep_replies(replies);
                    }
                    Mail::Sent(mut sent) => {
                        self.sent(&mut sent, now);
                        room.keep_sent(sent);
                    }
                }
            }
            mails.shrink_to(KEPT);
        }
        *self.mails.borrow_mut() = (mails, room);
    }

    /// Workers have written these replies, or have left them to be written here.
    fn sent(self: &Rc<Self>, sent: &mut Vec<Sent>, now: Instant) {
        for sent in sent.drain(..) {
            let key = sent.client;
            let line = self.line(key);
            self.with_client(key, now, |connection| connection.sent(sent, line, now));
        }
    }

    /// Gives up the socket of a client that has left. False when that has to be tried again, once a worker has reported.
    pub(crate) fn close_line(&self, key: ClientKey) -> bool {
        self.handover.hubs().lines(self.number).close(key)
    }

    /// The line to a client.
    pub(crate) fn line(&self, key: ClientKey) -> Option<&Line> {
        self.handover.hubs().lines(self.number).get(key)
    }

    /// Writes replies, each to its client if that is still there.
    fn deliver(self: &Rc<Self>, replies: &mut Replies, now: Instant) {
        replies.take_shells(&mut self.shells.borrow_mut(), KEPT);
        let mut keys = Keys::new();
        replies.for_each_run(|done| self.finish_call(done, &mut keys), |run| self.write(run, now));
        self.keys_done(keys, now);
    }

    /// Writes replies of inline calls, whose records are closed. They lie in this room.
    pub(super) fn hand_out(self: &Rc<Self>, runs: &mut Runs, room: &mut Vec<u8>, now: Instant) {
        runs.hand_out_from(room, |run| self.write(run, now));
    }

    fn write(self: &Rc<Self>, run: Run<'_>, now: Instant) {
        let key = run.client;
        let line = self.line(key);
        self.with_client(key, now, |connection| connection.deliver(run, line, now));
    }

    /// The next calls with these keys may start.
    pub(super) fn keys_done(self: &Rc<Self>, keys: Keys, now: Instant) {
        for (client, key) in keys {
            self.with_client(client, now, |connection| {
                let mut sink = self.sink(client, *connection.client.peer());
                connection.client.key_done(&key, &mut sink);
            });
        }
    }

    /// Gives the inline calls that wait for their turn records, if they have none: somebody looks for one of them, or for
    /// one that came later.
    fn take_down_inline(&self) {
        // Those that were handed over, of which the first have run, are older than those in the basket.
        if self.inline.has_calls() {
            self.inline.take_down(&mut self.calls.borrow_mut());
        }
        let basket = &mut *self.basket.borrow_mut();
        let left = basket.inline.jobs.len() - basket.taken_down;
        if left > 0 {
            let mut calls = self.calls.borrow_mut();
            let jobs = basket.inline.jobs.iter_mut().skip(basket.taken_down);
            jobs.for_each(|job| calls.take_down(&mut job.ticket));
            basket.taken_down += left;
        }
    }

    /// An inline call that has a record is about to run, now. False when it must not: it was ended, or its deadline has
    /// passed, and it is answered for that or will be.
    pub(super) fn begin_call(&self, call: CallRef, now: Instant) -> bool {
        let may_run = self.calls.borrow().may_begin(call, now);
        if may_run {
            self.handover.hubs().stages(self.number).begin_here(call);
        }
        may_run
    }

    /// Counts a call that had no record, and was queued and ran for so many nanoseconds.
    #[inline(always)]
    pub(super) fn count(&self, entry: u32, verdict: Verdict, queued_ns: u64, ran_ns: u64) {
        self.stats.answered(entry, verdict, bucket(queued_ns), Some(bucket(ran_ns)));
    }

    /// The result of a call has come: closes its record and counts it, unless who wrote its reply has. Returns what the
    /// call has cost its client, if that waits for the reply.
    pub(super) fn finish_call(&self, done: &Done, keys: &mut Keys) -> Option<u32> {
        let finished = self.calls.borrow_mut().finish(done.call)?;
        if done.is_counted {
            // By who wrote its reply.
        } else if finished.is_wanted {
            self.stats.answered(finished.entry, done.verdict, done.queued, done.ran);
        } else {
            self.stats.late(finished.entry, done.queued, done.ran);
        }
        if let Some(key) = finished.key {
            keys.push((finished.client, key));
        }
        finished.is_wanted.then_some(finished.cost)
    }

    /// Does something with a client that may have left, and then what follows for it.
    pub(super) fn with_client(self: &Rc<Self>, key: ClientKey, now: Instant, body: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connection(key) {
            let mut connection = connection.borrow_mut();
            body(&mut connection);
            connection.settle(key, self, now);
        }
    }

    /// A client that may have left.
    pub(super) fn connection(&self, key: ClientKey) -> Option<Rc<RefCell<Connection>>> {
        self.clients.borrow().get(key).cloned()
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The events of the service; none in a simulation.
    pub(super) fn bulletin(&self) -> Option<&Bulletin> {
        self.handover.hubs().bulletin()
    }

    pub(super) fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Has the events of a client written, in a turn to come.
    pub(crate) fn list_events(&self, key: ClientKey) {
        if self.subscriptions.list(key) {
            self.wake_turn();
        }
    }

    /// Calls of a client that come without a deadline get this one from now on.
    pub(crate) fn set_default_deadline(self: &Rc<Self>, key: ClientKey, deadline: Duration) {
        self.with_client(key, Instant::now(), |connection| connection.client.set_default_deadline(deadline));
    }

    /// A client takes part in keepalive from now on.
    pub(crate) fn enable_keepalive(self: &Rc<Self>, key: ClientKey) {
        self.with_client(key, Instant::now(), |connection| connection.client.enable_keepalive());
    }

    /// An inline call has held this arbiter for long.
    pub(super) fn slow_inline(&self, ticket: &Ticket, took: Duration) {
        let registry = self.handover.registry();
        if let Ok(entry) = registry.find(ticket.program, ticket.version, ticket.procedure) {
            self.handover.findings().slow_inline(&registry.procedure(entry).name, ticket.call_id(), took);
        }
    }

    /// What this hub counts.
    pub(crate) fn stats(&self) -> &Block {
        &self.stats
    }

    /// Where a client's calls go.
    pub(crate) fn sink(&self, key: ClientKey, peer: Peer) -> HubSink<'_> {
        HubSink::new(self, key, peer)
    }

    /// Enters a client's deadline; `entered` is its earliest entry.
    pub(crate) fn enter_deadline(&self, key: ClientKey, deadline: Instant, entered: &mut Option<Instant>) {
        self.deadlines.borrow_mut().enter(key, deadline, entered);
        if self.sleeps_until.get().is_none_or(|until| deadline < until) {
            self.wake_turn();
        }
    }

    /// Every client is told that the service stops; `done` is dropped when none is left.
    pub(crate) fn drain(self: &Rc<Self>, done: mpsc::Sender<()>) {
        let now = Instant::now();
        self.collect(now);
        self.pass_last_events();
        *self.draining.borrow_mut() = Some(done);
        for (key, connection) in self.all() {
            let mut connection = connection.borrow_mut();
            connection.client.close(Some(Error::shutting_down()));
            connection.settle(key, self, now);
        }
        self.is_drained();
    }

    /// Answers every call that is left with `shutting_down`. Returns how many there were.
    pub(crate) fn finish(self: &Rc<Self>) -> usize {
        let now = Instant::now();
        self.collect(now);
        let error = Error::shutting_down();
        let mut calls = 0;
        for (key, connection) in self.all() {
            let mut connection = connection.borrow_mut();
            let mut sink = self.sink(key, *connection.client.peer());
            calls += connection.client.finish(&error, now, &mut sink);
            connection.settle(key, self, now);
        }
        calls
    }

    /// Cuts every client that is left. Returns how many there were.
    pub(crate) fn cut(self: &Rc<Self>) -> usize {
        let all = self.all();
        for (key, connection) in &all {
            let mut connection = connection.borrow_mut();
            connection.client.broken();
            connection.settle(*key, self, Instant::now());
        }
        all.len()
    }

    fn all(&self) -> Vec<(ClientKey, Rc<RefCell<Connection>>)> {
        self.clients.borrow().iter().map(|(key, connection)| (key, connection.clone())).collect()
    }

    fn is_drained(&self) {
        if self.clients.borrow().len() == 0 && self.draining.borrow_mut().take().is_some() {
            self.drained.set(true);
        }
    }

    /// Has inline handlers go on with what waits for them. What could not run has a record from then on.
    pub(crate) fn begin_inline(&self) {
        let Some(desk) = self.inline_desk.get() else { return };
        desk.begin();
        if let Some(mut job) = desk.on_its_way()
            && job.ticket.call.is_none()
        {
            self.calls.borrow_mut().take_down(&mut job.ticket);
            // It was told to begin when it was sent on its way.
            self.handover.hubs().stages(self.number).begin_here(job.ticket.call);
        }
        if self.inline.has_calls() {
            self.inline.take_down(&mut self.calls.borrow_mut());
        }
    }

    /// Remembers how to wake the turn.
    pub(super) fn set_turn(&self, waker: &Waker) {
        let mut turn = self.turn.borrow_mut();
        if turn.as_ref().is_none_or(|turn| !turn.will_wake(waker)) {
            *turn = Some(waker.clone());
        }
    }

    /// Hands on the calls of this turn. Returns whether inline calls have run meanwhile.
    pub(super) fn flush(self: &Rc<Self>, now: Instant) -> bool {
        // What a client has read a reply to is done, for the calls that it sent then.
        self.collect(now);
        {
            let mut basket = self.basket.borrow_mut();
            if basket.is_empty() {
                return false;
            }
            basket.is_announced = false;
            self.take_inline(&mut basket);
            if basket.jobs() > 0 {
                self.hand_on(&mut basket, now);
            }
        }
        let has_inline = self.inline.has_calls();
        if has_inline {
            self.begin_inline();
        }
        has_inline
    }

    /// Gives all calls in the basket their payloads, and the inline ones to their feed.
    fn take_inline(&self, basket: &mut Collected) {
        basket.complete();
        let (inline, jobs) = (basket.inline.jobs.len(), basket.jobs());
        log::trace!("hub {} hands on {} calls", self.number, inline + jobs);
        if inline > 0 {
            basket.taken_down = 0;
            let changes = std::mem::take(&mut basket.inline_changes);
            self.inline.push_all(&mut basket.inline.jobs, &mut basket.inline_shells, changes);
        }
    }

    /// Has the reader of a client read. If no other client was read since it was last, its calls are handed on and its
    /// inline ones run at once, without the way over the turn; else they wait for those of others that may come, because
    /// replies to many clients that leave one by one wake the clients one by one, as calls do workers.
    pub(crate) fn read<T>(self: &Rc<Self>, client: ClientKey, body: impl FnOnce() -> T) -> T {
        /// Also when a panic comes out of it, which is a defect of this crate.
        struct Reading<'a>(&'a Cell<bool>);
        impl Drop for Reading<'_> {
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        self.is_reading.set(true);
        let reading = Reading(&self.is_reading);
        let read = body();
        drop(reading);
        let is_alone = self.last_read.replace(Some(client)) == Some(client);
        let mut basket = self.basket.borrow_mut();
        if basket.is_empty() {
            // Nothing was brought.
        } else if !is_alone {
            self.announce(&mut basket);
        } else if basket.jobs() > 0 {
            drop(basket);
            self.flush(Instant::now());
            // The turn is what comes back for what was handed on.
            let next = earlier(self.rescue_at.get(), self.collect_at.get());
            if next.is_some_and(|next| self.sleeps_until.get().is_none_or(|until| next < until)) {
                self.wake_turn();
            }
        } else {
            basket.is_announced = false;
            self.take_inline(&mut basket);
            drop(basket);
            self.begin_inline();
        }
        read
    }

    /// There is something in the basket.
    fn announce(&self, basket: &mut Collected) {
        if !self.is_reading.get() && !std::mem::replace(&mut basket.is_announced, true) {
            self.wake_turn();
        }
    }

    fn hand_on(&self, basket: &mut Collected, now: Instant) {
        if self.collect_at.get().is_none() {
            self.collect_at.set(Some(now + SOON));
            self.handover.hubs().inbox(self.number).will_come(true);
        }
        let (blocking, asynchronous) = (&mut basket.blocking.jobs, &mut basket.asynchronous.jobs);
        if !blocking.is_empty()
            && self.handover.dispatch(blocking, &self.last_worker, now)
            && self.rescue_at.get().is_none()
        {
            self.rescue_at.set(Some(now + OVERDUE));
        }
        if !asynchronous.is_empty() {
            self.handover.dispatch_async(asynchronous.drain(..).collect());
        }
        blocking.shrink_to(KEPT);
        asynchronous.shrink_to(KEPT);
    }

    /// What time has brought; returns when to come back.
    pub(super) fn tick(self: &Rc<Self>, now: Instant) -> Option<Instant> {
        let mut next = self.next_time();
        if next.is_some_and(|time| time <= now) {
            if self.collect_at.get().is_some_and(|at| at <= now) {
                self.collect_at.set(None);
                self.handover.hubs().inbox(self.number).will_come(false);
                self.collect(now);
            }
            if self.rescue_at.get().is_some_and(|at| at <= now) {
                let more = self.handover.rescue(now);
                self.rescue_at.set(more.then(|| now + OVERDUE));
            }
            loop {
                let popped = self.calls.borrow_mut().pop_due(now);
                let Some(due) = popped else { break };
                self.with_client(due.client, now, |connection| {
                    let mut sink = self.sink(due.client, *connection.client.peer());
                    connection.client.deadline_passed(due.call, due.deadline, now, &mut sink);
                });
            }
            loop {
                let popped = self.deadlines.borrow_mut().pop(now);
                let Some((entry, key)) = popped else { break };
                if let Some(connection) = self.connection(key) {
                    connection.borrow_mut().expire(key, self, entry, now);
                }
            }
            next = self.next_time();
        }
        self.sleeps_until.set(next);
        next
    }

    /// Whether the time of some client may be over.
    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.deadlines.borrow().next().is_some_and(|time| time <= now)
    }

    fn next_time(&self) -> Option<Instant> {
        let own = earlier(self.rescue_at.get(), self.collect_at.get());
        earlier(own, earlier(self.deadlines.borrow().next(), self.calls.borrow().next_deadline()))
    }

    pub(super) fn wake_turn(&self) {
        if let Some(turn) = &*self.turn.borrow() {
            turn.wake_by_ref();
        }
    }
}
