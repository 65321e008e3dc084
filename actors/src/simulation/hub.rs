//! A hub and its readers: real clients, records, deadlines and replies, around a model of sockets and wake-ups.
//!
//! What is written anew here follows `hub/core.rs`, `hub/turn.rs` and `reader/mod.rs` line by line, with the socket, the
//! clock and the wakers replaced; all that it decides by is the service's own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postroom_protocol::{Error, Header};

use super::config::Config;
use super::ledger::Ledger;
use super::pipe::{Blocks, Pipe};
use super::random::Random;
use crate::hub::calls::{Calls, Ended, Place};
use crate::hub::table::Table;
use crate::job::{ClientKey, Content, Job, Ticket};
use crate::limits::Limits;
use crate::peer::{Peer, Transport};
use crate::pool::handover::Handover;
use crate::pool::tray::OVERDUE;
use crate::program::registry::ProcedureEntry;
use crate::program::{Class, Codec};
use crate::reader::client::{Accept, Arguments, Client, Found, Named, Next, Sink, Start, Wants};
use crate::reader::deadlines::Deadlines;
use crate::reply::{Done, Replies};
use crate::stage::CallRef;
use crate::stats::outcome::Verdict;
use crate::time::Instant;

const READS_PER_TURN: usize = 4;
const READ_BUFFER: usize = 64 * 1024;
/// More than an error reply or a keepalive packet takes.
const SMALL_PACKET: u64 = 400;

/// Somebody is to come to something, soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wake {
    Reader(usize, ClientKey),
    Turn(usize),
    /// The other end of a connection.
    Client(u64),
}

/// What all parts of a simulation share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) limits: Rc<Limits>,
    pub(super) handover: Arc<Handover>,
    pub(super) ledger: RefCell<Ledger>,
    pub(super) random: RefCell<Random>,
    pub(super) now: Cell<Instant>,
    pub(super) wakes: RefCell<Vec<Wake>>,
}

impl Shared {
    fn wake(&self, wake: Wake) {
        self.wakes.borrow_mut().push(wake);
    }

    /// How long a call's handler takes, and the reply that it gives.
    pub(super) fn reply(&self, job: &Job) -> Vec<u8> {
        let random = &mut *self.random.borrow_mut();
        let most = u64::from(job.ticket.cost) - postroom_protocol::HEADER_LEN as u64;
        let length = match () {
            () if self.config.echoes => most,
            () if random.once_in(self.config.big.0) => random.below(self.config.big.1),
            () => random.below(self.config.payload + 1),
        };
        let header = Header { packet_type: postroom_protocol::PacketType::Reply, ..job.ticket.header() };
        let mut packet = Vec::new();
        postroom_protocol::packet::encode_packet(&header, &vec![0; length as usize], &mut packet);
        packet
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) pipe: Rc<RefCell<Pipe>>,
    blocked: bool,
    paused: bool,
    entered: Option<Instant>,
    /// Whether the reader is about to be polled.
    pub(super) woken: bool,
    /// Since when it was cut, for a reason of the service's.
    pub(super) was_cut: bool,
}

/// What the sinks of all clients of a hub share.
#[derive(Debug)]
pub(super) struct Core {
    number: usize,
    pub(super) calls: Calls,
    basket: Vec<Job>,
    deadlines: Deadlines,
    sleeps_until: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Hub {
    pub(super) clients: Table<Rc<RefCell<Connection>>>,
    pub(super) core: Core,
    last_worker: Cell<usize>,
    rescue_at: Option<Instant>,
    scratch: Vec<u8>,
    is_draining: bool,
    /// For when its timer is set, and how often it was.
    timer: Option<Instant>,
    settings: u64,
}

struct HubSink<'a> {
    core: &'a mut Core,
    shared: &'a Shared,
    key: ClientKey,
    peer: Peer,
}

