//! What the readers of one arbiter share; see [`HubCore`].
//!
//! Calls that its readers accept go into the basket; the first of them wakes the hub's [`Turn`](super::turn), which
//! runs after all readers that were ready in this turn of the arbiter's loop, and hands on the whole basket. Replies
//! come back as one message and are written in one go per client.
//!
//! Queues: the basket, bounded by what the readers of one turn may accept (`max_client_requests` each); inline calls
//! move from it to their handlers in the same turn.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use actix::{Actor, Addr};
use bytes::Bytes;
use postroom_protocol::{Error, Header};
use tokio::sync::mpsc;

use crate::desk::Desk;
use crate::hub::inline::InlineFeed;
use crate::hub::table::Table;
use crate::hub::{Hub, Welcome};
use crate::job::{ClientKey, Job, Ticket};
use crate::limits::Limits;
use crate::peer::Peer;
use crate::pool::handover::{Handover, SHARED_PAYLOAD};
use crate::pool::tray::OVERDUE;
use crate::program::Class;
use crate::reader::client::{Arguments, Client, Sink, Start};
use crate::reader::deadlines::Deadlines;
use crate::reader::{Connection, Reader, Socket};
use crate::reply::Replies;

/// The size of the buffer that the readers of an arbiter read into, one after the other.
const READ_BUFFER: usize = 64 * 1024;

/// What the readers of one arbiter share.
pub(crate) struct HubCore {
    number: u16,
    handover: Arc<Handover>,
    limits: Rc<Limits>,
    /// What is read goes here first; an idle client holds no buffer of its own.
    pub(crate) buffer: RefCell<Box<[u8]>>,
    clients: RefCell<Table<Rc<RefCell<Connection>>>>,
    basket: RefCell<Collected>,
    deadlines: RefCell<Deadlines>,
    /// Wakes the turn.
    turn: RefCell<Option<Waker>>,
    /// Until when the turn sleeps.
    sleeps_until: Cell<Option<Instant>>,
    inline: Rc<InlineFeed>,
    inline_desk: OnceCell<Rc<Desk>>,
    /// The worker that got the last basket.
    last_worker: Cell<usize>,
    /// When to look after calls that may be stuck.
    rescue_at: Cell<Option<Instant>>,
    /// Set while the service stops; dropped when no client is left.
    draining: RefCell<Option<mpsc::Sender<()>>>,
    drained: Cell<bool>,
}

impl std::fmt::Debug for HubCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubCore").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The calls of one turn. Small payloads lie behind each other in one buffer.
#[derive(Debug, Default)]
struct Collected {
    jobs: Vec<(Job, usize)>,
    payloads: Vec<u8>,
    /// What one turn took lately, to allocate about right.
    expected: usize,
}

impl HubCore {
    pub(crate) fn new(number: u16, handover: Arc<Handover>, limits: Rc<Limits>, address: Addr<Hub>) -> Rc<Self> {
        let inline = InlineFeed::new(address);
        let core = Rc::new(Self {
            number,
            limits: limits.clone(),
            buffer: RefCell::new(vec![0; READ_BUFFER].into_boxed_slice()),
            clients: RefCell::default(),
            basket: RefCell::default(),
            deadlines: RefCell::default(),
            turn: RefCell::default(),
            sleeps_until: Cell::new(None),
            inline: inline.clone(),
            inline_desk: OnceCell::new(),
            last_worker: Cell::new(0),
            rescue_at: Cell::new(None),
            draining: RefCell::default(),
            drained: Cell::new(false),
            handover,
        });
        inline.set_hub(&core);
        let desk = Desk::new(core.handover.registry().clone(), limits.max_packet, Box::new(inline));
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
        let mut client = Client::new(peer, self.limits.clone(), now);
        if self.draining.borrow().is_some() || self.drained.get() {
            client.close(Some(Error::shutting_down()));
        }
        let connection = Rc::new(RefCell::new(Connection::new(client, socket)));
        let key = self.clients.borrow_mut().insert(|_| connection.clone());
        Reader::new(connection, self.clone(), key, place).start();
    }

    /// A reader has ended.
    pub(crate) fn forget(&self, key: ClientKey) {
        self.clients.borrow_mut().remove(key);
        let clients = self.clients.borrow();
        let mut deadlines = self.deadlines.borrow_mut();
        if deadlines.len() > 2 * clients.len() + 1024 {
            deadlines.retain(|key| clients.get(key).is_some());
        }
        drop(clients);
        self.is_drained();
    }

    /// Writes replies, each to its client if that is still there.
    pub(crate) fn deliver(self: &Rc<Self>, replies: Replies) {
        let now = Instant::now();
        replies.for_each_run(|run| {
            let key = run.client;
            let connection = self.clients.borrow().get(key).cloned();
            if let Some(connection) = connection {
                let mut connection = connection.borrow_mut();
                connection.deliver(run, now);
                connection.settle(key, self, now);
            }
        });
    }