impl Sink for HubSink<'_> {
    fn find(&mut self, program: u32, version: u32, procedure: i32) -> Result<Found, Error> {
        let registry = self.shared.handover.registry();
        let entry = registry.find(program, version, procedure)?;
        Ok(Found { entry, codec: registry.procedure(entry).codec })
    }

    fn find_method(&self, method: &str) -> Result<Named, Error> {
        let registry = self.shared.handover.registry();
        let entry = registry.find_method(method)?;
        let &ProcedureEntry { program, version, number: procedure, codec, .. } = registry.procedure(entry);
        Ok(Named { found: Found { entry, codec }, program, version, procedure })
    }

    fn codec(&self, header: &Header) -> Codec {
        self.shared.handover.registry().codec(header.program, header.version)
    }

    fn accept(&mut self, call: &Accept, place: Place) -> CallRef {
        let deadline = call.deadline;
        self.shared.ledger.borrow_mut().accepted(self.peer.client_id(), call.header.serial, deadline);
        let call = self.core.calls.accept(self.key, call, place);
        if deadline.is_some_and(|deadline| self.core.sleeps_until.is_none_or(|until| deadline < until)) {
            self.shared.wake(Wake::Turn(self.core.number));
        }
        call
    }

    fn moved(&mut self, call: CallRef, place: Place) {
        self.core.calls.moved(call, place);
    }

    fn oldest(&self, header: &Header) -> Option<CallRef> {
        self.core.calls.oldest(self.key, header)
    }

    fn unanswered(&self) -> Vec<(CallRef, bool)> {
        let registry = self.shared.handover.registry();
        let unanswered = self.core.calls.unanswered(self.key);
        unanswered.into_iter().map(|(call, entry)| (call, registry.procedure(entry).runs_to_end)).collect()
    }

    fn end(&mut self, call: CallRef, verdict: Verdict, now: Instant) -> Option<Ended> {
        let ended = self.core.calls.end(call)?;
        let by_deadline = verdict == Verdict::of(&Error::deadline_exceeded(0));
        let (client, serial) = (self.peer.client_id(), ended.header.serial);
        self.shared.ledger.borrow_mut().ended(client, serial, ended.is_running, by_deadline, now);
        if ended.place == Place::Started {
            self.shared.handover.ended(self.core.number as u16, call, ended.entry, ended.cost, ended.is_running);
        }
        Some(ended)
    }

    fn start(&mut self, start: Start<'_>) {
        let Start { call, accept, arguments } = start;
        let client_id = self.peer.client_id();
        let mut ticket = Ticket::blank(self.core.number as u16, accept.received);
        ticket.set(self.key, client_id, call, accept);
        self.shared.ledger.borrow_mut().started(client_id, ticket.serial, self.shared.now.get());
        let payload = match arguments {
            Arguments::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Arguments::Owned(bytes) => bytes,
        };
        if self.core.basket.is_empty() {
            self.shared.wake(Wake::Turn(self.core.number));
        }
        let (ties, deadline) = (accept.ties.clone(), accept.deadline);
        let content = Content { ticket, peer: self.peer, ties, deadline, payload: payload.into(), permit: None };
        self.core.basket.push(Job::new(content));
    }
}

impl Core {
    fn sink<'a>(&'a mut self, shared: &'a Shared, key: ClientKey, client: &Client) -> HubSink<'a> {
        HubSink { core: self, shared, key, peer: *client.peer() }
    }

    fn enter_deadline(&mut self, shared: &Shared, key: ClientKey, deadline: Instant, entered: &mut Option<Instant>) {
        self.deadlines.enter(key, deadline, entered);
        if self.sleeps_until.is_none_or(|until| deadline < until) {
            shared.wake(Wake::Turn(self.number));
        }
    }
}

impl Hub {
    pub(super) fn new(number: usize, shared: &Shared) -> Self {
        let core = Core {
            number,
            calls: Calls::new(shared.handover.hubs().clone(), number as u16),
            basket: Vec::new(),
            deadlines: Deadlines::default(),
            sleeps_until: None,
        };
        Self {
            clients: Table::default(),
            core,
            last_worker: Cell::new(0),
            rescue_at: None,
            scratch: Vec::new(),
            is_draining: false,
            timer: None,
            settings: 0,
        }
    }

    pub(super) fn welcome(&mut self, id: u64, pipe: Rc<RefCell<Pipe>>, shared: &Shared) -> ClientKey {
        let stats = shared.handover.hubs().block(self.core.number).clone();
        let peer = Peer::new(id, Transport::Unix, None);
        let mut client = Client::new(peer, shared.limits.clone(), stats, shared.now.get());
        if self.is_draining {
            client.close(Some(Error::shutting_down()));
        }
        let connection =
            Connection { client, pipe, blocked: false, paused: false, entered: None, woken: false, was_cut: false };
        let key = self.clients.insert(|_| Rc::new(RefCell::new(connection)));
        shared.wake(Wake::Reader(self.core.number, key));
        key
    }

    /// The reader's task runs.
    pub(super) fn read(&mut self, key: ClientKey, shared: &Shared) {
        let Some(connection) = self.clients.get(key).cloned() else { return };
        let mut connection = connection.borrow_mut();
        connection.woken = false;
        connection.poll(key, &mut self.core, shared, &mut self.scratch);
        if connection.client.is_done() {
            let holds = connection.client.holds();
            assert_eq!((holds.in_progress, holds.running_bytes, holds.backlog), (0, 0, 0), "{holds:?}");
            connection.pipe.borrow_mut().service_left = true;
            shared.wake(Wake::Client(connection.client.peer().client_id()));
            drop(connection);
            self.forget(key);
        }
    }

    fn forget(&mut self, key: ClientKey) {
        assert!(self.core.calls.unanswered(key).is_empty());
        self.clients.remove(key);
        if self.core.deadlines.len() > 2 * self.clients.len() + 1024 {
            let clients = &self.clients;
            self.core.deadlines.retain(|key| clients.get(key).is_some());
        }
    }

    /// The hub's own future runs.
    pub(super) fn turn(&mut self, shared: &Shared) {
        self.flush(shared);
        self.tick(shared);
    }

    fn flush(&mut self, shared: &Shared) {
        let jobs = std::mem::take(&mut self.core.basket);
        let (mut blocking, mut asynchronous, mut inline) = (VecDeque::new(), Vec::new(), Vec::new());
        for job in jobs {
            match shared.handover.registry().procedure(job.ticket.entry).class {
                Class::Blocking => blocking.push_back(job),
                Class::Asynchronous => asynchronous.push(job),
                Class::Inline => inline.push(job),
            }
        }
        let now = shared.now.get();
        if !blocking.is_empty() {
            let watch = shared.handover.dispatch(&mut blocking, &self.last_worker, now);
            if watch && self.rescue_at.is_none() {
                self.rescue_at = Some(now + OVERDUE);
            }
        }
        if !asynchronous.is_empty() {
            shared.handover.dispatch_async(asynchronous);
        }
        let mut replies = Replies::default();
        for mut job in inline {
            if job.begin(shared.handover.hubs(), now) {
                let Ticket { client_id, serial, .. } = job.ticket;
                shared.ledger.borrow_mut().begun(client_id, serial, [false; 2], now);
                let mut packet = shared.reply(&job);
                shared.ledger.borrow_mut().done(client_id, serial);
                replies.push(&job.ticket, Verdict::OK, now, &mut packet);
            }
        }
        if !replies.is_empty() {
            self.deliver(replies, shared);
        }
    }