    /// Where a client's calls go.
    pub(crate) fn sink(&self, key: ClientKey, peer: Peer) -> HubSink<'_> {
        HubSink { hub: self, key, peer }
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
        *self.draining.borrow_mut() = Some(done);
        let now = Instant::now();
        for (key, connection) in self.all() {
            let mut connection = connection.borrow_mut();
            connection.client.close(Some(Error::shutting_down()));
            connection.settle(key, self, now);
        }
        self.is_drained();
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

    /// Has inline handlers go on with what waits for them.
    pub(crate) fn begin_inline(&self) {
        if let Some(desk) = self.inline_desk.get() {
            desk.begin();
        }
    }

    /// Remembers how to wake the turn.
    pub(super) fn set_turn(&self, waker: &Waker) {
        let mut turn = self.turn.borrow_mut();
        if turn.as_ref().is_none_or(|turn| !turn.will_wake(waker)) {
            *turn = Some(waker.clone());
        }
    }

    /// Hands on the calls of this turn.
    pub(super) fn flush(&self) {
        let (jobs, payloads) = {
            let mut basket = self.basket.borrow_mut();
            if basket.jobs.is_empty() {
                return;
            }
            basket.expected = basket.payloads.len();
            (std::mem::take(&mut basket.jobs), Bytes::from(std::mem::take(&mut basket.payloads)))
        };
        log::trace!("hub {} hands on {} calls", self.number, jobs.len());
        let mut blocking = std::collections::VecDeque::with_capacity(jobs.len());
        let mut asynchronous = Vec::new();
        let mut start = 0;
        let mut is_inline = false;
        for (mut job, length) in jobs {
            if length > 0 {
                job.payload = payloads.slice(start..start + length);
                start += length;
            }
            match self.handover.registry().procedure(job.entry).class {
                Class::Blocking => blocking.push_back(job),
                Class::Asynchronous => asynchronous.push(job),
                Class::Inline => {
                    is_inline = true;
                    self.inline.push(job);
                }
            }
        }
        if !blocking.is_empty() {
            let now = Instant::now();
            if self.handover.dispatch(blocking, &self.last_worker, now) && self.rescue_at.get().is_none() {
                self.rescue_at.set(Some(now + OVERDUE));
            }
        }
        if !asynchronous.is_empty() {
            self.handover.dispatch_async(asynchronous);
        }
        if is_inline {
            self.begin_inline();
        }
    }

    /// What time has brought; returns when to come back.
    pub(super) fn tick(self: &Rc<Self>) -> Option<Instant> {
        if self.next_time().is_some_and(|time| time <= Instant::now()) {
            let now = Instant::now();
            if self.rescue_at.get().is_some_and(|at| at <= now) {
                let more = self.handover.rescue(now);
                self.rescue_at.set(more.then(|| now + OVERDUE));
            }
            loop {
                let popped = self.deadlines.borrow_mut().pop(now);
                let Some((entry, key)) = popped else { break };
                let connection = self.clients.borrow().get(key).cloned();
                if let Some(connection) = connection {
                    connection.borrow_mut().expire(key, self, entry, now);
                }
            }
        }
        let next = self.next_time();
        self.sleeps_until.set(next);
        next
    }

    fn next_time(&self) -> Option<Instant> {
        let deadline = self.deadlines.borrow().next();
        match (deadline, self.rescue_at.get()) {
            (Some(deadline), Some(rescue)) => Some(deadline.min(rescue)),
            (deadline, rescue) => deadline.or(rescue),
        }
    }

    fn wake_turn(&self) {
        if let Some(turn) = &*self.turn.borrow() {
            turn.wake_by_ref();
        }
    }
}

/// Takes the accepted calls of one client into the basket.
pub(crate) struct HubSink<'a> {
    hub: &'a HubCore,
    key: ClientKey,
    peer: Peer,
}

impl Sink for HubSink<'_> {
    fn find(&self, header: &Header) -> Result<u32, Error> {
        self.hub.handover.registry().find(header.program, header.version, header.procedure)
    }

    fn start(&mut self, call: Start<'_>) {
        let Start { header, entry, metadata, arguments, cost } = call;
        let ticket = Ticket {
            hub: self.hub.number,
            client: self.key,
            client_id: self.peer.client_id(),
            program: header.program,
            version: header.version,
            procedure: header.procedure,
            serial: header.serial,
            cost,
        };
        let mut basket = self.hub.basket.borrow_mut();
        let (payload, length) = match arguments {
            Arguments::Borrowed(bytes) if bytes.len() < SHARED_PAYLOAD => {
                if basket.payloads.capacity() == 0 {
                    let expected = basket.expected;
                    basket.payloads.reserve(expected);
                }
                basket.payloads.extend_from_slice(bytes);
                (Bytes::new(), bytes.len())
            }
            Arguments::Borrowed(bytes) => (Bytes::copy_from_slice(bytes), 0),
            Arguments::Owned(bytes) => (bytes, 0),
        };
        if basket.jobs.is_empty() {
            self.hub.wake_turn();
        }
        let job = Job { ticket, entry, peer: self.peer, metadata, payload, permit: None };
        basket.jobs.push((job, length));
    }
}