    /// What time has brought. [`Self::timer`] says when to come back.
    fn tick(&mut self, shared: &Shared) {
        let now = shared.now.get();
        if self.rescue_at.is_some_and(|at| at <= now) {
            self.rescue_at = shared.handover.rescue(now).then(|| now + OVERDUE);
        }
        while let Some(due) = self.core.calls.pop_due(now) {
            self.with_client(due.client, shared, |connection, core| {
                let mut sink = core.sink(shared, due.client, &connection.client);
                connection.client.deadline_passed(due.call, due.deadline, now, &mut sink);
            });
        }
        while let Some((entry, key)) = self.core.deadlines.pop(now) {
            if let Some(connection) = self.clients.get(key).cloned() {
                connection.borrow_mut().expire(key, entry, &mut self.core, shared);
            }
        }
        self.core.sleeps_until = self.next_time();
    }

    fn next_time(&self) -> Option<Instant> {
        [self.core.deadlines.next(), self.core.calls.next_deadline(), self.rescue_at].into_iter().flatten().min()
    }

    /// For when its timer is to be set, if it is not.
    pub(super) fn set_timer(&mut self) -> Option<(Instant, u64)> {
        let next = self.core.sleeps_until?;
        if self.timer.is_some_and(|timer| timer <= next) {
            return None;
        }
        self.settings += 1;
        Some((*self.timer.insert(next), self.settings))
    }

    /// Its timer goes off, as it was set then. False when it was set anew since.
    pub(super) fn goes_off(&mut self, setting: u64) -> bool {
        let is_set = setting == self.settings;
        if is_set {
            self.timer = None;
        }
        is_set
    }

    fn with_client(&mut self, key: ClientKey, shared: &Shared, body: impl FnOnce(&mut Connection, &mut Core)) {
        if let Some(connection) = self.clients.get(key).cloned() {
            let mut connection = connection.borrow_mut();
            body(&mut connection, &mut self.core);
            connection.settle(key, &mut self.core, shared);
        }
    }

    pub(super) fn deliver(&mut self, mut replies: Replies, shared: &Shared) {
        let mut keys = Vec::new();
        let mut runs = Vec::new();
        let now = shared.now.get();
        let take = |done: &Done| {
            let serial = self.core.calls.header(done.call)?.serial;
            let finished = self.core.calls.finish(done.call)?;
            if finished.is_wanted {
                // A client stays until its calls are answered.
                let id = self.clients.get(finished.client).unwrap().borrow().client.peer().client_id();
                if done.ran.is_none() {
                    shared.ledger.borrow_mut().refused(id, serial);
                }
                shared.ledger.borrow_mut().answered(id, serial, now);
            }
            keys.extend(finished.key.map(|key| (finished.client, key)));
            finished.is_wanted.then_some(finished.cost)
        };
        replies.for_each_run(take, |run| {
            runs.push((run.client, Bytes::copy_from_slice(&run.bytes), run.replies, run.cost))
        });
        for (client, bytes, replies, cost) in runs {
            self.with_client(client, shared, |connection, _| {
                connection.deliver(client, bytes, (replies, cost), shared)
            });
        }
        for (client, key) in keys {
            self.with_client(client, shared, |connection, core| {
                let mut sink = core.sink(shared, client, &connection.client);
                connection.client.key_done(&key, &mut sink);
            });
        }
    }

    fn all(&self) -> Vec<(ClientKey, Rc<RefCell<Connection>>)> {
        self.clients.iter().map(|(key, connection)| (key, connection.clone())).collect()
    }

    pub(super) fn drain(&mut self, shared: &Shared) {
        self.is_draining = true;
        for (key, connection) in self.all() {
            let mut connection = connection.borrow_mut();
            connection.client.close(Some(Error::shutting_down()));
            connection.settle(key, &mut self.core, shared);
        }
    }

    pub(super) fn finish(&mut self, shared: &Shared) {
        for (key, connection) in self.all() {
            let connection = &mut *connection.borrow_mut();
            let mut sink = self.core.sink(shared, key, &connection.client);
            connection.client.finish(&Error::shutting_down(), shared.now.get(), &mut sink);
            connection.settle(key, &mut self.core, shared);
        }
    }
}

impl Connection {
    fn poll(&mut self, key: ClientKey, core: &mut Core, shared: &Shared, scratch: &mut Vec<u8>) {
        self.blocked = false;
        self.write(shared);
        if self.blocked {
            self.pipe.borrow_mut().writer_waits = true;
        }
        self.paused = false;
        for _ in 0..READS_PER_TURN {
            self.settle(key, core, shared);
            let wants = self.client.wants();
            if wants == Wants::Nothing {
                break;
            }
            let most = if shared.random.borrow_mut().once_in(4) {
                shared.random.borrow_mut().between(1, 300) as usize
            } else {
                READ_BUFFER
            };
            let room = if wants == Wants::Input { self.client.room().map(|room| room.len()) } else { None };
            let read = self.pipe.borrow_mut().read(room.unwrap_or(READ_BUFFER).min(most), scratch);
            let now = shared.now.get();
            match read {
                Err(Blocks) => return,
                Ok(Err(_)) => self.client.broken(),
                Ok(Ok(())) => {
                    shared.wake(Wake::Client(self.client.peer().client_id()));
                    if wants == Wants::Input {
                        let mut sink = core.sink(shared, key, &self.client);
                        match self.client.room().filter(|_| room.is_some()) {
                            Some(room) => {
                                room[..scratch.len()].copy_from_slice(scratch);
                                self.client.filled(scratch.len(), 0, now, &mut sink);
                            }
                            None => self.client.feed(scratch, 0, now, &mut sink),
                        }
                    }
                    if scratch.is_empty() {
                        self.client.end_of_input();
                    }
                }
            }
        }
        self.settle(key, core, shared);
        if self.client.wants() == Wants::Nothing {
            self.paused = true;
            if self.client.output.is_empty() && !self.client.is_gone() {
                let has_left = self.pipe.borrow().client_left;
                if has_left {
                    self.client.broken();
                    self.settle(key, core, shared);
                } else {
                    self.pipe.borrow_mut().writer_waits = true;
                }
            }
        } else {
            self.wake(key, core, shared);
        }
    }

    fn deliver(&mut self, key: ClientKey, mut bytes: Bytes, (replies, cost): (usize, u64), shared: &Shared) {
        let now = shared.now.get();
        if self.client.is_gone() {
            return self.client.answered_and_left(replies, cost, now);
        }
        if !self.client.output.is_empty() {
            return self.client.answered(bytes, replies, cost, now);
        }
        let written = self.pipe.borrow_mut().write(&bytes);
        match written {
            Ok(written) => {
                shared.wake(Wake::Client(self.client.peer().client_id()));
                if written == bytes.len() {
                    self.client.answered_and_left(replies, cost, now);
                } else {
                    self.wait(key, bytes.split_off(written), replies, cost, shared);
                }
            }
            Err(Some(Blocks)) => self.wait(key, bytes, replies, cost, shared),
            Err(None) => {
                self.client.answered_and_left(replies, cost, now);
                self.client.broken();
            }
        }
    }

    fn wait(&mut self, key: ClientKey, rest: Bytes, replies: usize, cost: u64, shared: &Shared) {
        self.client.answered(rest, replies, cost, shared.now.get());
        self.blocked = true;
        shared.wake(Wake::Reader(self.hub(shared), key));
    }

    fn settle(&mut self, key: ClientKey, core: &mut Core, shared: &Shared) {
        let now = shared.now.get();
        loop {
            let mut sink = core.sink(shared, key, &self.client);
            if self.client.is_broken() {
                self.client.disconnect(now, &mut sink);
                let mut pipe = self.pipe.borrow_mut();
                self.was_cut |= !pipe.client_left;
                pipe.service_left = true;
                shared.wake(Wake::Client(self.client.peer().client_id()));
            }
            self.client.pump(now, &mut sink);
            if self.has_to_write() {
                self.write(shared);
                if self.blocked {
                    self.wake(key, core, shared);
                }
                continue;
            }
            match self.client.next(now) {
                Next::Go if self.has_to_write() || self.client.is_broken() => {}
                Next::Go => break,
                Next::ShutDown => {
                    self.pipe.borrow_mut().service_ended = true;
                    shared.wake(Wake::Client(self.client.peer().client_id()));
                }
                Next::Done => {
                    self.wake(key, core, shared);
                    break;
                }
            }
        }
        if self.paused && self.client.wants() != Wants::Nothing {
            self.wake(key, core, shared);
        }
        if let Some(deadline) = self.client.deadline() {
            core.enter_deadline(shared, key, deadline, &mut self.entered);
        }
        self.check(shared);
    }

    /// What a client holds is within its limits, and it is not stuck.
    fn check(&self, shared: &Shared) {
        let (holds, limits) = (self.client.holds(), &shared.limits);
        let longest = u64::from(limits.max_packet).min(shared.config.big.1.max(shared.config.payload) + 200);
        assert!(holds.in_progress <= limits.max_client_requests, "{holds:?}");
        assert!(holds.backlog <= limits.max_client_backlog, "{holds:?}");
        assert!(holds.backlog_bytes < limits.max_client_backlog_bytes + longest, "{holds:?}");
        assert!(holds.unsplit <= READ_BUFFER, "{holds:?}");
        if shared.config.echoes {
            // Errors may be longer than their calls.
            let errors = SMALL_PACKET * (holds.in_progress + limits.max_client_backlog + 2) as u64;
            let held = self.client.output.len() + holds.running_bytes;
            let most = limits.max_client_output + longest + errors;
            assert!(held <= most, "{held} > {most}: {holds:?}");
        }
        // Nothing that could happen by itself is left undone.
        if holds.backlog > 0 && holds.in_progress == 0 {
            assert!(!self.client.output.is_empty(), "its backlog waits for nothing: {holds:?}");
        }
        if holds.unsplit > 0 {
            assert!(holds.is_full, "input waits for nothing: {holds:?}");
        }
    }

    fn expire(&mut self, key: ClientKey, entry: Instant, core: &mut Core, shared: &Shared) {
        if self.entered == Some(entry) {
            self.entered = None;
        }
        let before = self.client.holds();
        self.client.expire(shared.now.get());
        let after = self.client.holds();
        if before.is_open && before.is_full {
            assert_eq!(after.pings, before.pings, "a client is pinged while it is held");
            assert!(after.is_open || self.client.is_broken(), "a client is closed while it is held");
        }
        self.settle(key, core, shared);
    }

    fn has_to_write(&self) -> bool {
        !self.blocked && !self.client.output.is_empty() && !self.client.is_gone()
    }

    fn write(&mut self, shared: &Shared) {
        while !self.client.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); crate::reader::output::PIECES];
            let count = self.client.output.slices(&mut slices);
            let (mut written, mut result) = (0, Ok(0));
            for slice in &slices[..count] {
                result = self.pipe.borrow_mut().write(slice);
                written += result.as_ref().map_or(0, |written| *written);
                if result != Ok(slice.len()) {
                    break;
                }
            }
            match result {
                _ if written > 0 => {
                    self.client.wrote(written, shared.now.get());
                    shared.wake(Wake::Client(self.client.peer().client_id()));
                }
                Err(None) => return self.client.broken(),
                _ => {
                    self.blocked = true;
                    return;
                }
            }
        }
    }

    fn wake(&self, key: ClientKey, core: &Core, shared: &Shared) {
        shared.wake(Wake::Reader(core.number, key));
    }

    fn hub(&self, shared: &Shared) -> usize {
        self.client.peer().client_id() as usize % shared.config.hubs
    }
}

/// How long until somebody who was woken runs.
pub(super) fn soon(random: &mut Random) -> Duration {
    let most = if random.once_in(4) { 30_000 } else { 2000 };
    Duration::from_nanos(random.between(100, most))
}
